//! What a look at RabbitMQ's nodes gives.

use super::failing::Failing;
use crate::cluster::look::{Looked, Signs, owes_nothing};
use crate::cluster::{Marker, Record};
use std::collections::BTreeSet;

/// One look at the whole cluster. Members stand in the order of their group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What the operator host remembers; an error when it cannot be read.
    pub record: Result<Option<Record>, String>,
    /// Every member.
    pub members: Vec<Member>,
}

/// One member.
pub type Member = Looked<Seen>;

/// What was seen on a member's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The marker beside the data; an error when it is there and cannot be read.
    pub marker: Result<Option<Marker>, String>,
    /// True when the data directory holds anything.
    pub data: bool,
    /// True when its container is there, whether it runs or not.
    pub container: bool,
    /// RabbitMQ.
    pub server: Server,
    /// Who listens on a node's ports while no node of ours runs, in words to show.
    pub taken: Vec<String>,
    /// What differs from the role.
    pub stale: Stale,
}

/// What differs from the role on one member, by names to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// The cookie is another one.
    pub cookie: bool,
    /// Files that the node reads when it starts.
    pub files: Vec<String>,
    /// Why it needs another container.
    pub container: Vec<String>,
}

impl Stale {
    /// Everything that differs.
    pub fn reasons(&self) -> Vec<String> {
        let cookie = self.cookie.then(|| "the cookie".to_owned());
        cookie.into_iter().chain(self.files.clone()).chain(self.container.clone()).collect()
    }
}

/// RabbitMQ on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// It does not run.
    Down,
    /// It runs and gives no use: it starts, waits for others, or is paused.
    Unready(String),
    /// It ends again and again.
    Fails(Failing),
    /// It does not take the password.
    Refuses(String),
    /// It answers.
    Up(View),
}

/// A node that answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The cluster's own id, made when it began.
    pub cluster: String,
    /// The hosts of all nodes of its cluster, those that do not run too.
    pub nodes: BTreeSet<String>,
    /// Those of them that run.
    pub running: BTreeSet<String>,
    /// Nodes that it is cut off from.
    pub partitions: BTreeSet<String>,
    /// What makes it block publishers: `memory`, `disk`.
    pub alarms: BTreeSet<String>,
    /// True while it takes no clients, for its maintenance.
    pub drained: bool,
    /// Features that its version has and that are not in use yet.
    pub features: BTreeSet<String>,
    /// Quorum queues that have no copy on one of the running nodes, with that node's host.
    pub uncopied: BTreeSet<String>,
    /// What is declared in the role and differs in the cluster, by names to show.
    pub undeclared: Vec<String>,
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
        self.container || self.server != Server::Down
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
}

impl Member {
    /// Its node, if it answers.
    pub fn up(&self) -> Option<&View> {
        match &self.view()?.server {
            Server::Up(view) => Some(view),
            _ => None,
        }
    }
}
