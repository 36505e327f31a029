//! A leader that dies, and standbys that are all gone.

use super::drill::drill;
use super::judge::wrong_members;
use super::seen::look;
use crate::gate::drill::Limits;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Bounds of a leader that is replaced: it dies, or nobody reaches it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// Seconds until another member leads. Default: 50.
    #[serde(default = "default_new_leader")]
    pub(super) new_leader_within: u64,
    /// Seconds until every HAProxy and the balancer lead to it. Default: 60.
    #[serde(default = "default_followed")]
    pub(super) followed_within: u64,
    /// Seconds without an acknowledged write. Default: 60.
    #[serde(default = "default_outage")]
    pub(super) max_outage: u64,
    /// Seconds until the old one, back again, is a replica. Default: 120.
    #[serde(default = "default_back")]
    pub(super) back_within: u64,
    /// Seconds until all is as before. Default: 180.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

/// Bounds of standbys that are gone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicasDown {
    /// Seconds without an acknowledged write, until commits wait for nobody any more. Default: 60.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until a synchronous standby is there again, once they are back. Default: 120.
    #[serde(default = "default_back")]
    back_within: u64,
    /// Seconds until all is as before. Default: 180.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

fn default_new_leader() -> u64 {
    50
}

fn default_followed() -> u64 {
    60
}

fn default_outage() -> u64 {
    60
}

fn default_back() -> u64 {
    120
}

pub(super) fn default_restored() -> u64 {
    180
}

impl Crash {
    /// The host's own timer comes after everything that the test waits for.
    pub(super) const fn limits(&self) -> Limits {
        Limits {
            outage: Duration::from_secs(self.max_outage),
            one_writer_after: Duration::ZERO,
            restored: Duration::from_secs(self.restored_within),
            heals_after: Duration::from_secs(self.followed_within + self.max_outage + 60),
        }
    }
}

/// Kills the leader: Patroni and PostgreSQL with it, and nobody releases its leadership.
pub async fn kill_leader(surroundings: Surroundings<'_>, bounds: Crash) -> Finding {
    let expected = format!(
        "the leader dies: another leads within {} s, followed within {} s, no write missed for more than {} s, no acknowledged write lost, a replica again within {} s",
        bounds.new_leader_within, bounds.followed_within, bounds.max_outage, bounds.back_within
    );
    let seconds = Duration::from_secs;
    drill(&surroundings, expected, bounds.limits(), async |drill| {
        let victim = drill.leader.clone();
        drill.inject(&victim.name, drill.cluster.death()).await?;
        let leader = drill.successor(&victim, seconds(bounds.new_leader_within)).await?;
        drill.followed(&leader, seconds(bounds.followed_within), None).await?;
        drill.writes_again(seconds(bounds.max_outage)).await?;
        drill.heal().await?;
        drill.rejoined(&victim, &leader, seconds(bounds.back_within)).await
    })
    .await
}

/// Stops all members but the leader: it goes on alone, and commits wait for a standby again
/// afterwards.
pub async fn replicas_down(surroundings: Surroundings<'_>, bounds: ReplicasDown) -> Finding {
    let expected = format!(
        "the leader goes on alone after {} s at most, loses nothing, and has a synchronous standby again within {} s of their return",
        bounds.max_outage, bounds.back_within
    );
    let seconds = Duration::from_secs;
    let limits = Limits {
        outage: seconds(bounds.max_outage),
        one_writer_after: Duration::ZERO,
        restored: seconds(bounds.restored_within),
        heals_after: seconds(bounds.max_outage * 2 + 60),
    };
    drill(&surroundings, expected, limits, async |drill| {
        let cluster = drill.cluster;
        let leader = drill.leader.clone();
        for member in cluster.place.members.iter().filter(|member| member.name != leader.name) {
            drill.inject(&member.name, cluster.death()).await?;
        }
        let start = Instant::now();
        drill.writes_again(seconds(bounds.max_outage)).await?;
        drill.figure("alone after", start.elapsed().as_secs_f64(), "s");
        drill.followed(&leader, seconds(bounds.max_outage * 2), None).await?;
        drill.heal().await?;
        let start = Instant::now();
        probe::wait_until(seconds(bounds.back_within), || async {
            let wrong = wrong_members(&look(cluster).await, u64::MAX, cluster.sync);
            if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
        })
        .await?;
        drill.figure("synchronous again after", start.elapsed().as_secs_f64(), "s");
        Ok(())
    })
    .await
}
