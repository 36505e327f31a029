//! `strata report`, and the reports that a site wants after each run.

use super::history::failed;
use super::output::{out, tell};
use super::report_file::write;
use super::{Exit, Settings, check};
use crate::diag::Diagnostics;
use crate::event::Event;
use crate::history::{Index, MeasuredThen, RecordState, Records, StateDir, read_journal};
use crate::report::{
    Document, Drifting, Figure, Metrics, Past, PastFigure, Proof, html, junit, prometheus,
};
use crate::run::proofs_of;
use crate::secrets::SharedRedactor;
use crate::site::Site;
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Earlier runs that a figure is compared with.
const EARLIER: u32 = 12;

/// Arguments of `strata report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata report                              the last run as strata-RUN.html, one file without outside references\n  strata report 20261121-091500 -o run.html\n  strata report --format junit -o result.xml     for a CI system\n  strata report --format prometheus              the site's state; [report] in strata.toml writes it after each run"
)]
pub struct ReportArguments {
    /// The run's id, or its beginning; rehearsals too [default: the last run]
    #[arg(add = super::complete::runs())]
    pub run: Option<String>,
    /// Which report
    #[arg(long, value_enum, default_value = "html")]
    pub format: Format,
    /// Where to: a file, or - for standard output [default: strata-RUN.html for HTML, else -]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Formats of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One page without outside references: timeline, changes, gates, outages, figures
    Html,
    /// For CI systems: a suite for each layer's convergence and gate
    Junit,
    /// Prometheus' text format: the last run of each command, proofs, drift, figures
    Prometheus,
    /// All of the page as one JSON object
    Json,
}

/// Runs the command.
pub fn run(arguments: &ReportArguments, settings: &Settings) -> Exit {
    let format = match arguments.format {
        // The flag of all commands says the same.
        Format::Html if settings.json && arguments.output.is_none() => Format::Json,
        format => format,
    };
    let state = match StateDir::open(&settings.root) {
        Ok(state) => state,
        Err(error) => return failed("the history cannot be read", &error),
    };
    let wanted = arguments.run.as_deref().filter(|run| *run != "last");
    let Some((of, run)) = state.find(wanted) else {
        tell!(
            "error: {}\nhint: `strata history` lists them",
            wanted.map_or("there are no runs yet".to_owned(), |run| format!(
                "there is no run `{run}`"
            ))
        );
        return Exit::InvalidInput;
    };
    let text = if format == Format::Prometheus {
        if wanted.is_some() && of.path() != state.path() {
            tell!(
                "error: {run} is a rehearsal: it says nothing about the site's state\nhint: the other formats have it"
            );
            return Exit::InvalidInput;
        }
        let mut problems = Diagnostics::new();
        let site = check::load(settings, &mut problems).filter(|_| !problems.has_errors());
        let Some(site) = site else {
            check::show(&problems, settings);
            return Exit::InvalidInput;
        };
        metrics(&state, &site, wanted.map(|_| run.as_str())).map(|metrics| prometheus(&metrics))
    } else {
        read_journal(&of.journal(&run)).and_then(|events| document(format, &of, &run, &events))
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => return failed("the report cannot be made", &error),
    };
    deliver(arguments, format, &run, &text, settings)
}

/// Puts the text where it is wanted.
fn deliver(
    arguments: &ReportArguments,
    format: Format,
    run: &str,
    text: &str,
    settings: &Settings,
) -> Exit {
    let file = match &arguments.output {
        Some(file) if file.as_os_str() == "-" => None,
        Some(file) => Some(file.clone()),
        None if format == Format::Html => Some(PathBuf::from(format!("strata-{run}.html"))),
        None => None,
    };
    let Some(file) = file else {
        out!("{}", text.trim_end_matches('\n'));
        return Exit::Done;
    };
    if let Err(error) = write(&file, text, format == Format::Prometheus) {
        tell!("error: {} cannot be written: {error}", file.display());
        return Exit::InvalidInput;
    }
    if settings.json {
        out!("{}", serde_json::json!({ "report": file, "run": run }));
    } else {
        out!("{}", file.display());
    }
    Exit::Done
}

/// The report of one run.
fn document(format: Format, state: &StateDir, run: &str, events: &[Event]) -> io::Result<String> {
    let document = Document::of(run, events);
    match format {
        Format::Html => html(&document, &past(state, &document)?).map_err(io::Error::other),
        Format::Junit => junit(&document).map_err(io::Error::other),
        Format::Json | Format::Prometheus => Ok(serde_json::to_string(&document)?),
    }
}

