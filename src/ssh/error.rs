//! What can go wrong between this program and a host.

use super::agent_binary;
use crate::wire::{LockHolder, RelayTarget};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Why no session could be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens there.
    #[error("{host}: {address} refused the connection")]
    Refused {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
    },
    /// No answer in time.
    #[error("{host}: {address} gave no answer within {after:?} ({stage})")]
    Timeout {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// What was being waited for.
        stage: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The network says no.
    #[error("{host}: {address} cannot be reached: {reason}")]
    Unreachable {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// As the kernel puts it.
        reason: String,
    },
    /// The SSH servers and we do not understand each other.
    #[error("{host}: the SSH connection to {address} failed: {reason}")]
    Protocol {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The server closed every connection before its identification.
    #[error("{host}: {address} closed the connection before its identification, {attempts} times in {:.1} s{}", after.as_secs_f64(), said_text(said))]
    TurnedAway {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        after: Duration,
        /// What the server said instead.
        said: String,
    },
    /// The way to the host ends at its jump host.
    #[error("{host}: its jump host {jump} cannot be used: {}", without_name(cause))]
    Jump {
        /// The host's name.
        host: String,
        /// The jump host.
        jump: String,
        /// Why.
        cause: Box<ConnectError>,
    },
    /// The jump host forwards no connections to this host.
    #[error("{host}: the jump host {jump} forbids connections to {address}")]
    ForwardingForbidden {
        /// The host's name.
        host: String,
        /// Where to.
        address: SocketAddr,
        /// The jump host.
        jump: String,
    },
    /// The operator's ssh config does not tell the way.
    #[error("{host}: the ssh config does not tell the way: {reason}")]
    ClientConfig {
        /// The host's name.
        host: String,
        /// Why.
        reason: String,
    },
    /// A jump host's name has no address.
    #[error("{host}: no address is found for this name: {reason}")]
    Unresolved {
        /// The jump host.
        host: String,
        /// Why.
        reason: String,
    },
    /// No key is pinned for this host.
    #[error("{host}: the host key of {address} is not known: {algorithm} {fingerprint}")]
    HostKeyUnknown {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// Algorithm of the key that was presented.
        algorithm: String,
        /// Its SHA-256 fingerprint.
        fingerprint: String,
    },
    /// Another key is pinned: a new machine at this address, or someone in between.
    #[error("{host}: THE HOST KEY OF {address} HAS CHANGED\n      pinned   {pinned} ({}:{line})\n      offered  {algorithm} {fingerprint}\n      Nothing was sent to the host. Either it was rebuilt on purpose, or somebody answers in its place.", known_hosts.display())]
    HostKeyChanged {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// Algorithm of the key that was presented.
        algorithm: String,
        /// Its SHA-256 fingerprint.
        fingerprint: String,
        /// Algorithm and fingerprint of the pinned key or keys.
        pinned: String,
        /// The file.
        known_hosts: PathBuf,
        /// The first line that pins a key for this host.
        line: usize,
    },
    /// The key is marked as revoked.
    #[error("{host}: the host key of {address} is REVOKED in {}:{line}: {algorithm} {fingerprint}", known_hosts.display())]
    HostKeyRevoked {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// Algorithm of the key that was presented.
        algorithm: String,
        /// Its SHA-256 fingerprint.
        fingerprint: String,
        /// The file.
        known_hosts: PathBuf,
        /// The line.
        line: usize,
    },
    /// The host's certificate is of a known authority and does not vouch for it.
    #[error("{host}: the host certificate of {address} (key {fingerprint}) is refused: {reason}")]
    HostCertificate {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// SHA-256 fingerprint of the key in it.
        fingerprint: String,
        /// Why.
        reason: String,
    },
    /// known_hosts cannot be used as it is.
    #[error("{host}: {} cannot be used: {reason}", known_hosts.display())]
    KnownHosts {
        /// The host's name.
        host: String,
        /// The file.
        known_hosts: PathBuf,
        /// Why.
        reason: String,
    },
    /// No key was accepted.
    #[error("{host}: {user}@{address} accepted no key; tried: {}{}", list(tried), also(skipped))]
    Authentication {
        /// The host's name.
        host: String,
        /// Where.
        address: SocketAddr,
        /// The login.
        user: String,
        /// What was tried, each with where it came from.
        tried: Vec<String>,
        /// What could not be tried, and why.
        skipped: Vec<String>,
    },
    /// `sudo` did not take the password, here or on the host that was asked first.
    #[error("{host}: {}", wrong_password(user, refused_by.as_deref()))]
    SudoPassword {
        /// The host's name.
        host: String,
        /// The login.
        user: String,
        /// The host that refused it, where it was another one; this one was not asked then.
        refused_by: Option<String>,
    },
    /// The login's password was not taken.
    #[error("{host}: the password of {user} did not log in: {reason}")]
    Password {
        /// The host's name.
        host: String,
        /// The login.
        user: String,
        /// Why.
        reason: String,
    },
    /// A key could not be put into `authorized_keys`.
    #[error("{host}: the key could not be put into authorized_keys of {user}: {reason}")]
    Enrol {
        /// The host's name.
        host: String,
        /// The login.
        user: String,
        /// What the host said.
        reason: String,
    },
    /// This program carries no agent for the host.
    #[error("{host}: this program carries no agent for {architecture}")]
    Architecture {
        /// The host's name.
        host: String,
        /// As `uname -m` prints it there.
        architecture: String,
    },
    /// The agent did not start.
    #[error("{host}: the agent did not start: {reason}")]
    AgentStart {
        /// The host's name.
        host: String,
        /// Why, with what the host printed.
        reason: String,
    },
}

impl ConnectError {
    /// What the operator can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Refused { address, .. } => {
                format!("is the SSH server running and does it listen on port {}?", address.port())
            }
            Self::Timeout { .. } | Self::Unreachable { .. } => {
                "is the host up, is its address in inventory/servers.tsv right, and does a firewall on the way let this host in?".into()
            }
            Self::Protocol { .. } => return None,
            Self::TurnedAway { .. } => {
                "its sshd turns connections away: MaxStartups counts logins that are under way, PerSourcePenalties (OpenSSH 9.8 and later) shuts an address out after failed ones; its log says which (journalctl -u ssh). Raise MaxStartups, name this host in PerSourcePenaltyExemptList, or lower `handshakes` under [ssh] in strata.toml".into()
            }
            Self::Jump { cause, .. } => match cause.as_ref() {
                Self::HostKeyUnknown { .. } => "compare the fingerprint with the jump host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on its console), then run `strata hosts trust --jump`".into(),
                cause => return cause.hint(),
            },
            Self::ForwardingForbidden { .. } => {
                "its sshd needs `AllowTcpForwarding yes` (or `local`) and a `PermitOpen` that names this address, and the key's line in authorized_keys no `restrict` without `port-forwarding`".into()
            }
            Self::ClientConfig { .. } => {
                "`config` under [ssh] in strata.toml names the file; without it strata uses the site's own settings alone".into()
            }
            Self::Unresolved { .. } => {
                "names of jump hosts are resolved on the operator host; an address or the name of a host of the inventory needs no name service".into()
            }
            Self::HostKeyUnknown { host, .. } => format!(
                "compare the fingerprint with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on its console), then run `strata hosts trust {host}`"
            ),
            Self::HostKeyChanged { host, .. } => format!(
                "rebuilt: compare the offered fingerprint with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on its console), then run `strata hosts rebuild {host}`; not rebuilt: pin nothing, and find out who answers at this address"
            ),
            Self::HostKeyRevoked { .. } => {
                "the key was withdrawn on purpose; give the host a new one before anything is sent to it".into()
            }
            Self::HostCertificate { .. } => {
                "have the host's key signed anew with this name or address among its principals (ssh-keygen -s CA -h -n NAME,ADDRESS)".into()
            }
            Self::KnownHosts { .. } => "correct or remove the line".into(),
            Self::Authentication { user, skipped, .. } => {
                if skipped.iter().any(|reason| reason.contains("encrypted")) {
                    "add the encrypted key to an ssh-agent (ssh-add) and run strata with its SSH_AUTH_SOCK".into()
                } else {
                    format!("put the public key into ~{user}/.ssh/authorized_keys on the host")
                }
            }
            Self::Password { reason, .. } if reason.contains("takes no passwords") => {
                "put the key there through the provider's console or its image".into()
            }
            Self::Password { .. } => "run again with the right one; it was given once".into(),
            Self::Enrol { .. } => {
                "the login needs a home directory that it can write to, and a shell that runs commands".into()
            }
            Self::SudoPassword { refused_by: None, .. } => {
                "it was given once and to no other host before it was right on one; a wrong one counts as an attempt where accounts are locked".into()
            }
            Self::SudoPassword { .. } => "run again with the right one".into(),
            Self::AgentStart { reason, .. } if reason.contains("must have a tty") => {
                "sudo wants a terminal there: take `requiretty` out of its sudoers for this login".into()
            }
            Self::AgentStart { reason, .. } if reason.contains("not in the sudoers") => {
                "the login may not use sudo there: let it in sudoers, or use root".into()
            }
            Self::AgentStart { reason, .. } if reason.contains("sudo: ") && reason.contains("not found") => {
                "the login is not root and there is no sudo: install it, or use root".into()
            }
            Self::Architecture { host, architecture } => format!(
                "{}; or go on without this host: --host '!{host}'",
                agent_binary::how_to_add(architecture)
            ),
            Self::AgentStart { reason, .. } if reason.contains("sudo") => {
                "the login needs sudo without a password (NOPASSWD), or give its password: --ask-sudo-password, or sudo_password under [ssh] in strata.toml".into()
            }
            Self::AgentStart { .. } => {
                "the login's shell must run commands, and one of /var/lib, /opt, /root or /run must be writable and allow programs".into()
            }
        })
    }

    /// True when the host, or a jump host before it, is not proved to be the one that was pinned.
    pub fn is_identity(&self) -> bool {
        match self {
            Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostCertificate { .. } => true,
            Self::Jump { cause, .. } => cause.is_identity(),
            _ => false,
        }
    }

    /// True when trying again leads to the same end, and may do harm: an identity that is not as
    /// pinned, a refused login, a host that no agent fits.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Jump { cause, .. } => cause.is_final(),
            Self::KnownHosts { .. }
            | Self::ClientConfig { .. }
            | Self::Authentication { .. }
            | Self::SudoPassword { .. }
            | Self::Password { .. }
            | Self::Architecture { .. } => true,
            other => other.is_identity(),
        }
    }
}

