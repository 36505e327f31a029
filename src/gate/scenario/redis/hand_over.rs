//! Planned hand-over: writes are held, every replica gets everything, then Sentinel changes the
//! master and the HAProxies follow at once.

use super::drill::{drill, lead_to, run_id};
use super::haproxy::UPDATER;
use super::judge::{master, wrong_roles};
use super::names::Cluster;
use super::seen::look;
use crate::gate::drill::{Host, Limits};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::redis_client::{Client, Endpoint};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Bounds of a planned hand-over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// Seconds without an acknowledged write. Default: 5.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until all is as before. Default: 90.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

fn default_outage() -> u64 {
    5
}

fn default_restored() -> u64 {
    90
}

/// How long writes are held at most: the server lets them go by itself afterwards.
const HELD: Duration = Duration::from_secs(5);

/// How long replicas may take to have everything once writes are held.
const IN_STEP: Duration = Duration::from_secs(3);

/// How long Sentinel may take to learn a replica's priority: it asks every ten seconds.
const LEARNED: Duration = Duration::from_secs(25);

/// How long Sentinel may take to change the master.
const CHANGED: Duration = Duration::from_secs(15);

/// The setting that makes Sentinel choose a replica, and the value that is chosen first.
const PRIORITY: &str = "replica-priority";
const FIRST: &str = "1";

/// Hands leadership over to another member, and (in the frame) back.
pub async fn planned(surroundings: Surroundings<'_>, bounds: HandOver) -> Finding {
    let expected = format!(
        "another master without losses, no write missed for more than {} s",
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
        let target = cluster
            .place
            .members
            .iter()
            .find(|member| member.name != leader.name)
            .ok_or("there is no other member")?;
        let start = Instant::now();
        hand_over_to(cluster, target).await?;
        drill.figure("handed over in", start.elapsed().as_secs_f64(), "s");
        drill.writes_again(Duration::from_secs(bounds.max_outage)).await?;
        drill.rejoined(&leader, target, limits.restored).await
    })
    .await
}

/// Makes `target` the master.
///
/// # Errors
/// What did not happen in time.
pub async fn hand_over_to(cluster: &Cluster<'_>, target: &Host) -> Result<(), String> {
    let members = look(cluster).await;
    let from = master(&members)?;
    let from = cluster.place.member_at(&from.address).ok_or("the master is no member")?;
    if from.name == target.name {
        return Ok(());
    }
    let candidate = cluster.server(target).await?;
    let before = candidate
        .config_get(PRIORITY)
        .await
        .map_err(|error| error.to_string())?
        .remove(PRIORITY)
        .ok_or_else(|| format!("{PRIORITY} cannot be read"))?;
    set(&candidate, FIRST).await?;
    let handed = change(cluster, from, target).await;
    // The promoted server wrote its file meanwhile: the priority is put back there too. Promotion
    // ends clients' connections, hence a new one.
    let back = async {
        let candidate = cluster.server(target).await?;
        set(&candidate, &before).await?;
        candidate.config_rewrite().await.map_err(|error| error.to_string())
    };
    let back = back.await.map_err(|error| format!("{PRIORITY} of {}: {error}", target.name));
    handed.and(back)
}

async fn set(client: &Client, priority: &str) -> Result<(), String> {
    client.config_set(PRIORITY, priority).await.map_err(|error| error.to_string())
}

async fn change(cluster: &Cluster<'_>, from: &Host, target: &Host) -> Result<(), String> {
    let sentinel = cluster.sentinel(target).await?;
    probe::wait_until(LEARNED, || async {
        let known =
            sentinel.sentinel_replicas(&cluster.name).await.map_err(|error| error.to_string())?;
        let address = target.address.to_string();
        let seen = known.iter().find(|replica| replica.endpoint.host == address);
        match seen.and_then(|replica| replica.fields.get("slave-priority")) {
            Some(priority) if priority == FIRST => Ok(()),
            other => Err(format!("Sentinel sees {} with priority {other:?}", target.name)),
        }
    })
    .await?;
    let old = cluster.server(from).await?;
    old.pause_writes(HELD).await.map_err(|error| error.to_string())?;
    let changed = under_pause(cluster, &sentinel, &old, target).await;
    // A connection that the promotion ended has nothing to let go: a new one has.
    let free = async {
        let old = cluster.server(from).await?;
        old.unpause().await.map_err(|error| error.to_string())
    };
    let freed = free.await.map_err(|error| format!("{}: {error}", from.name));
    changed.and(freed)
}

/// What happens while writes are held.
async fn under_pause(
    cluster: &Cluster<'_>,
    sentinel: &Client,
    old: &Client,
    target: &Host,
) -> Result<(), String> {
    probe::wait_until(IN_STEP, || async {
        let wrong = wrong_roles(&look(cluster).await, 1, true);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    })
    .await?;
    sentinel.sentinel_failover(&cluster.name).await.map_err(|error| error.to_string())?;
    probe::wait_until(CHANGED, || async {
        let believed = sentinel.sentinel_master_address(&cluster.name).await;
        let believed = believed.map_err(|error| error.to_string())?;
        let role = cluster.server(target).await?.role().await.map_err(|error| error.to_string())?;
        match believed {
            Some(at) if at.host == target.address.to_string() && role.is_master() => Ok(()),
            other => Err(format!("Sentinel believes in {other:?}")),
        }
    })
    .await?;
    // Sentinel demotes the old master only after a while; until then it would hold clients.
    let new = Endpoint { host: target.address.to_string(), port: cluster.port };
    old.follow(&new).await.map_err(|error| error.to_string())?;
    let id = run_id(cluster, target).await?;
    probe::wait_until(CHANGED, || async {
        // One that the timer had begun before may have asked too early, and this only joins it.
        for proxy in &cluster.place.proxies {
            probe::output(&proxy.session, &["systemctl", "start", UPDATER])
                .await
                .map_err(|error| format!("{}: {error}", proxy.name))?;
        }
        lead_to(cluster, &id, None).await
    })
    .await
}
