//! The page: one file without outside references and without scripts. All texts are escaped by the
//! template engine, and the page itself forbids every script.

use super::changes::{Changed, changes};
use super::figures::{Compared, Past, compared};
use super::model::{Cluster, Document, Gate, Layer, StepResult, Test};
use super::outage::{Outage, outages};
use super::timeline::{Axis, Row, Tick, rows};
use crate::event::{Audited, GateVerdict, TestKind, Verdict};
use crate::report::style::{duration, moment, plural};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, value};
use serde::Serialize;
use std::collections::BTreeSet;

/// The template.
const PAGE: &str = include_str!("report.html");

/// Rows of figures that are shown without being asked for.
const OPEN_ROWS: usize = 24;

/// Why no page could be made.
#[derive(Debug, thiserror::Error)]
#[error("the page cannot be made: {0}")]
pub struct HtmlError(#[from] minijinja::Error);

/// Everything that the template asks for.
#[derive(Serialize)]
struct Page<'a> {
    document: &'a Document,
    title: String,
    status: (&'static str, String),
    started: String,
    took: String,
    tiles: Vec<Tile>,
    problems: Vec<Issue>,
    ticks: Vec<Tick>,
    rows: Vec<Row>,
    /// Kinds of bars that the timeline has.
    kinds: BTreeSet<&'static str>,
    layers: Vec<LayerView<'a>>,
    outages: Vec<Outage>,
    changes: Vec<Changed>,
    figures: Vec<FigureTable>,
}

/// A number of the head.
#[derive(Serialize)]
struct Tile {
    label: &'static str,
    value: String,
    note: String,
}

/// Something that somebody has to read.
#[derive(Debug, PartialEq, Serialize)]
struct Issue {
    /// The class.
    class: &'static str,
    word: &'static str,
    /// Where.
    place: String,
    text: String,
    /// The end of a program's output, and the like.
    more: Vec<String>,
    hint: Option<String>,
}

#[derive(Serialize)]
struct LayerView<'a> {
    layer: &'a Layer,
    class: &'static str,
    verdict: String,
    hosts: String,
    clusters: Vec<ClusterView<'a>>,
    tests: Vec<TestView<'a>>,
}

#[derive(Serialize)]
struct ClusterView<'a> {
    cluster: &'a Cluster,
    class: &'static str,
    word: &'static str,
    actions: Vec<(String, &'a str, String)>,
}

#[derive(Serialize)]
struct TestView<'a> {
    test: &'a Test,
    kind: &'static str,
    class: &'static str,
    word: &'static str,
    took: String,
    /// What was found; what was found more than once stands once.
    found: Vec<String>,
    waived: Vec<String>,
}

#[derive(Serialize)]
struct FigureTable {
    title: String,
    open: bool,
    rows: Vec<FigureRow>,
    earlier: String,
}

#[derive(Serialize)]
struct FigureRow {
    subject: String,
    name: String,
    value: String,
    baseline: String,
    change: String,
    /// Its values so far as a line of 100 by 20, and in words.
    line: String,
    described: String,
}

/// The text.
///
/// # Errors
/// When the template cannot be rendered.
pub fn html(document: &Document, past: &Past) -> Result<String, HtmlError> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut syntax = minijinja::syntax::SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("report.html", PAGE)?;
    let page = page(document, past);
    let text = environment.get_template("report.html")?.render(value::Serde(&page))?;
    Ok(text.chars().map(visible).collect())
}

/// What a terminal would obey, as a picture of it; lines and tabs stay.
fn visible(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\u{7f}' => '\u{2421}',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(' '),
        _ => character,
    }
}

fn page<'a>(document: &'a Document, past: &Past) -> Page<'a> {
    let name = if document.command.is_empty() { "nothing" } else { &document.command };
    let rows = rows(document);
    Page {
        document,
        title: format!("strata {name} · {} · {}", document.site, document.run),
        status: status(document),
        started: match document.started_ms {
            0 => "its start is not known".to_owned(),
            at_ms => moment(at_ms),
        },
        took: duration(document.took_ms),
        tiles: tiles(document),
        problems: problems(document),
        ticks: Axis::new(document.took_ms).ticks(),
        kinds: rows.iter().flat_map(|row| &row.bars).map(|bar| bar.kind).collect(),
        rows,
        layers: document.layers.iter().map(layer).collect(),
        outages: outages(document),
        changes: changes(document),
        figures: document
            .measuring()
            .map(|(layer, test)| figure_table(&layer.name, test, past))
            .collect(),
    }
}

