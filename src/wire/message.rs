//! The vocabulary of the protocol.

use super::Facts;
use crate::resource::{Batch, ItemReport};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Version of the message set. Any change of a message changes it.
pub const PROTOCOL: u32 = 5;

/// Bytes that each direction of a relayed stream may have in flight before its first
/// [`ToAgent::Credit`] or [`FromAgent::Credit`].
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes of a program's output (both streams together) that may be in flight before its first
/// [`ToAgent::ExecCredit`].
pub const EXEC_WINDOW: u32 = 1024 * 1024;

/// Largest payload in bytes of one `Data` or `ExecOutput`: small, so that no transfer delays
/// another for long.
pub const CHUNK: usize = 32 * 1024;

/// Milliseconds between two [`ToAgent::Alive`].
pub const ALIVE_EVERY_MS: u32 = 5_000;

/// Milliseconds of silence after which the agent takes the link for broken: a little more than the
/// controller takes to find out itself, so that the host is free when it comes back.
pub const SILENCE_LIMIT_MS: u32 = 45_000;

/// What the agent prints before its first frame. A login shell may print a banner first, so the
/// controller looks for these bytes; the zero and 0xFF bytes appear in no text.
pub const PREAMBLE: [u8; 16] = *b"\0\xFFstrata-agent\xFF\0";

/// Bytes of foreign output that the controller skips at most while it looks for [`PREAMBLE`].
pub const PREAMBLE_LIMIT: usize = 64 * 1024;

/// Controller to agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToAgent {
    /// Converge (or only check) an ordered list of resources. Answered by [`FromAgent::Item`] for
    /// each and one [`FromAgent::BatchDone`].
    Converge {
        /// Chosen by the controller; unique within the session.
        batch: u32,
        /// What to converge.
        work: Batch,
    },
    /// Stops the batch after the resource in hand.
    StopBatch {
        /// The batch to stop.
        batch: u32,
    },
    /// The controller has reached the host over a new connection: keep the guarded change.
    ConfirmReachable {
        /// The batch that waits.
        batch: u32,
    },
    /// Run a program. Answered by [`FromAgent::ExecOutput`]s and one [`FromAgent::ExecDone`].
    Exec {
        /// Chosen by the controller; unique within the session.
        id: u32,
        /// What to run.
        spec: ExecSpec,
    },
    /// Kill a running program and its process group.
    ExecKill {
        /// The program's id.
        id: u32,
    },
    /// Allows the agent to send this many more bytes of the program's output.
    ExecCredit {
        /// The program's id.
        id: u32,
        /// How many bytes more.
        bytes: u32,
    },
    /// Open a connection *from this host*.
    Open {
        /// Chosen by the controller; unique within the session.
        stream: u32,
        /// Where to.
        to: RelayTarget,
        /// Milliseconds to wait for the connection.
        timeout_ms: u32,
    },
    /// Bytes for an open stream, within its credit.
    Data {
        /// The stream.
        stream: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Allows the agent to send this many more bytes on the stream.
    Credit {
        /// The stream.
        stream: u32,
        /// How many bytes more.
        bytes: u32,
    },
    /// No more bytes will follow on the stream (half close), or, sent twice, drop it.
    Close {
        /// The stream.
        stream: u32,
    },
    /// Take the host's lock; answered by [`FromAgent::Locked`] or [`FromAgent::LockRefused`].
    Lock {
        /// Who asks and why.
        holder: LockHolder,
    },
    /// The controller is alive. Sent every [`ALIVE_EVERY_MS`]; an agent that hears nothing for
    /// [`SILENCE_LIMIT_MS`] ends as if the link had broken, so that a controller that lost its
    /// power does not hold a host's lock for ever.
    Alive,
    /// Finish the resource in hand and exit.
    Goodbye,
}

/// Where a relayed stream leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelayTarget {
    /// A TCP address: the agent resolves no names.
    Tcp(SocketAddr),
    /// The absolute path of a stream socket on the host.
    Unix(String),
}

