//! A model of three hosts with RabbitMQ under random faults, with runs of strata between them that
//! are cut off at random actions. The incident classes: two clusters of one name, a node that joins
//! with nothing and is taken for whole, a confirmed message whose last copy was removed.

use super::action::Action;
use super::decide::{Wanted, decide};
use super::view::{Member, Observation, Seen, Server, Stale, View};
use crate::cluster::{Marker, Next, Record};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub(super) const MEMBERS: usize = 3;

/// What a node has on its disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    /// The cluster that it was formed in.
    pub(super) cluster: u64,
    /// The nodes of it, as this one knows them.
    known: BTreeSet<usize>,
    /// Messages of the quorum queues that this node has a copy of; none: it has no copy of them.
    pub(super) queue: Option<BTreeSet<u64>>,
    /// When it stopped, in the order of all stops.
    stopped: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    marker: Option<Marker>,
    pub(super) data: Option<Data>,
    container: bool,
    running: bool,
    up: bool,
    drained: bool,
    stale: bool,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    record: Option<Record>,
    pub(super) confirmed: BTreeSet<u64>,
    declared: bool,
    clock: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Publish,
    Kill(usize),
    StopAll,
    LoseData(usize),
    LoseRecord,
    ChangeRole,
    Time(usize),
    /// A run of strata, cut off after this many actions.
    Run(usize),
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    AsWanted,
    Cut,
    Refused(String),
    /// It waited for what did not come.
    Waited(String),
}

fn name(node: usize) -> String {
    node.to_string()
}

