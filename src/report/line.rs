//! The line of text for an event, if it deserves one.

use super::style::{Palette, duration, plural};
use crate::event::{
    ChangeText, Event, EventKind, GateVerdict, HostProblem, HostState, Measurement, StepId,
    StepOutcome, Verdict,
};

/// The text for an event: `None` for those that only a progress display shows.
pub fn line_of(event: &Event, palette: &Palette, verbose: bool) -> Option<String> {
    let p = palette;
    let text = match &event.kind {
        EventKind::RunStarted {
            run, command, hosts, rehearsal, version, site, resumes, ..
        } => format!(
            "strata {version}  {}  site {site}, {}{}  {}",
            p.name(command),
            plural(hosts.len(), "host"),
            if *rehearsal { ", rehearsal" } else { "" },
            p.dim(match resumes {
                Some(resumes) => format!("run {run}, resumes {resumes}"),
                None => format!("run {run}"),
            }),
        ),
        EventKind::LayerStarted { layer, hosts } => {
            format!("layer {}  {}", p.name(layer), plural(hosts.len(), "host"))
        }
        EventKind::LayerSkipped { layer, why } => {
            format!("layer {}  {}: {why}", p.name(layer), p.warn("skipped"))
        }
        EventKind::Excepted { what, reason, .. } => {
            format!("  {} {what}: {reason}", p.warn("left out in rehearsal"))
        }
        EventKind::HostConnected { host, took_ms, .. } if verbose => {
            format!("  {host}  connected in {}", duration(*took_ms))
        }
        EventKind::HostUnusable { host, class, reason, hint } => {
            let word = match class {
                HostProblem::Unreachable => "unreachable",
                HostProblem::Identity => "IDENTITY",
                HostProblem::Locked => "locked",
                HostProblem::Unfit => "unfit",
            };
            with_hint(format!("  {host}  {}: {reason}", p.bad(word)), hint.as_ref(), p)
        }
        EventKind::HostWarning { host, text, hint } => {
            with_hint(format!("  {host}  {}: {text}", p.warn("warning")), hint.as_ref(), p)
        }
        EventKind::HostRebuilt { host, replaced, pinned }
            if replaced.is_empty() && pinned.is_empty() =>
        {
            format!("  {host}  is a new machine from now on")
        }
        EventKind::LinkLost { host, reason, step } => {
            let during = step.as_ref().map(|step| format!(" in {step}")).unwrap_or_default();
            format!("  {host}  {}{during}: {reason}", p.warn("link lost"))
        }
        EventKind::LinkRestored { host, after_ms, attempts } => format!(
            "  {host}  {} after {:.1} s, {}",
            p.good("reconnected"),
            *after_ms as f64 / 1000.0,
            plural(*attempts as usize, "attempt"),
        ),
        EventKind::HostOut { host, reason, until } => {
            format!("  {host}  {} until {until}: {reason}", p.warn("out of service"))
        }
        EventKind::HostIn { host } => format!("  {host}  {}", p.good("in service")),
        EventKind::HostRebuilt { host, replaced, pinned } => format!(
            "  {host}  pinned {} in place of {}",
            pinned.join(", "),
            if replaced.is_empty() { "nothing".to_owned() } else { replaced.join(", ") },
        ),
        EventKind::ProgramFinished { host, end, output, took_ms } if verbose || !end.is_good() => {
            let word = if end.is_good() { p.good(end) } else { p.bad(end) };
            let mut text = format!("  {host}  {word} {}", p.dim(duration(*took_ms)));
            for line in output.iter().flat_map(|output| output.lines()) {
                text.push_str(&format!("\n      | {line}"));
            }
            text
        }
        EventKind::StepWaiting { step, reason } => {
            format!("  {}  {}: {reason}", at(step), p.warn("waiting"))
        }
        EventKind::StepFinished { step, outcome, took_ms } => {
            step_line(step, outcome, *took_ms, p, verbose)?
        }
        EventKind::HostFinished {
            host, state, changed, steps, waiting_handlers, took_ms, ..
        } => host_line(host, *state, (*changed, *steps), waiting_handlers, *took_ms, p),
        EventKind::ClusterFound { cluster, state, found, .. } => {
            let state = if state == "healthy" { p.good(state) } else { p.warn(state) };
            format!("  cluster {}  {state}: {found}", p.name(cluster))
        }
        EventKind::ClusterNext { cluster, action, .. } => format!(
            "  cluster {}  {} {action}; what follows depends on what is then found",
            p.name(cluster),
            p.warn("next")
        ),
        EventKind::ClusterAction { cluster, action, took_ms: Some(took_ms), .. } => {
            let took = p.dim(duration(*took_ms));
            format!("  cluster {}  {} {action} {took}", p.name(cluster), p.warn("done"))
        }
        EventKind::ClusterWaiting { cluster, reason, .. } => {
            format!("  cluster {}  {}: {reason}", p.name(cluster), p.warn("waiting"))
        }
        EventKind::ClusterFinished { cluster, complete, actions, took_ms, .. } => {
            let word = if *complete { p.good("as wanted") } else { p.bad("not as wanted") };
            let actions = plural(*actions as usize, "action");
            format!("  cluster {}  {word}, {actions} in {}", p.name(cluster), duration(*took_ms))
        }
        EventKind::LayerFinished { layer, complete, took_ms } => {
            let word = if *complete { p.good("converged") } else { p.bad("not converged") };
            format!("layer {}  {word} in {}", p.name(layer), duration(*took_ms))
        }
        EventKind::GateStarted { layer, kinds } => {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
            format!("gate {}  {}", p.name(layer), kinds.join(", "))
        }
        EventKind::Fault { what, healed, .. } => {
            let word = if *healed { p.good("healed") } else { p.warn("fault") };
            format!("  {word}: {what}")
        }
        EventKind::TestFinished {
            test,
            kind,
            verdict,
            expected,
            found,
            measured,
            waived,
            took_ms,
            ..
        } => {
            let mut text =
                test_line(test, kind.word(), *verdict, expected, found, *took_ms, p, verbose);
            for waiving in waived {
                text.push_str(&format!("\n      {}: {waiving}", p.warn("waived")));
            }
            text.push_str(&figures(measured));
            text
        }
        EventKind::GateFinished { layer, verdict, counts, waived, took_ms } => {
            let word = match verdict {
                GateVerdict::Green => p.good("green"),
                GateVerdict::GreenWithWaivers => p.warn("green with waivers"),
                GateVerdict::Red => p.bad("RED"),
                GateVerdict::NotHealed => p.bad("NOT HEALED"),
            };
            format!(
                "gate {}  {word}: {} passed, {}{} failed, {} not run, {} n/a in {}",
                p.name(layer),
                counts[0],
                if *waived > 0 { format!("{waived} waived, ") } else { String::new() },
                counts[1],
                counts[2],
                counts[3],
                duration(*took_ms)
            )
        }
        EventKind::LayerAudited { layer, audited } => super::audited::audited(layer, audited, p),
        EventKind::Note { text } => text.clone(),
        EventKind::RunFinished { exit_code, reason, took_ms } => {
            let word = if *exit_code == 0 { p.good("done") } else { p.bad("stopped") };
            format!("{word}: {reason} in {} (exit code {exit_code})", duration(*took_ms))
        }
        EventKind::HostConnected { .. }
        | EventKind::ProgramFinished { .. }
        | EventKind::ClusterAction { took_ms: None, .. }
        | EventKind::StepStarted { .. }
        | EventKind::TestStarted { .. } => return None,
    };
    Some(text)
}

