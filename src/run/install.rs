//! `strata install`: layer after layer, each converged on all its hosts, then proved by its gate.

use super::Exit;
use super::clusters;
use super::converge::{self, Tally};
use super::ending::{Ending, no_journal};
use super::meet::meet;
use crate::diag::{Diagnostics, Renderer};
use crate::event::{EventKind, GateVerdict, HostProblem, HostState, TestKind, elapsed_ms, now_ms};
use crate::fleet::{Connection, Events, Fleet, Stop};
use crate::gate;
use crate::history::{RecordState, Records};
use crate::plan::{Resolver, SecretLookup, Skipped, layer_digest};
use crate::resource::Mode;
use crate::site::{Layer, Profile, Site};
use futures::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Layers, lowest first.
    pub layers: Vec<&'a Layer>,
    /// True when the layers were named; then those they require must be green already.
    pub named: bool,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Those of them that are looked at before anything begins: it is not known that an agent fits.
    pub unmet: Vec<String>,
    /// Tags that restrict the steps.
    pub tags: Vec<String>,
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
}

/// Runs the layers. Everything that happens is emitted; the result is the run's exit.
pub async fn install(request: &Request<'_>, events: &Events, stop: &Stop) -> (Exit, String) {
    if let Some(refusal) = no_journal(events).await {
        return refusal;
    }
    if let Some(refusal) = requirements(request) {
        return (Exit::Refused, refusal);
    }
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(request.site, Arc::clone(&request.secrets), &mut problems);
    let fleet = Fleet::default();
    if let Some(refusal) = meet(request, &fleet, events, stop).await {
        fleet.close().await;
        return refusal;
    }
    let mut ending = Ending::default();
    for layer in &request.layers {
        let Some(hosts) = ending.hosts_of_next(layer, request, events).await else { break };
        if hosts.is_empty() {
            continue;
        }
        let (layer_exit, why) =
            one_layer(request, layer, &hosts, &resolver, &fleet, events, stop).await;
        ending.add(layer_exit, why);
        let looking_on = request.mode == Mode::Check && layer_exit == Exit::Differences;
        if layer_exit != Exit::Done && !looking_on {
            break;
        }
    }
    fleet.close().await;
    ending.finish("everything is as wanted", events, stop).await
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
    let hosts = hosts_of(request.site, layer, selected);
    let digest = layer_digest(request.site, layer);
    let max_age = request.site.config.gate.max_age_days;
    request
        .records
        .state(&layer.name, kind, &digest, &hosts, now_ms(), max_age)
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

async fn one_layer(
    request: &Request<'_>,
    layer: &Layer,
    hosts: &[String],
    resolver: &Resolver<'_>,
    fleet: &Fleet,
    events: &Events,
    stop: &Stop,
) -> (Exit, String) {
    let start = Instant::now();
    events.emit(EventKind::LayerStarted { layer: layer.name.clone(), hosts: hosts.to_vec() });
    let work =
        LayerWork { request, layer, resolver, fleet, events, stop, left_out: Mutex::default() };
    let Worked { exit, reason, changed, formed } = work.work(hosts).await;
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
        return (exit, format!("layer `{}`{why}; its gate was not run", layer.name));
    }
    if request.mode == Mode::Check {
        return match changed {
            0 => (Exit::Done, String::new()),
            count => (Exit::Differences, format!("{count} differences in layer `{}`", layer.name)),
        };
    }
    if !request.tags.is_empty() {
        events.emit(EventKind::Note {
            text: format!("  gate of {} not run: only tagged steps were", layer.name),
        });
        return (Exit::Done, String::new());
    }
    let (exit, reason) = prove(
        request,
        layer,
        hosts,
        kinds_to_run(request, layer, formed),
        resolver,
        fleet,
        events,
        stop,
    )
    .await;
    if exit == Exit::Done {
        note_unproved(request, layer, events);
    }
    (exit, reason)
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
#[expect(clippy::too_many_arguments, reason = "the whole surroundings of a layer")]
pub async fn prove(
    request: &Request<'_>,
    layer: &Layer,
    hosts: &[String],
    kinds: Vec<TestKind>,
    resolver: &Resolver<'_>,
    fleet: &Fleet,
    events: &Events,
    stop: &Stop,
) -> (Exit, String) {
    let context = gate::Context {
        site: request.site,
        layer,
        hosts,
        resolver,
        connection: &request.connection,
        records: &request.records,
        run: &request.run,
        only: &request.tests,
    };
    match gate::run(&context, kinds, fleet, events, stop).await {
        Ok(GateVerdict::Green) => (Exit::Done, String::new()),
        Ok(GateVerdict::Red) => (Exit::GateRed, format!("the gate of `{}` is red", layer.name)),
        Ok(GateVerdict::NotHealed) => (
            Exit::NotHealed,
            format!("a fault injected by the gate of `{}` could not be healed", layer.name),
        ),
        Err(error) => (
            Exit::Internal,
            format!("the verdict of the gate of `{}` could not be kept: {error}", layer.name),
        ),
    }
}

/// One layer on all its hosts.
pub(super) struct LayerWork<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) layer: &'a Layer,
    pub(super) resolver: &'a Resolver<'a>,
    pub(super) fleet: &'a Fleet,
    pub(super) events: &'a Events,
    pub(super) stop: &'a Stop,
    /// What was announced as left out.
    left_out: Mutex<BTreeSet<Skipped>>,
}

