//! The state of a site as Prometheus' text format, for node_exporter's textfile collector: what the
//! last run of each command came to, how old each proof is, what drifted, what gates measured.

use super::model::Document;
use crate::event::{Measurement, Verdict};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the metrics say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// The site's name.
    pub site: String,
    /// The last run of each command; its first word is the label.
    pub runs: Vec<Document>,
    /// The proofs of each layer.
    pub proofs: Vec<Proof>,
    /// What differed at the last look at each layer.
    pub drift: Vec<Drifting>,
    /// What each test measured when it ran last.
    pub figures: Vec<Figure>,
}

/// A layer's proof of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The layer.
    pub layer: String,
    /// The kind of tests.
    pub kind: &'static str,
    /// True when it counts now.
    pub green: bool,
    /// True when a test is red and waived.
    pub waived: bool,
    /// When it was made, in milliseconds since the epoch; none when there never was one.
    pub at_ms: Option<u64>,
}

/// What differed at the last look at a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drifting {
    /// The layer.
    pub layer: String,
    /// How many differences; waived ones too.
    pub differences: u32,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
}

/// What a test measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The layer.
    pub layer: String,
    /// The test.
    pub test: String,
    /// The figure.
    pub measurement: Measurement,
}

/// A family of metrics.
struct Family {
    help: &'static str,
    samples: Vec<(String, f64)>,
}

