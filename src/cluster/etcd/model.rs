//! A model of three hosts with etcd under random faults, with runs of strata between them that are
//! cut off at random actions. What must never happen: a second beginning, a member that votes
//! without its memory, a removal that takes the majority away, data that is deleted.

use super::action::Action;
use super::decide::{Wanted, decide};
use super::gateway::Peer;
use super::settings::Beginning;
use super::view::{Member, Observation, Seen, Server, Stale, View};
use crate::cluster::{Formation, Marker, Next, Record};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub(super) const MEMBERS: usize = 3;

/// What a member's file says about a beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum File {
    #[default]
    None,
    /// As the role has it: nothing begins.
    Settled,
    Begins(Beginning),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    marker: Option<Marker>,
    /// The id with which its log was begun; none without a log.
    id: Option<u64>,
    /// Entries that it has on disk.
    pub(super) log: BTreeSet<u64>,
    /// What a start that failed left.
    junk: bool,
    /// The directory was emptied below a running server, which has everything in open files.
    emptied: bool,
    file: File,
    /// The container is there.
    container: bool,
    up: bool,
    stale: bool,
    /// Logs that were set aside.
    aside: Vec<BTreeSet<u64>>,
}

/// One entry of the list that the members agreed on.
#[derive(Debug, Clone)]
struct Entry {
    id: u64,
    node: usize,
    began: bool,
    learner: bool,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    record: Option<Record>,
    formed: bool,
    /// Empty until a cluster was begun.
    list: Vec<Entry>,
    leader: Option<usize>,
    pub(super) acknowledged: BTreeSet<u64>,
    next_write: u64,
    next_id: u64,
    formations: BTreeSet<String>,
    begun: usize,
    saved: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Write,
    Kill(usize),
    StopAll,
    /// The container engine starts what is there, by itself.
    EngineStarts(usize),
    LoseData(usize),
    Reinstall(usize),
    LoseRecord,
    ChangeRole,
    Time,
    /// A run of strata, cut off after this many actions.
    Run(usize),
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(node).unwrap() + 1)
}

