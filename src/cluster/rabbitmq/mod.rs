//! RabbitMQ with quorum queues: nodes of one cluster, formed one after the other.
//!
//! A node without data finds the others by the list in its configuration; a node with data never
//! looks again. Nodes are drained before they stop, and only while no queue needs them.

mod act;
mod action;
mod adopt;
mod decide;
mod failing;
mod management;
mod observe;
mod settings;
mod sound;
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
use action::Action;
use decide::{Wanted, decide};
use std::cell::RefCell;
use std::collections::BTreeMap;
use view::Stale;

/// The cluster of one role.
pub struct RabbitMq<'a> {
    reach: Reach<'a>,
    settings: Settings,
    wanted: Wanted,
    /// What differed from the role at the last full look at a member. Looking costs a batch, so it
    /// is done again only after something was done there.
    stale: RefCell<BTreeMap<String, Stale>>,
    /// How often the engine had started a silent node again when this run first counted.
    restarts: RefCell<BTreeMap<String, u32>>,
}

impl<'a> Technology<'a> for RabbitMq<'a> {
    const NAME: &'static str = "rabbitmq";

    type Settings = Settings;

    fn new(reach: Reach<'a>, settings: Settings, marker: Marker) -> Self {
        let wanted = Wanted { marker, out: reach.members.out_of_service() };
        Self { reach, settings, wanted, stale: RefCell::default(), restarts: RefCell::default() }
    }

    /// Queues have leaders, the cluster has none.
    fn leader(&self, _observation: &Observation) -> Option<String> {
        None
    }

    fn missing(&self, observation: &Observation, decision: &Decision<Action>) -> Option<String> {
        decide::missing(observation, decision)
    }

    async fn step_down(&self, host: &str) -> Result<bool, String> {
        self.give_up(host).await
    }

    async fn adopt(&self) -> Result<Vec<String>, String> {
        self.take_over().await
    }
}

impl World for RabbitMq<'_> {
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
