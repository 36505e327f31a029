//! Runs a layer's tests in order: diag, then failover, then perf.

use super::fault::Ledger;
use super::scenario::{Finding, SCENARIOS, Surroundings};
use super::waive;
use crate::event::{EventKind, GateVerdict, TestKind, Verdict, Waiving, elapsed_ms, now_ms};
use crate::fleet::{Connection, Events, Fleet, Stop};
use crate::history::{GateRecord, RecordedWaiver, Records};
use crate::plan::{Resolver, layer_digest};
use crate::site::{GateTest, Group, Layer, Site};
use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

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
    /// Only the tests of these names, or all where there is none. A part proves no layer: its
    /// verdict is not kept.
    pub only: &'a [String],
    /// Keep the verdict of each kind. A look that proves nothing leaves the records as they are.
    pub keep: bool,
}

impl Context<'_> {
    /// The layer's hosts that are out of service.
    fn out_of_service(&self) -> Vec<String> {
        let groups = self.layer.place.iter().filter_map(|at| self.site.groups.get(&at.group));
        let hosts: BTreeSet<&String> = groups.flat_map(|group| &group.hosts).collect();
        self.site.out.keys().filter(|host| hosts.contains(host)).cloned().collect()
    }
}

/// What a gate came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: GateVerdict,
    /// True when nothing but the wish to stop keeps it from being green.
    pub cut_short: bool,
}

/// True when the gates of the layer's roles have a test of this kind.
pub fn has_tests(site: &Site, layer: &Layer, kind: TestKind) -> bool {
    !tests_of(site, layer, kind, &[]).is_empty()
}

/// The names of the layer's tests of these kinds.
pub fn names_of<'a>(site: &'a Site, layer: &Layer, kinds: &[TestKind]) -> Vec<&'a str> {
    let tests = kinds.iter().flat_map(|kind| tests_of(site, layer, *kind, &[]));
    tests.map(|(_, test)| test.name.as_str()).collect()
}

/// Runs the tests of these kinds and keeps the verdict of each kind that has tests.
///
/// # Errors
/// When a verdict cannot be kept: an old one would then still be believed.
pub async fn run(
    context: &Context<'_>,
    kinds: Vec<TestKind>,
    fleet: &Fleet,
    events: &Events,
    stop: &Stop,
) -> io::Result<Judged> {
    let start = Instant::now();
    let layer = &context.layer.name;
    events.emit(EventKind::GateStarted { layer: layer.clone(), kinds: kinds.clone() });
    // Tests look from the operator host too, also where it is not among the selected hosts. A host
    // whose link broke since it was converged is connected anew.
    let operator = context.site.operator().map(|operator| operator.name.clone());
    let operator = operator.filter(|operator| !context.hosts.contains(operator));
    let everyone: Vec<String> = context.hosts.iter().cloned().chain(operator).collect();
    fleet.connect(context.site, &everyone, context.connection, events, stop).await;
    let (mut counts, mut waived) = ([0_u32; 4], 0);
    let mut overall = GateVerdict::Green;
    // What was found, whatever is waived: a waiver makes nothing whole.
    let mut found = GateVerdict::Green;
    let mut kept = Ok(());
    let mut any_failed = false;
    for kind in kinds {
        let tests = tests_of(context.site, context.layer, kind, context.only);
        let mut verdict = GateVerdict::Green;
        let mut here = GateVerdict::Green;
        let mut failed = false;
        let mut recorded = Vec::new();
        for (role, test) in &tests {
            // After a failed look or measurement the others are still worth knowing. A fault is
            // injected only into what is known to be whole, and only the whole is measured.
            let before = match kind {
                TestKind::Diag => GateVerdict::Green,
                TestKind::Failover => overall_of(found, here),
                TestKind::Perf => found,
            };
            let why_not = if stop.wished() {
                Some(stop.why())
            } else if before != GateVerdict::Green {
                Some("an earlier test failed")
            } else {
                None
            };
            let (finding, waivings) = match why_not {
                Some(why) => {
                    let finding = Finding::not_run(why);
                    emit_finished(context, test, kind, &finding, &[], 0, events);
                    (finding, Vec::new())
                }
                None => one_test(context, role, test, kind, fleet, events, stop).await,
            };
            failed |= finding.verdict == Verdict::Fail;
            // What could not be run before the wish to stop says something of the layer.
            any_failed |= failed || (finding.verdict == Verdict::NotRun && !stop.wished());
            here = overall_of(here, finding_verdict(&finding));
            if let Some(until) = waivings.iter().map(|waiving| &waiving.until).min() {
                waived += 1;
                verdict = overall_of(verdict, GateVerdict::GreenWithWaivers);
                let (test, until) = (test.name.clone(), until.clone());
                recorded.push(RecordedWaiver { test, until, waivers: waivings });
                continue;
            }
            let slot = match finding.verdict {
                Verdict::Pass => 0,
                Verdict::Fail => 1,
                Verdict::NotRun => 2,
                Verdict::NotApplicable | Verdict::Waived => 3,
            };
            counts[slot] += 1;
            verdict = overall_of(verdict, finding_verdict(&finding));
        }
        let ran =
            !tests.is_empty() && (failed || verdict == GateVerdict::NotHealed || !stop.wished());
        let blocked = kind != TestKind::Diag && found != GateVerdict::Green;
        // An interrupt, or a failure of another kind, says nothing about this kind's last proof.
        if ran && !blocked && context.keep && context.only.is_empty() {
            kept = kept.and(keep(context, kind, verdict, recorded));
        }
        overall = overall_of(overall, verdict);
        found = overall_of(found, here);
    }
    if context.keep && !context.only.is_empty() {
        let text = format!("  only a part of the tests of {layer} was run: no record is kept");
        events.emit(EventKind::Note { text });
    }
    events.emit(EventKind::GateFinished {
        layer: layer.clone(),
        verdict: overall,
        counts,
        waived,
        took_ms: elapsed_ms(start),
    });
    let cut_short = stop.wished() && !any_failed && overall == GateVerdict::Red;
    kept.map(|()| Judged { verdict: overall, cut_short })
}

