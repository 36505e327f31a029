//! The clusters of a layer: looked at before its first change, brought about after its steps.

use super::converge::step_event;
use super::layer::LayerWork;
use super::underway::Underway;
use super::{Exit, Tally};
use crate::cluster::{self, Driven, FleetHosts, Intent, Members, Records, Report, State, Step};
use crate::event::{EventKind, elapsed_ms};
use crate::resource::{Batch, ItemEvent, ItemReport, Mode, Outcome};
use crate::site::{ClusterRole, Layer, Role};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// What a layer's clusters came to.
pub struct Brought {
    /// The exit so far.
    pub exit: Exit,
    /// Why, when it is not done.
    pub reason: String,
    /// Parts of members changed.
    pub changed: u32,
    /// True when a cluster was formed just now.
    pub formed: bool,
}

/// The hosts of every member of the layer's clusters, whatever was selected: a cluster is judged
/// whole or not at all.
pub fn members_of(work: &LayerWork<'_>) -> Vec<String> {
    if work.run.request.steps.is_part() {
        return Vec::new();
    }
    let site = work.run.request.site;
    cluster::clusters_of(site, work.layer)
        .into_iter()
        .filter_map(|(_, cluster)| site.groups.get(&cluster.members.0))
        .flat_map(|group| group.hosts.iter().cloned())
        .collect()
}

/// Looks at a cluster and tells what it is.
///
/// # Errors
/// Which cluster cannot be looked at, and why.
pub async fn found(
    run: &Underway<'_>,
    layer: &Layer,
    members: &Members<'_>,
    cluster: &ClusterRole,
) -> Result<Report, String> {
    let hosts = FleetHosts::quiet(&run.fleet);
    let records = Records::new(&run.request.site.root);
    let report = cluster::look(members, cluster, &hosts, &records)
        .await
        .map_err(|error| format!("cluster `{}`: {error}", members.name()))?;
    run.events.emit(EventKind::ClusterFound {
        layer: layer.name.clone(),
        cluster: members.name().to_owned(),
        state: report.state.to_string(),
        found: report.found.clone(),
    });
    Ok(report)
}

/// Tells why nothing is done to a cluster, and what the operator can do.
pub fn note_refusal(run: &Underway<'_>, reason: &str, hint: &str) {
    run.events.emit(EventKind::Note { text: format!("  {reason}\n      hint: {hint}") });
}

/// Looks at every cluster; one that forbids the run stops it before the first change.
pub async fn look(work: &LayerWork<'_>) -> Result<Tally, (Exit, String)> {
    let mut tally = Tally::default();
    for (role, cluster) in cluster::clusters_of(work.run.request.site, work.layer) {
        let members = members(work, role, cluster);
        let report = found(work.run, work.layer, &members, cluster)
            .await
            .map_err(|reason| (Exit::Refused, format!("{reason}; nothing was changed")))?;
        if let Some(left_out) = left_out(work, &members, &report.next) {
            return Err((
                Exit::Refused,
                format!(
                    "cluster `{}` needs all of its members, and the selection leaves out {left_out}: run without --host; nothing was changed",
                    role.name
                ),
            ));
        }
        match report.next {
            Intent::Refuse(reason, hint) => {
                note_refusal(work.run, &reason, &hint);
                return Err((
                    Exit::Refused,
                    format!(
                        "cluster `{}` is {}: {reason}; nothing was changed",
                        role.name, report.state
                    ),
                ));
            }
            Intent::Act(actions) if work.run.request.mode == Mode::Check => {
                tally.changed += u32::try_from(actions.len()).unwrap_or(u32::MAX);
                for action in actions {
                    let (layer, cluster) = (work.layer.name.clone(), role.name.clone());
                    work.run.events.emit(EventKind::ClusterNext { layer, cluster, action });
                }
            }
            Intent::Wait(reason) if work.run.request.mode == Mode::Check => {
                tally.changed += 1;
                let (layer, cluster) = (work.layer.name.clone(), role.name.clone());
                work.run.events.emit(EventKind::ClusterWaiting { layer, cluster, reason });
            }
            Intent::Act(_) | Intent::Wait(_) | Intent::Nothing => {}
        }
    }
    Ok(tally)
}

