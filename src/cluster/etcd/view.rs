//! What a look at etcd gives.

use super::gateway::Peer;
use crate::cluster::look::{Looked, Signs, owes_nothing};
use crate::cluster::{Marker, Record};
use std::net::Ipv4Addr;

/// One look at the whole cluster. Members stand in the order of their group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What the operator host remembers; an error when it cannot be read.
    pub record: Result<Option<Record>, String>,
    /// Every member.
    pub members: Vec<Member>,
    /// True once this run has saved the keys.
    pub saved: bool,
}

/// One member.
pub type Member = Looked<Seen>;

/// A member's name with its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its host.
    pub name: String,
    /// Its private address.
    pub address: Ipv4Addr,
}

/// What was seen on a member's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The marker beside the data; an error when it is there and cannot be read.
    pub marker: Result<Option<Marker>, String>,
    /// True when its log of writes is there.
    pub data: bool,
    /// True when the data directory holds anything; a start that failed leaves something too.
    pub anything: bool,
    /// True when etcd's configuration file exists.
    pub config: bool,
    /// The server.
    pub server: Server,
    /// What differs from the role.
    pub stale: Stale,
}

/// What differs from the role on one member, in words to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// What is written without a start.
    pub files: Vec<String>,
    /// What needs a start.
    pub server: Vec<String>,
}

/// etcd on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Nothing listens.
    Down,
    /// Something listens and gives no use yet.
    Unready(String),
    /// It answers.
    Up(View),
}

/// An etcd that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The cluster that it belongs to.
    pub cluster: u64,
    /// Its own id.
    pub id: u64,
    /// Who leads, as it knows.
    pub leader: Option<u64>,
    /// True while it has no vote.
    pub learner: bool,
    /// Index of its last entry that was agreed on.
    pub index: u64,
    /// Index of its last entry that was applied.
    pub applied: u64,
    /// Why it can have nothing agreed on; alarms aside.
    pub trouble: Option<String>,
    /// Alarms that it knows of, each with the id of the member that raised it.
    pub alarms: Vec<(String, u64)>,
    /// The members, as it knows.
    pub list: Vec<Peer>,
}

impl Signs for Seen {
    fn marker(&self) -> &Result<Option<Marker>, String> {
        &self.marker
    }

    fn marker_mut(&mut self) -> &mut Result<Option<Marker>, String> {
        &mut self.marker
    }

    fn data(&self) -> bool {
        self.data
    }

    fn alive(&self) -> bool {
        self.anything || self.config || self.server != Server::Down
    }

    fn answers(&self) -> bool {
        matches!(self.server, Server::Up(_))
    }
}

impl Observation {
    /// True when there is no cluster as far as can be seen: nothing remembers one, and no member
    /// that can be looked at has anything of one.
    pub fn owes_nothing(&self) -> bool {
        owes_nothing(&self.record, &self.members)
    }

    /// The member that leads, if the members that answer do not contradict each other.
    pub fn leader(&self) -> Option<&Member> {
        let mut leads: Option<&Member> = None;
        for member in &self.members {
            let Some(leader) = member.up().and_then(|view| view.leader) else { continue };
            let named = self.members.iter().find(|m| m.up().is_some_and(|v| v.id == leader))?;
            if leads.is_some_and(|other| other.name != named.name) {
                return None;
            }
            leads = Some(named);
        }
        leads
    }
}

impl Member {
    /// Its etcd, if it answers.
    pub fn up(&self) -> Option<&View> {
        match &self.view()?.server {
            Server::Up(view) => Some(view),
            _ => None,
        }
    }

    /// Its entry in a list of members.
    pub fn entry<'a>(&self, list: &'a [Peer]) -> Option<&'a Peer> {
        list.iter().find(|peer| peer.address() == Some(self.address))
    }

    /// Its name with its address.
    pub fn named(&self) -> Named {
        Named { name: self.name.clone(), address: self.address }
    }
}