const fn finding_verdict(finding: &Finding) -> GateVerdict {
    match finding.verdict {
        _ if finding.not_healed => GateVerdict::NotHealed,
        Verdict::Fail | Verdict::NotRun => GateVerdict::Red,
        Verdict::Waived => GateVerdict::GreenWithWaivers,
        Verdict::Pass | Verdict::NotApplicable => GateVerdict::Green,
    }
}

/// The worse of two verdicts.
const fn overall_of(left: GateVerdict, right: GateVerdict) -> GateVerdict {
    match (left, right) {
        (GateVerdict::NotHealed, _) | (_, GateVerdict::NotHealed) => GateVerdict::NotHealed,
        (GateVerdict::Red, _) | (_, GateVerdict::Red) => GateVerdict::Red,
        (GateVerdict::GreenWithWaivers, _) | (_, GateVerdict::GreenWithWaivers) => {
            GateVerdict::GreenWithWaivers
        }
        (GateVerdict::Green, GateVerdict::Green) => GateVerdict::Green,
    }
}

/// The tests of the layer's roles, each role's once, with the role; those named in `only`, or all.
fn tests_of<'a>(
    site: &'a Site,
    layer: &Layer,
    kind: TestKind,
    only: &[String],
) -> Vec<(&'a str, &'a GateTest)> {
    let mut roles: Vec<&str> = Vec::new();
    let mut tests = Vec::new();
    for placement in &layer.place {
        // The site's own text, which outlives the layer that names it.
        let Some((role, gate)) = site.gates.get_key_value(&placement.role) else { continue };
        if roles.contains(&role.as_str()) {
            continue;
        }
        roles.push(role);
        for test in gate {
            let named = only.is_empty() || only.contains(&test.name);
            if named && SCENARIOS.iter().any(|s| s.name == test.name && s.kind == kind) {
                tests.push((role.as_str(), test));
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
    fleet: &Fleet,
    events: &Events,
    stop: &Stop,
) -> (Finding, Vec<Waiving>) {
    let start = Instant::now();
    let layer = context.layer.name.clone();
    events.emit(EventKind::TestStarted { layer, test: test.name.clone() });
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == test.name);
    let finding = match (scenario, context.site.exceptions.test(&test.name)) {
        (_, Some(reason)) => Finding::not_applicable(format!("left out in rehearsal: {reason}")),
        (None, None) => Finding::not_run("there is no such test"),
        (Some(scenario), None) => {
            let hosts = hosts_of(context, role);
            if hosts.is_empty() {
                Finding::not_applicable(format!("no selected host has the role {role}"))
            } else {
                let faults = Ledger::default();
                let surroundings =
                    Surroundings { context, hosts, test, fleet, events, stop, faults: &faults };
                let mut finding = tokio::select! {
                    finding = (scenario.run)(surroundings) => finding,
                    () = stop.now() => Finding::not_run("stopped at once by the operator"),
                };
                // Whatever the test itself says: what it did not heal is there.
                if !faults.is_clean() {
                    finding.not_healed = true;
                    let open = faults.open();
                    let lines = open.iter().map(|what| format!("not healed: {what}"));
                    for line in lines {
                        if !finding.found.iter().any(|found| found.contains(&line)) {
                            finding.found.push(line);
                        }
                    }
                    if finding.verdict != Verdict::NotRun {
                        finding.verdict = Verdict::Fail;
                    }
                }
                finding
            }
        }
    };
    let waivers = &context.site.waivers;
    let waived = waive::of_finding(waivers, &test.name, &finding, waive::today());
    emit_finished(context, test, kind, &finding, &waived, elapsed_ms(start), events);
    (finding, waived)
}

/// The selected hosts that have the role, each once.
fn hosts_of(context: &Context<'_>, role: &str) -> Vec<String> {
    let groups: Vec<&Group> = context
        .layer
        .place
        .iter()
        .filter(|placement| placement.role == role)
        .filter_map(|placement| context.site.groups.get(&placement.group))
        .collect();
    context
        .hosts
        .iter()
        .filter(|host| groups.iter().any(|group| group.hosts.contains(host)))
        .cloned()
        .collect()
}

fn emit_finished(
    context: &Context<'_>,
    test: &GateTest,
    kind: TestKind,
    finding: &Finding,
    waived: &[Waiving],
    took_ms: u64,
    events: &Events,
) {
    events.emit(EventKind::TestFinished {
        layer: context.layer.name.clone(),
        test: test.name.clone(),
        kind,
        verdict: if waived.is_empty() { finding.verdict } else { Verdict::Waived },
        expected: finding.expected.clone(),
        found: finding.found.clone(),
        measured: finding.measured.clone(),
        waived: waived.to_vec(),
        took_ms,
    });
}

fn keep(
    context: &Context<'_>,
    kind: TestKind,
    verdict: GateVerdict,
    waived: Vec<RecordedWaiver>,
) -> io::Result<()> {
    context.records.write(&GateRecord {
        layer: context.layer.name.clone(),
        kind,
        verdict,
        digest: layer_digest(context.site, context.layer),
        hosts: context.hosts.to_vec(),
        out: context.out_of_service(),
        at_ms: now_ms(),
        run: context.run.to_owned(),
        waived,
    })
}
