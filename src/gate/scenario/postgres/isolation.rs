//! A leader that reaches nobody any more, and one that only its store does not reach.

use super::crash::{Crash, default_restored};
use super::drill::drill;
use crate::gate::drill::Limits;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::authority::{first_accepted, last_accepted};
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Bounds of a leader without its store.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithoutStore {
    /// Seconds for which it is cut off; longer than its leadership counts without being renewed.
    /// Default: 45.
    #[serde(default = "default_watched")]
    watched_for: u64,
    /// Seconds without an acknowledged write meanwhile. Default: 10.
    #[serde(default = "default_undisturbed")]
    max_outage: u64,
    /// Seconds until all is as before. Default: 180.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

fn default_watched() -> u64 {
    45
}

fn default_undisturbed() -> u64 {
    10
}

/// Cuts the leader off from everybody; the operator host keeps SSH.
pub async fn isolated(surroundings: Surroundings<'_>, bounds: Crash) -> Finding {
    let expected = format!(
        "a new leader within {} s, no write taken by the isolated one after the new one's first, no acknowledged write lost",
        bounds.new_leader_within
    );
    let seconds = Duration::from_secs;
    drill(&surroundings, expected, bounds.limits(), async |drill| {
        let old = drill.leader.clone();
        drill.inject(&old.name, drill.cluster.place.cut_off(&old)).await?;
        let since = drill.broken_for_sampler();
        let new = drill.successor(&old, seconds(bounds.new_leader_within)).await?;
        drill.followed(&new, seconds(bounds.followed_within), None).await?;
        drill.writes_again(seconds(bounds.max_outage)).await?;
        let samples = drill.sampler.samples();
        let last = last_accepted(&samples, &old.name, since).unwrap_or(since);
        let first = first_accepted(&samples, &new.name, since)
            .ok_or_else(|| format!("{} was not seen to take a write", new.name))?;
        let after = (last.saturating_sub(since)).as_secs_f64();
        drill.figure("isolated leader's last write after", after, "s");
        let after = (first.saturating_sub(since)).as_secs_f64();
        drill.figure("new leader's first write after", after, "s");
        if last > first {
            return Err(format!(
                "{} took a write {:.1} s after the first one of {}",
                old.name,
                (last - first).as_secs_f64(),
                new.name
            ));
        }
        drill.heal().await?;
        drill.rejoined(&old, &new, seconds(bounds.back_within)).await
    })
    .await
}

/// Cuts the leader's Patroni off from the store, and from nobody else: with `failsafe_mode` it goes
/// on, since it reaches every member.
pub async fn without_store(surroundings: Surroundings<'_>, bounds: WithoutStore) -> Finding {
    let expected = format!(
        "the leader without its store goes on for {} s, nobody takes over, no write missed for more than {} s",
        bounds.watched_for, bounds.max_outage
    );
    let seconds = Duration::from_secs;
    let limits = Limits {
        outage: seconds(bounds.max_outage),
        one_writer_after: Duration::ZERO,
        restored: seconds(bounds.restored_within),
        heals_after: seconds(bounds.watched_for + 60),
    };
    drill(&surroundings, expected, limits, async |drill| {
        let cluster = drill.cluster;
        let leader = drill.leader.clone();
        // Its own member of the store too: to Patroni's port alone, so that the store stays whole.
        let stores = cluster.store.iter().map(|host| host.address);
        let stores = stores.chain([Ipv4Addr::LOCALHOST]).collect();
        let cut = cluster.place.cut(stores, vec![cluster.store_port]);
        drill.inject(&leader.name, cut).await?;
        stays(drill, seconds(bounds.watched_for)).await?;
        drill.heal().await?;
        drill.writes_again(limits.outage).await
    })
    .await
}

/// Watches for a while: nobody but the leader takes writes, and it still does at the end.
pub async fn stays(
    drill: &crate::gate::drill::Drill<'_, super::names::Cluster<'_>>,
    watched_for: Duration,
) -> Result<(), String> {
    let (leader, sampler) = (&drill.leader.name, &drill.sampler);
    let since = sampler.now();
    let usurper = probe::wait_until(watched_for, || async {
        let samples = sampler.samples();
        let others = drill.cluster.place.members.iter().filter(|other| other.name != *leader);
        others
            .filter(|other| first_accepted(&samples, &other.name, since).is_some())
            .map(|other| other.name.clone())
            .next()
            .ok_or_else(|| "nobody took over".to_owned())
    })
    .await;
    if let Ok(name) = usurper {
        return Err(format!("{name} took over"));
    }
    drill.writes_again(Duration::from_secs(5)).await
}
