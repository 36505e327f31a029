//! The clusters of a layer: looked at before its first change, brought about after its steps.

use super::converge::step_event;
use super::layer::LayerWork;
use super::{Exit, Tally};
use crate::cluster::{self, Driven, FleetHosts, Intent, Members, Records, State, Step};
use crate::event::{EventKind, elapsed_ms};
use crate::resource::{Batch, ItemEvent, ItemReport, Mode, Outcome};
use crate::site::{ClusterRole, Role};
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
    if work.request.steps.is_part() {
        return Vec::new();
    }
    let site = work.request.site;
    cluster::clusters_of(site, work.layer)
        .into_iter()
        .filter_map(|(_, cluster)| site.groups.get(&cluster.members.0))
        .flat_map(|group| group.hosts.iter().cloned())
        .collect()
}

/// Looks at every cluster; one that forbids the run stops it before the first change.
pub async fn look(work: &LayerWork<'_>) -> Result<Tally, (Exit, String)> {
    let mut tally = Tally::default();
    for (role, cluster) in cluster::clusters_of(work.request.site, work.layer) {
        let members = members(work, role, cluster);
        let hosts = FleetHosts::quiet(work.fleet);
        let records = Records::new(&work.request.site.root);
        let report = cluster::look(&members, cluster, &hosts, &records).await.map_err(|error| {
            (Exit::Refused, format!("cluster `{}`: {error}; nothing was changed", role.name))
        })?;
        work.events.emit(EventKind::ClusterFound {
            layer: work.layer.name.clone(),
            cluster: role.name.clone(),
            state: report.state.to_string(),
            found: report.found.clone(),
        });
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
                work.events
                    .emit(EventKind::Note { text: format!("  {reason}\n      hint: {hint}") });
                return Err((
                    Exit::Refused,
                    format!(
                        "cluster `{}` is {}: {reason}; nothing was changed",
                        role.name, report.state
                    ),
                ));
            }
            Intent::Act(actions) if work.request.mode == Mode::Check => {
                tally.changed += u32::try_from(actions.len()).unwrap_or(u32::MAX);
                for action in actions {
                    let (layer, cluster) = (work.layer.name.clone(), role.name.clone());
                    work.events.emit(EventKind::ClusterNext { layer, cluster, action });
                }
            }
            Intent::Wait(reason) if work.request.mode == Mode::Check => {
                tally.changed += 1;
                let (layer, cluster) = (work.layer.name.clone(), role.name.clone());
                work.events.emit(EventKind::ClusterWaiting { layer, cluster, reason });
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
    if !acts || work.request.mode == Mode::Check {
        return None;
    }
    let missing: Vec<&str> = members
        .hosts()
        .into_iter()
        .map(|host| host.name.as_str())
        .filter(|name| !work.request.hosts.iter().any(|selected| selected == name))
        .filter(|name| !work.request.site.out.contains_key(*name))
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
    for (role, cluster) in cluster::clusters_of(work.request.site, work.layer) {
        let (driven, changed, formed) = one(work, role, cluster).await;
        brought.changed += changed;
        brought.formed |= formed;
        let (exit, reason) = match driven {
            Ok(Driven::Done { .. }) => continue,
            Ok(Driven::Stopped) => (Exit::stopped(work.stop), String::new()),
            Ok(Driven::Refused(refusal)) => {
                work.events.emit(EventKind::Note {
                    text: format!("  {}\n      hint: {}", refusal.reason, refusal.hint),
                });
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
            work.events.emit(event);
        }
    };
    let hosts = FleetHosts::new(work.fleet, &on_report);
    let records = Records::new(&work.request.site.root);
    let mut formed = false;
    let mut actions = 0;
    let tell = |step: Step| {
        let (layer, cluster) = (layer.clone(), name.clone());
        work.events.emit(match step {
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
        driven = cluster::run(&members, cluster, &hosts, &records, work.stop, tell) => driven,
        () = work.stop.now() => Ok(Driven::Stopped),
    };
    let changed = changed.into_inner();
    work.events.emit(EventKind::ClusterFinished {
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
    Members::connected(work.request.site, work.resolver, work.fleet, role, cluster)
}
