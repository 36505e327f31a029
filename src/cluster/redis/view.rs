//! What a look at Redis and its Sentinels gives.

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
    /// True when Redis' own file exists, which it writes itself.
    pub server_config: bool,
    /// True when Sentinel's own file exists, which it writes itself.
    pub sentinel_config: bool,
    /// Redis.
    pub server: Server,
    /// Sentinel.
    pub sentinel: Sentinel,
    /// What differs from the role.
    pub stale: Stale,
}

/// What differs from the role on one member, by names to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// Files that the daemons read when they start, or that hold live settings.
    pub files: Vec<String>,
    /// Live settings of Redis with their wanted values.
    pub settings: Vec<(String, String)>,
    /// Live settings of Sentinel with their wanted values.
    pub sentinel_settings: Vec<(String, String)>,
    /// Why Redis needs another container.
    pub server: Vec<String>,
    /// Settings of Redis that count only from its start.
    pub at_start: Vec<String>,
    /// Why Sentinel has to be started anew.
    pub sentinel: Vec<String>,
}

impl Stale {
    /// True when nothing differs.
    pub const fn is_empty(&self) -> bool {
        self.files.is_empty()
            && self.settings.is_empty()
            && self.sentinel_settings.is_empty()
            && !self.restarts_server()
            && self.sentinel.is_empty()
    }

    /// True when Redis has to be started anew.
    pub const fn restarts_server(&self) -> bool {
        !self.server.is_empty() || !self.at_start.is_empty()
    }

    /// Why Redis has to be started anew.
    pub fn server_reasons(&self) -> Vec<String> {
        let settings = self.at_start.iter().map(|name| format!("setting {name}"));
        self.server.iter().cloned().chain(settings).collect()
    }
}

/// Redis on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Nothing listens.
    Down,
    /// Something listens and gives no use: it loads its data, or hangs.
    Unready(String),
    /// It does not take the password.
    Refuses(String),
    /// It answers.
    Up(ServerView),
}

/// A Redis that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// What it is.
    pub role: Role,
    /// Its replication id.
    pub replid: String,
    /// Bytes of replication that it has.
    pub offset: u64,
}

/// What a Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It takes writes; the addresses of its replicas in step.
    Master(Vec<Ipv4Addr>),
    /// It follows.
    Replica {
        /// Whom.
        of: Option<Ipv4Addr>,
        /// True when it is in step.
        linked: bool,
    },
}

/// Sentinel on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sentinel {
    /// Nothing listens.
    Down,
    /// Something listens and gives no use.
    Unready(String),
    /// It answers.
    Up(SentinelView),
}

/// A Sentinel that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelView {
    /// Its own id.
    pub id: String,
    /// The master, as it believes.
    pub master: Option<Ipv4Addr>,
    /// True while it takes the master for down, or changes it.
    pub unsettled: bool,
    /// True while strata keeps it from electing anybody.
    pub held: bool,
    /// Replicas that it knows, dead ones included.
    pub replicas: u32,
    /// Other Sentinels that it knows, dead ones included.
    pub others: u32,
    /// True when enough Sentinels answer it for a failover.
    pub quorum: bool,
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
        self.server_config
            || self.sentinel_config
            || self.server != Server::Down
            || self.sentinel != Sentinel::Down
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
    /// Its Redis, if it answers.
    pub fn up(&self) -> Option<&ServerView> {
        match &self.view()?.server {
            Server::Up(view) => Some(view),
            _ => None,
        }
    }

    /// Its Sentinel, if it answers.
    pub fn sentinel(&self) -> Option<&SentinelView> {
        match &self.view()?.sentinel {
            Sentinel::Up(view) => Some(view),
            _ => None,
        }
    }

    /// True for a Redis that takes writes.
    pub fn is_master(&self) -> bool {
        self.up().is_some_and(|view| matches!(view.role, Role::Master(_)))
    }
}
