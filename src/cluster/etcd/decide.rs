//! What comes next. Pure: the same look always gives the same decision.

use super::action::{Action, Begins};
use super::membership::change_of_members;
use super::settings::Beginning;
use super::sound::{name_of, unsound};
use super::view::{Member, Named, Observation, Seen, Server};
use crate::cluster::formation::{Formed, lost, mark, missing as missing_of, unclaimed};
use crate::cluster::{Decision, Formation, Marker, Next, Record, State};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long members may take to find each other, elect and catch up after something was done.
const SETTLE: Duration = Duration::from_secs(90);

/// Entries that a member may be behind the leader and still count as caught up.
const LAG: u64 = 1_000;

/// What the decision knows beside the look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The marker of a cluster that would be formed now.
    pub marker: Marker,
    /// Members that are out of service: they are absent on purpose, and nothing is done meanwhile.
    pub out: Vec<String>,
}

/// A decision about this cluster.
pub type Decided = Decision<Action>;

/// Members that could be looked at.
pub(super) type Known<'a> = [(&'a Member, &'a Seen)];

/// Decides.
pub fn decide(observation: &Observation, wanted: &Wanted) -> Decided {
    if let Some(refusal) = unsound(observation, &wanted.out) {
        return refusal;
    }
    let formed = formed(observation, &wanted.marker);
    let decided = match formed.known(&observation.record, &observation.members) {
        Ok(record) => known(observation, record, &formed),
        Err(decided) => *decided,
    };
    decided.without(&wanted.out)
}

/// Why the cluster is not whole; `None` when at most renewals are left, which nothing is missing
/// without.
pub fn missing(observation: &Observation, decision: &Decided) -> Option<String> {
    if observation.owes_nothing() {
        return None;
    }
    missing_of(&observation.members, decision, Action::is_renewal)
}

/// What is formed here.
pub fn formed<'a>(observation: &Observation, marker: &'a Marker) -> Formed<'a, Action> {
    let first = observation.members.first();
    let leader =
        observation.leader().or(first).map_or(Ipv4Addr::UNSPECIFIED, |member| member.address);
    Formed { what: "an etcd", marker, leader, record: Action::Record }
}

/// The cluster was formed, or its formation began.
fn known(observation: &Observation, record: &Record, formed: &Formed<'_, Action>) -> Decided {
    let forming = record.formation == Formation::Begun;
    let state = if forming { State::Forming } else { State::Degraded };
    let members: Vec<(&Member, &Seen)> =
        observation.members.iter().filter_map(|member| Some((member, member.view()?))).collect();
    let gone = lost(
        record,
        &observation.members,
        "this is a disaster, not a formation: restore a snapshot (docs/clusters.md, etcd, \"When the majority's data is lost\")",
    );
    let unclaimed = || {
        unclaimed(
            &observation.members,
            "etcd",
            "move it away by hand if it is not needed, then run again: the member joins",
        )
    };
    let decided = gone.or_else(unclaimed).or_else(|| stand_up(observation, &members, forming));
    if let Some(decided) = decided {
        return decided;
    }
    let Some((leader, view)) = observation.leader().and_then(|leader| Some((leader, leader.up()?)))
    else {
        return without_a_leader(observation, &members, forming);
    };
    change_of_members(&observation.members, &members, view, state)
        .or_else(|| in_step(&members, leader, state))
        .or_else(|| {
            mark(&observation.members, record, state, |member, marker| Action::Mark {
                member,
                marker,
            })
        })
        .or_else(|| write(&members, state))
        .or_else(|| formed.complete(record, &observation.members))
        .or_else(|| renew(observation, &members, leader))
        .or_else(|| alarms(&observation.members))
        .unwrap_or_else(|| Decision {
            state: State::Healthy,
            found: format!("{} of {} members in step", members.len(), observation.members.len()),
            next: Next::Done,
        })
}

/// Starts members that have their data: they know better than anyone what was agreed on. One that
/// is no member any more stays down.
fn stand_up(observation: &Observation, members: &Known<'_>, forming: bool) -> Option<Decided> {
    let list = observation.leader().and_then(Member::up).map(|view| &view.list);
    let asleep: Vec<Action> = members
        .iter()
        .filter(|(_, seen)| seen.data && seen.server == Server::Down)
        .filter(|(member, _)| list.is_none_or(|list| member.entry(list).is_some()))
        .map(|(member, _)| {
            // A beginning that was cut off goes on; where there is a log it is not read any more.
            let begins = match list {
                Some(list) if member.entry(list).is_some_and(|entry| !entry.began()) => {
                    Some(Begins { how: Beginning::Existing, members: named(observation) })
                }
                None if forming => Some(first_of_all(observation)),
                _ => None,
            };
            Action::Start { member: member.name.clone(), begins }
        })
        .collect();
    let state = if list.is_some() { State::Degraded } else { State::Down };
    let state = if forming { State::Forming } else { state };
    (!asleep.is_empty())
        .then(|| Decision::act(state, "etcd does not run where its data is", asleep))
}

fn named(observation: &Observation) -> Vec<Named> {
    observation.members.iter().map(Member::named).collect()
}

fn first_of_all(observation: &Observation) -> Begins {
    Begins { how: Beginning::New, members: named(observation) }
}

