//! Events become a [`Document`].

use super::model::{
    Cluster, Document, Fault, Gate, Host, HostEnd, Layer, LinkBreak, Problem, SCHEMA, Step,
    StepResult, Test,
};
use crate::event::{Event, EventKind, StepId, StepOutcome};
use std::collections::HashMap;

/// Follows the events of a run.
struct Gathering {
    document: Document,
    /// Places in the document.
    hosts: HashMap<String, usize>,
    /// Steps in hand, a few: their host's place and their own.
    begun: Vec<(StepId, (usize, usize))>,
    /// Milliseconds of the last event since the start.
    now: u64,
}

impl Document {
    /// What the events of a run come to. Right for a run that was cut short, and for none at all.
    pub fn of(run: &str, events: &[Event]) -> Self {
        let start = events.first().map_or(0, |event| event.at_ms);
        let mut gathering = Gathering {
            document: Self {
                schema: SCHEMA,
                run: run.to_owned(),
                started_ms: start,
                ..Self::default()
            },
            hosts: HashMap::new(),
            begun: Vec::new(),
            now: 0,
        };
        for event in events {
            // A clock that was set back must not turn a picture around.
            gathering.now = gathering.now.max(event.at_ms.saturating_sub(start));
            gathering.event(&event.kind);
        }
        gathering.end()
    }
}

impl Gathering {
    fn event(&mut self, kind: &EventKind) {
        match kind {
            EventKind::RunStarted {
                run,
                site,
                command,
                version,
                rehearsal,
                hosts,
                layers,
                resumes,
                ..
            } => {
                let document = &mut self.document;
                document.run.clone_from(run);
                document.site.clone_from(site);
                document.command.clone_from(command);
                document.version.clone_from(version);
                document.rehearsal = *rehearsal;
                document.resumes.clone_from(resumes);
                document.selected.clone_from(layers);
                for host in hosts {
                    self.host_place(host);
                }
            }
            EventKind::Note { text } => self.document.notes.push(text.trim().to_owned()),
            EventKind::RunFinished { exit_code, reason, took_ms } => {
                self.document.exit_code = Some(*exit_code);
                self.document.reason = Some(reason.clone());
                self.document.took_ms = *took_ms;
            }
            _ => {
                self.of_hosts(kind);
                self.of_layers(kind);
                self.of_gates(kind);
            }
        }
    }

    fn of_hosts(&mut self, kind: &EventKind) {
        let now = self.now;
        match kind {
            EventKind::HostConnected { host, took_ms, .. } => {
                self.host(host).connected.push((now, *took_ms));
            }
            EventKind::HostUnusable { host, class, reason, hint } => {
                let (class, reason, hint) = (*class, reason.clone(), hint.clone());
                self.host(host).problem = Some(Problem { class, reason, hint, at: now });
            }
            EventKind::HostWarning { host, text, hint } => {
                let hint = hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
                self.host(host).warnings.push(format!("{text}{hint}"));
            }
            EventKind::HostOut { host, reason, until } => {
                self.host(host).out = Some(format!("until {until}: {reason}"));
            }
            EventKind::HostIn { host } => self.host(host).out = None,
            EventKind::HostRebuilt { host, .. } => {
                self.host(host).warnings.push("is a new machine from now on".to_owned());
            }
            EventKind::LinkLost { host, reason, .. } => {
                let reason = reason.clone();
                self.host(host).links.push(LinkBreak { from: now, to: None, reason });
            }
            EventKind::LinkRestored { host, .. } => {
                if let Some(link) = self.host(host).links.last_mut() {
                    link.to = Some(now);
                }
            }
            EventKind::ProgramFinished { host, end, .. } => {
                self.host(host).program = Some((end.to_string(), end.is_good()));
            }
            EventKind::StepStarted { step } => {
                let at = self.add_step(step, now, StepResult::Unfinished);
                self.begun.push((step.clone(), at));
            }
            EventKind::StepFinished { step, outcome, took_ms } => {
                let begun = self.begun.iter().position(|(known, _)| known == step);
                let (host, place) = match begun {
                    Some(begun) => self.begun.swap_remove(begun).1,
                    None => {
                        let from = now.saturating_sub(*took_ms);
                        self.add_step(step, from, StepResult::Unfinished)
                    }
                };
                let steps = self.document.hosts.get_mut(host).map(|host| &mut host.steps);
                if let Some(step) = steps.and_then(|steps| steps.get_mut(place)) {
                    step.took_ms = *took_ms;
                    step.result = result(outcome);
                }
            }
            EventKind::HostFinished { host, layer, state, changed, steps, took_ms, .. } => {
                let end = HostEnd {
                    layer: layer.clone(),
                    state: *state,
                    changed: *changed,
                    steps: *steps,
                    took_ms: *took_ms,
                };
                self.host(host).ends.push(end);
            }
            _ => {}
        }
    }