fn index(name: &str) -> usize {
    name.parse().unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default(); MEMBERS], ..Self::default() }
    }

    fn up(&self) -> Vec<usize> {
        (0..MEMBERS).filter(|node| self.nodes[*node].up).collect()
    }

    fn stop(&mut self, node: usize) {
        self.clock += 1;
        let clock = self.clock;
        let node = &mut self.nodes[node];
        if let (true, Some(data)) = (node.up, &mut node.data) {
            data.stopped = clock;
        }
        node.up = false;
        node.running = false;
        node.drained = false;
    }

    /// One moment: nodes that were started come up if they find whom they need.
    fn tick(&mut self) {
        for node in 0..MEMBERS {
            if !self.nodes[node].running || self.nodes[node].up {
                continue;
            }
            let peers: Vec<usize> = self.up().into_iter().filter(|peer| *peer != node).collect();
            let Some(data) = self.nodes[node].data.clone() else {
                self.discover(node, &peers);
                continue;
            };
            // It waits for those of its cluster that stopped after it.
            let later = data.known.iter().any(|peer| {
                *peer != node
                    && !self.nodes[*peer].running
                    && self.nodes[*peer]
                        .data
                        .as_ref()
                        .is_none_or(|other| other.stopped > data.stopped)
            });
            let welcome = peers.iter().find(|peer| {
                let theirs = self.nodes[**peer].data.as_ref();
                theirs.is_some_and(|theirs| theirs.known.contains(&node))
            });
            if let Some(peer) = welcome {
                let known = self.nodes[*peer].data.as_ref().unwrap().known.clone();
                self.nodes[node].data.as_mut().unwrap().known = known;
                self.nodes[node].up = true;
            } else if !later && peers.is_empty() {
                self.nodes[node].up = true;
            }
        }
        self.catch_up();
    }

    /// A blank node joins whom it finds, and is the first where it finds nobody.
    fn discover(&mut self, node: usize, peers: &[usize]) {
        let found = peers.iter().find_map(|peer| self.nodes[*peer].data.clone());
        let mut data = match found {
            Some(theirs) => Data { queue: None, ..theirs },
            None => {
                self.clock += 1;
                let first = self.record.is_some() && self.confirmed.is_empty();
                Data { cluster: self.clock, queue: first.then(BTreeSet::new), ..Data::default() }
            }
        };
        data.known.insert(node);
        for peer in peers {
            if let Some(theirs) = &mut self.nodes[*peer].data {
                theirs.known.insert(node);
            }
        }
        self.nodes[node].data = Some(data);
        self.nodes[node].up = true;
    }

    /// Copies of a queue follow while the majority of its members is up.
    fn catch_up(&mut self) {
        let copies: Vec<usize> = (0..MEMBERS).filter(|node| self.copy(*node).is_some()).collect();
        let up: Vec<usize> = copies.iter().copied().filter(|node| self.nodes[*node].up).collect();
        if up.len() * 2 <= copies.len() {
            return;
        }
        let all: BTreeSet<u64> =
            up.iter().filter_map(|node| self.copy(*node)).flatten().copied().collect();
        for node in up {
            self.nodes[node].data.as_mut().unwrap().queue = Some(all.clone());
        }
    }

    pub(super) fn copy(&self, node: usize) -> Option<&BTreeSet<u64>> {
        self.nodes[node].data.as_ref()?.queue.as_ref()
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Publish => self.publish(),
            Event::Kill(node) => self.stop(*node),
            Event::StopAll => (0..MEMBERS).for_each(|node| self.stop(node)),
            Event::LoseData(node) => {
                // One copy is lost at most: more is no fault that three nodes bear.
                let whole = (0..MEMBERS).all(|other| self.nodes[other].data.is_some());
                if whole && (0..MEMBERS).all(|other| self.copy(other).is_some()) {
                    self.stop(*node);
                    self.nodes[*node].data = None;
                }
            }
            Event::LoseRecord => self.record = None,
            Event::ChangeRole => self.nodes.iter_mut().for_each(|node| node.stale = node.container),
            Event::Time(moments) => (0..*moments).for_each(|_| self.tick()),
            Event::Run(_) => {}
        }
    }

    fn publish(&mut self) {
        let copies: Vec<usize> = (0..MEMBERS).filter(|node| self.copy(*node).is_some()).collect();
        let up: Vec<usize> = copies.iter().copied().filter(|node| self.nodes[*node].up).collect();
        if up.is_empty() || up.len() * 2 <= copies.len() || !self.declared {
            return;
        }
        self.clock += 1;
        for node in up {
            let queue = self.nodes[node].data.as_mut().unwrap().queue.as_mut().unwrap();
            queue.insert(self.clock);
        }
        self.confirmed.insert(self.clock);
    }

    fn observe(&self) -> Observation {
        let members = (0..MEMBERS).map(|node| Member {
            name: name(node),
            address: Ipv4Addr::LOCALHOST,
            seen: Ok(self.seen(node)),
        });
        Observation { record: Ok(self.record.clone()), members: members.collect() }
    }

    fn seen(&self, index: usize) -> Seen {
        let node = &self.nodes[index];
        let files = if node.stale { vec!["a file".to_owned()] } else { Vec::new() };
        Seen {
            marker: Ok(node.marker.clone()),
            data: node.data.is_some(),
            container: node.container,
            server: match (&node.data, node.up, node.running) {
                (Some(data), true, _) => Server::Up(self.view(index, data)),
                (_, _, true) => Server::Unready("it starts".to_owned()),
                _ => Server::Down,
            },
            taken: Vec::new(),
            stale: Stale { files, ..Stale::default() },
        }
    }

    fn view(&self, index: usize, data: &Data) -> View {
        let same = |node: &usize| {
            let other = &self.nodes[*node];
            other.up && other.data.as_ref().is_some_and(|other| other.cluster == data.cluster)
        };
        let running: BTreeSet<usize> = data.known.iter().copied().filter(same).collect();
        let copied = (0..MEMBERS).any(|node| self.copy(node).is_some());
        let lacking = running.iter().filter(|node| copied && self.copy(**node).is_none());
        View {
            cluster: data.cluster.to_string(),
            nodes: data.known.iter().map(|node| name(*node)).collect(),
            drained: self.nodes[index].drained,
            uncopied: lacking.map(|node| name(*node)).collect(),
            undeclared: if self.declared { Vec::new() } else { vec!["vhost".to_owned()] },
            running: running.into_iter().map(name).collect(),
            ..View::default()
        }
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::Record(record) => self.record = Some(record.clone()),
            Action::Mark { member, marker } => {
                self.nodes[index(member)].marker = Some(marker.clone());
            }
            Action::Create { member } => {
                let marker = self.record.as_ref().map(|record| record.marker.clone());
                let node = &mut self.nodes[index(member)];
                assert!(node.data.is_none(), "a node with data is never made anew");
                node.marker = marker;
                (node.container, node.running, node.stale) = (true, true, false);
            }
            Action::Start { member } => {
                let node = &mut self.nodes[index(member)];
                (node.container, node.running, node.stale) = (true, true, false);
            }
            Action::Remove { member } => {
                self.stop(index(member));
                let node = &mut self.nodes[index(member)];
                assert!(node.data.is_none(), "data is never removed");
                node.container = false;
            }
            Action::Forget { member, by } => {
                let gone = index(member);
                assert!(!self.nodes[gone].up, "a node that runs is never forgotten");
                assert!(self.nodes[index(by)].up, "somebody must be there to forget");
                for node in &mut self.nodes {
                    if let (true, Some(data)) = (node.up, &mut node.data) {
                        data.known.remove(&gone);
                    }
                }
            }
            Action::Grow { member, .. } => {
                self.nodes[index(member)].data.as_mut().unwrap().queue = Some(BTreeSet::new());
                self.catch_up();
            }
            Action::Renew { member } => {
                let all_up = self.up().len() == MEMBERS;
                assert!(all_up, "one at a time, and only when all are there");
                self.stop(index(member));
                self.nodes[index(member)].running = true;
                self.nodes[index(member)].stale = false;
            }
            Action::Revive { member } => self.nodes[index(member)].drained = false,
            Action::Declare { .. } => self.declared = true,
            Action::EnableFeatures { .. } => {}
        }
    }

    /// A run of strata.
    pub(super) fn run(&mut self, actions: usize) -> End {
        self.clock += 1;
        let marker = Marker {
            format: 1,
            cluster: "rabbitmq".to_owned(),
            driver: "rabbitmq".to_owned(),
            id: self.clock.to_string(),
            created_ms: 0,
        };
        let wanted = Wanted { marker, out: Vec::new() };
        let (mut taken, mut waited) = (0, 0);
        loop {
            let decision = decide(&self.observe(), &wanted);
            match decision.next {
                Next::Done => return End::AsWanted,
                Next::Refuse(refusal) => return End::Refused(refusal.reason),
                Next::Wait { reason, .. } => {
                    waited += 1;
                    if waited > 20 {
                        return End::Waited(reason);
                    }
                    self.tick();
                }
                Next::Act(wanted) => {
                    waited = 0;
                    for action in wanted {
                        if taken == actions {
                            return End::Cut;
                        }
                        taken += 1;
                        assert!(taken < 200, "never comes to an end: {self:#?}");
                        self.perform(&action);
                        self.check(&action.to_string());
                    }
                    self.tick();
                }
            }
        }
    }

    pub(super) fn check(&self, after: &str) {
        let clusters: BTreeSet<u64> =
            self.nodes.iter().filter_map(|node| Some(node.data.as_ref()?.cluster)).collect();
        assert!(clusters.len() <= 1, "two clusters after {after}: {self:#?}");
        let lost = self
            .confirmed
            .iter()
            .find(|message| (0..MEMBERS).all(|node| !self.has(node, **message)));
        assert!(lost.is_none(), "{lost:?} is lost after {after}: {self:#?}");
    }

    pub(super) fn has(&self, node: usize, message: u64) -> bool {
        self.copy(node).is_some_and(|queue| queue.contains(&message))
    }
}
