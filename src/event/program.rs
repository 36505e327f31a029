//! How a program ended that the operator started on hosts.

use serde::{Deserialize, Serialize};

/// How a program ended on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ProgramEnd {
    /// It exited with this status.
    Exited {
        /// The status.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// It ran longer than it may and was killed.
    TimedOut {
        /// The limit in seconds.
        seconds: u32,
    },
    /// It could not be started.
    NotStarted {
        /// Why.
        reason: String,
    },
    /// The operator stopped the run and it was killed.
    Stopped,
    /// The connection broke while it ran; the agent kills what it started when it notices.
    Lost {
        /// Why.
        reason: String,
    },
}

impl ProgramEnd {
    /// True for an exit with status 0.
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

impl std::fmt::Display for ProgramEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exit {code}"),
            Self::Signaled { signal } => write!(f, "ended by signal {signal}"),
            Self::TimedOut { seconds } => write!(f, "killed: not done after {seconds} s"),
            Self::NotStarted { reason } => write!(f, "not started: {reason}"),
            Self::Stopped => f.write_str("killed: the run was stopped"),
            Self::Lost { reason } => write!(f, "lost: {reason}"),
        }
    }
}
