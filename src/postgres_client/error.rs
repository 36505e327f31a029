//! Why a call gave no answer that can be used.

use std::time::Duration;
use tokio_postgres::error::SqlState;

/// SQLSTATEs that decide something.
pub mod state {
    /// The password is another one.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// No such role, or `pg_hba.conf` has no place for this connection.
    pub const NOT_AUTHORIZED: &str = "28000";
    /// A standby, or a transaction that may only read.
    pub const READ_ONLY: &str = "25006";
    /// The server starts, recovers or stops.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// An administrator ended the connection: the server stops.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// Every connection is taken.
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// No such database.
    pub const NO_DATABASE: &str = "3D000";
    /// A file of the data is not there, a disk fails, pages or indexes are damaged.
    pub const DAMAGED: [&str; 4] = ["58P01", "58030", "XX001", "XX002"];
    /// The row is there already.
    pub const UNIQUE_VIOLATION: &str = "23505";
    /// No such table.
    pub const NO_TABLE: &str = "42P01";
}

/// Why a call failed. The texts carry no statement and no value of it, so no password either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server knows another password for this role, or no such role.
    #[error("the server does not take the password of {user:?} ({message})")]
    WrongPassword {
        /// The role.
        user: String,
        /// What the server says.
        message: String,
    },
    /// A standby takes no write.
    #[error("{what}: this server only reads ({})", state::READ_ONLY)]
    ReadOnly {
        /// The call.
        what: String,
    },
    /// The server starts, recovers or stops.
    #[error("{what}: {message} ({})", state::CANNOT_CONNECT_NOW)]
    NotReady {
        /// The call.
        what: String,
        /// What the server says.
        message: String,
    },
    /// The server refuses for another reason.
    #[error("{what}: {message} ({code})")]
    Refused {
        /// The call.
        what: String,
        /// The SQLSTATE.
        code: String,
        /// What the server says.
        message: String,
    },
    /// No answer in time: a write may have happened.
    #[error("{what}: no answer within {} ms", after.as_millis())]
    Timeout {
        /// The call.
        what: String,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke: a write may have happened.
    #[error("{what}: connection lost: {reason}")]
    Lost {
        /// The call.
        what: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// True when the server took the call for sure not: it answered with a refusal. One that an
    /// administrator's stop cut off is none: its commit may have been made.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::WrongPassword { .. } | Self::ReadOnly { .. } | Self::NotReady { .. } => true,
            // Class 57: ended by somebody; class 08: the connection; 40003: outcome unknown.
            Self::Refused { code, .. } => {
                !code.starts_with("57P") && !code.starts_with("08") && code != "40003"
            }
            Self::Timeout { .. } | Self::Lost { .. } => false,
        }
    }

    /// True when this connection is of no use any more.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        match self {
            Self::WrongPassword { .. }
            | Self::NotReady { .. }
            | Self::Timeout { .. }
            | Self::Lost { .. } => true,
            Self::ReadOnly { .. } => false,
            Self::Refused { code, .. } => code.starts_with("57P") || code.starts_with("08"),
        }
    }

    /// The SQLSTATE, where the server gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::WrongPassword { .. } => Some(state::INVALID_PASSWORD),
            Self::ReadOnly { .. } => Some(state::READ_ONLY),
            Self::NotReady { .. } => Some(state::CANNOT_CONNECT_NOW),
            Self::Refused { code, .. } => Some(code),
            Self::Timeout { .. } | Self::Lost { .. } => None,
        }
    }

    pub(super) fn of(what: &str, user: &str, error: &tokio_postgres::Error) -> Self {
        let what = what.to_owned();
        let Some(refusal) = error.as_db_error() else {
            // Its source says more than "error communicating with the server".
            let cause = std::error::Error::source(error).map(ToString::to_string);
            let reason = cause.unwrap_or_else(|| error.to_string());
            return Self::Lost { what, reason };
        };
        let message = refusal.message().to_owned();
        match *refusal.code() {
            SqlState::INVALID_PASSWORD => Self::WrongPassword { user: user.to_owned(), message },
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly { what },
            SqlState::CANNOT_CONNECT_NOW => Self::NotReady { what, message },
            ref code => Self::Refused { what, code: code.code().to_owned(), message },
        }
    }
}
