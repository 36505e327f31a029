//! The frame of every test that breaks something: full health first, writes through the clients'
//! path all the while, the fault's healing and the old order whatever happened, and the account.

use super::hand_over::hand_over_to;
use super::judge::{master, wrong_roles, wrong_sentinels};
use super::names::{CALL, Cluster, Host, login};
use super::seen::{Member, look};
use crate::event::Measurement;
use crate::gate::fault::{Fault, Kind, heal_all};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::authority::two_writers;
use crate::gate::writer::journal::Account;
use crate::gate::writer::{Node, Sampler, Writer};
use crate::redis_client::{Client, Endpoint};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the cluster may take to be healthy before a test.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// How long the first write through the clients' path may take.
const FIRST_WRITE: Duration = Duration::from_secs(15);

/// What figures are about.
const SUBJECT: &str = "clients' path";

/// Keys in one command.
const CHUNK: usize = 500;

/// What every test with a fault is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest time without an acknowledged write.
    pub outage: Duration,
    /// From when on, after the first fault, no two nodes may take writes.
    pub one_writer_after: Duration,
    /// How long the old order may take to come back.
    pub restored: Duration,
    /// When the host itself undoes a fault.
    pub heals_after: Duration,
}

/// A test with a fault, while it runs.
pub struct Drill<'a> {
    /// The cluster.
    pub cluster: &'a Cluster<'a>,
    /// Who leads when it begins.
    pub leader: Host,
    /// Writes through the clients' path.
    pub writer: Writer,
    /// Looks at every node.
    pub sampler: Sampler,
    limits: Limits,
    faults: Vec<Fault<'a>>,
    /// The moment of the first fault, on the writer's and on the sampler's clock.
    broken: Option<(Instant, Duration, Duration)>,
    figures: Vec<Measurement>,
}

impl<'a> Drill<'a> {
    /// Breaks something.
    ///
    /// # Errors
    /// When it could not be broken.
    pub async fn inject(&mut self, host: &str, kind: Kind) -> Result<(), String> {
        let before = (Instant::now(), self.writer.now(), self.sampler.now());
        let surroundings = self.cluster.surroundings;
        let fault = Fault::inject(surroundings, host, kind, self.limits.heals_after).await?;
        self.broken.get_or_insert(before);
        self.faults.push(fault);
        Ok(())
    }

    /// Heals everything, the last fault first.
    ///
    /// # Errors
    /// What could not be healed.
    pub async fn heal(&mut self) -> Result<(), String> {
        let wrong = heal_all(std::mem::take(&mut self.faults)).await;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// Heals the last fault only.
    ///
    /// # Errors
    /// When it could not be healed.
    pub async fn heal_last(&mut self) -> Result<(), String> {
        match self.faults.pop() {
            Some(fault) => fault.heal().await,
            None => Ok(()),
        }
    }

    /// When it was broken.
    pub fn broken_at(&self) -> Instant {
        self.broken.map_or_else(Instant::now, |broken| broken.0)
    }

    /// When it was broken, on the sampler's clock.
    pub fn broken_for_sampler(&self) -> Duration {
        self.broken.map_or(Duration::ZERO, |broken| broken.2)
    }

    /// Keeps a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Measurement::new(SUBJECT, name, value, unit));
    }

    /// Waits until the Sentinels of these members agree on one of them that leads and is not
    /// `old`; who leads, and how long after the fault.
    ///
    /// # Errors
    /// What there was instead.
    pub async fn successor(&mut self, old: &Host, within: Duration) -> Result<Host, String> {
        let left = within.saturating_sub(self.broken_at().elapsed());
        let cluster = self.cluster;
        let new = probe::wait_until(left, || successor_of(cluster, old)).await?;
        let took = self.broken_at().elapsed().as_secs_f64();
        self.figure("new master after", took, "s");
        Ok(new)
    }

    /// Waits until every HAProxy (but `except`) and the balancer lead to this member.
    ///
    /// # Errors
    /// Where else one leads.
    pub async fn followed(
        &mut self,
        leader: &Host,
        within: Duration,
        except: Option<&str>,
    ) -> Result<(), String> {
        let left = within.saturating_sub(self.broken_at().elapsed());
        let cluster = self.cluster;
        let run_id = run_id(cluster, leader).await?;
        probe::wait_until(left, || lead_to(cluster, &run_id, except)).await?;
        let took = self.broken_at().elapsed().as_secs_f64();
        self.figure("followed by every HAProxy after", took, "s");
        Ok(())
    }

