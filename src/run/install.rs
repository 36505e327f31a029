//! `strata install`: layer after layer, each converged on all its hosts, then proved by its gate.

use super::Exit;
use super::continuation::Continuation;
use super::ending::{AGAIN, Ending};
use super::layer::{LayerWork, Worked};
use super::layers::{self, Place};
use super::meet::meet;
use super::proof::proof_of;
use super::underway::Underway;
use crate::event::{EventKind, GateVerdict, TestKind, elapsed_ms};
use crate::fleet::{Connection, Events, Stop};
use crate::gate;
use crate::history::{RecordState, Records};
use crate::plan::{Found, SecretLookup, StepFilter};
use crate::resource::Mode;
use crate::site::{Layer, Profile, Site};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Which kinds of tests an install runs after a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateChoice {
    /// Diag always. Tests that inject faults only in a rehearsal, and only until they passed:
    /// production is not a test bench, and nothing tells that a base host carries no traffic yet.
    Formed,
    /// Every kind.
    Full,
    /// Diag only.
    Diag,
}

/// What to do.
pub struct Request<'a> {
    /// The site.
    pub site: &'a Site,
    /// What its check has found.
    pub found: &'a Found<'a>,
    /// Layers, lowest first.
    pub layers: Vec<&'a Layer>,
    /// True when the layers were named; then those they require must be green already.
    pub named: bool,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Those of them that are looked at before anything begins: it is not known that an agent fits.
    pub unmet: Vec<String>,
    /// Which steps.
    pub steps: StepFilter,
    /// True when a layer that failed does not stop those that do not require it.
    pub keep_going: bool,
    /// Look or change.
    pub mode: Mode,
    /// Which tests run.
    pub gate: GateChoice,
    /// Only the tests of these names, or all where there is none.
    pub tests: Vec<String>,
    /// How to reach hosts.
    pub connection: Connection,
    /// Secrets for templates.
    pub secrets: Arc<dyn SecretLookup>,
    /// Gate records.
    pub records: Records,
    /// The run's id.
    pub run: String,
    /// The run that this one goes on with.
    pub continuing: Option<Continuation>,
}

/// Runs the layers. Everything that happens is emitted; the result is the run's exit.
pub async fn install(request: &Request<'_>, events: &Events, stop: &Stop) -> (Exit, String) {
    let run = match Underway::begin(request, events, stop).await {
        Ok(run) => run,
        Err(end) => return end,
    };
    if let Some(refusal) = requirements(request) {
        return (Exit::Refused, refusal);
    }
    if let Some(refusal) = meet(&run).await {
        run.fleet.close().await;
        return refusal;
    }
    let mut ending = Ending::new(stop);
    if let Some(step) = request.steps.start_at() {
        note_start(request, step, events);
    }
    layers::work(&run, &mut ending).await;
    run.fleet.close().await;
    let again = match request.mode {
        Mode::Apply => "`strata resume` goes on",
        Mode::Check => AGAIN,
    };
    ending.finish("everything is as wanted", again, events).await
}

/// Says where a run begins that does not begin at the beginning.
fn note_start(request: &Request<'_>, step: &str, events: &Events) {
    let Some(first) = request.layers.first() else { return };
    let here = hosts_of(request.site, first, &request.hosts);
    let (at, later): (Vec<&String>, Vec<&String>) =
        here.iter().partition(|host| request.steps.reaches(&first.name, [*host]));
    let others = match later.len() {
        0 => String::new(),
        1 => format!("; {} does not have it and begins with the next layer", later[0]),
        count => format!("; {count} hosts do not have it and begin with the next layer"),
    };
    let text = format!("  {} hosts begin at `{step}` in layer `{}`{others}", at.len(), first.name);
    events.emit(EventKind::Note { text });
}

/// Whether the run that this one resumes has proved the layer, and its record still holds: then a
/// look that changed nothing is enough.
fn proved_before(request: &Request<'_>, layer: &Layer, hosts: &[String]) -> bool {
    request.continuing.as_ref().is_some_and(|one| one.proved(&layer.name))
        && matches!(record_state(request, layer, TestKind::Diag, hosts), RecordState::Green(_))
}

