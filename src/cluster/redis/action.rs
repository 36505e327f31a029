//! What the driver can do.

use crate::cluster::{Marker, Record};
use std::fmt;
use std::net::Ipv4Addr;

/// Which daemon of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Redis.
    Server,
    /// Sentinel.
    Sentinel,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "Redis",
            Self::Sentinel => "Sentinel",
        })
    }
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
    /// Make a daemon where there was none; as a replica unless the member leads.
    Create {
        /// The member.
        member: String,
        /// Who leads.
        leader: Ipv4Addr,
        /// Which daemon.
        part: Part,
        /// True during the first formation.
        forming: bool,
    },
    /// Start a daemon that stopped, with its own files.
    Start {
        /// The member.
        member: String,
        /// Which daemon.
        part: Part,
    },
    /// Stop a replica whose data is gone, and set its own configuration aside, so that it can join
    /// again.
    SetAside {
        /// The member.
        member: String,
    },
    /// Hand leadership over to a replica that has everything.
    HandOver {
        /// The member that leads.
        from: String,
    },
    /// Write files that need no restart.
    Write {
        /// The member.
        member: String,
    },
    /// Set live settings of Redis.
    Set {
        /// The member.
        member: String,
        /// Settings with their values.
        settings: Vec<(String, String)>,
    },
    /// Set live settings of Sentinel.
    SetSentinel {
        /// The member.
        member: String,
        /// Settings with their values.
        settings: Vec<(String, String)>,
    },
    /// Keep a Sentinel from electing anybody until it is released.
    Hold {
        /// The member.
        member: String,
    },
    /// Let a Sentinel elect again.
    Release {
        /// The member.
        member: String,
    },
    /// Bring a daemon of a member to what its role says, with a restart.
    Renew {
        /// The member.
        member: String,
        /// Which daemon.
        part: Part,
    },
    /// Make a Sentinel forget members that are no more.
    ForgetStrangers {
        /// The member.
        member: String,
    },
}

impl Action {
    /// True for what brings a whole cluster to its role: nothing is missing without it.
    pub const fn is_renewal(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Set { .. }
                | Self::SetSentinel { .. }
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
            Self::Create { member, part, leader, .. } => {
                write!(f, "{member}: make {part}, led by {leader}")
            }
            Self::Start { member, part } => write!(f, "{member}: start {part} as it was"),
            Self::SetAside { member } => write!(f, "{member}: set the old configuration aside"),
            Self::HandOver { from } => write!(f, "{from}: hand leadership over"),
            Self::Write { member } => write!(f, "{member}: write files"),
            Self::Set { member, settings } => {
                write!(f, "{member}: set {}", names(settings))
            }
            Self::SetSentinel { member, settings } => {
                write!(f, "{member}: set {} of Sentinel", names(settings))
            }
            Self::Hold { member } => write!(f, "{member}: Sentinel elects nobody for now"),
            Self::Release { member } => write!(f, "{member}: Sentinel may elect again"),
            Self::Renew { member, part } => write!(f, "{member}: renew {part}"),
            Self::ForgetStrangers { member } => {
                write!(f, "{member}: Sentinel forgets members that are no more")
            }
        }
    }
}

fn names(settings: &[(String, String)]) -> String {
    settings.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}
