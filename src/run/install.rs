//! `strata install`: layer after layer, each converged on all its hosts, then proved by its gate.

use super::converge::{self, Tally};
use super::{Connection, Events, Exit, Fleet, Stop};
use crate::diag::{Diagnostics, Renderer};
use crate::event::{EventKind, GateVerdict, HostProblem, HostState, TestKind, now_ms};
use crate::gate;
use crate::history::{RecordState, Records};
use crate::plan::{HostPlan, Resolver, SecretLookup, layer_digest};
use crate::resource::Mode;
use crate::site::{Layer, Site};
use futures::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Which kinds of tests an install runs after a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateChoice {
    /// Diag always; failover and perf when the layer was never proved before.
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
    /// Tags that restrict the steps.
    pub tags: Vec<String>,
    /// Look or change.
    pub mode: Mode,
    /// Which tests run.
    pub gate: GateChoice,
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
    if let Err(error) = events.flush().await {
        return (
            Exit::Internal,
            format!("the journal cannot be written ({error}); no host was touched"),
        );
    }
    if let Some(refusal) = requirements(request) {
        return (Exit::Refused, refusal);
    }
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(request.site, Arc::clone(&request.secrets), &mut problems);
    let mut fleet = Fleet::default();
    let mut exit = Exit::Done;
    let mut reason = "everything is as wanted".to_owned();
    for layer in &request.layers {
        let (layer_exit, why) =
            one_layer(request, layer, &resolver, &mut fleet, events, stop).await;
        if layer_exit != Exit::Done {
            exit = exit.worse(layer_exit);
            reason = why;
            break;
        }
    }
    if stop.wished() {
        exit = Exit::Interrupted;
        reason = "stopped by the operator; run the same command again to go on".to_owned();
    }
    fleet.close().await;
    (exit, reason)
}

