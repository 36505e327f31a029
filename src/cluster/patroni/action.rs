//! What the driver can do.

use crate::cluster::{Marker, Record};
use std::fmt;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the record on the operator host.
    Record(Record),
    /// Put the marker beside a member's data.
    Mark {
        /// The member.
        member: String,
        /// What it says.
        marker: Marker,
    },
    /// Make the member with which the cluster begins.
    Form {
        /// The member.
        member: String,
    },
    /// Make a member that copies the data of whoever leads.
    Join {
        /// The member.
        member: String,
    },
    /// Start a member that stopped, with its own data.
    Start {
        /// The member.
        member: String,
    },
    /// Move a member's data aside, so that it copies anew.
    SetAside {
        /// The member.
        member: String,
    },
    /// Change Patroni's dynamic settings.
    Configure {
        /// Their names.
        settings: Vec<String>,
    },
    /// Bring declared roles and databases about.
    Declare {
        /// Their names.
        objects: Vec<String>,
    },
    /// Write files and let Patroni read them.
    Write {
        /// The member.
        member: String,
    },
    /// Start PostgreSQL anew, because settings wait for it.
    Restart {
        /// The member.
        member: String,
    },
    /// Bring a member's daemon to what its role says, with a restart.
    Renew {
        /// The member.
        member: String,
    },
    /// Hand leadership over.
    HandOver {
        /// The member that leads.
        from: String,
        /// The member that is to lead.
        to: String,
    },
}

impl Action {
    /// True for what brings a whole cluster to its role: nothing is missing without it.
    pub const fn is_renewal(&self) -> bool {
        matches!(
            self,
            Self::Configure { .. }
                | Self::Declare { .. }
                | Self::Write { .. }
                | Self::Restart { .. }
                | Self::Renew { .. }
                | Self::HandOver { .. }
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => f.write_str(record.action()),
            Self::Mark { member, .. } => write!(f, "{member}: mark the data"),
            Self::Form { member } => write!(f, "{member}: form the cluster"),
            Self::Join { member } => write!(f, "{member}: join with a copy of the leader's data"),
            Self::Start { member } => write!(f, "{member}: start with its own data"),
            Self::SetAside { member } => write!(f, "{member}: move the data aside and copy anew"),
            Self::Configure { settings } => write!(f, "set {} of Patroni", settings.join(", ")),
            Self::Declare { objects } => f.write_str(&objects.join(", ")),
            Self::Write { member } => write!(f, "{member}: write files and reload"),
            Self::Restart { member } => write!(f, "{member}: restart PostgreSQL"),
            Self::Renew { member } => write!(f, "{member}: renew Patroni and PostgreSQL"),
            Self::HandOver { from, to } => write!(f, "{from}: hand leadership over to {to}"),
        }
    }
}
