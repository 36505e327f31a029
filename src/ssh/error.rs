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
            Self::HostKeyUnknown { host, .. } => format!(
                "compare the fingerprint with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on its console), then run `strata hosts trust {host}`"
            ),
            Self::HostKeyChanged { host, .. } => format!(
                "rebuilt: compare the offered fingerprint with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on its console), then run `strata hosts rebuild {host}`; not rebuilt: pin nothing, and find out who answers at this address"
            ),
            Self::HostKeyRevoked { .. } => {
                "the key was withdrawn on purpose; give the host a new one before anything is sent to it".into()
            }
            Self::KnownHosts { .. } => "correct or remove the line".into(),
            Self::Authentication { user, skipped, .. } => {
                if skipped.iter().any(|reason| reason.contains("encrypted")) {
                    "add the encrypted key to an ssh-agent (ssh-add) and run strata with its SSH_AUTH_SOCK".into()
                } else {
                    format!("put the public key into ~{user}/.ssh/authorized_keys on the host")
                }
            }
            Self::Architecture { host, architecture } => format!(
                "{}; or go on without this host: --host '!{host}'",
                agent_binary::how_to_add(architecture)
            ),
            Self::AgentStart { reason, .. } if reason.contains("sudo") => {
                "the login needs sudo without a password (NOPASSWD), or use root".into()
            }
            Self::AgentStart { .. } => {
                "the login's shell must run commands, and one of /var/lib, /opt, /root or /run must be writable and allow programs".into()
            }
        })
    }

    /// True when the host is not proved to be the one that was pinned.
    pub const fn is_identity(&self) -> bool {
        matches!(
            self,
            Self::HostKeyUnknown { .. } | Self::HostKeyChanged { .. } | Self::HostKeyRevoked { .. }
        )
    }
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