/// Why the run is refused before it begins: a layer below is not green (KB-G3, KB-G4).
fn requirements(request: &Request<'_>) -> Option<String> {
    if !request.named {
        return None;
    }
    for layer in &request.layers {
        for (name, _) in &layer.requires {
            if request.layers.iter().any(|other| other.name == *name) {
                continue;
            }
            let below = request.site.layer(name)?;
            let why = match record_state(request, below) {
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

fn record_state(request: &Request<'_>, layer: &Layer) -> RecordState {
    let digest = layer_digest(request.site, layer);
    request
        .records
        .state(
            &layer.name,
            TestKind::Diag,
            &digest,
            now_ms(),
            request.site.config.gate.max_age_days,
        )
        .unwrap_or_else(|error| RecordState::Forged(format!("its record cannot be read: {error}")))
}

/// The selected hosts that this layer has anything for.
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
    resolver: &Resolver<'_>,
    fleet: &mut Fleet,
    events: &Events,
    stop: &Stop,
) -> (Exit, String) {
    let start = Instant::now();
    let hosts = hosts_of(request.site, layer, &request.hosts);
    if hosts.is_empty() {
        return (Exit::Done, String::new());
    }
    events.emit(EventKind::LayerStarted { layer: layer.name.clone(), hosts: hosts.clone() });
    let never_proved = matches!(record_state(request, layer), RecordState::Missing);
    fleet.connect(request.site, &hosts, &request.connection, events, stop).await;
    let mut exit = unusable_exit(fleet, &hosts);
    let plans = match resolve(request, layer, resolver, fleet, &hosts, events) {
        Ok(plans) => plans,
        Err(text) => {
            events.emit(EventKind::Note { text });
            return (
                Exit::InvalidInput,
                "a template does not fit the facts of a host; nothing was changed".to_owned(),
            );
        }
    };
    let (converged, total) = converge_all(request, layer, plans, fleet, events, stop).await;
    exit = exit.worse(converged);
    let complete = exit == Exit::Done && !stop.wished();
    events.emit(EventKind::LayerFinished {
        layer: layer.name.clone(),
        complete,
        took_ms: elapsed_ms(start),
    });
    if !complete {
        let reason =
            format!("layer `{}` is not converged on every host; its gate was not run", layer.name);
        return (exit, reason);
    }
    if request.mode == Mode::Check {
        let exit = if total.changed > 0 { Exit::Differences } else { Exit::Done };
        return (exit, format!("{} differences found", total.changed));
    }
    if !request.tags.is_empty() {
        events.emit(EventKind::Note {
            text: format!("  gate of {} not run: only tagged steps were", layer.name),
        });
        return (Exit::Done, String::new());
    }
    let kinds = match request.gate {
        GateChoice::Full => vec![TestKind::Diag, TestKind::Failover, TestKind::Perf],
        GateChoice::Formed if never_proved => {
            vec![TestKind::Diag, TestKind::Failover, TestKind::Perf]
        }
        GateChoice::Formed | GateChoice::Diag => vec![TestKind::Diag],
    };
    prove(request, layer, &hosts, kinds, resolver, fleet, events, stop).await
}

/// Runs the gate of a layer and turns its verdict into an exit.
#[expect(clippy::too_many_arguments, reason = "the whole surroundings of a layer")]
pub async fn prove(
    request: &Request<'_>,
    layer: &Layer,
    hosts: &[String],
    kinds: Vec<TestKind>,
    resolver: &Resolver<'_>,
    fleet: &mut Fleet,
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
    };
    match gate::run(&context, kinds, fleet, events, stop).await {
        GateVerdict::Green => (Exit::Done, "everything is as wanted and proved".to_owned()),
        GateVerdict::Red => (Exit::GateRed, format!("the gate of `{}` is red", layer.name)),
        GateVerdict::NotHealed => (
            Exit::NotHealed,
            format!("a fault injected by the gate of `{}` could not be healed", layer.name),
        ),
    }
}

/// The plans of all connected hosts; the text of every problem when there is one.
fn resolve(
    request: &Request<'_>,
    layer: &Layer,
    resolver: &Resolver<'_>,
    fleet: &Fleet,
    hosts: &[String],
    events: &Events,
) -> Result<Vec<HostPlan>, String> {
    let mut problems = Diagnostics::new();
    let mut plans = Vec::new();
    let mut left_out = BTreeSet::new();
    for name in hosts {
        let (Some(session), Some(host)) = (fleet.session(name), request.site.hosts.get(name))
        else {
            continue;
        };
        let facts = &session.hello().facts;
        let plan = resolver.host(host, layer, &request.tags, facts, request.mode, &mut problems);
        left_out.extend(plan.skipped.iter().cloned());
        plans.push(plan);
    }
    if problems.has_errors() {
        return Err(Renderer::new(false).all(&problems));
    }
    for skipped in left_out {
        events.emit(EventKind::Excepted {
            layer: layer.name.clone(),
            what: format!("{} › {}", skipped.role, skipped.what),
            reason: skipped.reason,
        });
    }
    Ok(plans)
}

async fn converge_all(
    request: &Request<'_>,
    layer: &Layer,
    plans: Vec<HostPlan>,
    fleet: &Fleet,
    events: &Events,
    stop: &Stop,
) -> (Exit, Tally) {
    let work = stream::iter(plans)
        .filter_map(|plan| {
            let session = fleet.session(&plan.host).cloned();
            async move { session.map(|session| (session, plan)) }
        })
        .map(|(session, plan)| async move {
            tokio::select! {
                result = converge::host(&session, plan, &layer.name, events, stop) => result,
                () = stop.now() => (HostState::Stopped, Tally::default()),
            }
        })
        .buffer_unordered(request.connection.parallel.max(1));
    let mut work = std::pin::pin!(work);
    let mut exit = Exit::Done;
    let mut total = Tally::default();
    while let Some((state, tally)) = work.next().await {
        total.changed += tally.changed;
        total.steps += tally.steps;
        exit = exit.worse(match state {
            HostState::Converged => Exit::Done,
            HostState::Failed => Exit::StepFailed,
            HostState::Lost | HostState::Unusable => Exit::Unreachable,
            HostState::Stopped => Exit::Interrupted,
        });
    }
    (exit, total)
}

/// The exit that the unusable ones among these hosts ask for.
pub fn unusable_exit(fleet: &Fleet, hosts: &[String]) -> Exit {
    hosts.iter().filter_map(|host| fleet.problem(host)).fold(Exit::Done, |exit, problem| {
        exit.worse(match problem {
            HostProblem::Unreachable | HostProblem::Identity => Exit::Unreachable,
            HostProblem::Locked => Exit::Locked,
            HostProblem::Unfit => Exit::Refused,
        })
    })
}

/// Milliseconds since `start`.
pub fn elapsed_ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