    fn of_layers(&mut self, kind: &EventKind) {
        let now = self.now;
        match kind {
            EventKind::LayerStarted { layer, hosts } => {
                let layer = self.layer(layer);
                layer.from = now;
                layer.hosts.clone_from(hosts);
            }
            EventKind::LayerSkipped { layer, why } => {
                self.layer(layer).skipped = Some(why.clone());
            }
            EventKind::Excepted { layer, what, reason } => {
                let excepted = (what.clone(), reason.clone());
                let all = &mut self.layer(layer).excepted;
                if !all.contains(&excepted) {
                    all.push(excepted);
                }
            }
            EventKind::LayerFinished { layer, complete, .. } => {
                let layer = self.layer(layer);
                layer.converged_at = Some(now);
                layer.complete = Some(*complete);
            }
            EventKind::ClusterFound { layer, cluster, state, found } => {
                self.cluster(layer, cluster).found.push((state.clone(), found.clone()));
            }
            EventKind::ClusterAction { layer, cluster, action, took_ms: Some(took_ms) } => {
                self.cluster(layer, cluster).actions.push((now, action.clone(), *took_ms));
            }
            EventKind::ClusterFinished { layer, cluster, complete, .. } => {
                self.cluster(layer, cluster).complete = Some(*complete);
            }
            EventKind::LayerAudited { layer, audited } => {
                self.layer(layer).audited = Some(audited.clone());
            }
            _ => {}
        }
    }

    fn of_gates(&mut self, kind: &EventKind) {
        let now = self.now;
        match kind {
            EventKind::GateStarted { layer, kinds } => {
                let gate = Gate { from: now, kinds: kinds.clone(), ..Gate::default() };
                self.layer(layer).gate = Some(gate);
            }
            EventKind::TestStarted { layer, test } => {
                let name = test.clone();
                self.gate(layer).tests.push(Test { name, from: now, ..Test::default() });
            }
            EventKind::Fault { layer, test, what, healed } => {
                let test = open_test(self.gate(layer), test, now);
                let open = |fault: &&mut Fault| fault.what == *what && fault.to.is_none();
                match (*healed, test.faults.iter_mut().rev().find(open)) {
                    (true, Some(fault)) => fault.to = Some(now),
                    (true, None) => {}
                    (false, _) => {
                        test.faults.push(Fault { what: what.clone(), from: now, to: None });
                    }
                }
            }
            EventKind::TestFinished {
                layer,
                test,
                kind,
                verdict,
                expected,
                found,
                measured,
                waived,
                took_ms,
            } => {
                let from = now.saturating_sub(*took_ms);
                let test = open_test(self.gate(layer), test, from);
                test.kind = Some(*kind);
                test.verdict = Some(*verdict);
                test.took_ms = *took_ms;
                test.expected.clone_from(expected);
                test.found.clone_from(found);
                test.measured.clone_from(measured);
                test.waived.clone_from(waived);
            }
            EventKind::GateFinished { layer, verdict, took_ms, .. } => {
                let gate = self.gate(layer);
                gate.verdict = Some(*verdict);
                gate.took_ms = *took_ms;
            }
            _ => {}
        }
    }

