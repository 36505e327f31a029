//! Redis with Sentinel: one master, replicas, and Sentinels that decide who the master is.
//!
//! The live master is never chosen or changed by a run, except in a planned hand-over before its
//! own renewal. Redis and Sentinel own their files once they exist: settings change while they run.

mod act;
mod action;
mod adopt;
mod connection;
mod decide;
mod hand_over;
mod leader;
mod observe;
mod passwords;
mod settings;
mod sound;
mod start;
mod view;

#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;

pub use connection::{NoClient, redis as connect, sentinel as connect_sentinel};
pub use hand_over::{Node, hand_over};
pub use settings::{Follow, Settings};
pub use view::Observation;

use super::drive::World;
use super::hosts::Hosts;
use super::marker::{Marker, Records};
use super::member::Members;
use super::state::Decision;
use action::Action;
use decide::{Wanted, decide};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use view::Stale;

/// The host that leads, if one does and nothing speaks against it.
pub(super) fn leader_of(observation: &Observation) -> Option<String> {
    let leader::Leader::Known(address) = leader::leader(observation) else { return None };
    let member = observation.members.iter().find(|member| member.address == address)?;
    Some(member.name.clone())
}

/// Why the cluster is not whole; none too where there is no cluster as far as can be seen.
pub(super) fn missing_of(observation: &Observation, decision: &Decision<Action>) -> Option<String> {
    if observation.owes_nothing() { None } else { decide::missing(observation, decision) }
}

/// The driver's name in roles.
pub const NAME: &str = "redis-sentinel";

/// Time that Sentinels get beyond the time-outs of a failover.
const GRACE: Duration = Duration::from_secs(30);

/// Sentinels whose vote was split try again after this many time-outs.
const TRIES_AGAIN: u32 = 2;

/// The cluster of one role.
pub struct RedisSentinel<'a> {
    members: &'a Members<'a>,
    hosts: &'a dyn Hosts,
    records: &'a Records,
    settings: Settings,
    wanted: Wanted,
    /// What differed from the role at the last full look at a member. Looking costs a batch, so it
    /// is done again only after something was done there.
    stale: RefCell<BTreeMap<String, Stale>>,
}

impl<'a> RedisSentinel<'a> {
    /// The cluster of a role, as its members and settings say.
    pub fn new(
        members: &'a Members<'a>,
        hosts: &'a dyn Hosts,
        records: &'a Records,
        settings: Settings,
        marker: Marker,
    ) -> Self {
        let settle = settings.failover_timeout() * TRIES_AGAIN + GRACE;
        let wanted = Wanted { marker, settle, out: members.out_of_service() };
        Self { members, hosts, records, settings, wanted, stale: RefCell::default() }
    }
}

impl World for RedisSentinel<'_> {
    type Observation = Observation;
    type Action = Action;

    async fn observe(&self) -> Observation {
        self.look().await
    }

    fn decide(&self, observation: &Observation) -> Decision<Action> {
        decide(observation, &self.wanted)
    }

    async fn act(&self, action: &Action, observation: &Observation) -> Result<(), String> {
        self.perform(action, observation).await
    }
}