fn status(document: &Document) -> (&'static str, String) {
    match document.exit_code {
        Some(0) => ("ok", "✓ done".to_owned()),
        Some(8) => ("warn", "! differences found (exit code 8)".to_owned()),
        Some(code) => ("bad", format!("✗ stopped (exit code {code})")),
        None => ("bad", "✗ cut short".to_owned()),
    }
}

fn tiles(document: &Document) -> Vec<Tile> {
    let (hosts, steps) = (document.host_counts(), document.steps());
    let note = |parts: &[(usize, &str)]| {
        let said = parts.iter().filter(|(count, _)| *count > 0);
        said.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
    };
    let green =
        document.gates().filter(|(_, gate)| gate.verdict.is_some_and(GateVerdict::is_green));
    let (green, gates) = (green.count(), document.gates().count());
    let tests: Vec<&Test> = document.gates().flat_map(|(_, gate)| &gate.tests).collect();
    let of = |verdict| tests.iter().filter(|test| test.verdict == verdict).count();
    vec![
        Tile {
            label: "hosts",
            value: document.hosts.len().to_string(),
            note: note(&[
                (hosts.converged, "as wanted"),
                (hosts.failed, "failed"),
                (hosts.unusable, "unusable"),
                (hosts.open, "not finished"),
                (hosts.connected, "connected"),
                (hosts.untouched, "not worked on"),
                (hosts.out, "out of service"),
            ]),
        },
        Tile {
            label: "steps changed",
            value: format!(
                "{} of {}",
                steps.changed,
                document.hosts.iter().map(|h| h.steps.len()).sum::<usize>()
            ),
            note: note(&[
                (hosts.changed, if hosts.changed == 1 { "host changed" } else { "hosts changed" }),
                (steps.failed, "failed"),
                (steps.unfinished, "not finished"),
            ]),
        },
        Tile {
            label: "gates green",
            value: format!("{green} of {gates}"),
            note: note(&[
                (of(Some(Verdict::Pass)), "passed"),
                (of(Some(Verdict::Fail)), "failed"),
                (of(Some(Verdict::NotRun)), "not run"),
                (of(Some(Verdict::Waived)), "waived"),
                (of(Some(Verdict::NotApplicable)), "n/a"),
                (of(None), "cut short"),
            ]),
        },
        Tile {
            label: "took",
            value: duration(document.took_ms),
            note: document
                .gates()
                .map(|(layer, gate)| format!("gate {} {}", layer.name, duration(gate.took_ms)))
                .collect::<Vec<_>>()
                .join(", "),
        },
    ]
}

