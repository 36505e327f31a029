//! What a run that did not end well left to do, read from its journal and those of the runs that
//! it went on with.

use super::{StateDir, read_journal};
use crate::event::{Event, EventKind, HostState};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// A run as the one after it finds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unfinished {
    /// The run and those that it went on with, newest first.
    pub runs: Vec<String>,
    /// What was asked for.
    pub command: String,
    /// True when it was a rehearsal.
    pub rehearsal: bool,
    /// The exit code, none when the run was cut short.
    pub exit_code: Option<u8>,
    /// Why it ended, in its own words.
    pub reason: String,
    /// Layers that were converged on every host and whose gate was green then.
    pub proved: BTreeSet<String>,
    /// The hosts that were converged, of each layer that was begun.
    pub converged: BTreeMap<String, BTreeSet<String>>,
    /// The hosts of each layer that was begun, by the last run that did.
    pub begun: BTreeMap<String, BTreeSet<String>>,
}

impl Unfinished {
    /// Reads a run and all that it went on with.
    ///
    /// # Errors
    /// When a journal cannot be read.
    pub fn read(state: &StateDir, run: &str) -> io::Result<Self> {
        let mut journals = Vec::new();
        let mut next = Some(run.to_owned());
        while let Some(run) = next.take() {
            let events = read_journal(&state.journal(&run))?;
            next = resumed(&events).filter(|older| **older < *run).map(ToOwned::to_owned);
            journals.push((run, events));
        }
        Ok(Self::of(&journals))
    }

    /// What the journals say, newest run first.
    fn of(journals: &[(String, Vec<Event>)]) -> Self {
        let mut left =
            Self { runs: journals.iter().map(|(run, _)| run.clone()).collect(), ..Self::default() };
        for (_, events) in journals.iter().rev() {
            (left.exit_code, left.reason) = (None, String::new());
            events.iter().for_each(|event| left.add(&event.kind));
        }
        left
    }

    fn add(&mut self, event: &EventKind) {
        match event {
            EventKind::RunStarted { command, rehearsal, .. } => {
                self.command.clone_from(command);
                self.rehearsal = *rehearsal;
            }
            EventKind::RunFinished { exit_code, reason, .. } => {
                self.exit_code = Some(*exit_code);
                self.reason.clone_from(reason);
            }
            EventKind::LayerStarted { layer, hosts } => {
                self.proved.remove(layer);
                self.begun.insert(layer.clone(), hosts.iter().cloned().collect());
            }
            // It was converged, by an earlier run, and is worked on again: it counts by how that ends.
            EventKind::StepStarted { step } | EventKind::StepFinished { step, .. } => {
                if let Some(converged) = self.converged.get_mut(&step.layer) {
                    converged.remove(&step.host);
                }
            }
            EventKind::HostFinished { host, layer, state, .. } => {
                let converged = self.converged.entry(layer.clone()).or_default();
                if *state == HostState::Converged {
                    converged.insert(host.clone());
                } else {
                    converged.remove(host);
                }
            }
            EventKind::GateFinished { layer, verdict, .. } => {
                let whole = match (self.begun.get(layer), self.converged.get(layer)) {
                    (Some(begun), Some(converged)) => begun.is_subset(converged),
                    _ => false,
                };
                if verdict.is_green() && whole {
                    self.proved.insert(layer.clone());
                }
            }
            _ => {}
        }
    }
}

