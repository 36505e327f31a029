//! Where to connect and how.

use super::jump::Jumps;
use super::key_files::KeyFiles;
use super::known_hosts::PinnedKeys;
use super::ramp::Ramp;
use super::sudo::SudoPassword;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over SSH.
    Ssh,
    /// It is the machine that strata runs on.
    Local,
}

/// What a login is proved with, where it is not what the whole run uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Keys {
    /// Private key files, in order of preference. Missing files are skipped.
    pub identities: Vec<PathBuf>,
    /// Certificates for these keys, beside those that stand next to a key file.
    pub certificates: Vec<PathBuf>,
    /// The socket of an ssh-agent; `None` uses none.
    pub agent_socket: Option<PathBuf>,
    /// True when keys of the ssh-agent that are in no file named here are not offered.
    pub only: bool,
}

/// A host that connections to other hosts lead through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// What the operator calls it; used in messages and to find its key in known_hosts.
    pub name: String,
    /// Its address, or a name that the operator host resolves.
    pub host: String,
    /// The port of its SSH server.
    pub port: u16,
    /// The login. It needs no rights but that of forwarding connections.
    pub user: String,
    /// What the login is proved with; `None`: as everywhere in this run.
    pub keys: Option<Keys>,
}

impl std::fmt::Display for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.name, self.port)
    }
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host's name in the inventory; used in messages and to find its key in known_hosts.
    pub name: String,
    /// The address and port of its SSH server. Nothing is resolved.
    pub address: SocketAddr,
    /// The login. Anyone but `root` needs `sudo`.
    pub user: String,
    /// How it is reached.
    pub transport: Transport,
    /// The hosts that the connection leads through, the first one first.
    pub jump: Vec<Hop>,
    /// What the login is proved with; `None`: as everywhere in this run.
    pub keys: Option<Keys>,
}

impl Target {
    /// The names under which the host's key may stand in known_hosts: `name` and address, in
    /// OpenSSH's `[host]:port` form when the port is not 22.
    pub fn known_hosts_names(&self) -> Vec<String> {
        let address = self.address.ip().to_string();
        let mut names = vec![self.name.clone()];
        if address != self.name {
            names.push(address);
        }
        match self.address.port() {
            22 => names,
            port => names.into_iter().map(|name| format!("[{name}]:{port}")).collect(),
        }
    }

    /// A target reached over SSH at port 22 as root.
    pub fn ssh(name: impl Into<String>, address: IpAddr) -> Self {
        Self {
            name: name.into(),
            address: SocketAddr::new(address, 22),
            user: "root".into(),
            transport: Transport::Ssh,
            jump: Vec::new(),
            keys: None,
        }
    }
}

/// How connections are made; the same for all hosts of a run.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Limit for the TCP connection and the key exchange together, all attempts at a server that
    /// turns connections away included.
    pub connect_timeout: Duration,
    /// Limit for the authentication, all keys together.
    pub auth_timeout: Duration,
    /// Limit for the agent's start, its upload included.
    pub start_timeout: Duration,
    /// Silence after which the server is asked for a sign of life; three without an answer end the
    /// connection.
    pub keepalive: Duration,
    /// Private key files, in order of preference. Missing files are skipped.
    pub identities: Vec<PathBuf>,
    /// The socket of an ssh-agent; `None` uses none.
    pub agent_socket: Option<PathBuf>,
    /// What `sudo` is told where it asks; `None`: it must not ask.
    pub sudo: Option<SudoPassword>,
    /// The pinned host keys.
    pub known_hosts: PathBuf,
    /// What that file said when a connection last looked; shared by all hosts of a run.
    pub pinned: PinnedKeys,
    /// What was read of private key files; shared by all hosts of a run.
    pub key_files: KeyFiles,
    /// How many handshakes are under way at the same time.
    pub ramp: Ramp,
    /// Connections to jump hosts, shared by everything behind them.
    pub jumps: Jumps,
    /// Directories on the host for the agent's file, in order of preference. Each must have a
    /// parent that only root can write. Letters, digits and `/._-` only.
    pub agent_directories: Vec<String>,
}

impl ConnectOptions {
    /// Sensible limits with the key files of `home` and the pinned keys in `known_hosts`.
    pub fn new(home: &std::path::Path, known_hosts: PathBuf) -> Self {
        let identities = ["id_ed25519", "id_ecdsa", "id_rsa"];
        Self {
            connect_timeout: Duration::from_secs(10),
            auth_timeout: Duration::from_secs(15),
            start_timeout: Duration::from_secs(120),
            keepalive: Duration::from_secs(10),
            identities: identities.iter().map(|name| home.join(".ssh").join(name)).collect(),
            agent_socket: None,
            sudo: None,
            known_hosts,
            pinned: PinnedKeys::default(),
            key_files: KeyFiles::default(),
            ramp: Ramp::default(),
            jumps: Jumps::default(),
            agent_directories: ["/var/lib/strata", "/opt/strata", "/root/.strata", "/run/strata"]
                .map(String::from)
                .to_vec(),
        }
    }
}
