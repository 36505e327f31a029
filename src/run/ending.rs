//! What a run comes to, layer by layer, and what is said of it at the end.

use super::install::{LayerEnd, hosts_of};
use super::{Exit, Request};
use crate::fleet::{Events, Stop};
use crate::site::Layer;

/// How what was no install goes on after it was stopped.
pub const AGAIN: &str = "run the same command again to go on";

/// The exit so far and the reasons for it.
#[derive(Debug)]
pub struct Ending<'a> {
    stop: &'a Stop,
    exit: Exit,
    reasons: Vec<String>,
    /// Hosts that were stopped, by layer.
    stopped: Vec<String>,
    not_begun: Vec<String>,
}

impl<'a> Ending<'a> {
    /// Nothing has happened yet.
    pub const fn new(stop: &'a Stop) -> Self {
        Self {
            stop,
            exit: Exit::Done,
            reasons: Vec::new(),
            stopped: Vec::new(),
            not_begun: Vec::new(),
        }
    }

    /// Adds what a part of the run came to; an empty reason says nothing.
    pub fn add(&mut self, exit: Exit, reason: String) {
        self.exit = self.exit.worse(exit);
        if !reason.is_empty() {
            self.reasons.push(reason);
        }
    }

    /// Adds what a layer came to.
    pub(super) fn layer(&mut self, name: &str, end: LayerEnd) {
        self.add(end.exit, end.reason);
        if !end.stopped.is_empty() {
            self.stopped.push(format!("layer `{name}` on {}", end.stopped.join(", ")));
        }
    }

    /// A layer to which the run did not come.
    pub fn not_begun(&mut self, layer: &str) {
        self.not_begun.push(format!("`{layer}`"));
    }

    /// A layer that was left out on purpose.
    pub fn skipped(&mut self, layer: &str, why: &str) {
        self.reasons.push(format!("layer `{layer}` was skipped: {why}"));
    }

    /// The selected hosts of the layer that comes next. `None` ends the run: its journal cannot be
    /// written, and nothing changes without one.
    pub async fn hosts_of_next(
        &mut self,
        layer: &Layer,
        request: &Request<'_>,
        events: &Events,
    ) -> Option<Vec<String>> {
        if let Err(error) = events.flush().await {
            self.add(Exit::Internal, format!("the journal cannot be written: {error}"));
            return None;
        }
        Some(hosts_of(request.site, layer, &request.hosts))
    }

    /// The end of a run: an interrupt and a journal that failed come before everything else. `again`
    /// says how one that was stopped goes on.
    pub async fn finish(self, done: &str, again: &str, events: &Events) -> (Exit, String) {
        if let Err(error) = events.flush().await {
            // That the run was stopped was its own wish then.
            let exit = if self.exit == Exit::Interrupted { Exit::Done } else { self.exit };
            return (
                exit.worse(Exit::Internal),
                format!(
                    "the journal cannot be written ({error}): the run was stopped and its record is not complete; make room in .strata and run again"
                ),
            );
        }
        let left = self.left();
        if self.stop.wished() {
            let left = left.map_or_else(String::new, |left| format!("; {left}"));
            let why = self.stop.why();
            let reason = format!("{why}{left}; {again}");
            return (self.exit.worse(Exit::stopped(self.stop)), reason);
        }
        let mut reasons = self.reasons;
        reasons.extend(left);
        let reason = if reasons.is_empty() { done.to_owned() } else { reasons.join("; ") };
        (self.exit, reason)
    }

    /// What the run did not come to.
    fn left(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.stopped.is_empty() {
            parts.push(format!("not done: {}", self.stopped.join(", ")));
        }
        if !self.not_begun.is_empty() {
            parts.push(format!("not begun: {}", self.not_begun.join(", ")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