/// Why the run is refused before it begins: a layer below is not green (KB-G3, KB-G4).
fn requirements(request: &Request<'_>) -> Option<String> {
    if !request.named {
        return None;
    }
    for layer in &request.layers {
        // What is below must hold where this layer stands; other hosts are none of its business.
        let here = hosts_of(request.site, layer, &request.hosts);
        for (name, _) in &layer.requires {
            let Some(below) = request.site.layer(name) else { continue };
            if request.layers.iter().any(|other| other.name == *name) {
                continue;
            }
            let why = match record_state(request, below, TestKind::Diag, &here) {
                RecordState::Green(_) => continue,
                RecordState::Missing => "it was never proved".to_owned(),
                RecordState::Red(_) => "its gate is red".to_owned(),
                RecordState::Stale(_, why) | RecordState::Forged(why) => why,
            };
            return Some(format!(
                "layer `{}` needs `{name}` green: {why}; run `strata verify --layer {name}` or `strata install --layer {name}`",
                layer.name
            ));
        }
    }
    None
}

fn record_state(
    request: &Request<'_>,
    layer: &Layer,
    kind: TestKind,
    selected: &[String],
) -> RecordState {
    proof_of(request.site, &request.records, layer, kind, selected)
        .unwrap_or_else(|error| RecordState::Forged(format!("its record cannot be read: {error}")))
}

/// The selected hosts that this layer has anything for, each once.
pub fn hosts_of(site: &Site, layer: &Layer, selected: &[String]) -> Vec<String> {
    let members: BTreeSet<&str> = layer
        .place
        .iter()
        .filter_map(|placement| site.groups.get(&placement.group))
        .flat_map(|group| group.hosts.iter().map(String::as_str))
        .collect();
    selected.iter().filter(|host| members.contains(host.as_str())).cloned().collect()
}

/// What a layer came to.
pub(super) struct LayerEnd {
    pub(super) exit: Exit,
    /// Why, where it is not done.
    pub(super) reason: String,
    /// Hosts that were not finished because the run was stopped.
    pub(super) stopped: Vec<String>,
}

impl LayerEnd {
    const fn of(exit: Exit, reason: String) -> Self {
        Self { exit, reason, stopped: Vec::new() }
    }
}

/// Brings a layer to its end: converged on these hosts, and proved.
pub(super) async fn one_layer(
    run: &Underway<'_>,
    layer: &Layer,
    hosts: &[String],
    place: &Place<'_>,
) -> LayerEnd {
    let Underway { request, events, stop, .. } = run;
    let start = Instant::now();
    events.emit(EventKind::LayerStarted { layer: layer.name.clone(), hosts: hosts.to_vec() });
    let Worked { exit, reason, changed, formed, stopped } =
        LayerWork::new(run, layer).work(hosts).await;
    let complete = exit == Exit::Done && !stop.wished();
    events.emit(EventKind::LayerFinished {
        layer: layer.name.clone(),
        complete,
        took_ms: elapsed_ms(start),
    });
    if !complete {
        let why = match reason.as_str() {
            "" => " is not converged on every host".to_owned(),
            reason => format!(": {reason}"),
        };
        let reason = format!("layer `{}`{why}; its gate was not run", layer.name);
        return LayerEnd { exit, reason, stopped };
    }
    if request.mode == Mode::Check {
        return match changed {
            0 => LayerEnd::of(Exit::Done, String::new()),
            count => LayerEnd::of(
                Exit::Differences,
                format!("{count} differences in layer `{}`", layer.name),
            ),
        };
    }
    if request.steps.is_part() {
        events.emit(EventKind::Note {
            text: format!(
                "  gate of {0} not run: only selected steps were; `strata verify --layer {0}` runs it",
                layer.name
            ),
        });
        return LayerEnd::of(Exit::Done, String::new());
    }
    if changed == 0 && proved_before(request, layer, hosts) {
        let text =
            format!("  gate of {} was green before, and nothing changed: not repeated", layer.name);
        events.emit(EventKind::Note { text });
        return LayerEnd::of(Exit::Done, String::new());
    }
    let kinds = kinds_to_run(request, layer, formed);
    if let Err(end) = wait_for_the_rest(run, layer, place, &kinds).await {
        return end;
    }
    let (exit, reason) = prove(run, layer, hosts, kinds).await;
    if exit == Exit::Done {
        note_unproved(request, layer, events);
    }
    LayerEnd::of(exit, reason)
}