/// What has to be read, the worst first.
fn problems(document: &Document) -> Vec<Issue> {
    let mut issues: Vec<Issue> = Vec::new();
    let mut add =
        |class, word, place: String, text: String, more: Vec<String>, hint: Option<String>| {
            let issue = Issue { class, word, place, text, more, hint };
            // What many hosts have is said once, with all of them.
            let same = |known: &&mut Issue| {
                (known.word, &known.text, &known.more, &known.hint)
                    == (issue.word, &issue.text, &issue.more, &issue.hint)
            };
            match issues.iter_mut().find(same) {
                Some(known) => known.place = format!("{}, {}", known.place, issue.place),
                None => issues.push(issue),
            }
        };
    if document.exit_code.is_none() {
        let text = "the journal of this run has no end: it was killed, or it still goes on";
        let hint = "`strata resume` goes on where it was".to_owned();
        add("bad", "cut short", "run".into(), text.into(), Vec::new(), Some(hint));
    }
    for host in &document.hosts {
        if let Some(problem) = &host.problem {
            let (name, hint) = (host.name.clone(), problem.hint.clone());
            add("bad", "unusable", name, problem.reason.clone(), Vec::new(), hint);
        }
        for step in &host.steps {
            if let StepResult::Failed { message, output, hint } = &step.result {
                let text = format!("{} › {}: {message}", step.role, step.name);
                let output = output.iter().cloned().collect();
                add("bad", "failed", host.name.clone(), text, output, hint.clone());
            }
        }
        if let Some((text, false)) = &host.program {
            add("bad", "failed", host.name.clone(), text.clone(), Vec::new(), None);
        }
    }
    for (layer, gate) in document.gates() {
        for test in &gate.tests {
            let (word, class) = verdict(test.verdict);
            let place = format!("{} › {}", layer.name, test.name);
            match test.verdict {
                Some(Verdict::Fail) => {
                    let text = format!("expected {}", test.expected);
                    add(class, word, place, text, test.found.clone(), None);
                }
                Some(Verdict::NotRun) => {
                    add(class, word, place, test.found.join("; "), Vec::new(), None);
                }
                None => {
                    let text = "the run ended before the test did".to_owned();
                    add(class, word, place, text, Vec::new(), None);
                }
                _ => {}
            }
        }
        if gate.verdict == Some(GateVerdict::NotHealed) {
            let text = "a fault that a test injected could not be healed".to_owned();
            add("bad", "not healed", format!("gate {}", layer.name), text, Vec::new(), None);
        }
    }
    for layer in &document.layers {
        for drifted in layer.audited.iter().flat_map(|audited| &audited.drifted) {
            if !drifted.differences.is_empty() {
                let text = plural(drifted.differences.len(), "difference");
                let more = drifted.differences.clone();
                add("warn", "differs", drifted.place.clone(), text, more, None);
            }
        }
        if let Some(why) = &layer.skipped {
            add("warn", "skipped", format!("layer {}", layer.name), why.clone(), Vec::new(), None);
        }
    }
    for host in &document.hosts {
        for warning in &host.warnings {
            add("warn", "warning", host.name.clone(), warning.clone(), Vec::new(), None);
        }
        for link in &host.links {
            let text = match link.to {
                Some(to) => format!("{}; back after {}", link.reason, duration(to - link.from)),
                None => link.reason.clone(),
            };
            add("warn", "link lost", host.name.clone(), text, Vec::new(), None);
        }
    }
    issues
}

fn layer(layer: &Layer) -> LayerView<'_> {
    let (class, verdict) = match (&layer.skipped, &layer.gate, &layer.audited) {
        (Some(_), ..) => ("warn", "skipped".to_owned()),
        (_, Some(gate), _) => gate_words(gate),
        (.., Some(audited)) => audit_words(audited),
        _ => match layer.complete {
            Some(true) => ("ok", "✓ converged".to_owned()),
            Some(false) => ("bad", "✗ not converged".to_owned()),
            None => ("dim", "not finished".to_owned()),
        },
    };
    let converged = layer.converged_at.map(|at| duration(at.saturating_sub(layer.from)));
    // Gates alone do not say which hosts a layer has.
    let hosts = match layer.hosts.len() {
        0 => String::new(),
        count => plural(count, "host"),
    };
    LayerView {
        layer,
        class,
        verdict,
        hosts: match (converged, layer.complete) {
            (Some(took), Some(true)) => format!("{hosts}, converged in {took}"),
            (Some(took), _) => format!("{hosts}, not converged after {took}"),
            _ => hosts,
        },
        clusters: layer.clusters.iter().map(cluster).collect(),
        tests: layer.gate.iter().flat_map(|gate| &gate.tests).map(test).collect(),
    }
}

fn gate_words(gate: &Gate) -> (&'static str, String) {
    let took = duration(gate.took_ms);
    match gate.verdict {
        Some(GateVerdict::Green) => ("ok", format!("✓ green in {took}")),
        Some(GateVerdict::GreenWithWaivers) => ("warn", format!("! green with waivers in {took}")),
        Some(GateVerdict::Red) => ("bad", format!("✗ red after {took}")),
        Some(GateVerdict::NotHealed) => ("bad", format!("✗ not healed after {took}")),
        None => ("bad", "✗ cut short".to_owned()),
    }
}

fn audit_words(audited: &Audited) -> (&'static str, String) {
    let looked = plural(audited.looked_at.len(), "host");
    match audited.verdict() {
        Verdict::Pass => ("ok", format!("✓ as wanted on {looked}")),
        Verdict::Fail => {
            ("bad", format!("✗ {} on {looked}", plural(audited.differences(), "difference")))
        }
        Verdict::Waived => ("warn", format!("! {} waived", plural(audited.waived(), "difference"))),
        Verdict::NotRun | Verdict::NotApplicable => ("warn", "! not looked at".to_owned()),
    }
}

