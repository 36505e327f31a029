//! PostgreSQL kept by Patroni, which keeps its own leader by a lock in etcd.
//!
//! Patroni elects; a run never chooses a leader but for the first member of a formation, and hands
//! leadership over before the leader's own renewal. Nothing is ever deleted, neither data nor what
//! etcd holds of the cluster.

mod act;
mod action;
mod adopt;
mod connection;
mod decide;
mod guard;
mod objects;
mod observe;
mod parted;
mod renew;
mod rest;
mod settings;
mod sound;
mod store;
mod view;

#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;

pub use settings::Settings;
pub use view::Observation;

use super::drive::{Technology, World};
use super::marker::Marker;
use super::reach::Reach;
use super::state::Decision;
use crate::site::Site;
use crate::site::deserialize::TypeError;
use action::Action;
use decide::{Wanted, decide};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use view::Stale;

/// The cluster of one role.
pub struct PatroniCluster<'a> {
    reach: Reach<'a>,
    settings: Box<Settings>,
    wanted: Wanted,
    memory: RefCell<Memory>,
}

/// What need not be looked at again until something is done.
#[derive(Default)]
struct Memory {
    /// What differed from the role, by member.
    stale: BTreeMap<String, Stale>,
    /// Why members that do not run must not be started with what their role says.
    stopped: BTreeMap<String, Vec<String>>,
    /// Members whose PostgreSQL took the superuser's password.
    proved: BTreeSet<String>,
    /// What the databases of a leader lacked, and remarks.
    objects: BTreeMap<String, (Vec<String>, Vec<String>)>,
    /// Patroni's dynamic settings, as the role wants them.
    dynamic: Option<Value>,
    /// Since when members cannot start PostgreSQL, or do not follow.
    failing: BTreeMap<String, Instant>,
    /// Standbys that were restarted since the leader was.
    restarted: BTreeSet<String>,
}

impl<'a> Technology<'a> for PatroniCluster<'a> {
    const NAME: &'static str = "patroni";

    type Settings = Settings;

    fn new(reach: Reach<'a>, settings: Settings, marker: Marker) -> Self {
        let wanted = Wanted {
            marker,
            out: reach.members.out_of_service(),
            newest: (!settings.newest.is_empty()).then(|| settings.newest.clone()),
            sync: settings.sync,
        };
        Self { reach, settings: Box::new(settings), wanted, memory: RefCell::default() }
    }

    fn fits(settings: &Settings, _site: &Site) -> Result<(), TypeError> {
        settings
            .contradiction()
            .map_or(Ok(()), |message| Err(TypeError { range: None, suggestion: None, message }))
    }

    fn leader(&self, observation: &Observation) -> Option<String> {
        observation.leader().map(|member| member.name.clone())
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

impl World for PatroniCluster<'_> {
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
