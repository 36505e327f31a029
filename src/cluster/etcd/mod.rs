//! etcd: three or five members that elect a leader and agree on every write.
//!
//! etcd itself decides who leads. A run forms the cluster once, keeps its list of members as the
//! inventory has it, one change at a time, and renews members one by one, the leader last. A member
//! whose data is gone joins as a new one: begun again under its old id it would have forgotten what
//! it agreed to.

mod act;
mod action;
mod adopt;
mod decide;
pub mod gateway;
mod membership;
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

pub use settings::{Runtime, Settings};
pub use view::Observation;

use super::drive::{Technology, World};
use super::marker::Marker;
use super::reach::Reach;
use super::state::Decision;
use crate::site::Site;
use crate::site::deserialize::TypeError;
use action::Action;
use decide::{Wanted, decide, missing};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use view::Stale;

/// The cluster of one role.
pub struct Etcd<'a> {
    reach: Reach<'a>,
    settings: Settings,
    wanted: Wanted,
    /// True once this run saved the keys.
    saved: Cell<bool>,
    /// What differed from the role at the last full look at a member. Looking costs a batch, so it
    /// is done again only after something was done there.
    stale: RefCell<BTreeMap<String, Stale>>,
}

impl<'a> Technology<'a> for Etcd<'a> {
    const NAME: &'static str = "etcd";

    type Settings = Settings;

    fn new(reach: Reach<'a>, settings: Settings, marker: Marker) -> Self {
        let wanted = Wanted { marker, out: reach.members.out_of_service() };
        Self { reach, settings, wanted, saved: Cell::new(false), stale: RefCell::default() }
    }

    fn fits(settings: &Settings, _: &Site) -> Result<(), TypeError> {
        if settings.runtime == Runtime::Native && !settings.server.ends_with(".service") {
            return Err(TypeError {
                range: None,
                suggestion: Some("server = \"strata-etcd.service\"".to_owned()),
                message: format!(
                    "`server` is the unit where `runtime` is \"native\", and `{}` is none",
                    settings.server
                ),
            });
        }
        Ok(())
    }

    fn leader(&self, observation: &Observation) -> Option<String> {
        observation.leader().map(|member| member.name.clone())
    }

    fn missing(&self, observation: &Observation, decision: &Decision<Action>) -> Option<String> {
        missing(observation, decision)
    }

    async fn step_down(&self, host: &str) -> Result<bool, String> {
        self.give_up(host).await
    }

    async fn adopt(&self) -> Result<Vec<String>, String> {
        self.take_over().await
    }
}

impl World for Etcd<'_> {
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
