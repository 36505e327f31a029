//! A model of three hosts with Patroni and of the etcd that they share, under random faults, with
//! runs of strata between them that are cut off at random actions. It does what Patroni does: a
//! member without data that is started while etcd knows no cluster *forms one*, and one with data
//! makes that the cluster's.

use super::action::Action;
use super::decide::{Wanted, decide};
use super::view::{Control, Member, Observation, Patroni, Seen, Stale, Status, Store};
use crate::cluster::{Formation, Marker, Next, Record};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub(super) const MEMBERS: usize = 3;

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    system: u64,
    timeline: u32,
    pub(super) log: Vec<u64>,
    /// What it is of no use for.
    ill: Option<Ill>,
}

/// Why data is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ill {
    /// PostgreSQL cannot start with it.
    Start,
    /// It runs and can never follow: its writes lie beside the cluster's history.
    Follow,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) disk: Option<Disk>,
    pub(super) aside: Vec<Disk>,
    marker: Option<Marker>,
    up: bool,
    stale: bool,
    pending: bool,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    record: Option<Record>,
    initialize: Option<u64>,
    leader: Option<usize>,
    /// Who has every acknowledged write, as etcd has it written down.
    sync: BTreeSet<usize>,
    pub(super) acknowledged: BTreeSet<u64>,
    pub(super) systems: BTreeSet<u64>,
    next_write: u64,
    next_id: u64,
    objects: bool,
    dynamic: bool,
    newest: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Write,
    Kill(usize),
    StopAll,
    LoseData(usize),
    Break(usize, Ill),
    LoseRecord,
    LoseStore,
    ChangeRole,
    ChangeSettings,
    Time(usize),
    /// A run of strata, cut off after this many actions.
    Run(usize),
}

fn name(node: usize) -> String {
    format!("db-{node}")
}

fn index(name: &str) -> usize {
    name.trim_start_matches("db-").parse().unwrap()
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(node).unwrap() + 1)
}