/// What a layer came to on its hosts.
struct Worked {
    exit: Exit,
    /// Why, where the hosts' own lines do not say it.
    reason: String,
    changed: u32,
    /// True when a cluster was formed just now: nothing uses it yet.
    formed: bool,
}

impl LayerWork<'_> {
    /// First a look at everything, then every host's steps, then the clusters.
    async fn work(&self, hosts: &[String]) -> Worked {
        let failed = |exit, reason| Worked { exit, reason, changed: 0, formed: false };
        let looked = match self.prepare(hosts).await {
            Ok(looked) => looked,
            Err((exit, reason)) => return failed(exit, reason),
        };
        let (exit, mut total) = self.converge(hosts).await;
        total.add(&looked);
        if exit != Exit::Done || self.stop.wished() {
            return failed(exit, String::new());
        }
        if self.request.mode == Mode::Check {
            let changed = total.changed;
            return Worked { exit, reason: String::new(), changed, formed: false };
        }
        let brought = clusters::bring_about(self).await;
        Worked {
            exit: brought.exit,
            reason: brought.reason,
            changed: total.changed + brought.changed,
            formed: brought.formed,
        }
    }

    async fn converge(&self, hosts: &[String]) -> (Exit, Tally) {
        let work = stream::iter(hosts)
            .map(|host| async move {
                tokio::select! {
                    result = self.one_host(host) => result,
                    () = self.stop.now() => self.stopped(host),
                }
            })
            .buffer_unordered(self.request.connection.parallel.max(1));
        let mut work = std::pin::pin!(work);
        let mut exit = Exit::Done;
        let mut total = Tally::default();
        while let Some((host_exit, tally)) = work.next().await {
            total.add(&tally);
            exit = exit.worse(host_exit);
        }
        (exit, total)
    }

    /// From the connection to the last handler; no host waits for another.
    async fn one_host(&self, name: &str) -> (Exit, Tally) {
        let site = self.request.site;
        let session =
            self.fleet.obtain(site, name, &self.request.connection, self.events, self.stop).await;
        let (Some(session), Some(host)) = (session, site.hosts.get(name)) else {
            return (self.unusable(name), Tally::default());
        };
        let mut problems = Diagnostics::new();
        let plan = self.resolver.host(
            host,
            self.layer,
            &self.request.tags,
            &session.hello().facts,
            self.request.mode,
            &mut problems,
        );
        if problems.has_errors() {
            self.events.emit(EventKind::Note {
                text: format!(
                    "{name}: a template does not fit the facts of this host\n{}",
                    Renderer::new(false).all(&problems)
                ),
            });
            self.finished(name, HostState::Failed);
            return (Exit::StepFailed, Tally::default());
        }
        self.announce(&plan.skipped);
        let (state, tally) =
            converge::host(&session, plan, &self.layer.name, self.events, self.stop).await;
        let exit = match state {
            HostState::Converged => Exit::Done,
            HostState::Failed => Exit::StepFailed,
            HostState::Lost | HostState::Unusable => Exit::Unreachable,
            HostState::Stopped => Exit::Interrupted,
        };
        (exit, tally)
    }

    fn unusable(&self, name: &str) -> Exit {
        match self.fleet.problem(name) {
            Some(problem @ (HostProblem::Locked | HostProblem::Unfit)) => problem.into(),
            _ if self.stop.wished() => Exit::Interrupted,
            _ => Exit::Unreachable,
        }
    }

    fn stopped(&self, name: &str) -> (Exit, Tally) {
        self.finished(name, HostState::Stopped);
        (Exit::Interrupted, Tally::default())
    }

    fn finished(&self, name: &str, state: HostState) {
        self.events.emit(EventKind::HostFinished {
            host: name.to_owned(),
            layer: self.layer.name.clone(),
            state,
            changed: 0,
            steps: 0,
            waiting_handlers: Vec::new(),
            took_ms: 0,
        });
    }

    /// Says what is left out, once for all hosts.
    fn announce(&self, skipped: &[Skipped]) {
        let mut announced = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        for one in skipped {
            if announced.insert(one.clone()) {
                self.events.emit(EventKind::Excepted {
                    layer: self.layer.name.clone(),
                    what: format!("{} › {}", one.role, one.what),
                    reason: one.reason.clone(),
                });
            }
        }
    }
}
