//! What is started again after it stopped: with its own files, and in an order in which nobody
//! takes writes that the true master never sees. Pure.

use super::action::{Action, Part};
use super::decide::{Decided, is_up};
use super::leader::elected;
use super::view::{Member, Seen, Sentinel, Server};
use crate::cluster::{Decision, Formation, Record, State};
use std::time::Duration;

/// How long a daemon may take to answer after its start, loading included.
const START: Duration = Duration::from_secs(120);

/// Starts daemons with their own files where their data is: they know better than anyone who led
/// (layers L2). A member without data waits until somebody leads: a master that lost its data
/// would empty its replicas.
///
/// After a full stop a node may still believe in a master of long ago, and another one follow it:
/// started together, the two would take writes that the true master never sees. So Sentinels come
/// first, then the master that they name, then the others one by one, each once the one before
/// follows.
pub(super) fn start_what_stands(members: &[(&Member, &Seen)], record: &Record) -> Option<Decided> {
    let marked = |seen: &Seen| seen.marker == Ok(Some(record.marker.clone()));
    let start = |member: &Member, part| Action::Start { member: member.name.clone(), part };
    // Sentinels of a formation come after the data; those of a formed cluster know who leads.
    let sentinels: Vec<Action> = members
        .iter()
        .filter(|(_, seen)| seen.sentinel_config && seen.sentinel == Sentinel::Down && marked(seen))
        .map(|(member, _)| start(member, Part::Sentinel))
        .collect();
    // Unless they have already chosen another one: then only they can tell.
    let moved_on = members.iter().any(|(m, _)| m.is_master() && m.address != record.leader);
    if !sentinels.is_empty() && (record.formation == Formation::Complete || moved_on) {
        let found = "Sentinel does not run where its cluster's data is";
        return Some(Decision::act(State::Degraded, found, sentinels));
    }
    if let Some((member, why)) = members.iter().find_map(|(member, seen)| match &seen.server {
        Server::Unready(why) => Some((member, why)),
        _ => None,
    }) {
        let reason = format!("Redis on {} is not ready: {why}", member.name);
        return Some(Decision::wait(State::Degraded, "Redis starts", &reason, START));
    }
    let complete = record.formation == Formation::Complete;
    if complete
        && let Some((member, why)) =
            members.iter().find_map(|(member, seen)| match &seen.sentinel {
                Sentinel::Unready(why) => Some((member, why)),
                _ => None,
            })
        && members.iter().any(|(_, seen)| seen.server == Server::Down)
    {
        let reason = format!("Sentinel on {} is not ready: {why}", member.name);
        return Some(Decision::wait(State::Degraded, "Sentinels start", &reason, START));
    }
    let asleep: Vec<&Member> = members
        .iter()
        .filter(|(_, seen)| {
            seen.data && seen.server_config && seen.server == Server::Down && marked(seen)
        })
        .map(|(member, _)| *member)
        .collect();
    let Some(first) = asleep.first().copied() else { return release(members) };
    let chosen = (record.formation == Formation::Begun && !moved_on).then_some(record.leader);
    let named = elected(members.iter().map(|(member, _)| *member)).or(chosen);
    if named.is_none() && disagree(members) && members.iter().any(|(member, _)| member.is_master())
    {
        // One that slept through an election learns of it from the others. A second master beside
        // the live one would leave nobody who could tell which of the two counts.
        let reason = "the Sentinels do not agree yet who is the master";
        return Some(Decision::wait(State::Down, "Redis starts", reason, START));
    }
    // Where too few Sentinels ever were, nobody can have moved leadership: the files are right.
    let watchers = members.iter().filter(|(_, seen)| seen.sentinel_config).count();
    let watched = watchers > members.len() / 2;
    if complete && watched && named.is_none() && !members.iter().any(|(_, seen)| is_up(seen)) {
        return Some(Decision::refuse(
            State::Down,
            "no majority of Sentinels names a master, and no Redis runs",
            "only you can say who led last: start Redis there (`docker start redis`), then run again; the others follow it",
        ));
    }
    let next = asleep.iter().find(|member| Some(member.address) == named);
    let found = "Redis does not run where its data is";
    // The one that they name has lost its data: another one has to be elected, and whoever has most
    // must be there to win.
    let lost = next.is_none()
        && named.is_some_and(|named| {
            members.iter().any(|(m, seen)| m.address == named && !seen.data && !is_up(seen))
        });
    if lost {
        return Some(hold(members).unwrap_or_else(|| {
            let rest = asleep.iter().map(|member| start(member, Part::Server)).collect();
            Decision::act(State::Down, found, rest)
        }));
    }
    if next.is_none()
        && let Some((stray, _)) = members.iter().find(|(member, _)| {
            member.is_master() && named.is_some_and(|named| named != member.address)
        })
    {
        let reason = format!(
            "{} still says that it is the master; the Sentinels will make it follow",
            stray.name
        );
        return Some(Decision::wait(State::Down, "Redis starts", &reason, START));
    }
    Some(Decision::act(
        State::Down,
        found,
        vec![start(next.copied().unwrap_or(first), Part::Server)],
    ))
}

/// Nobody may be elected while members that have data are still asleep: one that is behind would
/// win, if a run is cut off between two starts. `None` when every Sentinel holds still.
fn hold(members: &[(&Member, &Seen)]) -> Option<Decided> {
    let watching = || members.iter().filter_map(|(m, _)| Some((*m, m.sentinel()?)));
    let free: Vec<Action> = watching()
        .filter(|(_, view)| !view.held)
        .map(|(member, _)| Action::Hold { member: member.name.clone() })
        .collect();
    let found = "nobody is to be elected until every Redis with data runs";
    if !free.is_empty() {
        return Some(Decision::act(State::Down, found, free));
    }
    let (member, _) = watching().find(|(_, view)| view.unsettled)?;
    let reason = format!("Sentinel on {} still takes the master for down", member.name);
    Some(Decision::wait(State::Down, found, &reason, START))
}

/// Everybody is there: Sentinels that were held may elect.
fn release(members: &[(&Member, &Seen)]) -> Option<Decided> {
    let held: Vec<Action> = members
        .iter()
        .filter(|(member, _)| member.sentinel().is_some_and(|view| view.held))
        .map(|(member, _)| Action::Release { member: member.name.clone() })
        .collect();
    (!held.is_empty()).then(|| Decision::act(State::Degraded, "every Redis with data runs", held))
}

/// True when Sentinels that answer name different masters.
fn disagree(members: &[(&Member, &Seen)]) -> bool {
    let mut named = members.iter().filter_map(|(member, _)| member.sentinel()?.master);
    let first = named.next();
    named.any(|other| Some(other) != first)
}
