//! The timeline: what each host did when, as bars on one axis. Pure geometry; the axis has a
//! thousand units.

use super::model::{Document, Host, Layer, Outcome, Step, StepResult};
use crate::event::TestKind;
use crate::report::style::{duration, plural};
use serde::Serialize;

/// Units of the axis.
pub(super) const UNITS: f64 = 1000.0;

/// The narrowest bar: a moment must be seen too.
const NARROWEST: f64 = 2.0;

/// Bars of one kind that are nearer than this are one.
const NEAR: f64 = 1.0;

/// Steps that a bar's title names.
const NAMED: usize = 6;

/// Ticks of the axis at most.
const TICKS: u64 = 6;

/// A bar.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Bar {
    /// Where it begins.
    pub x: f64,
    /// How wide it is.
    pub width: f64,
    /// Where it begins from above, of 20.
    pub y: u8,
    /// How high it is.
    pub height: u8,
    /// What it is, as a class of the page.
    pub kind: &'static str,
    /// What it says.
    pub title: String,
}

/// A line of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// Its name.
    pub name: String,
    /// What came of it, in words and as a class.
    pub outcome: &'static str,
    /// The class.
    pub class: &'static str,
    /// The numbers beside it.
    pub count: String,
    /// All of it in one sentence, for who does not see it.
    pub description: String,
    /// Its bars.
    pub bars: Vec<Bar>,
}

/// A mark of the axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Tick {
    /// Where, in percent.
    pub percent: f64,
    /// What it says.
    pub label: String,
}

/// The axis of a span of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    span_ms: u64,
}

impl Axis {
    /// For a span; one of no time at all is drawn as one of a millisecond.
    pub fn new(span_ms: u64) -> Self {
        Self { span_ms: span_ms.max(1) }
    }

    /// A moment on it. Moments beyond its end stand there.
    pub fn at(self, ms: u64) -> f64 {
        // Exact far beyond the length of any run.
        round(ms.min(self.span_ms) as f64 / self.span_ms as f64 * UNITS)
    }

    /// From one moment to another, wide enough to be seen.
    pub fn between(self, from: u64, to: u64) -> (f64, f64) {
        let (x, end) = (self.at(from), self.at(to.max(from)));
        let width = (end - x).max(NARROWEST);
        (x.min(UNITS - width).max(0.0), round(width))
    }

