//! Sessions with hosts: SSH connections with strict host keys, the agent's start and upload, and
//! everything that a session carries over its one channel.

pub mod agent_binary;
mod authentication;
mod banner;
mod client_config;
mod connection;
mod dial;
mod enrol;
mod error;
mod host_key;
mod jump;
mod key_files;
mod known_hosts;
mod launch;
mod launch_command;
mod link;
mod prompt_stream;
mod ramp;
mod reachability;
mod read_once;
mod relay_stream;
mod router;
mod running_program;
mod session;
mod sudo;
mod target;

pub use client_config::{ClientConfig, ClientSettings};
pub use enrol::{EnrolKey, Enrolled, enrol_with_keys, enrol_with_password};
pub use error::{ConnectError, LockError, OpenError, SessionError};
pub use host_key::{HostKey, scan_host_keys};
pub use jump::{Jumps, hop_target};
pub use key_files::KeyFiles;
pub use known_hosts::{
    Added, HostKeyVerdict, KnownHosts, Pinned, PinnedKeys, append_known_host, replace_known_host,
};
pub use ramp::Ramp;
pub use relay_stream::RelayStream;
pub use running_program::{ProgramEvent, RunningProgram};
pub use session::{AgentSession, BatchResult, ExecResult};
pub use sudo::SudoPassword;
pub use target::{ConnectOptions, Hop, Keys, Target, Transport};
