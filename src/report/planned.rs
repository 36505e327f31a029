//! What a look found to be changed, gathered to be shown, kept, and compared later.

use crate::event::{ChangeText, Consumer, Event, EventKind, StepOutcome};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// One thing that a run would do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Planned {
    /// The layer.
    pub layer: String,
    /// The host, or the cluster.
    pub place: String,
    /// The role and its step, or a driver's action.
    pub what: String,
    /// The differences as text. Those of secret steps have no content: a plan shows that they
    /// change, and not how.
    pub changes: Vec<ChangeText>,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// The site's name.
    pub site: String,
    /// True in a rehearsal.
    pub rehearsal: bool,
    /// What an install would do, in an order that does not depend on which host was faster.
    pub planned: Vec<Planned>,
}

/// Gathers what would be done.
#[derive(Debug, Clone, Default)]
pub struct Gathered(Arc<Mutex<Option<Collected>>>);

impl Gathered {
    /// Everything gathered; `None` when nothing was looked at.
    pub fn take(&self) -> Option<Collected> {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        collected.planned.sort();
        Some(collected)
    }
}

impl Consumer for Gathered {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = match &event.kind {
            EventKind::RunStarted { site, rehearsal, .. } => {
                let (site, rehearsal) = (site.clone(), *rehearsal);
                *collected = Some(Collected { site, rehearsal, planned: Vec::new() });
                return Ok(());
            }
            EventKind::StepFinished { step, outcome: StepOutcome::Changed { changes }, .. } => {
                let handler = if step.handler { "handler " } else { "" };
                Planned {
                    layer: step.layer.clone(),
                    place: step.host.clone(),
                    what: format!("{} › {handler}{}", step.role, step.step),
                    changes: changes.clone(),
                }
            }
            EventKind::ClusterNext { layer, cluster, action } => Planned {
                layer: layer.clone(),
                place: format!("cluster {cluster}"),
                what: action.clone(),
                changes: Vec::new(),
            },
            _ => return Ok(()),
        };
        if let Some(collected) = collected.as_mut() {
            collected.planned.push(planned);
        }
        Ok(())
    }
}

/// How two plans differ: lines that begin with `+` for what is new and `-` for what is gone.
pub fn difference(then: &[Planned], now: &[Planned]) -> Vec<String> {
    let line = |sign: char, planned: &Planned| {
        format!("{sign} {}  {}  {}", planned.layer, planned.place, planned.what)
    };
    let gone = then.iter().filter(|planned| !now.contains(planned));
    let new = now.iter().filter(|planned| !then.contains(planned));
    gone.map(|planned| line('-', planned)).chain(new.map(|planned| line('+', planned))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(place: &str, to: &str) -> Planned {
        let change = ChangeText {
            what: "mode".to_owned(),
            from: Some("0600".to_owned()),
            to: Some(to.to_owned()),
            diff: None,
        };
        Planned {
            layer: "base".to_owned(),
            place: place.to_owned(),
            what: "base › limits".to_owned(),
            changes: vec![change],
        }
    }

    #[test]
    fn another_change_of_the_same_step_is_another_plan() {
        let then = [planned("a", "0644"), planned("b", "0644")];
        assert_eq!(difference(&then, &then), Vec::<String>::new());
        let now = [planned("a", "0644"), planned("b", "0640")];
        assert_eq!(
            difference(&then, &now),
            ["- base  b  base › limits", "+ base  b  base › limits"]
        );
        assert_eq!(difference(&then, &then[..1]), ["- base  b  base › limits"]);
    }
}
