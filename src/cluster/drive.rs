//! The loop that every driver runs in: look, decide, act, look again.

use super::marker::Marker;
use super::reach::Reach;
use super::state::{Decision, Next, Refusal, State};
use crate::fleet::Stop;
use crate::site::Site;
use crate::site::deserialize::TypeError;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

/// Time between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// How often one and the same action may be taken in a run: an action that does not help is not
/// repeated for ever.
const SAME_ACTION: u32 = 4;

/// One cluster as the loop sees it.
pub trait World {
    /// What a look gives.
    type Observation;
    /// What can be done; its text is shown to the operator.
    type Action: fmt::Display;

    /// Looks at every member.
    fn observe(&self) -> impl Future<Output = Self::Observation>;

    /// Decides. Pure.
    fn decide(&self, observation: &Self::Observation) -> Decision<Self::Action>;

    /// Does one thing.
    ///
    /// # Errors
    /// Why it could not be done; the run ends there and leaves the rest untouched (E5).
    fn act(
        &self,
        action: &Self::Action,
        observation: &Self::Observation,
    ) -> impl Future<Output = Result<(), String>>;

    /// Waits before the next look.
    fn pause(&self, time: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(time)
    }
}

/// A driver: the loop's world, and what commands ask of a cluster beside it.
pub trait Technology<'a>: World + Sized {
    /// Its name in roles.
    const NAME: &'static str;

    /// `[cluster.settings]` of roles.
    type Settings: DeserializeOwned;

    /// The cluster of a role; `marker` is the one that a formation would leave.
    fn new(reach: Reach<'a>, settings: Self::Settings, marker: Marker) -> Self;

    /// Holds settings against each other and against the site.
    ///
    /// # Errors
    /// What does not fit.
    fn fits(_settings: &Self::Settings, _site: &Site) -> Result<(), TypeError> {
        Ok(())
    }

    /// The host that leads, if one does and nothing speaks against it.
    fn leader(&self, observation: &Self::Observation) -> Option<String>;

    /// Why the cluster is not whole, so that no member may go away; none too where there is no
    /// cluster as far as can be seen.
    fn missing(
        &self,
        observation: &Self::Observation,
        decision: &Decision<Self::Action>,
    ) -> Option<String>;

    /// Makes sure that a member does not lead, so that it may go away for a while. True when it
    /// led.
    ///
    /// # Errors
    /// Why it may not go: the cluster is not whole, or nobody could take over.
    fn step_down(&self, host: &str) -> impl Future<Output = Result<bool, String>>;

    /// Records a cluster that strata did not make: looked at, compared, marked; nothing of it is
    /// changed. Gives what differs from the role.
    ///
    /// # Errors
    /// Why it is not adopted: it is known already, or is not whole and healthy.
    fn adopt(&self) -> impl Future<Output = Result<Vec<String>, String>>;
}

/// What the loop tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// What was found, whenever it differs from the last look.
    Found {
        /// The state.
        state: State,
        /// One line.
        found: String,
    },
    /// Something is about to be done.
    Doing(String),
    /// It was done, after this many milliseconds.
    Did(String, u64),
    /// What the loop waits for, whenever it differs.
    Waiting(String),
}

/// How a drive ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driven {
    /// The cluster is as wanted; this many actions were taken.
    Done {
        /// Actions taken.
        actions: u32,
    },
    /// Nothing more may be changed.
    Refused(Refusal),
    /// An action failed, or what was waited for did not come.
    Failed(String),
    /// The operator wished to stop.
    Stopped,
}

/// Looks, decides and acts until nothing is left to do.
pub async fn drive<W: World>(world: &W, stop: &Stop, mut tell: impl FnMut(Step)) -> Driven {
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    let mut actions = 0;
    let mut last_found = String::new();
    let mut last_reason = String::new();
    // Since when each thing is waited for: what took its time before is not held against the next,
    // and what comes and goes still ends.
    let mut waiting: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let observation = world.observe().await;
        let decision = world.decide(&observation);
        let found = format!("{}: {}", decision.state, decision.found);
        if found != last_found {
            last_found = found;
            tell(Step::Found { state: decision.state, found: decision.found });
        }
        match decision.next {
            Next::Done => return Driven::Done { actions },
            Next::Refuse(refusal) => return Driven::Refused(refusal),
            _ if stop.wished() => return Driven::Stopped,
            Next::Wait { reason, up_to } => {
                let since = *waiting.entry(last_found.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= up_to {
                    return Driven::Failed(format!(
                        "after {} s still: {reason}",
                        since.elapsed().as_secs()
                    ));
                }
                if reason != last_reason {
                    last_reason.clone_from(&reason);
                    tell(Step::Waiting(reason));
                }
                world.pause(LOOK_EVERY).await;
            }
            Next::Act(wanted) => {
                for action in &wanted {
                    let count = taken.entry(action.to_string()).or_default();
                    *count += 1;
                    if *count > SAME_ACTION {
                        return Driven::Failed(format!(
                            "{action}: done {SAME_ACTION} times and still wanted: something undoes it"
                        ));
                    }
                }
                let results = futures::future::join_all(
                    wanted.iter().map(|action| one(world, action, &observation)),
                );
                for action in &wanted {
                    tell(Step::Doing(action.to_string()));
                }
                for (action, (result, took_ms)) in wanted.iter().zip(results.await) {
                    if let Err(reason) = result {
                        return Driven::Failed(format!("{action}: {reason}"));
                    }
                    actions += 1;
                    tell(Step::Did(action.to_string(), took_ms));
                }
                waiting.clear();
                last_reason.clear();
            }
        }
    }
}

async fn one<W: World>(
    world: &W,
    action: &W::Action,
    observation: &W::Observation,
) -> (Result<(), String>, u64) {
    let start = Instant::now();
    let result = world.act(action, observation).await;
    (result, crate::event::elapsed_ms(start))
}
