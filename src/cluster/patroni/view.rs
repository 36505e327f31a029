//! What a look at PostgreSQL, Patroni and its configuration store gives.

use crate::cluster::look::{Looked, Signs, owes_nothing};
use crate::cluster::{Marker, Record};

/// One look at the whole cluster. Members stand in the order of their group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What the operator host remembers; an error when it cannot be read.
    pub record: Result<Option<Record>, String>,
    /// What etcd holds of this cluster; an error when no member's etcd answers.
    pub store: Result<Store, String>,
    /// Every member.
    pub members: Vec<Member>,
    /// What the leader's databases lack of what the role declares, by names to show.
    pub objects: Vec<String>,
    /// Remarks that forbid nothing.
    pub remarks: Vec<String>,
    /// Dynamic settings that differ from the role, by names to show.
    pub dynamic: Vec<String>,
}

/// What etcd holds of this cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// The system identifier of the one database cluster that may be here. Empty while it is made.
    pub initialize: Option<String>,
    /// The name of the member that holds the lock.
    pub leader: Option<String>,
    /// True when Patroni was told to leave the cluster alone.
    pub paused: bool,
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
    /// What the data says of itself; an error when it is there and says nothing.
    pub control: Result<Option<Control>, String>,
    /// Patroni.
    pub patroni: Patroni,
    /// True when PostgreSQL runs and takes another password than the site's.
    pub refuses: Option<String>,
    /// What differs from the role.
    pub stale: Stale,
    /// Why its data is of no use, where Patroni could not mend that for longer than it needs.
    pub stuck: Option<String>,
    /// True when a restart in this run did not bring its pending settings about: the leader's comes
    /// first then.
    pub restarted_in_vain: bool,
}

/// What `pg_control` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Which database cluster this is.
    pub system: u64,
    /// Its timeline at the last checkpoint.
    pub timeline: u32,
    /// Where the last checkpoint is.
    pub checkpoint: u64,
}

/// What differs from the role on one member, by names to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// Files that Patroni reads again while it runs.
    pub files: Vec<String>,
    /// Why Patroni and PostgreSQL need another container, package or unit.
    pub daemon: Vec<String>,
    /// Why what is wanted would damage the data.
    pub forbidden: Vec<String>,
}

/// Patroni on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patroni {
    /// Nothing listens.
    Down,
    /// Something listens and gives no use.
    Unready(String),
    /// It answers.
    Up(Status),
}

/// A Patroni that answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// How PostgreSQL is: `running`, `starting`, `start failed`, `creating replica`, …
    pub state: String,
    /// True for one that takes writes.
    pub primary: bool,
    /// True for a standby that has everything that was acknowledged.
    pub sync: bool,
    /// True for a standby that receives what the primary writes.
    pub streaming: bool,
    /// Names of the standbys that receive what this one writes.
    pub followers: Vec<String>,
    /// The timeline, where it is known.
    pub timeline: Option<u32>,
    /// Where its log ends, in bytes.
    pub position: u64,
    /// True when settings wait for a start of PostgreSQL.
    pub pending_restart: bool,
    /// Which database cluster it runs.
    pub system: Option<String>,
    /// Patroni's version.
    pub version: String,
    /// True for a member that is never to be a sync standby.
    pub nosync: bool,
    /// True for a member that is never to lead.
    pub nofailover: bool,
}

impl Status {
    /// True when PostgreSQL runs.
    pub fn runs(&self) -> bool {
        self.state == "running"
    }
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
        self.patroni != Patroni::Down
    }

    fn answers(&self) -> bool {
        self.patroni != Patroni::Down
    }
}

impl Observation {
    /// True when there is no cluster as far as can be seen: nothing remembers one, and no member
    /// that can be looked at has anything of one.
    pub fn owes_nothing(&self) -> bool {
        owes_nothing(&self.record, &self.members)
    }

    /// The member that leads: it holds the lock and takes writes.
    pub fn leader(&self) -> Option<&Member> {
        let name = self.store.as_ref().ok()?.leader.as_ref()?;
        let member = self.members.iter().find(|member| &member.name == name)?;
        member.status().filter(|status| status.runs() && status.primary).map(|_| member)
    }
}

impl Member {
    /// Its Patroni, if it answers.
    pub fn status(&self) -> Option<&Status> {
        match &self.view()?.patroni {
            Patroni::Up(status) => Some(status),
            _ => None,
        }
    }
}