    /// Waits until a write that was sent from now on is acknowledged.
    ///
    /// # Errors
    /// The last problem.
    pub async fn writes_again(&self, within: Duration) -> Result<(), String> {
        let now = self.writer.now();
        let writer = &self.writer;
        probe::wait_until(within, || async { writer.acked_since(now).map(drop) }).await
    }

    /// Waits until a member follows `leader` in step.
    ///
    /// # Errors
    /// What it does instead.
    pub async fn rejoined(
        &mut self,
        member: &Host,
        leader: &Host,
        within: Duration,
    ) -> Result<(), String> {
        let start = Instant::now();
        let cluster = self.cluster;
        probe::wait_until(within, || follows(cluster, member, leader)).await?;
        let name = format!("{} a replica again after", member.name);
        self.figure(name, start.elapsed().as_secs_f64(), "s");
        Ok(())
    }
}

/// The member that the Sentinels of all members but `old` agree on, and that says so itself.
async fn successor_of(cluster: &Cluster<'_>, old: &Host) -> Result<Host, String> {
    let mut agreed: BTreeSet<String> = BTreeSet::new();
    for member in cluster.members.iter().filter(|member| member.name != old.name) {
        let sentinel = cluster.sentinel(member).await;
        let believed = match sentinel {
            Ok(sentinel) => sentinel.sentinel_master_address(&cluster.name).await,
            Err(error) => return Err(format!("Sentinel of {}: {error}", member.name)),
        };
        match believed {
            Ok(Some(Endpoint { host, .. })) => drop(agreed.insert(host)),
            Ok(None) => return Err(format!("{} watches no {}", member.name, cluster.name)),
            Err(error) => return Err(format!("Sentinel of {}: {error}", member.name)),
        }
    }
    let mut agreed = agreed.into_iter();
    let (Some(address), None) = (agreed.next(), agreed.next()) else {
        return Err("the Sentinels do not agree on a master".to_owned());
    };
    let new = cluster
        .member_at(&address)
        .ok_or_else(|| format!("the Sentinels believe in {address}, which is no member"))?;
    if new.name == old.name {
        return Err(format!("the Sentinels still believe in {}", old.name));
    }
    let role = cluster.server(new).await?.role().await.map_err(|error| error.to_string())?;
    if role.is_master() { Ok(new.clone()) } else { Err(format!("{} is no master yet", new.name)) }
}

/// The id of a member's Redis.
///
/// # Errors
/// Why it could not be asked.
pub async fn run_id(cluster: &Cluster<'_>, member: &Host) -> Result<String, String> {
    cluster.server(member).await?.run_id().await.map_err(|error| error.to_string())
}

/// An error unless every way (but one through `except`) leads to the master with this id.
///
/// # Errors
/// Where else one leads.
pub async fn lead_to(
    cluster: &Cluster<'_>,
    run_id: &str,
    except: Option<&str>,
) -> Result<(), String> {
    let each = cluster.ways().into_iter().filter(|(name, _)| Some(name.as_str()) != except);
    let looks = each.map(|(name, way)| async move {
        let leads = async {
            let client = login(&*way, &cluster.password).await?;
            leads(&client, run_id).await
        };
        leads.await.map_err(|error| format!("through {name}: {error}"))
    });
    join_all(looks).await.into_iter().collect()
}

async fn leads(client: &Client, run_id: &str) -> Result<(), String> {
    let role = client.role().await.map_err(|error| error.to_string())?;
    if !role.is_master() {
        return Err("a replica answers".to_owned());
    }
    let found = client.run_id().await.map_err(|error| error.to_string())?;
    if found == run_id { Ok(()) } else { Err("another server than the master answers".to_owned()) }
}

/// An error unless the member follows the leader in step.
async fn follows(cluster: &Cluster<'_>, member: &Host, leader: &Host) -> Result<(), String> {
    let server = cluster.server(member).await?;
    let replication = server.replication().await.map_err(|error| error.to_string())?;
    if replication.master {
        return Err(format!("{} still calls itself a master", member.name));
    }
    let whom = replication.follows.map(|at| at.host).unwrap_or_default();
    if whom != leader.address.to_string() {
        return Err(format!("{} follows {whom}", member.name));
    }
    if replication.link_up { Ok(()) } else { Err(format!("{}: its link is down", member.name)) }
}

/// What is wrong with the cluster now.
async fn unhealthy(cluster: &Cluster<'_>) -> Result<Vec<Member>, String> {
    let members = look(cluster).await;
    // Writes go on: offsets are not equal.
    let mut wrong = wrong_roles(&members, 1, false);
    wrong.extend(wrong_sentinels(&members));
    if wrong.is_empty() { Ok(members) } else { Err(wrong.join("; ")) }
}