/// What the run is compared with.
fn past(state: &StateDir, document: &Document) -> io::Result<Past> {
    let index = Index::open(state)?;
    let mut past = Past::default();
    let tests: BTreeSet<(&str, &str)> = document
        .measuring()
        .map(|(layer, test)| (layer.name.as_str(), test.name.as_str()))
        .collect();
    for (layer, test) in &tests {
        let before = index.measured_before(&document.run, layer, test, EARLIER)?;
        past.earlier.extend(before.into_iter().map(then));
    }
    // The key is made with the first record: where there is none there is no baseline either.
    if state.path().join("record.key").is_file() {
        let records = Records::open(state.path())?;
        let layers: BTreeSet<&str> = tests.iter().map(|(layer, _)| *layer).collect();
        for layer in layers {
            // One that was edited does not count; the gate says so.
            let Ok(baselines) = records.baselines(layer) else { continue };
            past.baseline.extend(baselines.into_iter().map(|one| PastFigure {
                layer: layer.to_owned(),
                test: one.test,
                run: one.run,
                measurement: one.measurement,
            }));
        }
    }
    Ok(past)
}

fn then(one: MeasuredThen) -> PastFigure {
    PastFigure { layer: one.layer, test: one.test, run: one.run, measurement: one.measurement }
}

/// The site's state; `only` is the run that is asked for in place of the last of each command.
fn metrics(state: &StateDir, site: &Site, only: Option<&str>) -> io::Result<Metrics> {
    let index = Index::open(state)?;
    let records = Records::open(state.path())?;
    let mut metrics = Metrics { site: site.config.name.clone(), ..Metrics::default() };
    let mut known = BTreeSet::new();
    for summary in index.runs(u32::MAX)? {
        let command = summary.command.split_whitespace().next().unwrap_or_default().to_owned();
        let wanted = only.map_or_else(|| known.insert(command), |only| only == summary.run);
        if wanted {
            // Its journal may have gone since.
            let Ok(events) = read_journal(&state.journal(&summary.run)) else { continue };
            metrics.runs.push(Document::of(&summary.run, &events));
        }
    }
    for layer in &site.config.layers {
        for (kind, found) in proofs_of(site, &records, layer) {
            let found = found?;
            let (green, record) = match &found {
                RecordState::Green(record) => (true, Some(record)),
                RecordState::Red(record) | RecordState::Stale(record, _) => (false, Some(record)),
                RecordState::Missing | RecordState::Forged(_) => (false, None),
            };
            metrics.proofs.push(Proof {
                layer: layer.name.clone(),
                kind: kind.word(),
                green,
                waived: record.is_some_and(|record| !record.waived.is_empty()),
                at_ms: record.map(|record| record.at_ms),
            });
        }
        if let Some(drift) = index.drift(&layer.name)? {
            metrics.drift.push(Drifting {
                layer: layer.name.clone(),
                differences: drift.differences,
                at_ms: drift.at_ms,
            });
        }
    }
    let layers: BTreeSet<&str> = site.config.layers.iter().map(|one| one.name.as_str()).collect();
    let figures = index.last_measured()?.into_iter();
    metrics.figures.extend(
        figures.filter(|one| layers.contains(one.layer.as_str())).map(|one| Figure {
            layer: one.layer,
            test: one.test,
            measurement: one.measurement,
        }),
    );
    Ok(metrics)
}

/// Writes what the site wants after a run; `result` is the run where it came to something that
/// belongs on a page. Whatever becomes of it, the run's exit stays.
pub fn after(settings: &Settings, state: &StateDir, site: &Site, result: Option<&str>) {
    let wanted = &site.config.report;
    let place = |path: &Path| settings.root.join(path);
    let redactor = &settings.redactor;
    if let Some(path) = &wanted.prometheus {
        let text = metrics(state, site, None).map(|metrics| prometheus(&metrics));
        tell_if_not(&place(path), text, true, redactor);
    }
    let Some(run) = result.filter(|_| wanted.html.is_some() || wanted.junit.is_some()) else {
        return;
    };
    let events = match read_journal(&state.journal(run)) {
        Ok(events) => events,
        Err(error) => {
            let error = redactor.redact(&error.to_string()).into_owned();
            return tell!("warning: no report was written: {error}");
        }
    };
    for (path, format) in [(&wanted.junit, Format::Junit), (&wanted.html, Format::Html)] {
        if let Some(path) = path {
            tell_if_not(&place(path), document(format, state, run, &events), false, redactor);
        }
    }
}

fn tell_if_not(path: &Path, text: io::Result<String>, readable: bool, redactor: &SharedRedactor) {
    if let Err(error) = text.and_then(|text| write(path, &text, readable)) {
        let error = redactor.redact(&error.to_string()).into_owned();
        tell!("warning: the report {} was not written: {error}", path.display());
    }
}
