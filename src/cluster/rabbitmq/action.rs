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
    /// Make a node where there is no data: it finds the others, or is the first.
    Create {
        /// The member.
        member: String,
    },
    /// Start a node that stopped, with its own data.
    Start {
        /// The member.
        member: String,
    },
    /// Remove the container of a member whose data is gone: what is left of it knows nothing.
    Remove {
        /// The member.
        member: String,
    },
    /// Make the cluster forget a node whose data is gone, before it joins anew.
    Forget {
        /// The member.
        member: String,
        /// A member that runs.
        by: String,
    },
    /// Give a node its part of the quorum queues.
    Grow {
        /// The member.
        member: String,
        /// A member that runs.
        by: String,
    },
    /// Put features of the version into use, which an upgrade asks for.
    EnableFeatures {
        /// A member that runs.
        by: String,
    },
    /// Declare what the role says: vhost, users, permissions, policies.
    Declare {
        /// A member that runs.
        by: String,
        /// What, by names.
        what: Vec<String>,
    },
    /// Drain a node, bring it to what its role says with a restart, and let it take clients again.
    Renew {
        /// The member.
        member: String,
    },
    /// Let a node take clients again.
    Revive {
        /// The member.
        member: String,
    },
}

impl Action {
    /// True for what brings a whole cluster to its role: nothing is missing without it.
    pub const fn is_renewal(&self) -> bool {
        matches!(self, Self::EnableFeatures { .. } | Self::Declare { .. } | Self::Renew { .. })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => f.write_str(record.action()),
            Self::Mark { member, .. } => write!(f, "{member}: mark the data"),
            Self::Create { member } => write!(f, "{member}: make a node"),
            Self::Start { member } => write!(f, "{member}: start the node as it was"),
            Self::Remove { member } => write!(f, "{member}: remove the container without data"),
            Self::Forget { member, by } => write!(f, "{by}: forget {member}, which has no data"),
            Self::Grow { member, .. } => write!(f, "{member}: copies of the quorum queues"),
            Self::EnableFeatures { by } => write!(f, "{by}: put the version's features into use"),
            Self::Declare { what, .. } => write!(f, "declare {}", what.join(", ")),
            Self::Renew { member } => write!(f, "{member}: drain and renew"),
            Self::Revive { member } => write!(f, "{member}: take clients again"),
        }
    }
}
