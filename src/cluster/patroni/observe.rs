//! Looks at every member, at etcd, and at what the leader's databases hold.

use super::guard::Question;
use super::parted::{self, Given};
use super::settings::{dynamic_of, is_daemon, lacking, names, text_of};
use super::view::{Control, Member, Observation, Patroni, Seen, Stale, Status};
use super::{PatroniCluster, connection, objects, rest, store};
use crate::cluster::reach::program;
use crate::plan::ClusterFacts;
use crate::site::Host;
use futures::future::join_all;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long PostgreSQL may fail to start, or to follow, before its data is held to be useless:
/// Patroni mends what it can within that time (`pg_rewind`, another copy).
const STUCK: Duration = Duration::from_secs(60);

/// What Patroni says of a PostgreSQL that runs and does not answer it: it may be busy, or damaged.
const MUTE: &str = "unknown";

impl PatroniCluster<'_> {
    /// One look at everything. What costs more than a question is looked at again only after
    /// something was done there.
    pub(super) async fn look(&self) -> Observation {
        let hosts = self.reach.members.hosts();
        let stores = hosts.iter().map(|host| store::read(&self.reach, &host.name, &self.settings));
        let looks = hosts.iter().map(|host| self.look_at(host));
        let (members, stores) = futures::join!(join_all(looks), join_all(stores));
        let (store, dynamic) = first_answer(stores);
        let record = self.reach.records.read(self.reach.members.name());
        let mut observation = Observation {
            record,
            store,
            members,
            objects: Vec::new(),
            remarks: Vec::new(),
            dynamic: Vec::new(),
        };
        let leader = observation.leader().cloned();
        if let Some(status) = leader.as_ref().and_then(Member::status) {
            told_by_the_leader(&mut observation.members, &status.followers);
        }
        if let Some(leader) = &leader {
            self.find_stuck(leader, &mut observation.members).await;
        }
        let live = leader.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |member| member.address);
        let compared = observation.members.iter().map(|member| self.compare(member, live));
        let compared = join_all(compared).await;
        for (member, stale) in observation.members.iter_mut().zip(compared) {
            match (stale, &mut member.seen) {
                (Ok(stale), Ok(seen)) => seen.stale = stale,
                (Err(error), seen @ Ok(_)) => *seen = Err(error),
                (_, Err(_)) => {}
            }
        }
        if let Some(leader) = leader {
            if let Err(error) = self.declared(&leader, &mut observation).await {
                observation.remarks.push(error);
            }
            match self.dynamic(&leader.name) {
                Ok(wanted) => observation.dynamic = names(&lacking(&wanted, &dynamic)),
                Err(error) => observation.remarks.push(error),
            }
        }
        observation
    }

    async fn look_at(&self, host: &Host) -> Member {
        let seen = self.seen(host).await;
        Member { name: host.name.clone(), address: host.address, seen }
    }

    async fn seen(&self, host: &Host) -> Result<Seen, String> {
        let name = host.name.as_str();
        let disk = self.reach.on_disk(name, &[]);
        let patroni = rest::status(&self.reach, name, host.address, &self.settings);
        let (disk, patroni) = futures::join!(disk, patroni);
        let disk = disk?;
        let control = match disk.data {
            true => self.control(name).await,
            false => Ok(None),
        };
        let refuses = match &patroni {
            Patroni::Up(status) if status.runs() => self.refuses(name, host.address).await,
            _ => None,
        };
        let pending = matches!(&patroni, Patroni::Up(status) if status.pending_restart);
        Ok(Seen {
            marker: disk.marker,
            data: disk.data,
            control,
            refuses,
            stuck: None,
            restarted_in_vain: pending && self.memory.borrow().restarted.contains(name),
            stale: Stale::default(),
            patroni,
        })
    }

    /// What the data says of itself, read from the head of its control file: that has the same
    /// form in every version of PostgreSQL that is alive, and needs none of its programs.
    async fn control(&self, member: &str) -> Result<Option<Control>, String> {
        let file = format!("{}/global/pg_control", self.reach.plan_of_any(member)?.data);
        let words = ["od", "-A", "n", "-v", "-t", "u8", "-N", "56", &file];
        let ran = self.reach.hosts.run(member, program(&words)).await?;
        if !ran.success && ran.stderr.contains("No such file or directory") {
            // A copy that has only begun: the control file comes last.
            return Ok(None);
        }
        if !ran.success {
            return Err(ran.stderr.trim().to_owned());
        }
        control_of(&ran.stdout).map(Some).ok_or_else(|| format!("{file} is no control file"))
    }

    /// Why PostgreSQL does not take the superuser's password. Asked once, until something is done.
    async fn refuses(&self, member: &str, address: Ipv4Addr) -> Option<String> {
        if self.memory.borrow().proved.contains(member) {
            return None;
        }
        match connection::superuser(&self.reach, member, address, &self.settings).await {
            Ok(_) => {
                self.memory.borrow_mut().proved.insert(member.to_owned());
                None
            }
            Err(connection::NoLogin::Refuses(why)) => Some(why),
            // It starts, or its connections are taken: no verdict on the password.
            Err(connection::NoLogin::Damaged(_) | connection::NoLogin::Unready(_)) => None,
        }
    }

    /// Members whose data is of no use: Patroni mends what it can, and had the time for it.
    async fn find_stuck(&self, leader: &Member, members: &mut [Member]) {
        let mut given = None;
        for member in members.iter_mut().filter(|member| member.name != leader.name) {
            let Ok(Seen { patroni: Patroni::Up(status), stuck, .. }) = &mut member.seen else {
                continue;
            };
            if !self.has_long_failed(&member.name, status) {
                continue;
            }
            if status.state == MUTE {
                *stuck = self.damage(&member.name, member.address).await;
                continue;
            }
            if !status.runs() {
                *stuck = Some(format!("PostgreSQL: {}", status.state));
                continue;
            }
            // One that only waits for its turn, or cannot reach the leader, keeps its data.
            if given.is_none() {
                given = Some(self.given(leader).await);
            }
            let known = given.as_ref().and_then(|given| given.as_ref());
            *stuck = known.and_then(|given| given.parted(status.timeline, status.position));
        }
    }

    /// True for a standby that cannot start, or does not follow, and could not for long.
    fn has_long_failed(&self, member: &str, status: &Status) -> bool {
        let fails = matches!(status.state.as_str(), "start failed" | "crashed" | "restart failed");
        let alone = status.runs() && !status.primary && !status.streaming;
        let fails = fails || status.state == MUTE;
        let failing = &mut self.memory.borrow_mut().failing;
        if fails || alone {
            let since = failing.entry(member.to_owned()).or_insert_with(Instant::now);
            return since.elapsed() >= STUCK;
        }
        // Between two failures Patroni tries again.
        if !matches!(status.state.as_str(), "starting" | "stopping" | "stopped") {
            failing.remove(member);
        }
        false
    }

    /// What a server that takes no login says of its data.
    async fn damage(&self, member: &str, address: Ipv4Addr) -> Option<String> {
        match connection::superuser(&self.reach, member, address, &self.settings).await {
            Err(connection::NoLogin::Damaged(why)) => Some(why),
            _ => None,
        }
    }

    /// What the leader can still give to standbys; nothing where it does not say.
    async fn given(&self, leader: &Member) -> Option<Given> {
        let server =
            connection::superuser(&self.reach, &leader.name, leader.address, &self.settings);
        parted::given(&server.await.ok()?).await.ok()?
    }

    /// What differs from the role on a member, looked at once until something is done there.
    async fn compare(&self, member: &Member, live: Ipv4Addr) -> Result<Stale, String> {
        let Some(seen) = member.view() else { return Ok(Stale::default()) };
        let facts = ClusterFacts { leader: live, forming: false };
        let status = match &seen.patroni {
            Patroni::Up(status) => status,
            Patroni::Down if seen.data => return self.compare_stopped(member, facts).await,
            _ => return Ok(Stale::default()),
        };
        if let Some(known) = self.memory.borrow().stale.get(&member.name) {
            return Ok(known.clone());
        }
        let plan = self.reach.plan(&member.name, facts)?;
        let mut stale = Stale::default();
        for (item, why) in self.reach.differing(&member.name, &plan.items).await? {
            match is_daemon(&item.resource) {
                true => stale.daemon.push(why),
                false => stale.files.push(why),
            }
        }
        if seen.data && !(stale.daemon.is_empty() && stale.files.is_empty()) {
            let (name, address) = (member.name.as_str(), member.address);
            let question = Question { member: name, address, plan: &plan, status: Some(status) };
            stale.forbidden = question.forbidden(&self.reach, &self.settings).await?;
        }
        self.memory.borrow_mut().stale.insert(member.name.clone(), stale.clone());
        Ok(stale)
    }

    /// Whether a member that does not run may be started with what its role says now: its image may
    /// have changed meanwhile.
    async fn compare_stopped(&self, member: &Member, facts: ClusterFacts) -> Result<Stale, String> {
        let known = self.memory.borrow().stopped.get(&member.name).cloned();
        let forbidden = match known {
            Some(forbidden) => forbidden,
            None => {
                let plan = self.reach.plan(&member.name, facts)?;
                let (name, address) = (member.name.as_str(), member.address);
                let question = Question { member: name, address, plan: &plan, status: None };
                let forbidden = question.forbidden(&self.reach, &self.settings).await?;
                self.memory.borrow_mut().stopped.insert(member.name.clone(), forbidden.clone());
                forbidden
            }
        };
        Ok(Stale { forbidden, ..Stale::default() })
    }

    /// What the leader's databases lack, looked at once until something is done.
    async fn declared(&self, leader: &Member, observation: &mut Observation) -> Result<(), String> {
        let known = self.memory.borrow().objects.get(&leader.name).cloned();
        let found = match known {
            Some(found) => found,
            None => {
                let lacking =
                    objects::lacking(&self.reach, &leader.name, leader.address, &self.settings);
                let lacking = lacking.await?;
                let names = lacking.changes.iter().map(|change| change.what.clone()).collect();
                let found = (names, lacking.remarks);
                self.memory.borrow_mut().objects.insert(leader.name.clone(), found.clone());
                found
            }
        };
        observation.objects = found.0;
        observation.remarks.extend(found.1);
        Ok(())
    }

    /// Patroni's dynamic settings as the role wants them.
    pub(super) fn dynamic(&self, member: &str) -> Result<Value, String> {
        if let Some(known) = &self.memory.borrow().dynamic {
            return Ok(known.clone());
        }
        let plan = self.reach.plan_of_any(member)?;
        let path = &self.settings.config;
        let text = text_of(&plan.items, path).ok_or_else(|| format!("no part of it is {path}"))?;
        let wanted = dynamic_of(text)?;
        self.memory.borrow_mut().dynamic = Some(wanted.clone());
        Ok(wanted)
    }
}