/// Who listens where, per host.
async fn listeners(cluster: &Cluster<'_>) -> Result<BTreeSet<String>, String> {
    let hosts: Vec<&Host> = cluster.members.iter().chain(&cluster.proxies).collect();
    let looks = hosts.into_iter().map(|host| async move {
        let text = probe::output(&host.session, &["ss", "-H", "-ltn"]).await?;
        let sockets = text.lines().filter_map(|line| line.split_whitespace().nth(3));
        Ok::<_, String>(sockets.map(|at| format!("{} {at}", host.name)).collect::<BTreeSet<_>>())
    });
    let all: Result<Vec<BTreeSet<String>>, String> = join_all(looks).await.into_iter().collect();
    Ok(all?.into_iter().flatten().collect())
}

/// Runs `body` inside the frame.
pub async fn drill(
    surroundings: &Surroundings<'_>,
    expected: String,
    limits: Limits,
    body: impl AsyncFnOnce(&mut Drill<'_>) -> Result<(), String>,
) -> Finding {
    let cluster = match Cluster::of(surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let before = match probe::wait_until(HEALTHY_WITHIN, || unhealthy(&cluster)).await {
        Ok(members) => members,
        Err(why) => {
            return Finding::not_run(format!("the cluster is not healthy before it: {why}"));
        }
    };
    let leader = match master(&before).ok().and_then(|member| cluster.member_at(&member.address)) {
        Some(leader) => leader.clone(),
        None => return Finding::not_run("who is master cannot be said"),
    };
    let listening = match listeners(&cluster).await {
        Ok(listening) => listening,
        Err(why) => return Finding::not_run(why),
    };
    let names = Keys::of(surroundings);
    let nodes = cluster
        .members
        .iter()
        .map(|member| Node { name: member.name.clone(), way: cluster.local(member, cluster.port) });
    let sampler = Sampler::start(nodes.collect(), &cluster.password, &names.fence);
    let writer = Writer::start(cluster.route(), names.writes.clone());
    let mut drill = Drill {
        cluster: &cluster,
        leader: leader.clone(),
        writer,
        sampler,
        limits,
        faults: Vec::new(),
        broken: None,
        figures: Vec::new(),
    };
    let mut wrong = Vec::new();
    if let Err(why) = drill.writes_again(FIRST_WRITE).await {
        wrong.push(format!("before any fault: {why}"));
    } else {
        wrong.extend(body(&mut drill).await.err());
        wrong.extend(drill.heal().await.err());
    }
    let Drill { writer, sampler, broken, mut figures, .. } = drill;
    // The path works again, whoever leads now: only then the longest gap is known.
    let healed = writer.now();
    let again =
        probe::wait_until(limits.restored, || async { writer.acked_since(healed).map(drop) });
    wrong.extend(again.await.err());
    let (journal, end) = writer.finish().await;
    let since = broken.map_or(Duration::ZERO, |broken| broken.2) + limits.one_writer_after;
    for both in two_writers(&sampler.samples(), since) {
        wrong.push(format!(
            "{} and {} both took writes, {:.1} s after the start",
            both.one,
            both.other,
            both.at.as_secs_f64()
        ));
        if wrong.len() > 10 {
            break;
        }
    }
    drop(sampler);
    match probe::wait_until(limits.restored, || readable(&cluster, &names.writes)).await {
        Ok(read) => {
            let account = journal.account(&names.writes, &read, end);
            judge(&account, limits, broken.map(|broken| broken.1), &mut wrong, &mut figures);
        }
        Err(why) => wrong.push(format!("what was written could not be read back: {why}")),
    }
    wrong.extend(restore(&cluster, &leader, &listening, limits.restored).await.err());
    if let Err(why) = clean(&cluster, &names).await {
        wrong.push(format!("the test's keys are left: {why}"));
    }
    Finding { measured: figures, ..Finding::of(expected, wrong) }
}

/// The keys of one test.
struct Keys {
    writes: String,
    fence: String,
}

impl Keys {
    fn of(surroundings: &Surroundings<'_>) -> Self {
        let (run, test) = (surroundings.context.run, &surroundings.test.name);
        Self {
            writes: format!("strata_gate:{run}:{test}:"),
            fence: format!("strata_gate_fence:{run}:{test}:"),
        }
    }
}

fn judge(
    account: &Account,
    limits: Limits,
    broken: Option<Duration>,
    wrong: &mut Vec<String>,
    figures: &mut Vec<Measurement>,
) {
    if account.outage > limits.outage {
        wrong.push(format!(
            "no write was acknowledged for {:.1} s, at most {:.1} s are allowed",
            account.outage.as_secs_f64(),
            limits.outage.as_secs_f64()
        ));
    }
    if !account.confirmed_lost.is_empty() {
        wrong.push(format!(
            "{} writes that a replica had confirmed are lost, the first is number {}",
            account.confirmed_lost.len(),
            account.confirmed_lost.first().copied().unwrap_or_default()
        ));
    }
    if let Some(phantom) = account.phantoms.first() {
        wrong.push(format!(
            "{} keys hold what was never written, or was refused: {phantom}",
            account.phantoms.len()
        ));
    }
    if account.confirmed == 0 {
        wrong.push("no write was confirmed by a replica: nothing is proved".to_owned());
    }
    let outage = account.outage.as_secs_f64();
    figures.push(Measurement::new(SUBJECT, "outage", outage, "s"));
    // Below nought when a write was already waiting for its answer.
    figures.extend(broken.map(|broken| {
        let after = account.outage_began.as_secs_f64() - broken.as_secs_f64();
        Measurement::new(SUBJECT, "outage began after", after, "s")
    }));
    // Fewer than a thousand writes a second: exact in a float.
    let counts = [
        ("attempted", account.attempted),
        ("acknowledged", account.acked),
        ("confirmed by a replica", account.confirmed),
        ("refused", account.refused),
        ("unknown", account.unknown),
        ("acknowledged and lost", account.lost.len() as u64),
        ("confirmed and lost", account.confirmed_lost.len() as u64),
    ];
    figures.extend(
        counts.map(|(name, count)| Measurement::new(SUBJECT, name, count as f64, "writes")),
    );
}

/// All keys of a prefix with their values, through the clients' path.
async fn readable(cluster: &Cluster<'_>, prefix: &str) -> Result<BTreeMap<String, String>, String> {
    let client = cluster.route().connect(0).await?;
    let keys: Vec<String> = keys(&client, prefix).await?.into_iter().collect();
    let mut found = BTreeMap::new();
    for chunk in keys.chunks(CHUNK) {
        let values = client.get_many(chunk).await.map_err(|error| error.to_string())?;
        let pairs = chunk.iter().cloned().zip(values);
        found.extend(pairs.filter_map(|(key, value)| Some((key, value?))));
    }
    Ok(found)
}

async fn keys(client: &Client, prefix: &str) -> Result<BTreeSet<String>, String> {
    let (mut cursor, mut found) = (0, BTreeSet::new());
    loop {
        let (next, keys) =
            client.scan(cursor, &format!("{prefix}*")).await.map_err(|error| error.to_string())?;
        found.extend(keys.into_iter().filter(|key| key.starts_with(prefix)));
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}

/// Deletes the test's keys on the master.
async fn clean(cluster: &Cluster<'_>, names: &Keys) -> Result<(), String> {
    let members = look(cluster).await;
    let leader = master(&members)?;
    let leader = cluster.member_at(&leader.address).ok_or("the master is no member")?;
    let client = cluster.server(leader).await?;
    for prefix in [&names.writes, &names.fence] {
        let keys: Vec<String> = keys(&client, prefix).await?.into_iter().collect();
        for chunk in keys.chunks(CHUNK) {
            client.delete(chunk).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Brings the old order back: the old leader leads, everybody is healthy, and listens where it did.
async fn restore(
    cluster: &Cluster<'_>,
    leader: &Host,
    listening: &BTreeSet<String>,
    within: Duration,
) -> Result<(), String> {
    let start = Instant::now();
    let left = || within.saturating_sub(start.elapsed()).max(CALL);
    let members = probe::wait_until(left(), || unhealthy(cluster))
        .await
        .map_err(|why| format!("not healthy afterwards: {why}"))?;
    if master(&members)?.name != leader.name {
        hand_over_to(cluster, leader)
            .await
            .map_err(|why| format!("{} did not get leadership back: {why}", leader.name))?;
    }
    probe::wait_until(left(), || async {
        let members = unhealthy(cluster).await?;
        let now = &master(&members)?.name;
        if *now != leader.name {
            return Err(format!("{now} leads, it was {}", leader.name));
        }
        let found = listeners(cluster).await?;
        let differing: Vec<&str> =
            found.symmetric_difference(listening).map(String::as_str).collect();
        if !differing.is_empty() {
            return Err(format!("listeners differ: {}", differing.join(", ")));
        }
        lead_to(cluster, &run_id(cluster, leader).await?, None).await
    })
    .await
    .map_err(|why| format!("not as it was before: {why}"))
}