/// The kinds of tests that follow a converged layer.
fn kinds_to_run(request: &Request<'_>, layer: &Layer, just_formed: bool) -> Vec<TestKind> {
    let mut kinds = vec![TestKind::Diag];
    for kind in [TestKind::Failover, TestKind::Perf] {
        let unproved =
            !matches!(record_state(request, layer, kind, &request.hosts), RecordState::Green(_));
        let formed = request.gate == GateChoice::Formed
            && (just_formed || request.site.profile == Profile::Rehearsal)
            && unproved;
        if gate::has_tests(request.site, layer, kind)
            && (request.gate == GateChoice::Full || formed)
        {
            kinds.push(kind);
        }
    }
    kinds
}

/// Waits until nothing else is in hand where a gate injects faults or measures. Faults reach further
/// than the hosts that they are injected into, and figures taken beside other work are not the
/// site's.
async fn wait_for_the_rest(
    run: &Underway<'_>,
    layer: &Layer,
    place: &Place<'_>,
    kinds: &[TestKind],
) -> Result<(), LayerEnd> {
    if kinds.iter().all(|kind| *kind == TestKind::Diag) {
        return Ok(());
    }
    let name = &layer.name;
    let told = || {
        let text = format!(
            "  gate of {name} waits for the other layers in hand: it injects faults or measures"
        );
        run.events.emit(EventKind::Note { text });
    };
    let unproved = |exit, why: &str| {
        let reason = format!("layer `{name}` is converged; its gate was not run{why}");
        LayerEnd::of(exit, reason)
    };
    tokio::select! {
        alone = place.alone(told) => alone.map_err(|exit| {
            unproved(exit, ": the gate of another layer left the fleet in doubt")
        }),
        () = run.stop.soon() => Err(unproved(Exit::stopped(run.stop), "")),
    }
}

/// Says which kinds of tests have no proof that counts, and the command that gives one.
fn note_unproved(request: &Request<'_>, layer: &Layer, events: &Events) {
    for kind in [TestKind::Failover, TestKind::Perf] {
        if !gate::has_tests(request.site, layer, kind) {
            continue;
        }
        let why = match record_state(request, layer, kind, &request.hosts) {
            RecordState::Green(_) => continue,
            RecordState::Missing => "never run".to_owned(),
            RecordState::Red(_) => "red".to_owned(),
            RecordState::Stale(_, why) | RecordState::Forged(why) => format!("stale: {why}"),
        };
        events.emit(EventKind::Note {
            text: format!(
                "  {} of {}: {why}; renew it with `strata verify --layer {} --kind {} --confirm {}`",
                kind.word(),
                layer.name,
                layer.name,
                kind.word(),
                request.site.config.name
            ),
        });
    }
}

/// Runs the gate of a layer and turns its verdict into an exit.
pub(super) async fn prove(
    run: &Underway<'_>,
    layer: &Layer,
    hosts: &[String],
    kinds: Vec<TestKind>,
) -> (Exit, String) {
    let Underway { request, resolver, fleet, events, stop, .. } = run;
    let context = gate::Context {
        site: request.site,
        layer,
        hosts,
        resolver,
        connection: &request.connection,
        records: &request.records,
        run: &request.run,
        only: &request.tests,
        keep: true,
    };
    let judged = gate::run(&context, kinds, fleet, events, stop).await;
    match judged.map(|judged| (judged.verdict, judged.cut_short)) {
        Ok((GateVerdict::Green | GateVerdict::GreenWithWaivers, _)) => (Exit::Done, String::new()),
        Ok((GateVerdict::Red, true)) => {
            (Exit::stopped(stop), format!("the gate of `{}` was not finished", layer.name))
        }
        Ok((GateVerdict::Red, false)) => {
            (Exit::GateRed, format!("the gate of `{}` is red", layer.name))
        }
        Ok((GateVerdict::NotHealed, _)) => (
            Exit::NotHealed,
            format!("a fault injected by the gate of `{}` could not be healed", layer.name),
        ),
        Err(error) => (
            Exit::Internal,
            format!("the verdict of the gate of `{}` could not be kept: {error}", layer.name),
        ),
    }
}
