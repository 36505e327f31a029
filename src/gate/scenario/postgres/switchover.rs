//! Planned change of the leader, by Patroni itself.

use super::drill::drill;
use super::judge::{is_synchronous, leader_of, primary};
use super::names::Cluster;
use super::path::{identity, lead_to};
use super::seen::{look, view};
use crate::gate::drill::{Host, Limits};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Bounds of a planned change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switchover {
    /// Seconds without an acknowledged write. Default: 15.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until the old leader streams from the new one. Default: 60.
    #[serde(default = "default_back")]
    back_within: u64,
    /// Seconds until all is as before. Default: 180.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

fn default_outage() -> u64 {
    15
}

fn default_back() -> u64 {
    60
}

fn default_restored() -> u64 {
    180
}

/// How long Patroni may take to choose its synchronous standbys anew.
const CHOSEN: Duration = Duration::from_secs(60);

/// How long a change may take until every member knows of it.
const KNOWN: Duration = Duration::from_secs(60);

/// How long the HAProxies may take to follow.
const FOLLOWED: Duration = Duration::from_secs(30);

/// How many standbys every commit waits for.
const SYNCHRONOUS: &str = "synchronous_node_count";

/// Hands leadership over to the synchronous standby, and (in the frame) back.
pub async fn planned(surroundings: Surroundings<'_>, bounds: Switchover) -> Finding {
    let expected = format!(
        "the synchronous standby leads without losses, no write missed for more than {} s",
        bounds.max_outage
    );
    let limits = Limits {
        outage: Duration::from_secs(bounds.max_outage),
        one_writer_after: Duration::ZERO,
        restored: Duration::from_secs(bounds.restored_within),
        heals_after: Duration::from_secs(bounds.restored_within),
    };
    drill(&surroundings, expected, limits, async |drill| {
        let cluster = drill.cluster;
        let leader = drill.leader.clone();
        let seen = view(cluster, &leader).await?;
        let members = cluster.place.members.iter();
        let target = members
            .filter(|member| member.name != leader.name)
            .find(|member| is_synchronous(&seen, &member.name))
            .ok_or("there is no synchronous standby")?;
        let start = Instant::now();
        hand_over_to(cluster, target).await?;
        drill.figure("handed over in", start.elapsed().as_secs_f64(), "s");
        drill.writes_again(limits.outage).await?;
        drill.rejoined(&leader, target, Duration::from_secs(bounds.back_within)).await
    })
    .await
}

/// Makes `target` the leader.
///
/// # Errors
/// What did not happen in time.
pub async fn hand_over_to(cluster: &Cluster<'_>, target: &Host) -> Result<(), String> {
    let members = look(cluster).await;
    let from = &primary(&members)?.name;
    let from = cluster.place.member(from).ok_or_else(|| format!("{from} is no member"))?;
    if from.name == target.name {
        return Ok(());
    }
    if is_synchronous(&view(cluster, from).await?, &target.name) {
        return change(cluster, from, target).await;
    }
    // Patroni hands over to nobody else than a synchronous standby: for the time of the change
    // every standby is one.
    let before = synchronous(cluster, from).await?;
    let all = cluster.place.members.len().saturating_sub(1);
    wait_for_all(cluster, from, &json!(all)).await?;
    let changed = async {
        probe::wait_until(CHOSEN, || async {
            match is_synchronous(&view(cluster, from).await?, &target.name) {
                true => Ok(()),
                false => Err(format!("{} did not become a synchronous standby", target.name)),
            }
        })
        .await?;
        change(cluster, from, target).await
    };
    let changed = changed.await;
    // Whoever leads now: the setting is the whole cluster's.
    let back = probe::wait_until(KNOWN, || wait_for_all(cluster, target, &before)).await;
    changed.and(back.map_err(|why| format!("{SYNCHRONOUS} is left at {all}: {why}")))
}

/// How many standbys commits wait for, as it is set.
async fn synchronous(cluster: &Cluster<'_>, member: &Host) -> Result<Value, String> {
    let answer = cluster.ask(member, "/config").await?.succeeded();
    let config: Result<Value, _> = answer.and_then(|answer| answer.read());
    let mut config = config.map_err(|error| format!("Patroni of {}: {error}", member.name))?;
    Ok(config.get_mut(SYNCHRONOUS).map(Value::take).unwrap_or(Value::Null))
}

async fn wait_for_all(cluster: &Cluster<'_>, member: &Host, count: &Value) -> Result<(), String> {
    let wanted = json!({ SYNCHRONOUS: count });
    cluster.change(member, Method::PATCH, "/config", &wanted).await.map(drop)
}

async fn change(cluster: &Cluster<'_>, from: &Host, target: &Host) -> Result<(), String> {
    let wanted = json!({ "leader": from.name, "candidate": target.name });
    cluster.change(from, Method::POST, "/switchover", &wanted).await?;
    probe::wait_until(KNOWN, || async {
        for member in &cluster.place.members {
            let seen = view(cluster, member).await?;
            let leader = &leader_of(&seen)?.name;
            if *leader != target.name {
                return Err(format!("{} sees {leader} lead, not {}", member.name, target.name));
            }
        }
        Ok(())
    })
    .await?;
    let leader = identity(cluster, target).await?;
    probe::wait_until(FOLLOWED, || lead_to(cluster, &leader, None)).await
}
