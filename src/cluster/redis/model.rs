//! A model of three hosts with Redis and Sentinel under random faults, with runs of strata between
//! them that are cut off at random actions. The incident classes: a re-run that makes the stale
//! node master, a second formation, an empty master that empties its replicas.

use super::action::{Action, Part};
use super::decide::{Wanted, decide};
use super::view::{
    Member, Observation, Role, Seen, Sentinel, SentinelView, Server, ServerView, Stale,
};
use crate::cluster::{Formation, Marker, Next, Record};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) const MEMBERS: usize = 3;

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    marker: Option<Marker>,
    /// The data directory holds something.
    disk: bool,
    /// What this Redis has, newest last; lost with the disk once it stops.
    pub(super) log: Vec<u64>,
    /// Its own file: whom it follows, `Some(None)` for a master.
    config: Option<Option<usize>>,
    up: bool,
    /// Its first copy is complete, and the link stands.
    linked: bool,
    /// Sentinel's own file: whom it watches.
    watches: Option<usize>,
    /// The election that this Sentinel knows of last.
    epoch: u64,
    watching: bool,
    /// Kept from electing.
    held: bool,
    stale: bool,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    record: Option<Record>,
    pub(super) acknowledged: BTreeSet<u64>,
    next_write: u64,
    formations: BTreeSet<String>,
    next_id: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Write,
    Kill(usize),
    KillSentinel(usize),
    StopAll,
    LoseData(usize),
    Reinstall(usize),
    LoseRecord,
    ChangeRole,
    Time(usize),
    /// A run of strata, cut off after this many actions.
    Run(usize),
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(node).unwrap() + 1)
}

fn node_of(address: Ipv4Addr) -> usize {
    usize::from(address.octets()[3]) - 1
}