impl World {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default(); MEMBERS], dynamic: true, ..Self::default() }
    }

    fn runs(&self, node: usize) -> bool {
        let starts = |disk: &Disk| disk.ill != Some(Ill::Start);
        self.nodes[node].up && self.nodes[node].disk.as_ref().is_some_and(starts)
    }

    fn is_ill(&self, node: usize) -> bool {
        self.nodes[node].disk.as_ref().is_some_and(|disk| disk.ill.is_some())
    }

    /// The leader, if it runs.
    pub(super) fn primary(&self) -> Option<usize> {
        self.leader.filter(|leader| self.runs(*leader))
    }

    fn streams(&self, node: usize) -> bool {
        let Some(primary) = self.primary().filter(|primary| *primary != node) else { return false };
        self.runs(node)
            && !self.is_ill(node)
            && self.nodes[node].disk.as_ref().map(|disk| (&disk.log, disk.timeline))
                == self.nodes[primary].disk.as_ref().map(|disk| (&disk.log, disk.timeline))
    }

    /// One moment: Patroni does its work everywhere.
    pub(super) fn tick(&mut self) {
        // One whose lock ran out.
        if self.leader.is_some() && self.primary().is_none() {
            self.leader = None;
        }
        for node in 0..MEMBERS {
            if !self.nodes[node].up {
                continue;
            }
            match (&self.nodes[node].disk, self.initialize) {
                // Whoever is started first forms a cluster.
                (None, None) => {
                    self.next_id += 1;
                    let system = 7_000 + self.next_id;
                    self.systems.insert(system);
                    self.initialize = Some(system);
                    self.nodes[node].disk =
                        Some(Disk { system, timeline: 1, log: Vec::new(), ill: None });
                    self.lead(node);
                }
                // Whoever has data makes it the cluster's.
                (Some(disk), None) if disk.ill.is_none() => {
                    self.initialize = Some(disk.system);
                    self.lead(node);
                }
                (Some(disk), Some(system)) if disk.system != system => self.nodes[node].up = false,
                _ => {}
            }
        }
        if self.leader.is_none() {
            let fit = (0..MEMBERS)
                .find(|node| self.sync.contains(node) && self.runs(*node) && !self.is_ill(*node));
            if let Some(fit) = fit {
                self.lead(fit);
                if let Some(disk) = &mut self.nodes[fit].disk {
                    disk.timeline += 1;
                }
            }
        }
        let Some(primary) = self.primary() else { return };
        let original = self.nodes[primary].disk.clone();
        for node in (0..MEMBERS).filter(|node| *node != primary) {
            let node = &mut self.nodes[node];
            // A rewind, a copy, or simply what is missing.
            if node.up && node.disk.as_ref().is_none_or(|disk| disk.ill.is_none()) {
                node.disk.clone_from(&original);
            }
        }
        let standby = (0..MEMBERS).find(|node| self.streams(*node));
        self.sync = standby.into_iter().chain([primary]).collect();
    }

    fn lead(&mut self, node: usize) {
        self.leader = Some(node);
        self.sync = BTreeSet::from([node]);
    }

    /// True when somebody else has all that was acknowledged: what happens to `node` is no disaster.
    fn spared(&self, node: usize) -> bool {
        (0..MEMBERS).any(|other| {
            other != node
                && self.sync.contains(&other)
                && self.nodes[other].disk.as_ref().is_some_and(|disk| {
                    disk.ill.is_none()
                        && self.acknowledged.iter().all(|write| disk.log.contains(write))
                })
        })
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Write => {
                if let Some(primary) = self.primary()
                    && self.sync.iter().all(|node| *node == primary || self.streams(*node))
                {
                    self.next_write += 1;
                    for node in self.sync.clone() {
                        if let Some(disk) = &mut self.nodes[node].disk {
                            disk.log.push(self.next_write);
                        }
                    }
                    self.acknowledged.insert(self.next_write);
                }
            }
            Event::Kill(node) => self.nodes[*node].up = false,
            Event::StopAll => self.nodes.iter_mut().for_each(|node| node.up = false),
            Event::LoseData(node) if self.spared(*node) => {
                self.nodes[*node].up = false;
                self.nodes[*node].disk = None;
            }
            Event::Break(node, ill) if self.spared(*node) && self.leader != Some(*node) => {
                let other = (0..MEMBERS).any(|node| self.is_ill(node));
                if let (false, Some(disk)) = (other, &mut self.nodes[*node].disk) {
                    disk.ill = Some(*ill);
                }
            }
            Event::LoseRecord => self.record = None,
            // Whoever runs makes its data the cluster's by itself: no run of strata has a say in that.
            Event::LoseStore
                if self.primary().is_some() || self.nodes.iter().all(|node| !node.up) =>
            {
                self.initialize = None;
                // A leader that runs tells etcd again; whoever is down cannot.
                if let Some(primary) = self.primary() {
                    self.initialize = self.nodes[primary].disk.as_ref().map(|disk| disk.system);
                } else {
                    self.leader = None;
                    self.sync.clear();
                }
            }
            Event::ChangeRole => self.nodes.iter_mut().for_each(|node| node.stale = true),
            Event::ChangeSettings => self.dynamic = false,
            Event::Time(moments) => (0..*moments).for_each(|_| self.tick()),
            Event::LoseData(_) | Event::Break(..) | Event::LoseStore | Event::Run(_) => {}
        }
    }

    fn look(&self) -> Observation {
        let primary = self.primary();
        let members = (0..MEMBERS).map(|node| self.look_at(node)).collect();
        Observation {
            record: Ok(self.record.clone()),
            store: Ok(Store {
                initialize: self.initialize.map(|system| system.to_string()),
                leader: self.leader.map(name),
                paused: false,
            }),
            members,
            objects: match primary.is_some() && !self.objects {
                true => vec!["create role app".to_owned()],
                false => Vec::new(),
            },
            remarks: Vec::new(),
            dynamic: match primary.is_some() && !self.dynamic {
                true => vec!["ttl".to_owned()],
                false => Vec::new(),
            },
        }
    }

    fn look_at(&self, at: usize) -> Member {
        let node = &self.nodes[at];
        let ill = node.disk.as_ref().and_then(|disk| disk.ill);
        let status = Status {
            state: match (self.runs(at), ill.is_some()) {
                (true, _) => "running",
                (_, true) => "start failed",
                _ => "stopped",
            }
            .to_owned(),
            primary: self.primary() == Some(at),
            sync: self.sync.contains(&at) && self.streams(at),
            streaming: self.streams(at),
            timeline: node.disk.as_ref().map(|disk| disk.timeline),
            position: node.disk.as_ref().map_or(0, |disk| disk.log.len() as u64),
            pending_restart: node.pending,
            ..Status::default()
        };
        let daemon = if node.stale { vec!["container (image)".to_owned()] } else { Vec::new() };
        let seen = Seen {
            marker: Ok(node.marker.clone()),
            data: node.disk.is_some(),
            control: Ok(node.disk.as_ref().map(|disk| Control {
                system: disk.system,
                timeline: disk.timeline,
                checkpoint: disk.log.len() as u64,
            })),
            patroni: if node.up { Patroni::Up(status) } else { Patroni::Down },
            refuses: None,
            stale: Stale { daemon, ..Stale::default() },
            stuck: ill.filter(|_| node.up).map(|ill| format!("{ill:?}")),
            restarted_in_vain: false,
        };
        Member { name: name(at), address: address(at), seen: Ok(seen) }
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::Record(record) => self.record = Some(record.clone()),
            Action::Mark { member, marker } => {
                self.nodes[index(member)].marker = Some(marker.clone());
            }
            Action::Form { member } | Action::Join { member } => {
                let record = self.record.clone().expect("nothing is made without a record");
                let node = &mut self.nodes[index(member)];
                assert!(node.disk.is_none(), "{action}: it has data");
                node.marker = Some(record.marker);
                node.up = true;
                node.stale = false;
            }
            Action::Start { member } => {
                let node = &mut self.nodes[index(member)];
                assert!(node.disk.is_some(), "{action}: it has no data of its own");
                node.up = true;
                node.stale = false;
            }
            Action::SetAside { member } => {
                let whole = (0..MEMBERS).filter(|node| {
                    *node != index(member)
                        && self.runs(*node)
                        && (self.primary() == Some(*node) || self.streams(*node))
                });
                assert!(whole.count() >= 2, "{action}: there is one copy left");
                let node = &mut self.nodes[index(member)];
                node.up = false;
                node.aside.extend(node.disk.take());
            }
            Action::Configure { .. } => {
                self.dynamic = true;
                self.nodes.iter_mut().for_each(|node| node.pending = true);
            }
            Action::Declare { .. } => self.objects = true,
            Action::Write { .. } => {}
            Action::Restart { member } | Action::Renew { member } => {
                let at = index(member);
                assert_ne!(self.primary(), Some(at), "{action}: it leads");
                assert!(
                    (0..MEMBERS).all(|node| self.runs(node)),
                    "{action}: another one is away already"
                );
                self.nodes[at].pending = false;
                self.nodes[at].stale &= matches!(action, Action::Restart { .. });
            }
            Action::HandOver { from, to } => {
                let (from, to) = (index(from), index(to));
                assert_eq!(self.primary(), Some(from));
                assert!(self.sync.contains(&to) && self.streams(to), "{action}: it lacks writes");
                self.lead(to);
                if let Some(disk) = &mut self.nodes[to].disk {
                    disk.timeline += 1;
                }
            }
        }
    }

    fn wanted(&mut self) -> Wanted {
        self.next_id += 1;
        let marker = Marker {
            format: 1,
            cluster: "postgres".to_owned(),
            driver: "patroni".to_owned(),
            id: self.next_id.to_string(),
            created_ms: 0,
        };
        Wanted { marker, out: Vec::new(), newest: self.newest.clone(), sync: 1 }
    }

    /// A run that is cut off after so many actions; true when it ended with nothing left to do.
    pub(super) fn run(&mut self, mut actions: usize) -> bool {
        let wanted = self.wanted();
        for _ in 0..200 {
            match decide(&self.look(), &wanted).next {
                Next::Done => return true,
                Next::Refuse(_) => return false,
                Next::Wait { .. } => self.tick(),
                Next::Act(decided) => {
                    for action in decided {
                        if actions == 0 {
                            return false;
                        }
                        actions -= 1;
                        self.perform(&action);
                        self.check(&action.to_string());
                    }
                    self.tick();
                }
            }
        }
        false
    }

    /// The operator says whose data counts, after a loss that nobody else can judge.
    pub(super) fn judge(&mut self) {
        let lost = self.initialize.is_none() && self.nodes.iter().any(|node| node.disk.is_some());
        if lost && self.primary().is_none() {
            let most = |node: &usize| {
                let disk = self.nodes[*node].disk.as_ref();
                disk.filter(|disk| disk.ill.is_none()).map(|disk| (disk.log.len(), disk.timeline))
            };
            self.newest = (0..MEMBERS).max_by_key(most).map(name);
        }
    }

    /// What must hold at every moment.
    pub(super) fn check(&self, after: &str) {
        assert!(self.systems.len() <= 1, "{after}: formed twice: {self:#?}");
        if let Some(primary) = self.primary() {
            let log = &self.nodes[primary].disk.as_ref().unwrap().log;
            assert!(
                self.acknowledged.iter().all(|write| log.contains(write)),
                "{after}: acknowledged writes are lost: {self:#?}"
            );
        }
        let complete = self.record.as_ref().is_some_and(|r| r.formation == Formation::Complete);
        assert!(!complete || !self.systems.is_empty(), "{after}: recorded and never formed");
    }
}
