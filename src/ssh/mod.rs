//! Sessions with hosts: SSH connections with strict host keys, the agent's start and upload, and
//! everything that a session carries over its one channel.

pub mod agent_binary;
mod authentication;
mod connection;
mod error;
mod host_key;
mod known_hosts;
mod launch;
mod launch_command;
mod link;
mod prompt_stream;
mod reachability;
mod relay_stream;
mod router;
mod running_program;
mod session;
mod target;

pub use error::{ConnectError, LockError, OpenError, SessionError};
pub use host_key::{HostKey, scan_host_keys};
pub use known_hosts::{
    Added, HostKeyVerdict, KnownHosts, Pinned, append_known_host, replace_known_host,
};
pub use relay_stream::RelayStream;
pub use running_program::{ProgramEvent, RunningProgram};
pub use session::{AgentSession, BatchResult, ExecResult};
pub use target::{ConnectOptions, Target, Transport};
