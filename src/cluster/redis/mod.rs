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

use super::drive::{Technology, World};
use super::marker::Marker;
use super::reach::Reach;
use super::state::Decision;
use crate::site::deserialize::TypeError;
use crate::site::{Site, suggest};
use action::Action;
use decide::{Wanted, decide};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use view::Stale;

/// Time that Sentinels get beyond the time-outs of a failover.
const GRACE: Duration = Duration::from_secs(30);

/// Sentinels whose vote was split try again after this many time-outs.
const TRIES_AGAIN: u32 = 2;

/// The cluster of one role.
pub struct RedisSentinel<'a> {
    reach: Reach<'a>,
    settings: Settings,
    wanted: Wanted,
    /// What differed from the role at the last full look at a member. Looking costs a batch, so it
    /// is done again only after something was done there.
    stale: RefCell<BTreeMap<String, Stale>>,
}

impl<'a> Technology<'a> for RedisSentinel<'a> {
    const NAME: &'static str = "redis-sentinel";

    type Settings = Settings;

    fn new(reach: Reach<'a>, settings: Settings, marker: Marker) -> Self {
        let settle = settings.failover_timeout() * TRIES_AGAIN + GRACE;
        let wanted = Wanted { marker, settle, out: reach.members.out_of_service() };
        Self { reach, settings, wanted, stale: RefCell::default() }
    }

    fn fits(settings: &Settings, site: &Site) -> Result<(), TypeError> {
        let follow = settings.follow.as_ref();
        let unknown = follow.filter(|follow| !site.groups.contains_key(&follow.on));
        unknown.map_or(Ok(()), |follow| {
            let known = suggest::among(&follow.on, site.groups.keys().map(String::as_str));
            let message = format!("`follow` names a group `{}` that is not defined", follow.on);
            Err(TypeError { range: None, suggestion: Some(known), message })
        })
    }

    fn leader(&self, observation: &Observation) -> Option<String> {
        let leader::Leader::Known(address) = leader::leader(observation) else { return None };
        let member = observation.members.iter().find(|member| member.address == address)?;
        Some(member.name.clone())
    }

    fn missing(&self, observation: &Observation, decision: &Decision<Action>) -> Option<String> {
        if observation.owes_nothing() { None } else { decide::missing(observation, decision) }
    }

    async fn step_down(&self, host: &str) -> Result<bool, String> {
        self.give_up(host).await
    }

    async fn adopt(&self) -> Result<Vec<String>, String> {
        self.take_over().await
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