fn index(name: &str) -> usize {
    name.parse().unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default(); MEMBERS], next_id: 100, ..Self::default() }
    }

    /// The node runs as the member of this entry.
    fn serves(&self, entry: &Entry) -> bool {
        let node = &self.nodes[entry.node];
        node.up && node.id == Some(entry.id)
    }

    fn voters(&self) -> impl Iterator<Item = &Entry> {
        self.list.iter().filter(|entry| !entry.learner)
    }

    fn quorum(&self) -> bool {
        let serving = self.voters().filter(|entry| self.serves(entry)).count();
        serving > self.voters().count() / 2
    }

    /// One moment: an election where it is needed, and everybody copies from the leader.
    fn tick(&mut self) {
        // Members that were told to begin anew find each other.
        let fresh: Vec<usize> = (0..MEMBERS)
            .filter(|n| self.nodes[*n].up && self.nodes[*n].file == File::Begins(Beginning::New))
            .filter(|n| self.nodes[*n].id == Some(*n as u64 + 1))
            .collect();
        if self.list.is_empty() && fresh.len() > MEMBERS / 2 {
            self.begun += 1;
            self.list = (0..MEMBERS)
                .map(|node| Entry { id: node as u64 + 1, node, began: false, learner: false })
                .collect();
        }
        if !self.quorum() {
            self.leader = None;
            return;
        }
        let stands = self.leader.filter(|leader| {
            self.voters().any(|entry| entry.node == *leader && self.serves(entry))
        });
        let leader = stands.unwrap_or_else(|| {
            let fit = self.voters().filter(|entry| self.serves(entry));
            let last = |node: usize| self.nodes[node].log.last().copied().unwrap_or(0);
            fit.map(|entry| entry.node).max_by_key(|node| last(*node)).unwrap()
        });
        let log = self.nodes[leader].log.clone();
        assert!(
            self.acknowledged.is_subset(&log),
            "{leader} leads without what was confirmed: {self:#?}"
        );
        self.leader = Some(leader);
        let serving: Vec<bool> = self.list.iter().map(|entry| self.serves(entry)).collect();
        for (entry, serves) in self.list.iter_mut().zip(serving) {
            if serves {
                entry.began = true;
                self.nodes[entry.node].log.clone_from(&log);
            }
        }
    }

    /// The process ends; what was only in open files is gone.
    fn end(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        this.up = false;
        if std::mem::take(&mut this.emptied) {
            this.id = None;
            this.log.clear();
        }
        if self.leader == Some(node) {
            self.leader = None;
        }
    }

    /// The process starts with its file and its disk, whoever starts it.
    fn start(&mut self, node: usize) {
        let listed = self.list.iter().find(|entry| entry.node == node).map(|entry| entry.id);
        let (quorum, nobody) = (self.quorum(), self.list.is_empty());
        let this = &mut self.nodes[node];
        if this.up || !this.container {
            return;
        }
        match (this.id, this.file) {
            // A member that was taken out ends at once.
            (Some(id), _) => this.up = nobody || listed == Some(id),
            (None, File::Begins(Beginning::New)) => {
                this.id = Some(node as u64 + 1);
                this.up = true;
            }
            (None, File::Begins(Beginning::Existing)) if listed.is_some() && quorum => {
                this.id = listed;
                this.up = true;
            }
            (None, _) => this.junk = true,
        }
        if this.up {
            this.junk = false;
        }
    }

    /// True when the others are a majority that has everything, so that losing this one's data is
    /// no disaster.
    fn may_lose(&self, node: usize) -> bool {
        let others: Vec<&Entry> = self
            .voters()
            .filter(|entry| entry.node != node)
            .filter(|entry| {
                let other = &self.nodes[entry.node];
                other.id == Some(entry.id)
                    && !other.emptied
                    && self.acknowledged.is_subset(&other.log)
            })
            .collect();
        self.formed && others.len() > self.list.len() / 2
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match *event {
            Event::Write => {
                let Some(leader) = self.leader.filter(|_| self.formed && self.quorum()) else {
                    return;
                };
                self.next_write += 1;
                let write = self.next_write;
                let majority = self.voters().count() / 2 + 1;
                let mut nodes: Vec<usize> =
                    self.voters().filter(|e| self.serves(e)).map(|entry| entry.node).collect();
                // Not everybody has it yet when it is confirmed.
                nodes.sort_by_key(|node| *node != leader);
                self.nodes[leader].log.insert(write);
                // A log has no holes: whoever takes an entry has those before it.
                let log = self.nodes[leader].log.clone();
                for node in nodes.into_iter().take(majority) {
                    self.nodes[node].log.clone_from(&log);
                }
                self.acknowledged.insert(write);
            }
            Event::Kill(node) => self.end(node),
            Event::StopAll => (0..MEMBERS).for_each(|node| self.end(node)),
            Event::EngineStarts(node) => self.start(node),
            Event::LoseData(node) if self.may_lose(node) => {
                let this = &mut self.nodes[node];
                this.junk = false;
                if this.up {
                    this.emptied = true;
                } else {
                    this.id = None;
                    this.log.clear();
                }
            }
            Event::Reinstall(node) if self.may_lose(node) => {
                self.end(node);
                self.nodes[node] = Node::default();
            }
            Event::LoseRecord => {
                // Only a formed cluster: a record lost in the very first moment leaves nothing.
                if self.formed && self.nodes.iter().all(|node| node.marker.is_some()) {
                    self.record = None;
                }
            }
            Event::ChangeRole => self.nodes.iter_mut().for_each(|node| node.stale = node.up),
            Event::Time => self.tick(),
            Event::LoseData(_) | Event::Reinstall(_) | Event::Run(_) => {}
        }
    }

    fn peers(&self) -> Vec<Peer> {
        self.list
            .iter()
            .map(|entry| Peer {
                id: entry.id,
                name: if entry.began { entry.node.to_string() } else { String::new() },
                peer_urls: vec![format!("http://{}:2380", address(entry.node))],
                client_urls: if entry.began {
                    vec!["http://c:2379".to_owned()]
                } else {
                    Vec::new()
                },
                learner: entry.learner,
            })
            .collect()
    }

    fn server(&self, node: usize) -> Server {
        let this = &self.nodes[node];
        let (true, Some(id)) = (this.up, this.id) else { return Server::Down };
        let entry = self.list.iter().find(|entry| entry.node == node && entry.id == id);
        let Some(entry) = entry else {
            return Server::Unready("it waits for the others".to_owned());
        };
        let leads = self.leader.and_then(|leader| self.nodes[leader].id);
        Server::Up(View {
            cluster: 7,
            id,
            leader: leads,
            learner: entry.learner,
            index: this.log.len() as u64,
            applied: this.log.len() as u64,
            trouble: (!self.quorum()).then(|| "no majority".to_owned()),
            alarms: Vec::new(),
            list: self.peers(),
        })
    }

    fn observe(&self) -> Observation {
        let seen = |node: usize| {
            let this = &self.nodes[node];
            let data = this.id.is_some() && !this.emptied;
            Seen {
                marker: Ok(this.marker.clone()),
                data,
                anything: data || this.junk,
                config: this.file != File::None,
                server: self.server(node),
                stale: Stale {
                    server: if this.up && this.stale {
                        vec!["image".to_owned()]
                    } else {
                        Vec::new()
                    },
                    files: if this.up && this.file != File::Settled {
                        vec!["beginning".to_owned()]
                    } else {
                        Vec::new()
                    },
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
            saved: self.saved,
        }
    }

    fn bring_up(&mut self, node: usize, file: File) {
        let this = &mut self.nodes[node];
        this.file = file;
        this.container = true;
        this.stale = false;
        self.start(node);
    }

    fn perform(&mut self, action: &Action) {
        match action {
            Action::Record(record) => {
                if record.formation == Formation::Begun {
                    self.formations.insert(record.marker.id.clone());
                }
                self.formed |= record.formation == Formation::Complete;
                self.record = Some(record.clone());
            }
            Action::Mark { member, marker } => {
                self.nodes[index(member)].marker = Some(marker.clone());
            }
            Action::Begin { member, begins } => {
                let node = index(member);
                assert!(self.nodes[node].id.is_none(), "{member} has data and begins");
                if begins.how == Beginning::New {
                    assert!(!self.formed, "a formed cluster begins anew: {self:#?}");
                } else {
                    assert_eq!(begins.members.len(), self.list.len(), "told of the list as it is");
                }
                self.nodes[node].marker = self.record.as_ref().map(|record| record.marker.clone());
                self.bring_up(node, File::Begins(begins.how));
            }
            Action::Start { member, begins } => {
                let file = begins.as_ref().map_or(File::Settled, |b| File::Begins(b.how));
                self.bring_up(index(member), file);
            }
            Action::SetAside { member } => {
                let node = index(member);
                assert!(self.may_lose(node), "{member} is needed and set aside: {self:#?}");
                self.end(node);
                let this = &mut self.nodes[node];
                (this.container, this.junk) = (false, false);
                if this.id.take().is_some() {
                    let log = std::mem::take(&mut this.log);
                    this.aside.push(log);
                }
            }
            Action::Remove { id, .. } => {
                let node = self.list.iter().find(|entry| entry.id == *id).unwrap().node;
                assert!(self.quorum(), "nobody could agree: {self:#?}");
                self.list.retain(|entry| entry.id != *id);
                assert!(self.quorum(), "a removal took the majority away: {self:#?}");
                if self.leader == Some(node) {
                    self.leader = None;
                }
            }
            Action::Add { member } => {
                assert!(self.quorum(), "nobody could agree: {self:#?}");
                assert!(self.list.iter().all(|entry| !entry.learner), "one at a time: {self:#?}");
                self.next_id += 1;
                let node = index(&member.name);
                let entry = Entry { id: self.next_id, node, began: false, learner: true };
                self.list.push(entry);
            }
            Action::Promote { id, .. } => {
                self.tick();
                let entry = self.list.iter_mut().find(|entry| entry.id == *id).unwrap();
                entry.learner = false;
            }
            Action::MoveLeader { to, .. } => {
                self.tick();
                self.leader = Some(index(to));
            }
            Action::Save { .. } => self.saved = true,
            Action::Write { member } => self.nodes[index(member)].file = File::Settled,
            Action::Renew { member } => {
                let node = index(member);
                assert_ne!(self.leader, Some(node), "a leader is renewed before it gave way");
                assert!(self.nodes.iter().all(|node| node.up), "one at a time: {self:#?}");
                assert!(self.saved, "renewed before the keys were saved");
                self.end(node);
                self.bring_up(node, File::Settled);
            }
        }
    }

    /// A run of strata; true when it ended with the cluster as wanted.
    pub(super) fn run(&mut self, actions: usize) -> bool {
        self.next_id += 1;
        self.saved = false;
        let marker = Marker {
            format: 1,
            cluster: "etcd".to_owned(),
            driver: "etcd".to_owned(),
            id: self.next_id.to_string(),
            created_ms: 0,
        };
        let wanted = Wanted { marker, out: Vec::new() };
        let mut taken = 0;
        for _ in 0..200 {
            self.tick();
            let decision = decide(&self.observe(), &wanted);
            match decision.next {
                Next::Done => return true,
                Next::Refuse(refusal) => panic!("refused: {refusal:?}\n{self:#?}"),
                Next::Wait { .. } => {}
                Next::Act(wanted) => {
                    for action in wanted {
                        if taken == actions {
                            return false;
                        }
                        taken += 1;
                        self.perform(&action);
                        self.check(&action.to_string());
                    }
                }
            }
        }
        panic!("never came to an end: {self:#?}");
    }

    pub(super) fn check(&self, after: &str) {
        assert!(self.formations.len() <= 1, "formed twice after {after}: {self:#?}");
        assert!(self.begun <= 1, "begun twice after {after}: {self:#?}");
        let kept = self.nodes.iter().any(|node| self.acknowledged.is_subset(&node.log));
        assert!(kept, "writes lost after {after}: {self:#?}");
    }

    /// Every member has its vote, everything that was confirmed, and a file that begins nothing.
    pub(super) fn is_whole(&self) -> bool {
        let node_whole = |node: &Node| {
            node.up && node.file == File::Settled && self.acknowledged.is_subset(&node.log)
        };
        self.nodes.iter().all(node_whole)
            && self.list.len() == MEMBERS
            && self.list.iter().all(|entry| !entry.learner && self.serves(entry))
    }
}