fn at(step: &StepId) -> String {
    let kind = if step.handler { "handler " } else { "" };
    format!("{}  {} › {kind}{}", step.host, step.role, step.step)
}

fn with_hint(text: String, hint: Option<&String>, p: &Palette) -> String {
    match hint {
        Some(hint) => format!("{text}\n      {} {hint}", p.name("hint:")),
        None => text,
    }
}

fn step_line(
    step: &StepId,
    outcome: &StepOutcome,
    took_ms: u64,
    p: &Palette,
    verbose: bool,
) -> Option<String> {
    Some(match outcome {
        StepOutcome::Unchanged if verbose => format!("  {}  {}", at(step), p.dim("unchanged")),
        StepOutcome::Unchanged => return None,
        StepOutcome::Changed { changes } => {
            let mut text =
                format!("  {}  {} {}", at(step), p.warn("changed"), p.dim(duration(took_ms)));
            for change in changes.iter().filter(|_| verbose) {
                text.push_str(&change_text(change));
            }
            text
        }
        StepOutcome::Failed { message, output, hint } => {
            let mut text = format!("  {}  {}: {message}", at(step), p.bad("FAILED"));
            for line in output.iter().flat_map(|output| output.lines()) {
                text.push_str(&format!("\n      | {line}"));
            }
            with_hint(text, hint.as_ref(), p)
        }
    })
}

