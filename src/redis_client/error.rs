//! Why a call gave no answer that can be used.

use redis::RedisError;
use std::time::Duration;

/// Why a call failed. The texts carry no argument of the call, so no password either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server wants a password first.
    #[error("{what}: the server wants a password (NOAUTH)")]
    NoAuth {
        /// The command.
        what: String,
    },
    /// The server knows another password.
    #[error("the password differs from the server's (WRONGPASS)")]
    WrongPassword,
    /// A master with too few replicas that are in step takes no write.
    #[error("{what}: not enough replicas in step (NOREPLICAS)")]
    NoReplicas {
        /// The command.
        what: String,
    },
    /// A replica takes no write.
    #[error("{what}: this is a replica (READONLY)")]
    ReadOnly {
        /// The command.
        what: String,
    },
    /// The server refuses for another reason.
    #[error("{what}: {code} {detail}")]
    Refused {
        /// The command.
        what: String,
        /// The first word of the refusal.
        code: String,
        /// The rest of it.
        detail: String,
    },
    /// No answer in time: a write may have happened.
    #[error("{what}: no answer within {} ms", after.as_millis())]
    Timeout {
        /// The command.
        what: String,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke: a write may have happened.
    #[error("{what}: connection lost: {reason}")]
    Lost {
        /// The command.
        what: String,
        /// Why.
        reason: String,
    },
    /// The answer is none that this command gives.
    #[error("{what}: the answer is not understood: {reason}")]
    Answer {
        /// The command.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// True when the server took the command for sure not: it answered with a refusal.
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NoAuth { .. }
                | Self::WrongPassword
                | Self::NoReplicas { .. }
                | Self::ReadOnly { .. }
                | Self::Refused { .. }
        )
    }

    /// True when this connection is of no use any more.
    pub const fn ends_connection(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Lost { .. } | Self::Answer { .. })
    }

    pub(super) fn of(what: &str, error: &RedisError) -> Self {
        let what = what.to_owned();
        let detail = || error.detail().unwrap_or_default().to_owned();
        match error.code() {
            Some("NOAUTH") => Self::NoAuth { what },
            Some("WRONGPASS") => Self::WrongPassword,
            Some("NOREPLICAS") => Self::NoReplicas { what },
            Some("READONLY") => Self::ReadOnly { what },
            Some(code) => Self::Refused { what, code: code.to_owned(), detail: detail() },
            None if matches!(
                error.kind(),
                redis::ErrorKind::Parse | redis::ErrorKind::UnexpectedReturnType
            ) =>
            {
                Self::Answer { what, reason: error.category().to_owned() }
            }
            None => Self::Lost { what, reason: error.category().to_owned() },
        }
    }

    pub(super) fn answer(what: &str, reason: impl Into<String>) -> Self {
        Self::Answer { what: what.to_owned(), reason: reason.into() }
    }
}
