//! Runs a layer's tests in order: diag, then failover, then perf.

use super::scenario::{Finding, SCENARIOS, Surroundings};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::event::{EventKind, GateVerdict, TestKind, Verdict, now_ms};
use crate::history::{GateRecord, Records};
use crate::plan::{Resolver, layer_digest};
use crate::run::{Connection, Events, Fleet, Stop};
use crate::site::{GateTest, Layer, Site, suggest};
use std::time::{Duration, Instant};

/// What a gate works on.
pub struct Context<'a> {
    /// The site.
    pub site: &'a Site,
    /// The layer.
    pub layer: &'a Layer,
    /// The hosts of the layer that were selected.
    pub hosts: &'a [String],
    /// Resolves hosts again, for the test that nothing would change.
    pub resolver: &'a Resolver<'a>,
    /// How to reach hosts, for connections that a test opens.
    pub connection: &'a Connection,
    /// Where the verdict is kept.
    pub records: &'a Records,
    /// The run's id.
    pub run: &'a str,
}

/// Reports tests of the site's gates that do not exist or whose bounds do not fit.
pub fn check(site: &Site, problems: &mut Diagnostics) {
    for test in site.gates.values().flatten() {
        let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == test.name) else {
            problems.push(
                Diagnostic::error(Code::GATE, format!("there is no test `{}`", test.name))
                    .at(test.span.clone(), "")
                    .hint(suggest::among(&test.name, SCENARIOS.iter().map(|s| s.name))),
            );
            continue;
        };
        if let Err(error) = (scenario.check)(test) {
            let range = error.range.unwrap_or_else(|| test.span.range.clone());
            let mut problem =
                Diagnostic::error(Code::GATE, error.message).at(test.source.span(range), "");
            problem.hint = error.suggestion;
            problems.push(problem);
        }
    }
}

/// Runs the tests of these kinds and keeps the verdict of each kind.
pub async fn run(
    context: &Context<'_>,
    kinds: Vec<TestKind>,
    fleet: &mut Fleet,
    events: &Events,
    stop: &Stop,
) -> GateVerdict {
    let start = Instant::now();
    let layer = &context.layer.name;
    events.emit(EventKind::GateStarted { layer: layer.clone(), kinds: kinds.clone() });
    // Tests look from the operator host too, also where it is not among the selected hosts.
    if let Some(operator) = context.site.operator() {
        let operator = [operator.name.clone()];
        fleet.connect(context.site, &operator, context.connection, events, stop).await;
    }
    let mut counts = [0_u32; 4];
    let mut overall = GateVerdict::Green;
    for kind in kinds {
        let mut verdict = GateVerdict::Green;
        for (role, test) in tests_of(context, kind) {
            let finding = if overall == GateVerdict::Green && !stop.wished() {
                one_test(context, role, test, kind, fleet, events).await
            } else if kind == TestKind::Diag && !stop.wished() {
                // Diag only looks: after a failure the rest is still worth knowing.
                one_test(context, role, test, kind, fleet, events).await
            } else {
                let why = if stop.wished() {
                    "stopped by the operator"
                } else {
                    "an earlier test failed"
                };
                let finding = Finding::not_run(why);
                emit_finished(context, test, kind, &finding, 0, events);
                finding
            };
            let slot = match finding.verdict {
                Verdict::Pass => 0,
                Verdict::Fail => 1,
                Verdict::NotRun => 2,
                Verdict::NotApplicable => 3,
            };
            counts[slot] += 1;
            if finding.not_healed {
                verdict = GateVerdict::NotHealed;
            } else if matches!(finding.verdict, Verdict::Fail | Verdict::NotRun)
                && verdict == GateVerdict::Green
            {
                verdict = GateVerdict::Red;
            }
        }
        keep(context, kind, verdict, events);
        overall = match (overall, verdict) {
            (GateVerdict::NotHealed, _) | (_, GateVerdict::NotHealed) => GateVerdict::NotHealed,
            (GateVerdict::Red, _) | (_, GateVerdict::Red) => GateVerdict::Red,
            _ => GateVerdict::Green,
        };
    }
    events.emit(EventKind::GateFinished {
        layer: layer.clone(),
        verdict: overall,
        counts,
        took_ms: elapsed_ms(start),
    });
    overall
}

fn tests_of<'a>(context: &Context<'a>, kind: TestKind) -> Vec<(&'a str, &'a GateTest)> {
    let mut tests = Vec::new();
    for placement in &context.layer.place {
        for test in context.site.gates.get(&placement.role).into_iter().flatten() {
            let is_kind = SCENARIOS.iter().any(|s| s.name == test.name && s.kind == kind);
            if is_kind
                && !tests.iter().any(|(_, other): &(&str, &GateTest)| other.name == test.name)
            {
                tests.push((placement.role.as_str(), test));
            }
        }
    }
    tests
}

async fn one_test(
    context: &Context<'_>,
    role: &str,
    test: &GateTest,
    kind: TestKind,
    fleet: &mut Fleet,
    events: &Events,
) -> Finding {
    let start = Instant::now();
    let layer = context.layer.name.clone();
    events.emit(EventKind::TestStarted { layer, test: test.name.clone() });
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == test.name);
    let finding = match (scenario, context.site.exceptions.test(&test.name)) {
        (_, Some(reason)) => Finding::not_applicable(format!("left out in rehearsal: {reason}")),
        (None, None) => Finding::not_run("there is no such test"),
        (Some(scenario), None) => {
            let hosts: Vec<String> = context
                .layer
                .place
                .iter()
                .filter(|placement| placement.role == role)
                .filter_map(|placement| context.site.groups.get(&placement.group))
                .flat_map(|group| group.hosts.iter().cloned())
                .filter(|host| context.hosts.contains(host))
                .collect();
            if hosts.is_empty() {
                Finding::not_applicable(format!("no selected host has the role {role}"))
            } else {
                let surroundings = Surroundings { context, hosts, test, fleet, events };
                let limit = Duration::from_secs(3_600);
                match tokio::time::timeout(limit, (scenario.run)(surroundings)).await {
                    Ok(finding) => finding,
                    Err(_) => Finding::not_run("it did not end within an hour"),
                }
            }
        }
    };
    emit_finished(context, test, kind, &finding, elapsed_ms(start), events);
    finding
}

fn emit_finished(
    context: &Context<'_>,
    test: &GateTest,
    kind: TestKind,
    finding: &Finding,
    took_ms: u64,
    events: &Events,
) {
    events.emit(EventKind::TestFinished {
        layer: context.layer.name.clone(),
        test: test.name.clone(),
        kind,
        verdict: finding.verdict,
        expected: finding.expected.clone(),
        found: finding.found.clone(),
        took_ms,
    });
}

fn keep(context: &Context<'_>, kind: TestKind, verdict: GateVerdict, events: &Events) {
    let record = GateRecord {
        layer: context.layer.name.clone(),
        kind,
        verdict,
        digest: layer_digest(context.site, context.layer),
        hosts: context.hosts.to_vec(),
        at_ms: now_ms(),
        run: context.run.to_owned(),
    };
    if let Err(error) = context.records.write(&record) {
        events.emit(EventKind::Note {
            text: format!("the verdict of {} {} was not kept: {error}", record.layer, kind.word()),
        });
    }
}

fn elapsed_ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
