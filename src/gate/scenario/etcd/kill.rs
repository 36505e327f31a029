//! The leader dies: another leads at once, and no write that was confirmed is lost.

use super::health::wrong;
use super::members::{Cluster, Host, ask};
use super::writes::{Writer, clean, read_back};
use crate::cluster::etcd::gateway::{self, call};
use crate::event::Measurement;
use crate::gate::fault::{Fault, Kind};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the cluster may take to be healthy before the test.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// How long the first write may take.
const FIRST_WRITE: Duration = Duration::from_secs(10);

/// What figures are about.
const SUBJECT: &str = "clients of etcd";

/// Bounds of the leader's death.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillLeader {
    /// Seconds until another member leads. Default: 5.
    #[serde(default = "default_leader")]
    leader_within: u64,
    /// Seconds without an acknowledged write. Default: 10.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until the old leader, started again, is in step. Default: 60.
    #[serde(default = "default_back")]
    back_within: u64,
}

fn default_leader() -> u64 {
    5
}

fn default_outage() -> u64 {
    10
}

fn default_back() -> u64 {
    60
}

/// Kills the leader's container.
pub async fn kill_leader(surroundings: Surroundings<'_>, bounds: KillLeader) -> Finding {
    let expected = format!(
        "the leader dies: another leads within {} s, no write missed for more than {} s, no confirmed write lost, the old one in step again within {} s",
        bounds.leader_within, bounds.max_outage, bounds.back_within
    );
    let cluster = match Cluster::whole(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    if let Err(why) = probe::wait_until(HEALTHY_WITHIN, || healthy(&cluster)).await {
        return Finding::not_run(format!("the cluster is not healthy before it: {why}"));
    }
    let old = match leader(&cluster, None).await {
        Ok(old) => old,
        Err(why) => return Finding::not_run(format!("who leads cannot be said: {why}")),
    };
    let prefix = format!("strata_gate/{}/{}/", surroundings.context.run, surroundings.test.name);
    let writer = Writer::new(&cluster, &prefix);
    let mut figures = Vec::new();
    let (drilled, ()) = futures::join!(
        async {
            let drilled =
                drill(&surroundings, &cluster, &old, &writer, &bounds, &mut figures).await;
            writer.stop();
            drilled
        },
        writer.run()
    );
    let mut wrong: Vec<String> = drilled.err().into_iter().collect();
    let (journal, end) = writer.finish();
    match read_back(&cluster, &prefix).await {
        Ok(read) => {
            let account = journal.account(&prefix, &read, end);
            let outage = account.outage.as_secs_f64();
            if account.outage > Duration::from_secs(bounds.max_outage) {
                wrong.push(format!("no write was acknowledged for {outage:.1} s"));
            }
            if !account.lost.is_empty() {
                wrong.push(format!("{} acknowledged writes are lost", account.lost.len()));
            }
            if let Some(phantom) = account.phantoms.first() {
                wrong.push(format!("{phantom} was never written, or with another value"));
            }
            if account.acked == 0 {
                wrong.push("no write was acknowledged: nothing is proved".to_owned());
            }
            figures.push(Measurement::new(SUBJECT, "outage", outage, "s"));
            let counts = [
                ("attempted", account.attempted),
                ("acknowledged", account.acked),
                ("unknown", account.unknown),
                ("acknowledged and lost", account.lost.len() as u64),
            ];
            // Fewer than a thousand writes a second: exact in a float.
            figures.extend(
                counts.map(|(name, n)| Measurement::new(SUBJECT, name, n as f64, "writes")),
            );
        }
        Err(why) => wrong.push(format!("what was written could not be read back: {why}")),
    }
    let within = Duration::from_secs(bounds.back_within);
    wrong.extend(restore(&cluster, &old, within).await.err());
    if let Err(why) = clean(&cluster, &prefix).await {
        wrong.push(format!("the test's keys are left: {why}"));
    }
    Finding { measured: figures, ..Finding::of(expected, wrong) }
}

async fn drill(
    surroundings: &Surroundings<'_>,
    cluster: &Cluster,
    old: &Host,
    writer: &Writer<'_>,
    bounds: &KillLeader,
    figures: &mut Vec<Measurement>,
) -> Result<(), String> {
    probe::wait_until(FIRST_WRITE, || async { writer.acknowledged_since(Duration::ZERO) })
        .await
        .map_err(|why| format!("before any fault: {why}"))?;
    let whole = bounds.leader_within + bounds.max_outage + bounds.back_within;
    let heals_after = Duration::from_secs(whole + 30);
    let start = Instant::now();
    let kind = match &cluster.unit {
        Some(unit) => Kind::KillUnit(unit.clone()),
        None => Kind::KillContainer("etcd".to_owned()),
    };
    let fault = Fault::inject(surroundings, &old.name, kind, heals_after).await?;
    let watched = async {
        let within = Duration::from_secs(bounds.leader_within).saturating_sub(start.elapsed());
        let new = probe::wait_until(within, || leader(cluster, Some(old))).await?;
        let took = start.elapsed().as_secs_f64();
        figures.push(Measurement::new(SUBJECT, "another member leads after", took, "s"));
        tracing::info!(leader = new.name, "another member leads");
        let since = writer.now();
        let outage = Duration::from_secs(bounds.max_outage);
        probe::wait_until(outage, || async { writer.acknowledged_since(since) }).await
    }
    .await;
    let start = Instant::now();
    fault.heal().await?;
    watched?;
    probe::wait_until(Duration::from_secs(bounds.back_within), || healthy(cluster))
        .await
        .map_err(|why| format!("{} is not in step again: {why}", old.name))?;
    let took = start.elapsed().as_secs_f64();
    figures.push(Measurement::new(SUBJECT, "the old leader in step after", took, "s"));
    Ok(())
}

async fn healthy(cluster: &Cluster) -> Result<(), String> {
    let wrong = wrong(&cluster.look().await, &cluster.addresses(), None);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// The member that all others but `dead` say leads.
async fn leader(cluster: &Cluster, dead: Option<&Host>) -> Result<Host, String> {
    let mut agreed = None;
    for member in cluster.members.iter().filter(|m| dead.is_none_or(|dead| dead.name != m.name)) {
        let status: gateway::Status = ask(member, call(gateway::STATUS, &json!({}))).await?;
        if status.leader == 0 {
            return Err(format!("{} knows no leader", member.name));
        }
        if agreed.is_some_and(|leader| leader != status.leader) {
            return Err("the members do not agree on a leader".to_owned());
        }
        agreed = Some(status.leader);
    }
    for member in cluster.members.iter().filter(|m| dead.is_none_or(|dead| dead.name != m.name)) {
        let status: gateway::Status = ask(member, call(gateway::STATUS, &json!({}))).await?;
        if Some(status.header.member_id) == agreed {
            return Ok(member.clone());
        }
    }
    Err("the leader is none of those that answer".to_owned())
}

/// Whoever led before leads again, and everybody is healthy.
async fn restore(cluster: &Cluster, old: &Host, within: Duration) -> Result<(), String> {
    probe::wait_until(within, || healthy(cluster))
        .await
        .map_err(|why| format!("not healthy afterwards: {why}"))?;
    let now = leader(cluster, None).await?;
    if now.name == old.name {
        return Ok(());
    }
    let status: gateway::Status = ask(old, call(gateway::STATUS, &json!({}))).await?;
    let body = json!({ "targetID": status.header.member_id.to_string() });
    ask::<Value>(&now, call(gateway::MOVE_LEADER, &body)).await?;
    probe::wait_until(within, || async {
        let now = leader(cluster, None).await?;
        if now.name == old.name { Ok(()) } else { Err(format!("{} leads", now.name)) }
    })
    .await
    .map_err(|why| format!("{} did not get leadership back: {why}", old.name))
}
