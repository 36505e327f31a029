//! What brings a whole cluster to its role: settings at once, then standbys one by one, and last the
//! leader after it handed over (E5). Pure.

use super::action::Action;
use super::decide::{Decided, SETTLE, Wanted};
use super::view::{Member, Observation, Seen, Status};
use crate::cluster::{Decision, State};

/// Bytes that a standby may be behind when another member is about to be restarted.
const NEAR: u64 = 16 * 1024 * 1024;

/// Declared roles and databases.
pub(super) fn declare(observation: &Observation, state: State) -> Option<Decided> {
    let leader = observation.leader()?;
    (!observation.objects.is_empty()).then(|| {
        let found = format!("{} leads, its databases lack what the role declares", leader.name);
        Decision::act(state, found, vec![Action::Declare { objects: observation.objects.clone() }])
    })
}

/// Brings about what differs from the role.
pub(super) fn renew(
    observation: &Observation,
    members: &[(&Member, &Seen)],
    paused: bool,
    wanted: &Wanted,
) -> Option<Decided> {
    let leader = observation.leader()?;
    let decided =
        live(observation, members).or_else(|| restarts(observation, leader, members, wanted))?;
    if !paused {
        return Some(decided);
    }
    Some(Decision::refuse(
        State::Degraded,
        format!("{}; Patroni is paused", decided.found),
        "somebody told Patroni to leave the cluster alone: `patronictl resume` when that is over, then run again",
    ))
}

/// What is changed while everything runs.
fn live(observation: &Observation, members: &[(&Member, &Seen)]) -> Option<Decided> {
    if !observation.dynamic.is_empty() {
        let settings = observation.dynamic.clone();
        let found = format!("Patroni's settings differ from the role: {}", settings.join(", "));
        return Some(Decision::act(State::Degraded, found, vec![Action::Configure { settings }]));
    }
    // Read again and no restart: on all at the same time.
    let stale: Vec<&(&Member, &Seen)> = members
        .iter()
        .filter(|(_, seen)| !seen.stale.files.is_empty() && seen.stale.daemon.is_empty())
        .collect();
    let (member, seen) = stale.first()?;
    let writes = stale.iter().map(|(member, _)| Action::Write { member: member.name.clone() });
    Some(Decision::act(State::Degraded, differs(member, &seen.stale.files), writes.collect()))
}

/// What needs a restart: standbys one at a time, each while the others follow closely; then the leader.
fn restarts(
    observation: &Observation,
    leader: &Member,
    members: &[(&Member, &Seen)],
    wanted: &Wanted,
) -> Option<Decided> {
    let needs = |seen: &Seen, status: &Status| {
        !seen.stale.daemon.is_empty() || (status.pending_restart && !seen.restarted_in_vain)
    };
    let position = leader.status()?.position;
    let mut order: Vec<&(&Member, &Seen)> =
        members.iter().filter(|(member, _)| member.name != leader.name).collect();
    // Those that no acknowledged write depends on come first.
    order.sort_by_key(|(member, _)| member.status().is_some_and(|status| status.sync));
    let behind = order.iter().find(|(member, _)| {
        member.status().is_none_or(|status| position.saturating_sub(status.position) > NEAR)
    });
    let everybody = order
        .iter()
        .copied()
        .chain(members.iter().filter(|(member, _)| member.name == leader.name));
    for (member, seen) in everybody {
        let Some(status) = member.status() else { continue };
        if !needs(seen, status) {
            continue;
        }
        let mut why = seen.stale.daemon.clone();
        if status.pending_restart {
            why.push("settings that wait for a start of PostgreSQL".to_owned());
        }
        let found = differs(member, &why);
        if let Some((behind, _)) = behind {
            let reason = format!("{} is far behind {}", behind.name, leader.name);
            return Some(Decision::wait(State::Degraded, &found, &reason, SETTLE));
        }
        let name = member.name.clone();
        // Limits that standbys must not be below are lowered by the leader first, in place.
        let in_vain = members.iter().any(|(_, seen)| seen.restarted_in_vain);
        let action = if member.name != leader.name {
            of_standby(name, seen)
        } else if seen.stale.daemon.is_empty() && in_vain {
            Action::Restart { member: name }
        } else {
            match candidate(observation, leader, wanted) {
                Some(to) => Action::HandOver { from: name, to },
                None if order.is_empty() => of_standby(name, seen),
                None => {
                    let reason = "no standby is fit to lead";
                    return Some(Decision::wait(State::Degraded, &found, reason, SETTLE));
                }
            }
        };
        return Some(Decision::act(State::Degraded, found, vec![action]));
    }
    None
}

fn of_standby(member: String, seen: &Seen) -> Action {
    match seen.stale.daemon.is_empty() {
        true => Action::Restart { member },
        false => Action::Renew { member },
    }
}

/// The member that can lead without losing anything: a sync standby where there are such.
pub(super) fn candidate(
    observation: &Observation,
    leader: &Member,
    wanted: &Wanted,
) -> Option<String> {
    observation
        .members
        .iter()
        .filter(|member| member.name != leader.name)
        .filter_map(|member| Some((member, member.status()?)))
        .filter(|(_, status)| status.runs() && status.streaming && !status.nofailover)
        .filter(|(_, status)| wanted.sync == 0 || status.sync)
        .max_by_key(|(_, status)| status.position)
        .map(|(member, _)| member.name.clone())
}

fn differs(member: &Member, what: &[String]) -> String {
    format!("{} differs from its role: {}", member.name, what.join(", "))
}
