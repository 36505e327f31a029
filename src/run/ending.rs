//! What a run comes to, layer by layer, and what is said of it at the end.

use super::install::hosts_of;
use super::{Exit, Request};
use crate::fleet::{Events, Stop};
use crate::site::Layer;

/// The exit so far and the reasons for it.
#[derive(Debug)]
pub struct Ending {
    exit: Exit,
    reasons: Vec<String>,
}

impl Default for Ending {
    fn default() -> Self {
        Self { exit: Exit::Done, reasons: Vec::new() }
    }
}

impl Ending {
    /// Adds what a part of the run came to; an empty reason says nothing.
    pub fn add(&mut self, exit: Exit, reason: String) {
        self.exit = self.exit.worse(exit);
        if !reason.is_empty() {
            self.reasons.push(reason);
        }
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

    /// The end of a run: an interrupt and a journal that failed come before everything else.
    pub async fn finish(self, done: &str, events: &Events, stop: &Stop) -> (Exit, String) {
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
        if stop.wished() {
            let reason = "stopped by the operator; `strata resume` goes on".to_owned();
            return (self.exit.worse(Exit::Interrupted), reason);
        }
        let reason =
            if self.reasons.is_empty() { done.to_owned() } else { self.reasons.join("; ") };
        (self.exit, reason)
    }
}

/// Why a run does not begin: its journal cannot be written.
pub async fn no_journal(events: &Events) -> Option<(Exit, String)> {
    let error = events.flush().await.err()?;
    let reason = format!("the journal cannot be written ({error}); no host was touched");
    Some((Exit::Internal, reason))
}