#[derive(Default)]
struct Families(BTreeMap<&'static str, Family>);

impl Families {
    fn add(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        let mut text = String::new();
        for (label, value) in labels {
            if !text.is_empty() {
                text.push(',');
            }
            let _ = write!(text, "{label}=\"{}\"", escaped(value));
        }
        let family = self.0.entry(name).or_insert_with(|| Family { help, samples: Vec::new() });
        // A sample twice would make the whole file invalid; the first one stands.
        if !family.samples.iter().any(|(known, _)| *known == text) {
            family.samples.push((text, value));
        }
    }
}

/// The text. Every metric is a gauge and has the site's name.
pub fn prometheus(metrics: &Metrics) -> String {
    let mut families = Families::default();
    let site = metrics.site.as_str();
    for run in &metrics.runs {
        of_run(&mut families, site, run);
    }
    for proof in &metrics.proofs {
        let labels = [("site", site), ("layer", &proof.layer), ("kind", proof.kind)];
        families.add(
            "strata_proof_green",
            "1 when the last proof of the layer counts now, also with waivers; 0 when it is red, stale or missing.",
            &labels,
            flag(proof.green),
        );
        families.add(
            "strata_proof_waived",
            "1 when the last proof has red tests that are waived.",
            &labels,
            flag(proof.waived),
        );
        if let Some(at_ms) = proof.at_ms {
            families.add(
                "strata_proof_timestamp_seconds",
                "When the layer was last proved or found red, in seconds since the epoch.",
                &labels,
                seconds(at_ms),
            );
        }
    }
    for drift in &metrics.drift {
        let labels = [("site", site), ("layer", drift.layer.as_str())];
        families.add(
            "strata_drift_differences",
            "Differences from the site that the last look found, waived ones too.",
            &labels,
            f64::from(drift.differences),
        );
        families.add(
            "strata_drift_timestamp_seconds",
            "When differences were last looked for, in seconds since the epoch.",
            &labels,
            seconds(drift.at_ms),
        );
    }
    for figure in &metrics.figures {
        of_figure(&mut families, site, figure);
    }
    text(&families)
}

fn of_run(families: &mut Families, site: &str, document: &Document) {
    let command = document.command.split_whitespace().next().unwrap_or("strata");
    let own = [("site", site), ("command", command)];
    families.add(
        "strata_run_info",
        "The last run of each command: its id and the version of strata.",
        &[own[0], own[1], ("run", &document.run), ("version", &document.version)],
        1.0,
    );
    families.add(
        "strata_run_start_timestamp_seconds",
        "When the last run began, in seconds since the epoch.",
        &own,
        seconds(document.started_ms),
    );
    families.add(
        "strata_run_duration_seconds",
        "How long the last run took; until its last event where it was cut short.",
        &own,
        seconds(document.took_ms),
    );
    families.add(
        "strata_run_exit_code",
        "The exit code of the last run; -1 where it was cut short.",
        &own,
        document.exit_code.map_or(-1.0, f64::from),
    );
    let hosts = document.host_counts();
    for (state, count) in [
        ("converged", hosts.converged),
        ("failed", hosts.failed),
        ("unusable", hosts.unusable),
        ("unfinished", hosts.open),
        ("connected", hosts.connected),
        ("untouched", hosts.untouched),
        ("out", hosts.out),
    ] {
        let labels = [own[0], own[1], ("state", state)];
        families.add(
            "strata_run_hosts",
            "Hosts of the last run by how it left them.",
            &labels,
            number(count),
        );
    }
    families.add(
        "strata_run_hosts_changed",
        "Hosts on which the last run changed something.",
        &own,
        number(hosts.changed),
    );
    let steps = document.steps();
    for (result, count) in [
        ("unchanged", steps.unchanged),
        ("changed", steps.changed),
        ("failed", steps.failed),
        ("unfinished", steps.unfinished),
    ] {
        let labels = [own[0], own[1], ("result", result)];
        families.add(
            "strata_run_steps",
            "Steps of the last run by what came of them.",
            &labels,
            number(count),
        );
    }
    for (layer, gate) in document.gates() {
        for (word, verdict) in [
            ("pass", Some(Verdict::Pass)),
            ("fail", Some(Verdict::Fail)),
            ("not_run", Some(Verdict::NotRun)),
            ("not_applicable", Some(Verdict::NotApplicable)),
            ("waived", Some(Verdict::Waived)),
            ("cut_short", None),
        ] {
            let count = gate.tests.iter().filter(|test| test.verdict == verdict).count();
            let labels = [own[0], own[1], ("layer", layer.name.as_str()), ("verdict", word)];
            families.add(
                "strata_run_gate_tests",
                "Tests of the gates of the last run by verdict.",
                &labels,
                number(count),
            );
        }
    }
}

/// A figure in Prometheus' base units where it has one of those that are known.
fn of_figure(families: &mut Families, site: &str, figure: &Figure) {
    const SECONDS: (&str, &str) = (
        "strata_gate_figure_seconds",
        "What tests of gates measured when they ran last, in seconds.",
    );
    let own = &figure.measurement;
    let labels = [
        ("site", site),
        ("layer", figure.layer.as_str()),
        ("test", figure.test.as_str()),
        ("subject", own.subject.as_str()),
        ("figure", own.name.as_str()),
    ];
    let ((name, help), factor) = match own.unit.as_str() {
        "s" => (SECONDS, 1.0),
        "ms" => (SECONDS, 0.001),
        "%" => (
            (
                "strata_gate_figure_ratio",
                "What tests of gates measured when they ran last, as a part of 1.",
            ),
            0.01,
        ),
        "Mbit/s" => (
            (
                "strata_gate_figure_bytes_per_second",
                "What tests of gates measured when they ran last, in bytes a second.",
            ),
            125_000.0,
        ),
        "/s" => (
            (
                "strata_gate_figure_per_second",
                "What tests of gates counted when they ran last, a second.",
            ),
            1.0,
        ),
        unit => {
            let labels: Vec<(&str, &str)> =
                labels.iter().copied().chain([("unit", unit)]).collect();
            let help = "What tests of gates counted when they ran last, in the unit of the label.";
            return families.add("strata_gate_figure", help, &labels, own.value);
        }
    };
    // A thousandth is as exact as what was measured.
    let value =
        if factor < 1.0 { (own.value * factor * 1e6).round() / 1e6 } else { own.value * factor };
    families.add(name, help, &labels, value);
}

fn text(families: &Families) -> String {
    let mut text = String::new();
    for (name, family) in &families.0 {
        let _ = writeln!(
            text,
            "# HELP {name} {}",
            family.help.replace('\\', "\\\\").replace('\n', "\\n")
        );
        let _ = writeln!(text, "# TYPE {name} gauge");
        for (labels, value) in &family.samples {
            let _ = writeln!(text, "{name}{{{labels}}} {}", written(*value));
        }
    }
    text
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A number as the format has it.
fn written(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

const fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

/// Milliseconds as seconds; exact to the millisecond for the next thousands of years.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
