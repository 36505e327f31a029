//! What of a site's steps holds for a host whatever its facts are. The check of a site finds it out,
//! and a run of the same site need not make it again.

use super::constants::StepId;
use crate::resource::Item;
use crate::site::Step;
use std::collections::BTreeMap;

/// Steps of one host that were made without a look at its facts: with other facts they are the same.
#[derive(Debug, Default)]
pub struct Lasting(BTreeMap<StepId, Kept>);

/// A step that was made.
#[derive(Debug)]
struct Kept {
    /// `None` where it does not apply.
    item: Option<Item>,
    /// True when it was made, or left out, after a question about secrets.
    secret: bool,
}

impl Lasting {
    /// The step, where it is known to be the same; `Some(None)` where it does not apply.
    pub(super) fn step(&self, step: &Step) -> Option<Option<Item>> {
        Some(self.0.get(&StepId::of(step))?.item.clone())
    }

    /// Keeps a step; `secret` where anything about secrets was asked for it.
    pub(super) fn keep(&mut self, step: &Step, item: Option<&Item>, secret: bool) {
        self.0.insert(StepId::of(step), Kept { item: item.cloned(), secret });
    }

    fn without_secrets(mut self) -> Self {
        self.0.retain(|_, kept| !kept.secret);
        self
    }
}

/// What the check of a site has found.
#[derive(Debug, Default)]
pub struct Found {
    /// True when anything is made with a secret.
    pub secret: bool,
    /// By host: steps that are the same whatever its facts *and* the secrets are. A check sees
    /// neither.
    steps: BTreeMap<String, Lasting>,
}

impl Found {
    /// What was found, by host.
    pub(super) fn new(secret: bool, steps: BTreeMap<String, Lasting>) -> Self {
        let steps = steps.into_iter().map(|(host, lasting)| (host, lasting.without_secrets()));
        Self { secret, steps: steps.collect() }
    }

    /// The step on a host, as [`Lasting::step`].
    pub(super) fn step(&self, host: &str, step: &Step) -> Option<Option<Item>> {
        self.steps.get(host)?.step(step)
    }
}

#[cfg(test)]
#[path = "lasting_tests.rs"]
mod tests;