fn index(name: &str) -> usize {
    name.parse().unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default(); MEMBERS], ..Self::default() }
    }

    pub(super) fn is_master(&self, node: usize) -> bool {
        self.nodes[node].up && self.nodes[node].config == Some(None)
    }

    fn replicas_of(&self, master: usize) -> Vec<usize> {
        (0..MEMBERS)
            .filter(|node| {
                let other = &self.nodes[*node];
                other.up && other.linked && other.config == Some(Some(master))
            })
            .collect()
    }

    /// Takes writes: a master with a replica in step (min-replicas-to-write).
    fn writable(&self) -> Vec<usize> {
        (0..MEMBERS)
            .filter(|node| self.is_master(*node) && !self.replicas_of(*node).is_empty())
            .collect()
    }

    /// One moment: replicas copy, Sentinels do their work.
    fn tick(&mut self) {
        for node in 0..MEMBERS {
            if let (true, Some(Some(master))) = (self.nodes[node].up, self.nodes[node].config) {
                if self.is_master(master) {
                    // A copy is a copy: of an empty master too.
                    self.nodes[node].log = self.nodes[master].log.clone();
                    self.nodes[node].linked = true;
                } else {
                    self.nodes[node].linked = false;
                }
            }
        }
        self.gossip();
        let votes: Vec<usize> =
            self.nodes.iter().filter(|n| n.watching).filter_map(|n| n.watches).collect();
        let elected = (0..MEMBERS)
            .find(|node| votes.iter().filter(|vote| *vote == node).count() > MEMBERS / 2);
        let Some(elected) = elected else { return };
        let leader = if self.is_master(elected) {
            elected
        } else {
            let fit = (0..MEMBERS)
                .filter(|n| *n != elected && self.nodes[*n].up && !self.nodes[*n].log.is_empty())
                .max_by_key(|n| self.nodes[*n].log.len());
            let Some(fit) = fit else { return };
            let electing = self.nodes.iter().filter(|n| n.watching && !n.held).count();
            if electing <= MEMBERS / 2 {
                return;
            }
            fit
        };
        let epoch = self.nodes.iter().map(|node| node.epoch).max().unwrap_or(0);
        for node in 0..MEMBERS {
            if self.nodes[node].watching && self.nodes[node].watches.is_some() {
                self.nodes[node].epoch = epoch + u64::from(leader != elected);
                self.nodes[node].watches = Some(leader);
            }
            if self.nodes[node].up {
                self.nodes[node].config = Some(if node == leader { None } else { Some(leader) });
            }
        }
    }

    /// Sentinels that reach one Redis learn of the last election from each other.
    fn gossip(&mut self) {
        let known = |node: &&Node| node.watching && node.watches.is_some();
        let last = self.nodes.iter().filter(known).max_by_key(|node| node.epoch);
        let Some((epoch, watches)) = last.map(|node| (node.epoch, node.watches)) else { return };
        if self.nodes.iter().any(|node| node.up) {
            for node in self.nodes.iter_mut().filter(|n| n.watching && n.epoch < epoch) {
                (node.epoch, node.watches) = (epoch, watches);
            }
        }
    }

    fn stop(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.up = false;
        node.linked = false;
        if !node.disk {
            node.log.clear();
        }
    }

    /// True when a member may lose everything: the others have it, and are enough to elect. A
    /// formation whose chosen member is lost half-way, or two members lost at once, is stopped and
    /// not mended: nobody can be elected.
    fn may_lose_a_member(&self) -> bool {
        let formed = |record: &Record| record.formation == Formation::Complete;
        let agreed = self.nodes[0].watches;
        self.record.as_ref().is_some_and(formed)
            && agreed.is_some()
            && (0..MEMBERS).all(|node| self.has_all(node) && self.nodes[node].watches == agreed)
    }

    /// True when only members would run that lack what was confirmed. Sentinels elect one of them,
    /// with or without strata: a confirmation by one replica does not outlive both copies.
    fn only_those_behind_without(&self, node: usize) -> bool {
        let others = || (0..MEMBERS).filter(|other| *other != node && self.nodes[*other].up);
        let lacks =
            |other: usize| !self.acknowledged.iter().all(|w| self.nodes[other].log.contains(w));
        others().count() > 0 && others().all(lacks)
    }

    fn has_all(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.disk && self.acknowledged.iter().all(|write| node.log.contains(write))
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match *event {
            Event::Write => {
                self.next_write += 1;
                let write = self.next_write;
                if let [master] = self.writable()[..] {
                    let replicas = self.replicas_of(master);
                    self.nodes[master].log.push(write);
                    for replica in replicas {
                        self.nodes[replica].log = self.nodes[master].log.clone();
                    }
                    self.acknowledged.insert(write);
                }
            }
            Event::Kill(node) if self.only_those_behind_without(node) => {}
            Event::Kill(node) => self.stop(node),
            Event::KillSentinel(node) => self.nodes[node].watching = false,
            Event::StopAll => {
                for node in 0..MEMBERS {
                    self.stop(node);
                    self.nodes[node].watching = false;
                }
            }
            Event::LoseData(node) if self.may_lose_a_member() => {
                self.nodes[node].disk = false;
                if !self.nodes[node].up {
                    self.nodes[node].log.clear();
                }
            }
            Event::Reinstall(node) if self.may_lose_a_member() => {
                self.nodes[node] = Node::default();
            }
            Event::LoseRecord => {
                // Only a formed cluster: a record lost in the very first moment leaves nothing.
                if self.nodes.iter().all(|node| node.marker.is_some()) {
                    self.record = None;
                }
            }
            Event::ChangeRole => self.nodes.iter_mut().for_each(|node| node.stale = node.up),
            Event::Time(ticks) => (0..ticks).for_each(|_| self.tick()),
            Event::LoseData(_) | Event::Reinstall(_) | Event::Run(_) => {}
        }
    }

    fn observe(&self) -> Observation {
        let seen = |node: usize| {
            let this = &self.nodes[node];
            let role = match this.config {
                Some(Some(of)) => Role::Replica { of: Some(address(of)), linked: this.linked },
                _ => Role::Master(self.replicas_of(node).into_iter().map(address).collect()),
            };
            let watching = self.nodes.iter().filter(|node| node.watching).count();
            let watched = this.watches.unwrap_or(0);
            Seen {
                marker: Ok(this.marker.clone()),
                data: this.disk,
                server_config: this.config.is_some(),
                sentinel_config: this.watches.is_some(),
                server: if this.up {
                    Server::Up(ServerView {
                        role,
                        replid: String::new(),
                        offset: this.log.len() as u64,
                    })
                } else {
                    Server::Down
                },
                sentinel: if this.watching {
                    Sentinel::Up(SentinelView {
                        id: node.to_string(),
                        master: this.watches.map(address),
                        unsettled: !self.is_master(watched) && !this.held,
                        held: this.held,
                        replicas: 2,
                        others: u32::try_from(watching).unwrap() - 1,
                        quorum: watching > MEMBERS / 2,
                    })
                } else {
                    Sentinel::Down
                },
                stale: Stale {
                    server: if this.stale { vec!["image".to_owned()] } else { Vec::new() },
                    ..Stale::default()
                },
            }
        };
        Observation {
            record: Ok(self.record.clone()),
            members: (0..MEMBERS)
                .map(|node| Member {
                    name: node.to_string(),
                    address: address(node),
                    seen: Ok(seen(node)),
                })
                .collect(),
        }
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::Record(record) => {
                if record.formation == Formation::Begun {
                    self.formations.insert(record.marker.id.clone());
                }
                self.record = Some(record.clone());
            }
            Action::Mark { member, marker } => {
                self.nodes[index(member)].marker = Some(marker.clone());
            }
            Action::Create { member, leader, part, .. } => {
                let member = index(member);
                let leader = node_of(*leader);
                let marker = self.record.as_ref().map(|record| record.marker.clone());
                let node = &mut self.nodes[member];
                node.marker = marker;
                match part {
                    Part::Server => {
                        let follows = (member != leader).then_some(leader);
                        node.config.get_or_insert(follows);
                        start(node);
                    }
                    Part::Sentinel => {
                        node.watches.get_or_insert(leader);
                        node.watching = true;
                    }
                }
            }
            Action::Start { member, part: Part::Server } => start(&mut self.nodes[index(member)]),
            Action::Start { member, part: Part::Sentinel } => {
                self.nodes[index(member)].watching = true;
            }
            Action::Hold { member } => self.nodes[index(member)].held = true,
            Action::Release { member } => self.nodes[index(member)].held = false,
            Action::SetAside { member } => {
                self.stop(index(member));
                self.nodes[index(member)].config = None;
            }
            Action::HandOver { from } => {
                let from = index(from);
                let to = self.replicas_of(from).into_iter().next();
                let to = to.expect("a hand-over needs a replica in step");
                let epoch = self.nodes.iter().map(|node| node.epoch).max().unwrap_or(0) + 1;
                self.nodes[to].config = Some(None);
                for node in 0..MEMBERS {
                    if node != to && self.nodes[node].up {
                        self.nodes[node].config = Some(Some(to));
                    }
                    if self.nodes[node].watching {
                        self.nodes[node].watches = Some(to);
                        self.nodes[node].epoch = epoch;
                    }
                }
            }
            Action::Renew { member, part: Part::Server } => {
                let node = index(member);
                assert!(!self.is_master(node), "a leader is never renewed before it handed over");
                assert!(
                    (0..MEMBERS).all(|node| self.nodes[node].up),
                    "one at a time, and only when all are there"
                );
                self.stop(node);
                start(&mut self.nodes[node]);
                self.nodes[node].stale = false;
            }
            Action::Write { .. }
            | Action::Set { .. }
            | Action::SetSentinel { .. }
            | Action::Renew { .. }
            | Action::ForgetStrangers { .. } => {}
        }
    }

    /// A run of strata; true when it ended with the cluster as wanted.
    pub(super) fn run(&mut self, actions: usize) -> bool {
        self.next_id += 1;
        let marker = Marker {
            format: 1,
            cluster: "redis".to_owned(),
            driver: "redis-sentinel".to_owned(),
            id: self.next_id.to_string(),
            created_ms: 0,
        };
        let wanted = Wanted { marker, settle: Duration::from_secs(1), out: Vec::new() };
        let mut taken = 0;
        for _ in 0..200 {
            let decision = decide(&self.observe(), &wanted);
            match decision.next {
                Next::Done => return true,
                Next::Refuse(refusal) => panic!("refused: {refusal:?}\n{self:#?}"),
                Next::Wait { .. } => self.tick(),
                Next::Act(wanted) => {
                    for action in wanted {
                        if taken == actions {
                            return false;
                        }
                        taken += 1;
                        self.perform(&action);
                        self.check(&action.to_string());
                    }
                    self.tick();
                }
            }
        }
        panic!("never came to an end: {self:#?}");
    }

    pub(super) fn check(&self, after: &str) {
        assert!(self.writable().len() <= 1, "two masters take writes after {after}: {self:#?}");
        assert!(self.formations.len() <= 1, "formed twice after {after}: {self:#?}");
        let kept = (0..MEMBERS).any(|node| {
            let node = &self.nodes[node];
            (node.disk || node.up) && self.acknowledged.iter().all(|w| node.log.contains(w))
        });
        assert!(kept || self.acknowledged.is_empty(), "writes lost after {after}: {self:#?}");
    }
}

pub(super) fn start(node: &mut Node) {
    node.up = true;
    node.linked = false;
    if !node.disk {
        node.log.clear();
    }
    // Redis with an append-only file writes one when it starts. Number 0 stands for it.
    node.disk = true;
    if node.log.is_empty() && node.config == Some(None) {
        node.log.push(0);
    }
}
