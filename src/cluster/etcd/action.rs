//! What the driver can do.

use super::settings::Beginning;
use super::view::Named;
use crate::cluster::{Marker, Record};
use std::fmt;

/// What a member without data is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begins {
    /// As what it begins.
    pub how: Beginning,
    /// All members, itself among them.
    pub members: Vec<Named>,
}

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
    /// Begin a member that has no data.
    Begin {
        /// The member.
        member: String,
        /// With what.
        begins: Begins,
    },
    /// Start a member that stopped, with its data.
    Start {
        /// The member.
        member: String,
        /// How it began, where that may not have come to its end.
        begins: Option<Begins>,
    },
    /// Stop a member that lost its data or its place, and move what is in its data directory to
    /// another name.
    SetAside {
        /// The member.
        member: String,
    },
    /// Take a member out of the list.
    Remove {
        /// Whom, in words.
        member: String,
        /// Its id.
        id: u64,
    },
    /// Put a member into the list, without a vote.
    Add {
        /// The member.
        member: Named,
    },
    /// Give a learner its vote, once it has everything.
    Promote {
        /// The member.
        member: String,
        /// Its id.
        id: u64,
    },
    /// Let another member lead.
    MoveLeader {
        /// Who leads.
        from: String,
        /// Who is to lead.
        to: String,
        /// The id of the latter.
        id: u64,
    },
    /// Save all keys to a file.
    Save {
        /// On which member.
        member: String,
    },
    /// Write files that need no start.
    Write {
        /// The member.
        member: String,
    },
    /// Bring a member to what its role says, with a start.
    Renew {
        /// The member.
        member: String,
    },
}

impl Action {
    /// True for what brings a whole cluster to its role: nothing is missing without it.
    pub const fn is_renewal(&self) -> bool {
        matches!(
            self,
            Self::Write { .. } | Self::Renew { .. } | Self::MoveLeader { .. } | Self::Save { .. }
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => f.write_str(record.action()),
            Self::Mark { member, .. } => write!(f, "{member}: mark the data"),
            Self::Begin { member, begins } => match begins.how {
                Beginning::New => {
                    write!(f, "{member}: begin as one of {} new members", begins.members.len())
                }
                Beginning::Existing => write!(f, "{member}: join"),
            },
            Self::Start { member, .. } => write!(f, "{member}: start etcd with its data"),
            Self::SetAside { member } => write!(f, "{member}: set what is left aside"),
            Self::Remove { member, id } => write!(f, "take {member} ({id:x}) out of the list"),
            Self::Add { member } => write!(f, "put {} into the list", member.name),
            Self::Promote { member, .. } => write!(f, "{member}: give it its vote"),
            Self::MoveLeader { from, to, .. } => write!(f, "{from}: let {to} lead"),
            Self::Save { member } => write!(f, "{member}: save all keys"),
            Self::Write { member } => write!(f, "{member}: write files"),
            Self::Renew { member } => write!(f, "{member}: renew etcd"),
        }
    }
}
