//! What each fault did to clients: fault, outage and milestones of a test on one axis. Pure.

use super::model::{Document, Layer, Test};
use super::timeline::{Axis, Tick};
use crate::event::Measurement;
use crate::report::style::duration;
use serde::Serialize;

/// The figure that says how long no write was acknowledged.
const OUTAGE: &str = "outage";

/// The figure that says when that began, after the first fault.
const BEGAN: &str = "outage began after";

/// A test with a fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Outage {
    /// The layer.
    pub layer: String,
    /// The test.
    pub test: String,
    /// The verdict.
    pub verdict: &'static str,
    /// Its class.
    pub class: &'static str,
    /// What was wanted.
    pub expected: String,
    /// All of it in one sentence.
    pub description: String,
    /// Its lines.
    pub lanes: Vec<Lane>,
    /// The axis.
    pub ticks: Vec<Tick>,
    /// What was counted, for example writes.
    pub counts: Vec<String>,
    /// What has to be known of the picture.
    pub note: Option<&'static str>,
}

/// A line of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Lane {
    /// What it is.
    pub label: String,
    /// Its class: `fault`, `outage` or `mark`.
    pub kind: &'static str,
    /// Where it begins.
    pub x: f64,
    /// How wide it is.
    pub width: f64,
    /// How long it was.
    pub text: String,
}

/// A line before there is an axis, in milliseconds since the first fault.
struct Span {
    label: String,
    kind: &'static str,
    from: u64,
    to: u64,
    text: String,
}

/// All tests that broke something, or looked for an outage.
pub(super) fn outages(document: &Document) -> Vec<Outage> {
    document
        .gates()
        .flat_map(|(layer, gate)| gate.tests.iter().map(move |test| (layer, test)))
        .filter(|(_, test)| !test.faults.is_empty() || figure(test, OUTAGE).is_some())
        .map(|(layer, test)| outage(document, layer, test))
        .collect()
}

/// A figure in milliseconds, by its name.
fn figure(test: &Test, name: &str) -> Option<f64> {
    test.measured.iter().find(|one| one.name == name).and_then(milliseconds)
}

fn milliseconds(figure: &Measurement) -> Option<f64> {
    let value = match figure.unit.as_str() {
        "s" => figure.value * 1000.0,
        "ms" => figure.value,
        _ => return None,
    };
    value.is_finite().then_some(value)
}

/// Milliseconds as a whole number; what is before the beginning is at the beginning.
fn whole(milliseconds: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(milliseconds / 1000.0)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn outage(document: &Document, layer: &Layer, test: &Test) -> Outage {
    let start = test.faults.iter().map(|fault| fault.from).min().unwrap_or(test.from);
    let healed = test.faults.iter().filter_map(|fault| fault.to).max();
    let healed = healed.map_or(0, |at| at.saturating_sub(start));
    let end_of_test = (test.from + test.took_ms).min(document.took_ms).saturating_sub(start);
    let mut spans: Vec<Span> = Vec::new();
    for fault in &test.faults {
        let from = fault.from.saturating_sub(start);
        let to = fault.to.map_or(end_of_test, |to| to.saturating_sub(start)).max(from);
        let text = match fault.to {
            Some(_) => format!("healed after {}", duration(to - from)),
            None => "not healed".to_owned(),
        };
        spans.push(Span { label: fault.what.clone(), kind: "fault", from, to, text });
    }
    let began = figure(test, BEGAN);
    for one in &test.measured {
        let Some(took) = milliseconds(one).filter(|_| one.name != BEGAN) else { continue };
        let took = whole(took);
        let text = duration(took);
        if one.name == OUTAGE {
            let from = whole(began.unwrap_or_default());
            let label = "no write acknowledged".to_owned();
            spans.push(Span { label, kind: "outage", from, to: from.saturating_add(took), text });
        } else {
            // A member that comes back does so after the healing.
            let from = if one.name.contains(" again after") { healed } else { 0 };
            let to = from.saturating_add(took);
            let label = milestone(&one.name).to_owned();
            spans.push(Span { label, kind: "mark", from, to, text });
        }
    }
    // Faults, then what they did, then who got over it, in the order in which it happened.
    let order = |kind| match kind {
        "fault" => 0,
        "outage" => 1,
        _ => 2,
    };
    spans.sort_by_key(|span| (order(span.kind), span.from, span.to));
    let axis = Axis::new(spans.iter().map(|span| span.to).max().unwrap_or(1));
    let described: Vec<String> =
        spans.iter().map(|span| format!("{}: {}", span.label, span.text)).collect();
    let (verdict, class) = super::html::verdict(test.verdict);
    let guessed = figure(test, OUTAGE).is_some() && began.is_none();
    Outage {
        layer: layer.name.clone(),
        test: test.name.clone(),
        verdict,
        class,
        expected: test.expected.clone(),
        description: format!("{}; {}", test.name, described.join("; ")),
        ticks: axis.ticks(),
        lanes: spans
            .into_iter()
            .map(|span| {
                let (x, width) = axis.between(span.from, span.to);
                Lane { label: span.label, kind: span.kind, x, width, text: span.text }
            })
            .collect(),
        counts: test
            .measured
            .iter()
            .filter(|one| milliseconds(one).is_none())
            .map(|one| format!("{} {} {}", one.name, one.value, one.unit))
            .collect(),
        note: guessed.then_some(
            "the journal has the outage's length and not its beginning: it is drawn from the start",
        ),
    }
}

/// `new master after` is `new master`: the line's end says when.
fn milestone(name: &str) -> &str {
    name.strip_suffix(" after").unwrap_or(name)
}