/// Before its version 3.1 Patroni says on the leader alone who streams.
fn told_by_the_leader(members: &mut [Member], followers: &[String]) {
    for member in members {
        if let Ok(Seen { patroni: Patroni::Up(status), .. }) = &mut member.seen
            && status.runs()
            && followers.contains(&member.name)
        {
            status.streaming = true;
        }
    }
}

/// The first answer of etcd, or why there is none.
fn first_answer<S, V: Default>(answers: Vec<Result<(S, V), String>>) -> (Result<S, String>, V) {
    let mut reason = "the cluster has no members".to_owned();
    for answer in answers {
        match answer {
            Ok((store, dynamic)) => return (Ok(store), dynamic),
            Err(why) => reason = why,
        }
    }
    (Err(reason), V::default())
}

/// The fields of a control file: system identifier, …, checkpoint, …, timeline.
fn control_of(words: &str) -> Option<Control> {
    let words: Vec<u64> = words.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [system, _, _, _, checkpoint, _, timeline] = words.as_slice() else { return None };
    (*system != 0).then_some(Control {
        system: *system,
        timeline: (timeline & u64::from(u32::MAX)) as u32,
        checkpoint: *checkpoint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_file_is_read_by_its_words() {
        let told =
            " 7421881199032549390 868504141644 6 1700000000\n 25165864 25165808 4294967299\n";
        let control = control_of(told).unwrap();
        assert_eq!(control.system, 7_421_881_199_032_549_390);
        assert_eq!((control.timeline, control.checkpoint), (3, 25_165_864));
        assert_eq!(control_of(""), None);
        assert_eq!(control_of("0 0 0 0 0 0 0"), None);
    }
}