/// A change below its step's line.
fn change_text(change: &ChangeText) -> String {
    let mut text = match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("\n      {}: {from} → {to}", change.what),
        (None, Some(to)) => format!("\n      {}: {to}", change.what),
        (Some(from), None) => format!("\n      {}: {from} → none", change.what),
        (None, None) => format!("\n      {}", change.what),
    };
    for line in change.diff.iter().flat_map(|diff| diff.lines()) {
        text.push_str(&format!("\n      {line}"));
    }
    text
}

fn host_line(
    host: &str,
    state: HostState,
    (changed, steps): (u32, u32),
    waiting: &[String],
    took_ms: u64,
    p: &Palette,
) -> String {
    let word = match state {
        HostState::Converged if changed == 0 => p.good("ok"),
        HostState::Converged => p.good("converged"),
        HostState::Failed => p.bad("failed"),
        HostState::Lost => p.bad("connection lost"),
        HostState::Unusable => p.bad("unusable"),
        HostState::Stopped => p.warn("stopped"),
        HostState::NotStarted => return format!("  {host}  {}", p.warn("not started")),
    };
    let mut text =
        format!("  {host}  {word}  {changed} changed of {steps} in {}", duration(took_ms));
    if !waiting.is_empty() {
        text.push_str(&format!(
            "\n      {} {}: run with the next complete install",
            p.warn("handlers waiting:"),
            waiting.join(", ")
        ));
    }
    text
}

#[expect(clippy::too_many_arguments, reason = "the fields of one event")]
fn test_line(
    test: &str,
    kind: &str,
    verdict: Verdict,
    expected: &str,
    found: &[String],
    took_ms: u64,
    p: &Palette,
    verbose: bool,
) -> String {
    let word = match verdict {
        Verdict::Pass => p.good(verdict.word()),
        Verdict::Fail | Verdict::NotRun => p.bad(verdict.word()),
        Verdict::NotApplicable => p.dim(verdict.word()),
        Verdict::Waived => p.warn(verdict.word()),
    };
    let mut text = format!("  {word}  {kind} {test}  {}", p.dim(duration(took_ms)));
    if verdict != Verdict::Pass || verbose {
        text.push_str(&format!("\n      expected {expected}"));
        for line in found {
            text.push_str(&format!("\n      found    {line}"));
        }
    }
    text
}

/// The figures of a test, one line for each host or pair of hosts.
fn figures(measured: &[Measurement]) -> String {
    let mut text = String::new();
    for subject in measured.chunk_by(|one, next| one.subject == next.subject) {
        let Some(first) = subject.first() else { continue };
        let figures: Vec<String> = subject
            .iter()
            .map(|figure| format!("{} {} {}", figure.name, figure.value, figure.unit))
            .collect();
        text.push_str(&format!("\n      measured {}: {}", first.subject, figures.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_one_line_for_each_subject() {
        let measured = [
            Measurement::new("db-01", "p50", 0.5, "ms"),
            Measurement::new("db-01", "p99", 2.34567, "ms"),
            Measurement::new("db-02", "p50", 1.0, "ms"),
        ];
        assert_eq!(
            figures(&measured),
            "\n      measured db-01: p50 0.5 ms, p99 2.346 ms\n      measured db-02: p50 1 ms"
        );
        assert_eq!(figures(&[]), "");
    }
}