impl std::fmt::Display for RelayTarget {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(to),
            Self::Unix(path) => path.fmt(to),
        }
    }
}

/// Agent to controller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromAgent {
    /// First frame of the session.
    Hello(Box<Hello>),
    /// Something happened to one item of a batch.
    Item {
        /// The batch.
        batch: u32,
        /// What happened.
        report: ItemReport,
    },
    /// The batch is over, complete or not.
    BatchDone {
        /// The batch.
        batch: u32,
        /// True when every item was looked at and none failed.
        complete: bool,
        /// Handlers that waited and that the role does not have any more: their records are gone.
        forgotten: Vec<String>,
    },
    /// A guarded change is live and its dead-man timer runs: prove that the host is still
    /// reachable over a *new* connection and answer [`ToAgent::ConfirmReachable`].
    ProveReachable {
        /// The batch that waits.
        batch: u32,
        /// Milliseconds until the change is reverted.
        deadline_ms: u32,
    },
    /// Output of a program.
    ExecOutput {
        /// The program's id.
        id: u32,
        /// Which stream.
        stream: OutputStream,
        /// The bytes as the program wrote them.
        bytes: Vec<u8>,
    },
    /// The program ended or could not be started.
    ExecDone {
        /// The program's id.
        id: u32,
        /// How.
        outcome: ExecOutcome,
    },
    /// The stream is connected.
    Opened {
        /// The stream.
        stream: u32,
    },
    /// The stream could not be connected.
    OpenFailed {
        /// The stream.
        stream: u32,
        /// Why, as the kernel puts it.
        reason: String,
        /// True when the target answered with a refusal (RST), false on time-outs and the rest.
        refused: bool,
    },
    /// Bytes from the stream, within the credit given.
    Data {
        /// The stream.
        stream: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Allows the controller to send this many more bytes on the stream.
    Credit {
        /// The stream.
        stream: u32,
        /// How many bytes more.
        bytes: u32,
    },
    /// The peer closed its side, or the stream failed.
    Closed {
        /// The stream.
        stream: u32,
        /// `None` for a clean end.
        error: Option<String>,
    },
    /// The lock is ours until this agent exits.
    Locked,
    /// Another agent holds the lock.
    LockRefused {
        /// Who, as written in the lock file.
        holder: Option<LockHolder>,
    },
    /// The lock could not be tried at all.
    LockFailed {
        /// Why, as the kernel puts it.
        reason: String,
    },
}

/// The agent's first words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the agent's build.
    pub protocol: u32,
    /// The package version of the agent's build.
    pub version: String,
    /// The host's clock, milliseconds since the epoch, for the skew.
    pub unix_time_ms: u64,
    /// Effective user id; 0 when the agent may converge anything.
    pub uid: u32,
    /// What the agent read of its host.
    pub facts: Facts,
}

/// A program to run: argv, never a shell string made from data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments. The program is looked up in the agent's fixed `PATH` when it has no
    /// slash.
    pub argv: Vec<String>,
    /// Bytes for its standard input; secrets go here, never into argv.
    pub stdin: Vec<u8>,
    /// Additional environment.
    pub env: Vec<(String, String)>,
    /// Run as this user (by name); `None` runs as the agent's.
    pub user: Option<String>,
    /// Milliseconds after which the process group is killed; 0 for no limit.
    pub timeout_ms: u32,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecOutcome {
    /// It exited with this status.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// The deadline passed and it was killed.
    TimedOut,
    /// It could not be started.
    NotStarted(String),
}

/// Which output stream of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Who holds a host's lock and what for; written into the lock file for people to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// For example `root@install-01`.
    pub owner: String,
    /// For example `install --layer base`.
    pub purpose: String,
    /// The run's id.
    pub run: String,
    /// Milliseconds since the epoch when the lock was taken.
    pub since_unix_ms: u64,
}
