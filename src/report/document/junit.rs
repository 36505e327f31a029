//! JUnit, as CI systems read it: a suite for the run, one for each layer's convergence, one for each
//! layer's gate. What fails the run fails a case, and nothing else does.

use super::model::{Document, Gate, Host, HostEnd, Layer, StepResult, Test};
use crate::event::{Audited, HostState, Measurement, Verdict};
use crate::report::style::plural;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// Why no JUnit could be made.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be written as JUnit: {0}")]
pub struct JunitError(#[from] quick_junit::SerializeError);

/// The text.
///
/// # Errors
/// When the XML cannot be written.
pub fn junit(document: &Document) -> Result<String, JunitError> {
    let mut report = Report::new(format!("strata {} {}", document.site, document.run));
    report.set_time(Duration::from_millis(document.took_ms));
    report.add_test_suite(of_run(document));
    for layer in &document.layers {
        if let Some(suite) = convergence(document, layer) {
            report.add_test_suite(suite);
        }
        if let Some(audited) = &layer.audited {
            report.add_test_suite(audit(document, layer, audited));
        }
        if let Some(gate) = &layer.gate {
            report.add_test_suite(gate_suite(document, layer, gate));
        }
    }
    // The schema of CI systems has this number for suites only, and the first one is not a suite's.
    Ok(report.to_string()?.replacen(&format!(" skipped=\"{}\"", report.skipped), "", 1))
}

/// A moment of the run, as RFC 3339.
fn at(document: &Document, after_ms: u64) -> String {
    i64::try_from(document.started_ms.saturating_add(after_ms))
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(String::new, |at| at.to_string())
}

fn suite(document: &Document, name: String, from: u64, took_ms: u64) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite.timestamp = at(document, from).parse().ok();
    suite.set_time(Duration::from_millis(took_ms));
    suite
}

fn case(class: String, name: &str, took_ms: u64, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(class);
    case.set_time(Duration::from_millis(took_ms));
    case
}

fn red(kind: NonSuccessKind, word: &str, message: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(word).set_message(message);
    if !text.is_empty() {
        status.set_description(text);
    }
    status
}

fn skipped(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(message);
    status
}

/// The run itself: whatever its exit code speaks of is red here, also where no host was reached.
fn of_run(document: &Document) -> TestSuite {
    let mut suite = suite(document, "run".to_owned(), 0, document.took_ms);
    for (name, value) in [
        ("site", document.site.as_str()),
        ("run", &document.run),
        ("strata", &document.version),
        ("rehearsal", if document.rehearsal { "true" } else { "false" }),
    ] {
        suite.add_property((name, value));
    }
    let reason = document.reason.as_deref().unwrap_or_default();
    let status = match document.exit_code {
        Some(0) => TestCaseStatus::success(),
        Some(code) => {
            red(NonSuccessKind::Failure, &format!("exit code {code}"), reason, &problems(document))
        }
        None => {
            let why = "the run was cut short: its journal has no end";
            red(NonSuccessKind::Error, "cut short", why, &problems(document))
        }
    };
    let name = if document.command.is_empty() { "strata" } else { &document.command };
    suite.add_test_case(case("strata".to_owned(), name, document.took_ms, status));
    for host in &document.hosts {
        if let Some(why) = &host.out {
            let status = skipped(&format!("out of service {why}"));
            suite.add_test_case(case("strata.out".to_owned(), &host.name, 0, status));
        }
    }
    suite
}