    /// Its marks.
    pub fn ticks(self) -> Vec<Tick> {
        const STEPS: [u64; 17] = [
            100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000,
            600_000, 900_000, 1_800_000, 3_600_000, 7_200_000,
        ];
        let fits = |step: &&u64| self.span_ms / **step <= TICKS;
        let step = STEPS.iter().find(fits).copied().unwrap_or_else(|| self.span_ms.div_ceil(TICKS));
        (0..=self.span_ms / step)
            .map(|number| number * step)
            // One at the very end would stand over the edge.
            .filter(|at| *at == 0 || self.at(*at) < UNITS * 0.96)
            .map(|at| Tick { percent: round(self.at(at) / UNITS * 100.0), label: short(at) })
            .collect()
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A moment on an axis: `0`, `30 s`, `2 min`, `1 h 30`.
fn short(ms: u64) -> String {
    match ms {
        0 => "0".to_owned(),
        _ if ms < 1_000 || !ms.is_multiple_of(1_000) => format!("{:.1} s", ms as f64 / 1_000.0),
        _ if ms < 60_000 || (ms < 3_600_000 && !ms.is_multiple_of(60_000)) => match ms / 60_000 {
            0 => format!("{} s", ms / 1_000),
            minutes => format!("{minutes}:{:02} min", ms / 1_000 % 60),
        },
        _ if ms < 3_600_000 => format!("{} min", ms / 60_000),
        _ => format!("{}:{:02} h", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// All lines: layers and gates first, then the hosts.
pub(super) fn rows(document: &Document) -> Vec<Row> {
    let axis = Axis::new(document.took_ms);
    let layers = document.layers.iter().filter(|layer| layer.skipped.is_none());
    let layers = layers.map(|layer| of_layer(document, layer, axis));
    layers.chain(document.hosts.iter().map(|host| row(document, host, axis))).collect()
}

/// A layer with the tests of its gate: layers may be worked on at the same time.
fn of_layer(document: &Document, layer: &Layer, axis: Axis) -> Row {
    let mut bars = Vec::new();
    let gate = layer.gate.as_ref().map(|gate| gate.from);
    let end = layer.converged_at.or(gate).unwrap_or(document.took_ms);
    let word = match layer.complete {
        Some(true) => "converged",
        Some(false) => "not converged",
        None => "looked at",
    };
    // Gates alone converge nothing.
    if !layer.hosts.is_empty() {
        let took = duration(end.saturating_sub(layer.from));
        let title = format!("layer {}, {word}: {took}", layer.name);
        bars.push(bar(axis, (layer.from, end), (6, 8), "layer", title));
    }
    for test in layer.gate.iter().flat_map(|gate| &gate.tests) {
        let kind = match test.kind {
            Some(TestKind::Diag) => "diag",
            Some(TestKind::Failover) => "failover",
            Some(TestKind::Perf) => "perf",
            None => "open",
        };
        let verdict = test.verdict.map_or("cut short", |verdict| verdict.word());
        let took = duration(test.took_ms);
        let title = format!("gate {}: {} {verdict}, {took}", layer.name, test.name);
        bars.push(bar(axis, (test.from, test.from + test.took_ms), (3, 14), kind, title));
    }
    let tests = layer.gate.as_ref().map_or(0, |gate| gate.tests.len());
    Row {
        name: format!("layer {}", layer.name),
        outcome: "",
        class: "",
        count: String::new(),
        description: format!("layer {} with {}", layer.name, plural(tests, "test")),
        bars,
    }
}

fn bar(
    axis: Axis,
    (from, to): (u64, u64),
    (y, height): (u8, u8),
    kind: &'static str,
    title: String,
) -> Bar {
    let (x, width) = axis.between(from, to);
    Bar { x, width, y, height, kind, title }
}

fn row(document: &Document, host: &Host, axis: Axis) -> Row {
    let mut bars = Vec::new();
    for (at, took) in &host.connected {
        let title = format!("connected in {}", duration(*took));
        bars.push(bar(axis, (at.saturating_sub(*took), *at), (8, 4), "connect", title));
    }
    bars.extend(steps(host, axis));
    for link in &host.links {
        let title = format!("link lost: {}", link.reason);
        let to = link.to.unwrap_or(document.took_ms);
        bars.push(bar(axis, (link.from, to), (0, 20), "lost", title));
    }
    if let Some(problem) = &host.problem {
        let title = format!("unusable: {}", problem.reason);
        bars.push(bar(axis, (problem.at, problem.at), (0, 20), "failed", title));
    }
    let tests = document.gates().flat_map(|(_, gate)| &gate.tests);
    for (test, fault) in tests.flat_map(|test| test.faults.iter().map(move |fault| (test, fault))) {
        if names(&fault.what, &host.name) {
            let to = fault.to.unwrap_or(document.took_ms);
            let title = format!("fault in {}: {}", test.name, fault.what);
            bars.push(bar(axis, (fault.from, to), (0, 20), "fault", title));
        }
    }
    let changed = host.steps.iter().filter(|s| matches!(s.result, StepResult::Changed { .. }));
    let changed = changed.count();
    let outcome = host.outcome();
    let count = if host.steps.is_empty() {
        String::new()
    } else {
        format!("{changed} of {} changed", host.steps.len())
    };
    let what = if count.is_empty() { String::new() } else { format!(", {count}") };
    Row {
        name: host.name.clone(),
        outcome: outcome.words(),
        class: class(outcome),
        description: format!("{}: {}{what}", host.name, outcome.words()),
        count,
        bars,
    }
}

const fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Converged | Outcome::Connected => "ok",
        Outcome::Failed | Outcome::Unusable => "bad",
        Outcome::Open | Outcome::Out => "warn",
        Outcome::Untouched => "dim",
    }
}

/// Steps of a host: neighbours of one kind are one bar.
fn steps(host: &Host, axis: Axis) -> Vec<Bar> {
    struct Run<'a> {
        from: u64,
        to: u64,
        kind: &'static str,
        steps: Vec<&'a Step>,
    }
    let mut runs: Vec<Run<'_>> = Vec::new();
    for step in &host.steps {
        let (kind, to) = (kind(step), step.at + step.took_ms);
        match runs.last_mut() {
            Some(last) if last.kind == kind && axis.at(step.at) - axis.at(last.to) < NEAR => {
                last.to = last.to.max(to);
                last.steps.push(step);
            }
            _ => runs.push(Run { from: step.at, to, kind, steps: vec![step] }),
        }
    }
    let bar_of = |run: Run<'_>| {
        let names: Vec<String> = run
            .steps
            .iter()
            .take(NAMED)
            .map(|step| format!("{} › {}", step.role, step.name))
            .collect();
        let more = run.steps.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let word = match run.kind {
            "looked" => "as wanted",
            "open" => "not finished",
            other => other,
        };
        let took = duration(run.to.saturating_sub(run.from));
        let title = format!("{word}, {took}: {}{more}", names.join(", "));
        let (y, height) = match run.kind {
            "looked" => (8, 4),
            "failed" => (0, 20),
            _ => (3, 14),
        };
        bar(axis, (run.from, run.to), (y, height), run.kind, title)
    };
    runs.into_iter().map(bar_of).collect()
}

fn kind(step: &Step) -> &'static str {
    match (&step.result, step.handler) {
        (StepResult::Failed { .. }, _) => "failed",
        (StepResult::Unfinished, _) => "open",
        (_, true) => "handler",
        (StepResult::Changed { .. }, _) => "changed",
        (StepResult::Unchanged, _) => "looked",
    }
}

/// Whether a text has a host's name as a word.
fn names(text: &str, host: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '.')
        .any(|word| word.trim_matches('.') == host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fault_is_of_the_hosts_that_it_names() {
        assert!(names("redis-01: container redis killed", "redis-01"));
        assert!(names("reboot redis-01", "redis-01"));
        assert!(!names("reboot redis-011", "redis-01"));
        assert!(!names("redis-01: cut off", "redis"));
    }

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |ms| -> Vec<String> {
            Axis::new(ms).ticks().into_iter().map(|tick| tick.label).collect()
        };
        assert_eq!(labels(551_900), ["0", "2 min", "4 min", "6 min", "8 min"]);
        assert_eq!(labels(36), ["0"]);
        assert_eq!(labels(7_300), ["0", "2 s", "4 s", "6 s"]);
        assert_eq!(labels(150_000), ["0", "30 s", "1 min", "1:30 min", "2 min"]);
        assert_eq!(labels(0), ["0"]);
    }

    proptest! {
        #[test]
        fn every_bar_is_on_the_axis_and_can_be_seen(
            span in 0_u64..1_000_000_000, from in 0_u64..2_000_000_000, to in 0_u64..2_000_000_000
        ) {
            let axis = Axis::new(span);
            let (x, width) = axis.between(from, to);
            prop_assert!(x >= 0.0 && width >= NARROWEST && x + width <= UNITS + 0.01);
            prop_assert!(axis.ticks().len() <= 8);
        }
    }
}