    fn end(mut self) -> Document {
        let now = self.now;
        let document = &mut self.document;
        if document.exit_code.is_none() {
            document.took_ms = now;
        }
        for step in document.hosts.iter_mut().flat_map(|host| &mut host.steps) {
            if step.result == StepResult::Unfinished {
                step.took_ms = now.saturating_sub(step.at);
            }
        }
        for gate in document.layers.iter_mut().filter_map(|layer| layer.gate.as_mut()) {
            if gate.verdict.is_none() {
                gate.took_ms = now.saturating_sub(gate.from);
            }
            number(&mut gate.tests);
            for test in gate.tests.iter_mut().filter(|test| test.verdict.is_none()) {
                test.took_ms = now.saturating_sub(test.from);
            }
        }
        // Those that nobody worked on stand last.
        document.hosts.sort_by_key(|host| host.out.is_some());
        self.document
    }

    fn host(&mut self, name: &str) -> &mut Host {
        let place = self.host_place(name);
        // The place was just made.
        &mut self.document.hosts[place]
    }

    fn host_place(&mut self, name: &str) -> usize {
        if let Some(place) = self.hosts.get(name) {
            return *place;
        }
        let place = self.document.hosts.len();
        self.document.hosts.push(Host { name: name.to_owned(), ..Host::default() });
        self.hosts.insert(name.to_owned(), place);
        place
    }

    fn add_step(&mut self, id: &StepId, at: u64, result: StepResult) -> (usize, usize) {
        let place = self.host_place(&id.host);
        let steps = &mut self.document.hosts[place].steps;
        steps.push(Step {
            at,
            took_ms: 0,
            layer: id.layer.clone(),
            role: id.role.clone(),
            name: id.step.clone(),
            handler: id.handler,
            result,
        });
        (place, steps.len() - 1)
    }

    fn layer(&mut self, name: &str) -> &mut Layer {
        let from = self.now;
        let layers = &mut self.document.layers;
        let place = layers.iter().position(|layer| layer.name == name).unwrap_or_else(|| {
            layers.push(Layer { name: name.to_owned(), from, ..Layer::default() });
            layers.len() - 1
        });
        &mut layers[place]
    }

    fn cluster(&mut self, layer: &str, name: &str) -> &mut Cluster {
        let clusters = &mut self.layer(layer).clusters;
        let place = clusters.iter().position(|known| known.name == name).unwrap_or_else(|| {
            clusters.push(Cluster { name: name.to_owned(), ..Cluster::default() });
            clusters.len() - 1
        });
        &mut clusters[place]
    }

    fn gate(&mut self, layer: &str) -> &mut Gate {
        let from = self.now;
        self.layer(layer).gate.get_or_insert_with(|| Gate { from, ..Gate::default() })
    }
}

/// The test of this name that has no verdict yet; a new one where none has begun.
fn open_test<'a>(gate: &'a mut Gate, name: &str, from: u64) -> &'a mut Test {
    let open = |test: &Test| test.name == name && test.verdict.is_none();
    let place = gate.tests.iter().rposition(open).unwrap_or_else(|| {
        gate.tests.push(Test { name: name.to_owned(), from, ..Test::default() });
        gate.tests.len() - 1
    });
    &mut gate.tests[place]
}

/// Tests of one name get numbers: two roles of a layer may have the same.
fn number(tests: &mut [Test]) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for test in tests {
        let count = seen.entry(test.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            test.name = format!("{} ({count})", test.name);
        }
    }
}

fn result(outcome: &StepOutcome) -> StepResult {
    match outcome.clone() {
        StepOutcome::Unchanged => StepResult::Unchanged,
        StepOutcome::Changed { changes } => StepResult::Changed { changes },
        StepOutcome::Failed { message, output, hint } => {
            StepResult::Failed { message, output, hint }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