fn wrong_password(user: &str, refused_by: Option<&str>) -> String {
    match refused_by {
        None => format!("sudo did not take the password of {user}"),
        Some(other) => format!("the password was wrong on {other}, so it was not tried here"),
    }
}

fn said_text(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(", and said: {said}") }
}

/// The text of an error without the name of the host that it begins with.
fn without_name(error: &ConnectError) -> String {
    let text = error.to_string();
    text.split_once(": ").map_or(text.clone(), |(_, rest)| rest.to_owned())
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "nothing".into() } else { items.join(", ") }
}

fn also(skipped: &[String]) -> String {
    if skipped.is_empty() { String::new() } else { format!("; not tried: {}", skipped.join(", ")) }
}

/// Why a session that existed can no longer answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The connection or the agent is gone.
    #[error("{host}: the connection was lost: {reason}")]
    LinkLost {
        /// The host's name.
        host: String,
        /// Why.
        reason: String,
    },
    /// A program printed more than can be kept.
    #[error("{host}: a program printed more than {limit} bytes and was killed")]
    OutputTooLarge {
        /// The host's name.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Why the host's lock was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Another run has it.
    #[error("{host}: {} holds the host's lock", holder_text(holder.as_ref()))]
    Held {
        /// The host's name.
        host: String,
        /// Who, where the lock file says so.
        holder: Option<LockHolder>,
    },
    /// The lock could not be tried.
    #[error("{host}: the lock in /run/strata cannot be taken: {reason}")]
    Failed {
        /// The host's name.
        host: String,
        /// As the kernel puts it.
        reason: String,
    },
    /// The session is gone.
    #[error(transparent)]
    Session(#[from] SessionError),
}

fn holder_text(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(
        || "another run that has just begun".into(),
        |holder| format!("{} ({}, run {})", holder.owner, holder.purpose, holder.run),
    )
}

/// Why a connection from the host was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The target answered with a refusal.
    #[error("from {host}: {to} refused the connection")]
    Refused {
        /// The host that dialled.
        host: String,
        /// Where to.
        to: RelayTarget,
    },
    /// No answer in time.
    #[error("from {host}: {to} gave no answer within {after:?}")]
    Timeout {
        /// The host that dialled.
        host: String,
        /// Where to.
        to: RelayTarget,
        /// The limit.
        after: Duration,
    },
    /// The host's kernel says no.
    #[error("from {host}: {to} cannot be reached: {reason}")]
    Other {
        /// The host that dialled.
        host: String,
        /// Where to.
        to: RelayTarget,
        /// As the kernel puts it.
        reason: String,
    },
    /// The session is gone.
    #[error(transparent)]
    Session(#[from] SessionError),
}
