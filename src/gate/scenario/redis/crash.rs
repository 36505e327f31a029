//! A master that dies, and the first member that is gone as a whole.

use super::drill::drill;
use super::names::{Cluster, SENTINEL, SERVER};
use crate::gate::drill::{Drill, Host, Limits};
use crate::gate::fault::Kind;
use crate::gate::scenario::{Finding, Surroundings};
use serde::Deserialize;
use std::time::Duration;

/// Bounds of a crash.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// Seconds until another master leads. Default: 15.
    #[serde(default = "default_new_master")]
    new_master_within: u64,
    /// Seconds until every HAProxy and the balancer lead to it. Default: 35.
    #[serde(default = "default_followed")]
    followed_within: u64,
    /// Seconds without an acknowledged write. Default: 40.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until the dead one, started again, is a replica. Default: 30.
    #[serde(default = "default_back")]
    back_within: u64,
    /// Seconds until all is as before. Default: 90.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

/// Bounds of the first member's absence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstDown {
    /// Seconds until a master leads that is not the first member. Default: 15.
    #[serde(default = "default_new_master")]
    new_master_within: u64,
    /// Seconds until every HAProxy and the balancer lead to it. Default: 35.
    #[serde(default = "default_followed")]
    followed_within: u64,
    /// Seconds without an acknowledged write. Default: 40.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until the first member, started again, is a replica. Default: 30.
    #[serde(default = "default_back")]
    back_within: u64,
    /// Seconds until all is as before. Default: 90.
    #[serde(default = "default_restored")]
    restored_within: u64,
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

fn default_restored() -> u64 {
    90
}

impl From<FirstDown> for Crash {
    fn from(bounds: FirstDown) -> Self {
        Self {
            new_master_within: bounds.new_master_within,
            followed_within: bounds.followed_within,
            max_outage: bounds.max_outage,
            back_within: bounds.back_within,
            restored_within: bounds.restored_within,
        }
    }
}

impl Crash {
    fn expected(&self, what: &str) -> String {
        format!(
            "{what}: a new master within {} s, followed within {} s, no write missed for more than {} s, no confirmed write lost, a replica again within {} s",
            self.new_master_within, self.followed_within, self.max_outage, self.back_within
        )
    }

    /// The host's own timer comes after everything that the test waits for.
    const fn limits(&self) -> Limits {
        let whole = self.new_master_within + self.followed_within + self.max_outage;
        Limits {
            outage: Duration::from_secs(self.max_outage),
            one_writer_after: Duration::ZERO,
            restored: Duration::from_secs(self.restored_within),
            heals_after: Duration::from_secs(whole + 30),
        }
    }
}

/// Kills the master's Redis.
pub async fn kill_master(surroundings: Surroundings<'_>, bounds: Crash) -> Finding {
    let expected = bounds.expected("the master dies");
    drill(&surroundings, expected, bounds.limits(), async |drill| {
        let victim = drill.leader.clone();
        crash(drill, &victim, vec![Kind::KillContainer(SERVER.to_owned())], &bounds).await
    })
    .await
}

/// Freezes the master's Redis: its connections stay open and nothing answers.
pub async fn frozen_master(surroundings: Surroundings<'_>, bounds: Crash) -> Finding {
    let expected = bounds.expected("the master hangs");
    drill(&surroundings, expected, bounds.limits(), async |drill| {
        let victim = drill.leader.clone();
        crash(drill, &victim, vec![Kind::FreezeContainer(SERVER.to_owned())], &bounds).await
    })
    .await
}

/// Stops Redis and Sentinel of the first member, whom updaters ask first (X7).
pub async fn first_down(surroundings: Surroundings<'_>, bounds: FirstDown) -> Finding {
    let bounds = Crash::from(bounds);
    let expected = bounds.expected("the first member is gone");
    drill(&surroundings, expected, bounds.limits(), async |drill| {
        let victim = drill.cluster.place.members.first().ok_or("there is no member")?.clone();
        let kinds = [SENTINEL, SERVER].map(|name| Kind::StopContainer(name.to_owned()));
        crash(drill, &victim, kinds.into(), &bounds).await
    })
    .await
}

async fn crash(
    drill: &mut Drill<'_, Cluster<'_>>,
    victim: &Host,
    kinds: Vec<Kind>,
    bounds: &Crash,
) -> Result<(), String> {
    for kind in kinds {
        drill.inject(&victim.name, kind).await?;
    }
    let leader = if victim.name == drill.leader.name {
        drill.successor(victim, Duration::from_secs(bounds.new_master_within)).await?
    } else {
        drill.leader.clone()
    };
    drill.followed(&leader, Duration::from_secs(bounds.followed_within), None).await?;
    drill.writes_again(Duration::from_secs(bounds.max_outage)).await?;
    drill.heal().await?;
    drill.rejoined(victim, &leader, Duration::from_secs(bounds.back_within)).await
}
