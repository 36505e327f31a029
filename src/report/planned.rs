//! What a look found to be changed, gathered to be shown, kept, and compared later.

use crate::event::{ChangeText, Consumer, Event, EventKind, StepOutcome};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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
    /// The credentials files that were read for it, each with a digest of its content.
    pub credentials: BTreeMap<String, String>,
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

    /// Adds which credentials files were read, each with a digest of its content.
    pub fn read_credentials(&self, credentials: BTreeMap<String, String>) {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(collected) = collected.as_mut() {
            collected.credentials = credentials;
        }
    }
}

impl Consumer for Gathered {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = match &event.kind {
            EventKind::RunStarted { site, rehearsal, .. } => {
                let (site, rehearsal) = (site.clone(), *rehearsal);
                let (planned, credentials) = (Vec::new(), BTreeMap::new());
                *collected = Some(Collected { site, rehearsal, planned, credentials });
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

/// How two plans differ: lines that begin with `+` for what is new, `-` for what is gone, and `~` for
/// credentials files that are not the same any more. A secret step's change has no content, so that
/// another value shows in the file that it comes from only.
pub fn difference(then: &Collected, now: &Collected) -> Vec<String> {
    let line = |sign: char, planned: &Planned| {
        format!("{sign} {}  {}  {}", planned.layer, planned.place, planned.what)
    };
    let gone = then.planned.iter().filter(|planned| !now.planned.contains(planned));
    let new = now.planned.iter().filter(|planned| !then.planned.contains(planned));
    let files: BTreeSet<&String> = then.credentials.keys().chain(now.credentials.keys()).collect();
    let secrets = files.into_iter().filter_map(|file| {
        match (then.credentials.get(file), now.credentials.get(file)) {
            (Some(then), Some(now)) if then == now => None,
            (Some(_), Some(_)) => Some(format!("~ {file} was changed since the plan was made")),
            (Some(_), None) => Some(format!("~ {file} is not read any more")),
            _ => Some(format!("~ {file} was not read for the plan")),
        }
    });
    let gone = gone.map(|planned| line('-', planned));
    gone.chain(new.map(|planned| line('+', planned))).chain(secrets).collect()
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

    fn collected(planned: &[Planned], credentials: &[(&str, &str)]) -> Collected {
        let text = |(file, digest): &(&str, &str)| ((*file).to_owned(), (*digest).to_owned());
        Collected {
            site: "s".to_owned(),
            rehearsal: false,
            planned: planned.to_vec(),
            credentials: credentials.iter().map(text).collect(),
        }
    }

    #[test]
    fn another_change_of_the_same_step_is_another_plan() {
        let then = collected(&[planned("a", "0644"), planned("b", "0644")], &[]);
        assert_eq!(difference(&then, &then), Vec::<String>::new());
        let now = collected(&[planned("a", "0644"), planned("b", "0640")], &[]);
        assert_eq!(
            difference(&then, &now),
            ["- base  b  base › limits", "+ base  b  base › limits"]
        );
        let less = collected(&then.planned[..1], &[]);
        assert_eq!(difference(&then, &less), ["- base  b  base › limits"]);
    }

    #[test]
    fn the_same_changes_with_another_secret_are_another_plan() {
        let same = [planned("a", "0644")];
        let then = collected(&same, &[("credentials/a.env.age", "1"), ("credentials/b.env", "1")]);
        assert_eq!(difference(&then, &then), Vec::<String>::new());
        let now = collected(&same, &[("credentials/a.env.age", "2"), ("credentials/c.env", "1")]);
        assert_eq!(
            difference(&then, &now),
            [
                "~ credentials/a.env.age was changed since the plan was made",
                "~ credentials/b.env is not read any more",
                "~ credentials/c.env was not read for the plan",
            ]
        );
    }
}