/// The members that the selection leaves out, where something is to be done to the cluster: whoever
/// names one host does not expect others to change.
fn left_out(work: &LayerWork<'_>, members: &Members<'_>, next: &Intent) -> Option<String> {
    let acts = matches!(next, Intent::Act(_) | Intent::Wait(_));
    if !acts || work.run.request.mode == Mode::Check {
        return None;
    }
    let missing: Vec<&str> = members
        .hosts()
        .into_iter()
        .map(|host| host.name.as_str())
        .filter(|name| !work.run.request.hosts.iter().any(|selected| selected == name))
        .filter(|name| !work.run.request.site.out.contains_key(*name))
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// Brings every cluster of the layer to what its role says.
pub async fn bring_about(work: &LayerWork<'_>) -> Brought {
    let mut brought =
        Brought { exit: Exit::Done, reason: String::new(), changed: 0, formed: false };
    if members_of(work).is_empty() {
        return brought;
    }
    for (role, cluster) in cluster::clusters_of(work.run.request.site, work.layer) {
        let (driven, changed, formed) = one(work, role, cluster).await;
        brought.changed += changed;
        brought.formed |= formed;
        let (exit, reason) = match driven {
            Ok(Driven::Done { .. }) => continue,
            Ok(Driven::Stopped) => (Exit::stopped(work.run.stop), String::new()),
            Ok(Driven::Refused(refusal)) => {
                note_refusal(work.run, &refusal.reason, &refusal.hint);
                (Exit::Refused, format!("cluster `{}`: {}", role.name, refusal.reason))
            }
            Ok(Driven::Failed(reason)) | Err(reason) => {
                (Exit::StepFailed, format!("cluster `{}`: {reason}", role.name))
            }
        };
        brought.exit = exit;
        brought.reason = reason;
        break;
    }
    brought
}

async fn one(
    work: &LayerWork<'_>,
    role: &Role,
    cluster: &ClusterRole,
) -> (Result<Driven, String>, u32, bool) {
    let start = Instant::now();
    let (layer, name) = (&work.layer.name, &role.name);
    let members = members(work, role, cluster);
    let changed = AtomicU32::new(0);
    let on_report = |host: &str, batch: &Batch, report: &ItemReport| {
        if batch.mode == Mode::Check {
            return;
        }
        if let ItemEvent::Finished { outcome: Outcome::Changed(_), .. } = report.event {
            changed.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(event) = step_event(report, batch, host, layer) {
            work.run.events.emit(event);
        }
    };
    let hosts = FleetHosts::new(&work.run.fleet, &on_report);
    let records = Records::new(&work.run.request.site.root);
    let mut formed = false;
    let mut actions = 0;
    let tell = |step: Step| {
        let (layer, cluster) = (layer.clone(), name.clone());
        work.run.events.emit(match step {
            Step::Found { state, found } => {
                formed |= matches!(state, State::Absent | State::Forming);
                EventKind::ClusterFound { layer, cluster, state: state.to_string(), found }
            }
            Step::Doing(action) => {
                EventKind::ClusterAction { layer, cluster, action, took_ms: None }
            }
            Step::Did(action, took_ms) => {
                actions += 1;
                EventKind::ClusterAction { layer, cluster, action, took_ms: Some(took_ms) }
            }
            Step::Waiting(reason) => EventKind::ClusterWaiting { layer, cluster, reason },
        });
    };
    let driven = tokio::select! {
        driven = cluster::run(&members, cluster, &hosts, &records, work.run.stop, tell) => driven,
        () = work.run.stop.now() => Ok(Driven::Stopped),
    };
    let changed = changed.into_inner();
    work.run.events.emit(EventKind::ClusterFinished {
        layer: layer.clone(),
        cluster: name.clone(),
        complete: matches!(driven, Ok(Driven::Done { .. })),
        actions,
        changed,
        took_ms: elapsed_ms(start),
    });
    let formed = formed && matches!(driven, Ok(Driven::Done { .. }));
    (driven, changed.max(actions), formed)
}

fn members<'a>(work: &'a LayerWork<'_>, role: &'a Role, cluster: &'a ClusterRole) -> Members<'a> {
    Members::connected(work.run.request.site, &work.run.resolver, &work.run.fleet, role, cluster)
}