/// Nobody leads: either nobody ever did, or the members have to find each other.
fn without_a_leader(observation: &Observation, members: &Known<'_>, forming: bool) -> Decided {
    if forming {
        let lacking: Vec<Action> = members
            .iter()
            .filter(|(_, seen)| !seen.data && seen.server == Server::Down)
            .map(|(member, _)| Action::Begin {
                member: member.name.clone(),
                begins: first_of_all(observation),
            })
            .collect();
        if !lacking.is_empty() {
            return Decision::act(State::Forming, "the members begin together", lacking);
        }
        return Decision::wait(
            State::Forming,
            "the members find each other",
            silence(members),
            SETTLE,
        );
    }
    let (all, with_data) =
        (observation.members.len(), members.iter().filter(|(_, seen)| seen.data).count());
    if with_data <= all / 2 {
        let has = members.iter().filter(|(_, seen)| seen.data).map(|(m, _)| m.name.as_str());
        let has: Vec<&str> = has.collect();
        let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
        return Decision::refuse(
            State::Down,
            format!(
                "nobody leads, and of {all} members only {with_data} have their data ({has}): no majority can come back"
            ),
            "this is a disaster, not a formation: nothing is begun anew. Restore the newest keys (docs/clusters.md, etcd, \"When the majority's data is lost\")",
        );
    }
    Decision::wait(State::Down, "nobody leads", silence(members), SETTLE)
}

/// What the members say while nobody leads.
fn silence(members: &Known<'_>) -> String {
    let said: Vec<String> = members
        .iter()
        .map(|(member, seen)| match &seen.server {
            Server::Down => format!("{} does not run", member.name),
            Server::Unready(why) => format!("{}: {why}", member.name),
            Server::Up(view) => match &view.trouble {
                Some(why) => format!("{}: {why}", member.name),
                None => format!("{} knows no leader", member.name),
            },
        })
        .collect();
    format!("no majority has elected a leader: {}", said.join("; "))
}

/// Waits until every member follows the leader and has what it has.
fn in_step(members: &Known<'_>, leader: &Member, state: State) -> Option<Decided> {
    let leads = leader.up()?;
    let reason = members.iter().find_map(|(member, seen)| {
        let name = &member.name;
        match &seen.server {
            Server::Down => Some(format!("etcd on {name} does not answer")),
            Server::Unready(why) => Some(format!("etcd on {name}: {why}")),
            Server::Up(view) if view.leader != Some(leads.id) => {
                Some(format!("{name} does not follow {} yet", leader.name))
            }
            Server::Up(view) => {
                if let Some(why) = &view.trouble {
                    return Some(format!("etcd on {name}: {why}"));
                }
                let behind = leads.index.saturating_sub(view.applied);
                (behind > LAG).then(|| format!("{name} is {behind} entries behind {}", leader.name))
            }
        }
    })?;
    Some(Decision::wait(state, "members catch up", &reason, SETTLE))
}

/// Writes what needs no start, on all members at once: nobody notices.
fn write(members: &Known<'_>, state: State) -> Option<Decided> {
    let differing: Vec<&(&Member, &Seen)> = members
        .iter()
        .filter(|(_, seen)| !seen.stale.files.is_empty() && seen.stale.server.is_empty())
        .collect();
    let (first, seen) = differing.first()?;
    let found = format!("{} differs from its role: {}", first.name, seen.stale.files.join(", "));
    let actions = differing.iter().map(|(m, _)| Action::Write { member: m.name.clone() }).collect();
    Some(Decision::act(state, found, actions))
}

/// Brings about what needs a start, one member at a time: the keys are saved first, then come the
/// followers, and last the leader after another one leads (E5).
fn renew(observation: &Observation, members: &Known<'_>, leader: &Member) -> Option<Decided> {
    let followers = || members.iter().filter(|(member, _)| member.name != leader.name);
    let stale = |(_, seen): &&(&Member, &Seen)| !seen.stale.server.is_empty();
    let last = members.iter().filter(|(member, _)| member.name == leader.name);
    let (member, seen) = followers().chain(last).find(stale)?;
    let found = format!("{} differs from its role: {}", member.name, seen.stale.server.join(", "));
    let follower = followers().next();
    let action = match follower {
        _ if !observation.saved => {
            Action::Save { member: follower.map_or(&member.name, |(m, _)| &m.name).clone() }
        }
        Some((to, _)) if member.name == leader.name => {
            Action::MoveLeader { from: leader.name.clone(), to: to.name.clone(), id: to.up()?.id }
        }
        _ => Action::Renew { member: member.name.clone() },
    };
    Some(Decision::act(State::Degraded, found, vec![action]))
}

/// An alarm forbids no renewal, which may be what ends it.
fn alarms(members: &[Member]) -> Option<Decided> {
    let mut alarms = members.iter().filter_map(Member::up).flat_map(|view| &view.alarms);
    let (kind, id) = alarms.next()?;
    let whose = name_of(members, *id);
    Some(Decision::refuse(
        State::Degraded,
        format!("etcd raised the alarm {kind} for {whose}: it takes no more writes"),
        "raise etcd_quota_bytes, or compact and defragment the keys (`etcdctl compact`, `etcdctl defrag`); then `etcdctl alarm disarm`, and run again",
    ))
}
