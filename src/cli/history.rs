//! `strata history`, `strata show` and `strata status`.

use super::hosts_out::{as_json, in_words};
use super::output::{out, tell};
use super::{Exit, Settings, check};
use crate::diag::Diagnostics;
use crate::event::{TestKind, Verdict};
use crate::history::{Drift, GateRecord, Index, RecordState, Records, StateDir, read_journal};
use crate::report::{Lines, duration, moment, plural};
use crate::run::proofs_of;
use clap::Args;

/// Arguments of `strata history`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  strata history\n  strata history --limit 100 --json")]
pub struct HistoryArguments {
    /// How many runs
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
}

/// Arguments of `strata show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata show               the last run\n  strata show 20261121-091500-abcd -v"
)]
pub struct ShowArguments {
    /// The run's id, or its beginning; rehearsals too [default: the last run]
    #[arg(add = super::complete::runs())]
    pub run: Option<String>,
}

/// Arguments of `strata status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  strata status\n  strata status --json")]
pub struct StatusArguments {}

/// Runs `strata history`.
pub fn history(arguments: &HistoryArguments, settings: &Settings) -> Exit {
    let runs = StateDir::open(&settings.root)
        .and_then(|state| Index::open(&state))
        .and_then(|index| index.runs(arguments.limit));
    let runs = match runs {
        Ok(runs) => runs,
        Err(error) => return failed("the history cannot be read", &error),
    };
    if settings.json {
        for run in &runs {
            print_json(run);
        }
        return Exit::Done;
    }
    if runs.is_empty() {
        out!("no runs yet");
    }
    for run in runs {
        let outcome = match run.exit_code {
            Some(0) => "done".to_owned(),
            Some(code) => format!("exit {code}"),
            None => "cut short".to_owned(),
        };
        out!(
            "{}  {}  {:9}  {:>10}  {}, {} changed, {} failed, {} unreachable  {}",
            run.run,
            moment(run.started_ms),
            outcome,
            run.took_ms.map_or_else(String::new, duration),
            plural(run.hosts as usize, "host"),
            run.changed,
            run.failed,
            run.unreachable,
            run.command,
        );
    }
    Exit::Done
}

/// Runs `strata show`.
pub fn show(arguments: &ShowArguments, settings: &Settings) -> Exit {
    let state = match StateDir::open(&settings.root) {
        Ok(state) => state,
        Err(error) => return failed("the history cannot be read", &error),
    };
    let Some((state, run)) = state.find(arguments.run.as_deref()) else {
        tell!("error: there is no such run\nhint: `strata history` lists them");
        return Exit::InvalidInput;
    };
    match read_journal(&state.journal(&run)) {
        Ok(events) => {
            let mut lines = Lines::new(settings.palette, settings.verbose);
            for event in events {
                if settings.json {
                    print_json(&event);
                } else if let Some(line) = lines.line(&event) {
                    out!("{line}");
                }
            }
            Exit::Done
        }
        Err(error) => failed("the run's journal cannot be read", &error),
    }
}

