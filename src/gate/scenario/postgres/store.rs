//! Members of the store that are gone: one must not be felt, and without a majority the leader goes
//! on as it is configured.

use super::drill::drill;
use super::isolation::stays;
use super::names::{CALL, Cluster};
use crate::gate::drill::{Host, Limits};
use crate::gate::scenario::{Finding, Surroundings};
use crate::http_client::Request;
use futures::future::join_all;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Bounds of a member of the store that is gone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreDown {
    /// Seconds for which nobody may take over. Default: 20.
    #[serde(default = "default_watched")]
    watched_for: u64,
    /// Seconds without an acknowledged write meanwhile. Default: 5.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until all is as before. Default: 180.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

/// Bounds of a store without a majority.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreLost {
    /// Seconds for which it has no majority; longer than leadership counts without being renewed.
    /// Default: 45.
    #[serde(default = "default_lost_for")]
    watched_for: u64,
    /// Seconds without an acknowledged write meanwhile. Default: 10.
    #[serde(default = "default_lost_outage")]
    max_outage: u64,
    /// Seconds until all is as before. Default: 180.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

fn default_watched() -> u64 {
    20
}

fn default_outage() -> u64 {
    5
}

fn default_lost_for() -> u64 {
    45
}

fn default_lost_outage() -> u64 {
    10
}

fn default_restored() -> u64 {
    180
}

/// Stops the member of the store that leads it.
pub async fn one_down(surroundings: Surroundings<'_>, bounds: StoreDown) -> Finding {
    let expected = format!(
        "without the store's leader nobody takes over for {} s, no write missed for more than {} s",
        bounds.watched_for, bounds.max_outage
    );
    let limits = limits(bounds.max_outage, bounds.watched_for, bounds.restored_within);
    let watched = Duration::from_secs(bounds.watched_for);
    down(&surroundings, expected, limits, watched, 1).await
}

/// Stops the store's majority: with `failsafe_mode` the leader goes on, and all recovers by itself.
pub async fn majority_down(surroundings: Surroundings<'_>, bounds: StoreLost) -> Finding {
    let expected = format!(
        "without the store's majority the leader goes on for {} s, nobody takes over, no write missed for more than {} s",
        bounds.watched_for, bounds.max_outage
    );
    let limits = limits(bounds.max_outage, bounds.watched_for, bounds.restored_within);
    let watched = Duration::from_secs(bounds.watched_for);
    down(&surroundings, expected, limits, watched, 2).await
}

fn limits(outage: u64, watched: u64, restored: u64) -> Limits {
    Limits {
        outage: Duration::from_secs(outage),
        one_writer_after: Duration::ZERO,
        restored: Duration::from_secs(restored),
        heals_after: Duration::from_secs(watched + 60),
    }
}

/// Stops so many members of the store, its leader first.
async fn down(
    surroundings: &Surroundings<'_>,
    expected: String,
    limits: Limits,
    watched: Duration,
    count: usize,
) -> Finding {
    drill(surroundings, expected, limits, async |drill| {
        let cluster = drill.cluster;
        let mut order = leader_first(cluster).await?;
        if order.len() < 3 {
            return Err(format!("the store has {} members, not three", order.len()));
        }
        order.truncate(count);
        for host in order {
            drill.inject(&host.name, cluster.store_stopped(host)).await?;
        }
        stays(drill, watched).await?;
        drill.heal().await?;
        drill.writes_again(limits.outage).await
    })
    .await
}

/// The members of the store, the one that leads it first.
async fn leader_first<'a>(cluster: &'a Cluster<'_>) -> Result<Vec<&'a Host>, String> {
    let looks = cluster.store.iter().map(|host| async move {
        let stream = host.local(cluster.store_port).dial().await?;
        let request = Request::json(Method::POST, &host.name, "/v3/maintenance/status", &json!({}));
        let answer = request.send(stream, CALL).await.and_then(|answer| answer.succeeded());
        let status: Result<Value, _> = answer.and_then(|answer| answer.read());
        let status = status.map_err(|error| format!("etcd of {}: {error}", host.name))?;
        Ok::<_, String>((leads(&status), host))
    });
    let all: Result<Vec<(bool, &Host)>, String> = join_all(looks).await.into_iter().collect();
    let mut all = all?;
    // False sorts before true.
    all.sort_by_key(|(leads, _)| !leads);
    match all.first() {
        Some((true, _)) => Ok(all.into_iter().map(|(_, host)| host).collect()),
        _ => Err("nobody leads the store".to_owned()),
    }
}

/// Whether the member that gave this status leads.
fn leads(status: &Value) -> bool {
    let own = status.pointer("/header/member_id").and_then(Value::as_str);
    own.is_some() && own == status.get("leader").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_of_the_store_says_so() {
        let status = |leader: &str| json!({ "header": { "member_id": "7" }, "leader": leader });
        assert!(leads(&status("7")));
        assert!(!leads(&status("8")));
        assert!(!leads(&json!({})), "an empty answer leads nothing");
    }
}
