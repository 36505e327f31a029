//! A run that goes on where another one ended.

use crate::history::Unfinished;
use crate::resource::{Once, Unknown};
use std::collections::{BTreeMap, BTreeSet};

/// What a run takes over from the one that it resumes. Everything is looked at again, which is
/// quick and cannot be out of date; what is not done twice are gates that were green, and steps that
/// cannot tell whether they were done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The runs that are resumed, newest first.
    pub runs: Vec<String>,
    /// Layers that need no second proof while their record holds.
    proved: BTreeSet<String>,
    /// The hosts to leave as they are, of each layer: those that were converged.
    leave: BTreeMap<String, BTreeSet<String>>,
    /// What becomes of a step that was in hand.
    unknown: Unknown,
}

impl Continuation {
    /// Goes on with a run; `failed_only` works on none of the hosts that were converged.
    pub fn of(left: Unfinished, failed_only: bool, unknown: Unknown) -> Self {
        let leave = if failed_only { left.converged } else { BTreeMap::new() };
        Self { runs: left.runs, proved: left.proved, leave, unknown }
    }

    /// The run that is resumed.
    pub fn run(&self) -> Option<&str> {
        self.runs.first().map(String::as_str)
    }

    /// Whether the layer was converged and proved.
    pub fn proved(&self, layer: &str) -> bool {
        self.proved.contains(layer)
    }

    /// Those of `hosts` that are worked on.
    pub fn open(&self, layer: &str, hosts: &[String]) -> Vec<String> {
        let leave = self.leave.get(layer);
        hosts
            .iter()
            .filter(|host| !leave.is_some_and(|leave| leave.contains(*host)))
            .cloned()
            .collect()
    }
}

/// What keeps the steps of a layer from being done twice.
pub fn once(run: &str, layer: &str, continuing: Option<&Continuation>) -> Once {
    Once {
        run: Some(run.to_owned()),
        layer: layer.to_owned(),
        resumes: continuing.iter().flat_map(|one| &one.runs).cloned().collect(),
        unknown: continuing.map(|one| one.unknown).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left() -> Unfinished {
        let converged = [("base", vec!["a", "b"]), ("redis", vec!["a"])];
        Unfinished {
            runs: vec!["2".into(), "1".into()],
            proved: ["base".to_owned()].into(),
            converged: converged
                .into_iter()
                .map(|(layer, hosts)| {
                    (layer.to_owned(), hosts.into_iter().map(str::to_owned).collect())
                })
                .collect(),
            ..Unfinished::default()
        }
    }

    #[test]
    fn failed_hosts_only_leaves_what_was_converged() {
        let hosts = ["a".to_owned(), "b".to_owned()];
        let all = Continuation::of(left(), false, Unknown::Refuse);
        assert_eq!(all.open("redis", &hosts), hosts);
        let failed = Continuation::of(left(), true, Unknown::Refuse);
        assert_eq!(failed.open("redis", &hosts), ["b"]);
        let more = ["a".to_owned(), "came later".to_owned()];
        assert_eq!(failed.open("base", &more), ["came later"]);
        assert!(failed.open("base", &hosts).is_empty());
        assert_eq!(failed.open("never begun", &hosts), hosts);
        assert!(failed.proved("base") && !failed.proved("redis"));
        assert_eq!(failed.run(), Some("2"));
    }

    #[test]
    fn steps_run_once_in_the_layer_of_a_run_and_its_resumptions() {
        let once = once("3", "base", Some(&Continuation::of(left(), false, Unknown::Done)));
        assert_eq!((once.run.as_deref(), once.layer.as_str()), (Some("3"), "base"));
        assert_eq!(once.resumes, ["2", "1"]);
        assert_eq!(once.unknown, Unknown::Done);
        assert_eq!(super::once("3", "base", None).resumes, Vec::<String>::new());
    }
}