/// Runs `strata status`: one screen, a line a layer.
pub fn status(_: &StatusArguments, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let Some(site) = check::load(settings, &mut problems).filter(|_| !problems.has_errors()) else {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    };
    let records = StateDir::open(&settings.root).and_then(|state| {
        let index = Index::open(&state)?;
        Ok((Records::open(state.path())?, index))
    });
    let (records, index) = match records {
        Ok(read) => read,
        Err(error) => return failed("the state cannot be read", &error),
    };
    let mut exit = Exit::Done;
    for layer in &site.config.layers {
        let unread = |error: std::io::Error| RecordState::Forged(error.to_string());
        let states: Vec<(TestKind, RecordState)> = proofs_of(&site, &records, layer)
            .into_iter()
            .map(|(kind, state)| (kind, state.unwrap_or_else(unread)))
            .collect();
        let proved = states
            .iter()
            .any(|(kind, s)| *kind == TestKind::Diag && matches!(s, RecordState::Green(_)));
        if !proved {
            exit = Exit::Differences;
        }
        let drift = match index.drift(&layer.name) {
            Ok(drift) => drift,
            Err(error) => return failed("the index of runs cannot be read", &error),
        };
        if settings.json {
            for (kind, state) in &states {
                let (word, record, why) = parts(state);
                print_json(&serde_json::json!({
                    "layer": layer.name, "kind": kind, "state": word, "why": why,
                    "at_ms": record.map(|r| r.at_ms), "run": record.map(|r| r.run.as_str()),
                    "hosts": record.map(|r| r.hosts.len()),
                    "waived": record.map_or(&[][..], |r| r.waived.as_slice()),
                }));
            }
            if let Some(drift) = &drift {
                print_json(&serde_json::json!({ "drift": drift }));
            }
            continue;
        }
        out!("{}", settings.palette.name(&layer.name));
        for (kind, state) in &states {
            out!("  {:9} {}", kind.word(), proof(state, settings));
            if let RecordState::Green(record) | RecordState::Stale(record, _) = state {
                for waived in &record.waived {
                    let why: Vec<String> = waived.waivers.iter().map(|w| w.to_string()).collect();
                    let word = settings.palette.warn("waived");
                    out!("            {} {word}: {}", waived.test, why.join("; "));
                }
            }
        }
        out!("  {:9} {}", "drift", drift_text(drift.as_ref(), settings));
        if !proved {
            out!("  next      strata install --layer {}", layer.name);
        }
    }
    for (host, entry) in &site.out {
        if settings.json {
            print_json(&as_json(host, entry));
        } else {
            let word = settings.palette.warn("out of service");
            out!("{host}  {word} {}", in_words(entry));
        }
    }
    let last = match index.runs(1) {
        Ok(last) => last,
        Err(error) => return failed("the index of runs cannot be read", &error),
    };
    if let Some(run) = last.first().filter(|_| !settings.json) {
        out!(
            "last run  {}  {}  {}",
            run.run,
            run.command,
            run.exit_code.map_or_else(|| "cut short".to_owned(), |code| format!("exit {code}"))
        );
    }
    exit
}

/// What the last look at a layer's hosts found.
fn drift_text(drift: Option<&Drift>, settings: &Settings) -> String {
    let Some(drift) = drift else { return settings.palette.dim("never looked for") };
    let what = match drift.verdict {
        Verdict::Pass => settings.palette.good("none"),
        Verdict::Fail => settings.palette.bad(plural(drift.differences as usize, "difference")),
        Verdict::NotRun => settings.palette.warn("could not be looked for"),
        Verdict::NotApplicable => settings.palette.dim("not looked for"),
        Verdict::Waived => settings
            .palette
            .warn(format!("{}, waived", plural(drift.differences as usize, "difference"))),
    };
    format!(
        "{what}  {} on {} in run {}",
        moment(drift.at_ms),
        plural(drift.hosts as usize, "host"),
        drift.run
    )
}

fn parts(state: &RecordState) -> (&'static str, Option<&GateRecord>, Option<&str>) {
    match state {
        RecordState::Missing => ("never proved", None, None),
        RecordState::Green(record) if !record.waived.is_empty() => {
            ("green with waivers", Some(record), None)
        }
        RecordState::Green(record) => ("green", Some(record), None),
        RecordState::Red(record) => ("red", Some(record), None),
        RecordState::Stale(record, why) => ("stale", Some(record), Some(why)),
        RecordState::Forged(why) => ("not ours", None, Some(why)),
    }
}

fn proof(state: &RecordState, settings: &Settings) -> String {
    let (word, record, why) = parts(state);
    let word = match state {
        RecordState::Green(record) if !record.waived.is_empty() => settings.palette.warn(word),
        RecordState::Green(_) => settings.palette.good(word),
        RecordState::Missing => settings.palette.dim(word),
        RecordState::Stale(..) => settings.palette.warn(word),
        RecordState::Red(_) | RecordState::Forged(_) => settings.palette.bad(word),
    };
    let when = record.map_or_else(String::new, |record| {
        format!(
            "  {} on {} in run {}",
            moment(record.at_ms),
            plural(record.hosts.len(), "host"),
            record.run
        )
    });
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    format!("{word}{why}{when}")
}

fn print_json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        out!("{text}");
    }
}

pub(super) fn failed(what: &str, error: &std::io::Error) -> Exit {
    tell!("error: {what}: {error}");
    Exit::Internal
}