/// The run that a journal went on with.
fn resumed(events: &[Event]) -> Option<&str> {
    events.iter().find_map(|event| match &event.kind {
        EventKind::RunStarted { resumes, .. } => resumes.as_deref(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{GateVerdict, StepId};

    fn started(resumes: Option<&str>) -> EventKind {
        EventKind::RunStarted {
            schema: 2,
            run: "r".into(),
            site: "s".into(),
            command: "install".into(),
            version: "0".into(),
            rehearsal: false,
            hosts: vec!["a".into(), "b".into()],
            layers: vec!["base".into(), "redis".into()],
            resumes: resumes.map(ToOwned::to_owned),
        }
    }

    fn layer(name: &str) -> EventKind {
        EventKind::LayerStarted { layer: name.into(), hosts: vec!["a".into(), "b".into()] }
    }

    fn host(name: &str, layer: &str, state: HostState) -> EventKind {
        EventKind::HostFinished {
            host: name.into(),
            layer: layer.into(),
            state,
            changed: 0,
            steps: 1,
            waiting_handlers: Vec::new(),
            took_ms: 1,
        }
    }

    fn gate(layer: &str, verdict: GateVerdict) -> EventKind {
        let (layer, counts) = (layer.into(), [1, 0, 0, 0]);
        EventKind::GateFinished { layer, verdict, counts, waived: 0, took_ms: 1 }
    }

    fn journal(run: &str, kinds: Vec<EventKind>) -> (String, Vec<Event>) {
        (run.to_owned(), kinds.into_iter().map(|kind| Event { at_ms: 1, kind }).collect())
    }

    fn names(hosts: &[&str]) -> BTreeSet<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn a_run_that_was_cut_leaves_the_hosts_it_did_not_finish() {
        use HostState::{Converged, Failed};
        let first = || {
            journal(
                "1",
                vec![
                    started(None),
                    layer("base"),
                    host("a", "base", Converged),
                    host("b", "base", Converged),
                    gate("base", GateVerdict::Green),
                    layer("redis"),
                    host("a", "redis", Converged),
                    host("b", "redis", Failed),
                ],
            )
        };
        let left = Unfinished::of(&[first()]);
        assert_eq!((left.exit_code, left.command.as_str()), (None, "install"));
        assert_eq!(left.proved, names(&["base"]));
        assert_eq!(left.converged["redis"], names(&["a"]));
        assert_eq!(left.converged["base"], names(&["a", "b"]));

        // A second run went on with it, and its gate was red.
        let finished = EventKind::RunFinished { exit_code: 3, reason: "red".into(), took_ms: 1 };
        let second = journal(
            "2",
            vec![
                started(Some("1")),
                layer("redis"),
                host("b", "redis", Converged),
                gate("redis", GateVerdict::Red),
                finished,
            ],
        );
        let left = Unfinished::of(&[second, first()]);
        assert_eq!(left.runs, ["2", "1"]);
        assert_eq!(left.proved, names(&["base"]));
        assert_eq!((left.exit_code, left.reason.as_str()), (Some(3), "red"));
        assert_eq!(left.converged["redis"], names(&["a", "b"]));
    }

    #[test]
    fn a_host_that_was_in_hand_again_is_not_converged() {
        let begun = |host: &str, layer: &str| EventKind::StepStarted {
            step: StepId {
                host: host.into(),
                layer: layer.into(),
                role: "r".into(),
                step: "s".into(),
                handler: false,
            },
        };
        let both = |name: &str| {
            let of = |one: &str| [begun(one, name), host(one, name, HostState::Converged)];
            [vec![layer(name)], of("a").into(), of("b").into()].concat()
        };
        let first = journal("1", [vec![started(None)], both("base"), both("redis")].concat());
        let second = vec![started(Some("1")), layer("redis"), begun("a", "redis")];
        let left = Unfinished::of(&[journal("2", second.clone()), first.clone()]);
        assert_eq!(left.converged["redis"], names(&["b"]));
        assert_eq!(left.converged["base"], names(&["a", "b"]));
        let ended = [second, vec![host("a", "redis", HostState::Converged)]].concat();
        let left = Unfinished::of(&[journal("2", ended), first]);
        assert_eq!(left.converged["redis"], names(&["a", "b"]));
    }

    #[test]
    fn what_was_not_converged_is_not_proved() {
        let left = Unfinished::of(&[journal(
            "1",
            vec![
                started(None),
                layer("base"),
                host("a", "base", HostState::Converged),
                gate("base", GateVerdict::Green),
            ],
        )]);
        assert!(left.proved.is_empty());
        assert_eq!(left.converged["base"], names(&["a"]));
    }

    #[test]
    fn runs_are_followed_to_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        for (run, kinds) in [
            ("1", vec![started(None), layer("base")]),
            ("2", vec![started(Some("1"))]),
            ("3", vec![started(Some("2"))]),
            // A journal that names itself or a newer one leads nowhere.
            ("4", vec![started(Some("4"))]),
        ] {
            let (_, events) = journal(run, kinds);
            let lines: Vec<String> =
                events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
            std::fs::write(state.journal(run), lines.concat()).unwrap();
        }
        let left = Unfinished::read(&state, "3").unwrap();
        assert_eq!(left.runs, ["3", "2", "1"]);
        assert_eq!(left.begun["base"], names(&["a", "b"]));
        assert_eq!(Unfinished::read(&state, "4").unwrap().runs, ["4"]);
        assert!(Unfinished::read(&state, "5").is_err());
    }
}
