//! A master that nobody reaches any more, and Sentinels that are too few to agree.

use super::drill::drill;
use super::names::{SENTINEL, SERVER};
use crate::gate::drill::Limits;
use crate::gate::fault::Kind;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::authority::{Answer, last_accepted};
use crate::redis_client::Quorum;
use serde::Deserialize;
use std::time::Duration;

/// Bounds of an isolated master.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolated {
    /// Seconds until the isolated master takes no write any more. Default: 12.
    #[serde(default = "default_fenced")]
    fenced_within: u64,
    /// Seconds until another master leads. Default: 15.
    #[serde(default = "default_new_master")]
    new_master_within: u64,
    /// Seconds until every HAProxy and the balancer lead to it. Default: 35.
    #[serde(default = "default_followed")]
    followed_within: u64,
    /// Seconds without an acknowledged write. Default: 40.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until the isolated one is a replica, once it is reached again. Default: 30.
    #[serde(default = "default_back")]
    back_within: u64,
    /// Seconds until all is as before. Default: 90.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

/// Bounds of too few Sentinels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuorum {
    /// Seconds for which nobody may become master while the master is dead. Default: 20.
    #[serde(default = "default_watched")]
    watched_for: u64,
    /// Seconds until writes are taken again once the master is back. Default: 30.
    #[serde(default = "default_back")]
    back_within: u64,
    /// Seconds until all is as before. Default: 90.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

fn default_fenced() -> u64 {
    12
}

fn default_new_master() -> u64 {
    15
}

fn default_followed() -> u64 {
    35
}

fn default_outage() -> u64 {
    40
}

fn default_back() -> u64 {
    30
}

fn default_watched() -> u64 {
    20
}

fn default_restored() -> u64 {
    90
}

/// Cuts the master, with its Sentinel, off from everybody; the operator host keeps SSH.
pub async fn isolated(surroundings: Surroundings<'_>, bounds: Isolated) -> Finding {
    let expected = format!(
        "the isolated master refuses writes within {} s, a new one leads within {} s, never two from then on, no confirmed write lost",
        bounds.fenced_within, bounds.new_master_within
    );
    let seconds = Duration::from_secs;
    let limits = Limits {
        outage: seconds(bounds.max_outage),
        one_writer_after: seconds(bounds.fenced_within),
        restored: seconds(bounds.restored_within),
        heals_after: seconds(bounds.followed_within + bounds.max_outage + 60),
    };
    drill(&surroundings, expected, limits, async |drill| {
        let old = drill.leader.clone();
        let cut = drill.cluster.place.cut_off(&old);
        drill.inject(&old.name, cut).await?;
        let since = drill.broken_for_sampler();
        let new = drill.successor(&old, seconds(bounds.new_master_within)).await?;
        let left = seconds(bounds.fenced_within + 2).saturating_sub(drill.broken_at().elapsed());
        let sampler = &drill.sampler;
        probe::wait_until(left, || async {
            let samples = sampler.samples();
            match samples.iter().rev().find(|sample| sample.node == old.name) {
                Some(sample) if matches!(sample.answer, Answer::Fenced(_)) => Ok(()),
                Some(sample) => Err(format!("{}, isolated: {:?}", old.name, sample.answer)),
                None => Err(format!("{} was never looked at", old.name)),
            }
        })
        .await?;
        drill.followed(&new, seconds(bounds.followed_within), None).await?;
        drill.writes_again(seconds(bounds.max_outage)).await?;
        let samples = drill.sampler.samples();
        let last = last_accepted(&samples, &old.name, since).unwrap_or(since) - since;
        drill.figure("isolated master's last write after", last.as_secs_f64(), "s");
        if last > seconds(bounds.fenced_within) {
            return Err(format!(
                "the isolated master took writes for {:.1} s, at most {} s are allowed",
                last.as_secs_f64(),
                bounds.fenced_within
            ));
        }
        drill.heal().await?;
        drill.rejoined(&old, &new, seconds(bounds.back_within)).await
    })
    .await
}

/// Stops all Sentinels but the master's, then kills the master: nobody may take over.
pub async fn no_quorum(surroundings: Surroundings<'_>, bounds: NoQuorum) -> Finding {
    let expected = format!(
        "one Sentinel alone says that it has no quorum, and makes nobody master for {} s",
        bounds.watched_for
    );
    let seconds = Duration::from_secs;
    let limits = Limits {
        // Here the outage is what is wanted: it lasts as long as the master is dead.
        outage: seconds(bounds.watched_for + bounds.back_within + 30),
        one_writer_after: Duration::ZERO,
        restored: seconds(bounds.restored_within),
        heals_after: seconds(bounds.watched_for + 120),
    };
    drill(&surroundings, expected, limits, async |drill| {
        let cluster = drill.cluster;
        let leader = drill.leader.clone();
        for member in cluster.place.members.iter().filter(|member| member.name != leader.name) {
            drill.inject(&member.name, Kind::StopContainer(SENTINEL.to_owned())).await?;
        }
        // It takes a while until the last one knows that it is alone.
        probe::wait_until(seconds(15), || async {
            let sentinel = cluster.sentinel(&leader).await?;
            match sentinel.sentinel_quorum(&cluster.name).await {
                Ok(Quorum::Missing(_)) => Ok(()),
                Ok(Quorum::Enough(text)) => Err(format!("the last Sentinel says: {text}")),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        drill.inject(&leader.name, Kind::KillContainer(SERVER.to_owned())).await?;
        let sampler = &drill.sampler;
        let dead = sampler.now();
        let usurper = probe::wait_until(seconds(bounds.watched_for), || async {
            let samples = sampler.samples();
            let masters = samples.iter().filter(|sample| sample.sent >= dead);
            masters
                .filter(|sample| matches!(sample.answer, Answer::Accepted | Answer::Fenced(_)))
                .map(|sample| sample.node.clone())
                .next()
                .ok_or_else(|| "nobody took over".to_owned())
        })
        .await;
        if let Ok(name) = usurper {
            return Err(format!("{name} became master without a majority of Sentinels"));
        }
        drill.heal_last().await?;
        drill.writes_again(seconds(bounds.back_within)).await?;
        drill.heal().await
    })
    .await
}