/// Hosts that could not be used, a line each.
fn problems(document: &Document) -> String {
    let lines = document.hosts.iter().filter_map(|host| {
        let problem = host.problem.as_ref()?;
        Some(format!("{}: {}", host.name, problem.reason))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A case for each host of a layer; none for a layer whose hosts nobody worked on.
fn convergence(document: &Document, layer: &Layer) -> Option<TestSuite> {
    if let Some(why) = &layer.skipped {
        let mut suite = suite(document, format!("{} convergence", layer.name), layer.from, 0);
        let class = format!("{}.convergence", layer.name);
        suite.add_test_case(case(class, "layer", 0, skipped(why)));
        return Some(suite);
    }
    let cases: Vec<TestCase> = document
        .hosts
        .iter()
        .filter_map(|host| of_host(host, layer))
        .chain(layer.clusters.iter().filter_map(|cluster| {
            let status = match cluster.complete? {
                true => TestCaseStatus::success(),
                false => {
                    let last = cluster.found.last().map_or("", |(_, line)| line.as_str());
                    red(NonSuccessKind::Failure, "not as wanted", last, "")
                }
            };
            let took = cluster.actions.iter().map(|(_, _, took)| took).sum();
            let name = format!("cluster {}", cluster.name);
            Some(case(format!("{}.convergence", layer.name), &name, took, status))
        }))
        .collect();
    if cases.is_empty() {
        return None;
    }
    let end = layer.converged_at.unwrap_or(document.took_ms);
    let took = end.saturating_sub(layer.from);
    let mut suite = suite(document, format!("{} convergence", layer.name), layer.from, took);
    suite.add_test_cases(cases);
    Some(suite)
}

fn of_host(host: &Host, layer: &Layer) -> Option<TestCase> {
    let end = host.ends.iter().find(|end| end.layer == layer.name);
    let own = layer.hosts.contains(&host.name);
    let status = match end {
        Some(end) => of_end(host, end),
        // It has no end in this layer.
        None if own && layer.converged_at.is_none() && layer.audited.is_none() => {
            red(NonSuccessKind::Error, "cut short", "the run ended before this host was done", "")
        }
        None => return None,
    };
    let took = end.map_or(0, |end| end.took_ms);
    Some(case(format!("{}.convergence", layer.name), &host.name, took, status))
}

fn of_end(host: &Host, end: &HostEnd) -> TestCaseStatus {
    let why = host.problem.as_ref().map_or("", |problem| problem.reason.as_str());
    match end.state {
        HostState::Converged => TestCaseStatus::success(),
        HostState::Failed => {
            let failed: Vec<(String, String)> = host
                .steps
                .iter()
                .filter(|step| step.layer == end.layer)
                .filter_map(failure)
                .collect();
            let first = failed.first().map_or("a step failed", |(message, _)| message);
            let texts: Vec<&str> = failed.iter().map(|(_, text)| text.as_str()).collect();
            red(NonSuccessKind::Failure, "step failed", first, &texts.join("\n\n"))
        }
        HostState::Lost => red(NonSuccessKind::Error, "connection lost", why, ""),
        HostState::Unusable => red(NonSuccessKind::Error, "unusable", why, ""),
        HostState::Stopped => {
            red(NonSuccessKind::Error, "stopped", "the run was stopped before it was done", "")
        }
        HostState::NotStarted => red(
            NonSuccessKind::Error,
            "not started",
            "its turn did not come: too many hosts before it failed",
            "",
        ),
    }
}

/// A failed step: in one line, and with everything that is known.
fn failure(step: &super::model::Step) -> Option<(String, String)> {
    let StepResult::Failed { message, output, hint } = &step.result else { return None };
    let line = format!("{} › {}: {message}", step.role, step.name);
    let mut text = line.clone();
    for more in output.iter().chain(hint) {
        text.push('\n');
        text.push_str(more);
    }
    Some((line, text))
}

fn audit(document: &Document, layer: &Layer, audited: &Audited) -> TestSuite {
    let class = format!("{}.audit", layer.name);
    let mut suite = suite(document, format!("{} audit", layer.name), layer.from, 0);
    for host in audited.as_wanted() {
        suite.add_test_case(case(class.clone(), host, 0, TestCaseStatus::success()));
    }
    for drifted in &audited.drifted {
        let waived = || {
            drifted.waived.iter().map(|one| format!("{}: waived: {}", one.difference, one.waiving))
        };
        let status = if drifted.differences.is_empty() {
            skipped(&waived().collect::<Vec<_>>().join("; "))
        } else {
            let text = drifted.differences.join("\n");
            let count = drifted.differences.len();
            let differences = plural(count, "difference");
            red(NonSuccessKind::Failure, "drift", &differences, &text)
        };
        suite.add_test_case(case(class.clone(), &drifted.place, 0, status));
    }
    for host in &audited.not_looked_at {
        let why = "it could not be looked at";
        let status = red(NonSuccessKind::Error, "not looked at", why, "");
        suite.add_test_case(case(class.clone(), host, 0, status));
    }
    suite
}

fn gate_suite(document: &Document, layer: &Layer, gate: &Gate) -> TestSuite {
    let mut suite = suite(document, format!("{} gate", layer.name), gate.from, gate.took_ms);
    for test in &gate.tests {
        let kind = test.kind.map_or("gate", |kind| kind.word());
        let class = format!("{}.{kind}", layer.name);
        let mut case = case(class, &test.name, test.took_ms, of_test(test));
        let text = details(test);
        if !text.is_empty() {
            case.set_system_out(text);
        }
        suite.add_test_case(case);
    }
    suite
}

fn of_test(test: &Test) -> TestCaseStatus {
    let found = test.found.join("; ");
    match test.verdict {
        Some(Verdict::Pass) => TestCaseStatus::success(),
        Some(Verdict::Fail) => {
            let text = format!("expected {}\n{}", test.expected, test.found.join("\n"));
            red(NonSuccessKind::Failure, "fail", &test.expected, &text)
        }
        Some(Verdict::NotRun) => red(NonSuccessKind::Error, "not run", &found, ""),
        Some(Verdict::NotApplicable) => {
            skipped(&if found.is_empty() { test.expected.clone() } else { found })
        }
        Some(Verdict::Waived) => {
            let waivers: Vec<String> = test.waived.iter().map(ToString::to_string).collect();
            skipped(&format!("waived: {}: {found}", waivers.join("; ")))
        }
        None => red(NonSuccessKind::Error, "cut short", "the run ended before the test did", ""),
    }
}

/// What a test found, broke and measured.
fn details(test: &Test) -> String {
    let mut lines: Vec<String> = Vec::new();
    if test.verdict == Some(Verdict::Pass) {
        lines.extend(test.found.iter().cloned());
    }
    lines.extend(test.faults.iter().map(|fault| format!("fault: {}", fault.what)));
    let figure =
        |one: &Measurement| format!("{}: {} {} {}", one.subject, one.name, one.value, one.unit);
    lines.extend(test.measured.iter().map(figure));
    lines.join("\n")
}