fn cluster(cluster: &Cluster) -> ClusterView<'_> {
    let (class, word) = match cluster.complete {
        Some(true) => ("ok", "✓ as wanted"),
        Some(false) => ("bad", "✗ not as wanted"),
        None => ("dim", "looked at"),
    };
    ClusterView {
        cluster,
        class,
        word,
        actions: cluster
            .actions
            .iter()
            .map(|(at, what, took)| (duration(*at), what.as_str(), duration(*took)))
            .collect(),
    }
}

fn test(test: &Test) -> TestView<'_> {
    let (word, class) = verdict(test.verdict);
    TestView {
        test,
        kind: test.kind.map_or("", TestKind::word),
        class,
        word,
        took: duration(test.took_ms),
        found: counted(&test.found),
        waived: test.waived.iter().map(ToString::to_string).collect(),
    }
}

/// Lines without repetition, with the number of times that each was there.
fn counted(lines: &[String]) -> Vec<String> {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for line in lines {
        match counted.iter_mut().find(|(known, _)| known == line) {
            Some((_, count)) => *count += 1,
            None => counted.push((line, 1)),
        }
    }
    let said = |(line, count): (&str, usize)| {
        if count > 1 { format!("{line} ({count} times)") } else { line.to_owned() }
    };
    counted.into_iter().map(said).collect()
}

/// The words for a verdict, readable without colours, and its class.
pub(super) const fn verdict(verdict: Option<Verdict>) -> (&'static str, &'static str) {
    match verdict {
        Some(Verdict::Pass) => ("✓ pass", "ok"),
        Some(Verdict::Fail) => ("✗ fail", "bad"),
        Some(Verdict::NotRun) => ("✗ not run", "bad"),
        Some(Verdict::NotApplicable) => ("○ n/a", "dim"),
        Some(Verdict::Waived) => ("! waived", "warn"),
        None => ("✗ cut short", "bad"),
    }
}

fn figure_table(layer: &str, test: &Test, past: &Past) -> FigureTable {
    let all = compared((layer, &test.name), &test.measured, past);
    let earlier = all.iter().map(|one| one.earlier.len()).max().unwrap_or_default();
    FigureTable {
        title: format!("{layer} › {}", test.name),
        open: test.kind == Some(TestKind::Perf) && all.len() <= OPEN_ROWS,
        earlier: match earlier {
            0 => "no earlier run measured it".to_owned(),
            count => plural(count, "earlier run"),
        },
        rows: all.iter().map(figure_row).collect(),
    }
}

fn figure_row(one: &Compared<'_>) -> FigureRow {
    let unit = &one.figure.unit;
    let said = |value: f64| {
        if unit.starts_with('/') { format!("{value}{unit}") } else { format!("{value} {unit}") }
    };
    let values: Vec<f64> = one.earlier.iter().copied().chain([one.figure.value]).collect();
    let change = one.change().map(|percent| format!("{percent:+.0} %"));
    let words: Vec<String> = values.iter().map(|value| said(*value)).collect();
    FigureRow {
        subject: one.figure.subject.clone(),
        name: one.figure.name.clone(),
        value: said(one.figure.value),
        baseline: one.baseline.map(said).unwrap_or_default(),
        change: change.unwrap_or_default(),
        line: if values.len() > 1 { line(&values) } else { String::new() },
        described: format!("oldest first: {}", words.join(", ")),
    }
}

/// Values as the points of a line in a box of 100 by 20, nought at its foot.
fn line(values: &[f64]) -> String {
    let highest = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let last = values.len().saturating_sub(1).max(1);
    let points = values.iter().enumerate().map(|(place, value)| {
        let x = place as f64 / last as f64 * 96.0 + 2.0;
        let share = if highest > 0.0 && value.is_finite() { value.max(0.0) / highest } else { 0.0 };
        format!("{x:.1},{:.1}", 18.0 - share * 16.0)
    });
    points.collect::<Vec<_>>().join(" ")
}
