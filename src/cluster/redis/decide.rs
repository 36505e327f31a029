//! What comes next. Pure: the same look always gives the same decision.

use super::action::{Action, Part};
use super::leader::{Leader, leader};
use super::sound::unsound;
use super::start::start_what_stands;
use super::view::{Member, Observation, Role, Seen, Sentinel, Server};
use crate::cluster::formation::{Formed, lost, mark, missing as missing_of};
use crate::cluster::look::seen;
use crate::cluster::{Decision, Formation, Marker, Next, Record, State};
use std::net::Ipv4Addr;
use std::time::Duration;

/// What the decision knows beside the look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The marker of a cluster that would be formed now.
    pub marker: Marker,
    /// How long Sentinels may take to settle: the time-out of a failover and some.
    pub settle: Duration,
    /// Members that are out of service: they are absent on purpose, and nothing is done meanwhile.
    pub out: Vec<String>,
}

/// How long a replica may take for its first copy.
const SYNC: Duration = Duration::from_secs(900);

/// A decision about this cluster.
pub type Decided = Decision<Action>;

/// Decides.
pub fn decide(observation: &Observation, wanted: &Wanted) -> Decided {
    if let Some(refusal) = unsound(observation, &wanted.out) {
        return refusal;
    }
    of_what_is_known(observation, wanted).without(&wanted.out)
}

fn of_what_is_known(observation: &Observation, wanted: &Wanted) -> Decided {
    let formed = formed(observation, &wanted.marker);
    match formed.known(&observation.record, &observation.members) {
        Ok(record) => known(observation, record, wanted, &formed),
        Err(decided) => *decided,
    }
}

/// Why the cluster is not whole; `None` when at most renewals are left, which nothing is missing
/// without.
pub fn missing(observation: &Observation, decision: &Decided) -> Option<String> {
    let without_data = || {
        let (member, _) = seen(&observation.members).find(|(_, seen)| !seen.data)?;
        Some(format!("it is not whole: {} has no data", member.name))
    };
    missing_of(&observation.members, decision, Action::is_renewal).or_else(without_data)
}

/// What is formed here.
pub fn formed<'a>(observation: &Observation, marker: &'a Marker) -> Formed<'a, Action> {
    let first = observation.members.first();
    let leader = match leader(observation) {
        Leader::Known(address) => address,
        _ => first.map_or(Ipv4Addr::UNSPECIFIED, |member| member.address),
    };
    Formed { what: "a Redis", marker, leader, record: Action::Record }
}

/// The cluster was formed, or its formation began.
fn known(
    observation: &Observation,
    record: &Record,
    wanted: &Wanted,
    formed: &Formed<'_, Action>,
) -> Decided {
    let forming = record.formation == Formation::Begun;
    let members: Vec<(&Member, &Seen)> =
        observation.members.iter().filter_map(|member| Some((member, member.view()?))).collect();
    let gone = lost(
        record,
        &observation.members,
        "this is a disaster, not a formation: restore a backup of the data. To give the data up for good, stop the containers and move away the record (state/ of the site) and on every member .strata-cluster, redis.conf and sentinel.conf",
    );
    if let Some(refusal) = gone {
        return refusal;
    }
    if let Some(start) = start_what_stands(&members, record) {
        return start;
    }
    let state = if forming { State::Forming } else { State::Degraded };
    let live = match leader(observation) {
        Leader::Known(address) => address,
        Leader::Split(evidence) => {
            return Decision::refuse(
                State::Split,
                evidence,
                "two histories exist and only you can say which one counts: stop the Redis that is to give way, set its data aside, then run again",
            );
        }
        // Nothing was ever written: the member that was chosen is the only one that may begin.
        Leader::Nobody(_) if forming && nothing_but(&members, record.leader) => record.leader,
        Leader::Nobody(reason) if forming => {
            return Decision::wait(state, &reason, &reason, wanted.settle);
        }
        Leader::Nobody(reason) => {
            return Decision::wait(State::Down, &reason, &reason, wanted.settle);
        }
        Leader::Electing(reason) => return Decision::wait(state, &reason, &reason, wanted.settle),
    };
    let all = observation.members.len();
    fill_up(&members, live, forming, wanted)
        .or_else(|| settle(&members, all, live, forming, wanted))
        .or_else(|| {
            mark(&observation.members, record, state, |member, marker| Action::Mark {
                member,
                marker,
            })
        })
        .or_else(|| formed.complete(record, &observation.members))
        .or_else(|| renew(&members, live))
        .unwrap_or_else(|| Decision {
            state: State::Healthy,
            found: format!("{} is master: kept", name_of(&members, live)),
            next: Next::Done,
        })
}

/// Members without data or without daemons get them, as replicas of whoever leads.
fn fill_up(
    members: &[(&Member, &Seen)],
    live: Ipv4Addr,
    forming: bool,
    wanted: &Wanted,
) -> Option<Decided> {
    let state = if forming { State::Forming } else { State::Degraded };
    let leads = |member: &Member| member.address == live;
    let unmarked =
        members.iter().find(|(_, seen)| seen.data && seen.marker == Ok(None) && !is_up(seen));
    if let Some((member, _)) = unmarked {
        return Some(Decision::refuse(
            State::Foreign,
            format!(
                "{} has data without a marker, and no Redis that could tell whose",
                member.name
            ),
            "move it away by hand if it is not needed, then run again: the member copies from the master",
        ));
    }
    // The leader first: the others copy from it.
    if let Some((member, _)) = members.iter().find(|(member, seen)| leads(member) && !is_up(seen)) {
        let found = format!("{} begins as master", member.name);
        return Some(Decision::act(
            state,
            found,
            vec![create(member, live, Part::Server, forming)],
        ));
    }
    if let Some((member, _)) = members.iter().find(|(member, seen)| leads(member) && !seen.data) {
        // Its data lives in memory only: a restart would begin with nothing and empty the replicas.
        let linked = members.iter().any(|(_, seen)| is_linked(seen, live) && seen.data);
        let found = format!("the data directory of the master {} is gone", member.name);
        return Some(if linked {
            Decision::act(state, found, vec![Action::HandOver { from: member.name.clone() }])
        } else {
            Decision::refuse(
                State::Degraded,
                format!("{found}, and no replica has a full copy"),
                "keep this Redis running: its memory is the only copy. Save it (BGSAVE) or bring a replica back first",
            )
        });
    }
    // Its own file is of its former life: with nothing to copy it might call itself a master.
    let former = |seen: &Seen| !is_up(seen) && seen.server_config && !forming;
    let gone: Vec<Action> = members
        .iter()
        .filter(|(member, seen)| !leads(member) && !seen.data && former(seen))
        .map(|(member, _)| Action::SetAside { member: member.name.clone() })
        .collect();
    if !gone.is_empty() {
        return Some(Decision::act(state, "a replica's data directory is gone", gone));
    }
    let missing: Vec<Action> = members
        .iter()
        .filter(|(member, seen)| !leads(member) && !is_up(seen))
        .map(|(member, _)| create(member, live, Part::Server, forming))
        .collect();
    if !missing.is_empty() {
        return Some(Decision::act(state, "replicas are missing", missing));
    }
    if let Some((member, _)) =
        members.iter().find(|(member, seen)| !leads(member) && !is_linked(seen, live))
    {
        let reason =
            format!("{} is not yet a replica in step with {}", member.name, name_of(members, live));
        return Some(Decision::wait(state, "replicas copy", &reason, SYNC.max(wanted.settle)));
    }
    // One at a time: its memory is a copy until another one has everything on disk.
    if let Some((member, _)) =
        members.iter().find(|(member, seen)| !leads(member) && !seen.data && is_up(seen))
    {
        let set_aside = Action::SetAside { member: member.name.clone() };
        return Some(Decision::act(state, "a replica's data directory is gone", vec![set_aside]));
    }
    let missing = members
        .iter()
        .find(|(_, seen)| seen.sentinel == Sentinel::Down)
        .map(|(member, _)| create(member, live, Part::Sentinel, forming));
    missing.map(|action| Decision::act(state, "a Sentinel is missing", vec![action]))
}

/// Waits until the Sentinels agree, and makes them forget members that are no more. A member out of
/// service is one that they may know: it counts in `all` and not in `members`.
fn settle(
    members: &[(&Member, &Seen)],
    all: usize,
    live: Ipv4Addr,
    forming: bool,
    wanted: &Wanted,
) -> Option<Decided> {
    let state = if forming { State::Forming } else { State::Degraded };
    let others = (members.len() as u32).saturating_sub(1);
    let known = (all as u32).saturating_sub(1);
    let mut reason = None;
    let mut extra = None;
    for (member, seen) in members {
        let name = &member.name;
        match &seen.sentinel {
            Sentinel::Down => reason = Some(format!("Sentinel on {name} does not answer")),
            Sentinel::Unready(why) => reason = Some(format!("Sentinel on {name}: {why}")),
            Sentinel::Up(view) if view.master != Some(live) => {
                reason = Some(format!("Sentinel on {name} follows another master"));
            }
            Sentinel::Up(view) if view.replicas < others || view.others < others => {
                reason = Some(format!(
                    "Sentinel on {name} knows {} of {others} replicas and {} of {others} Sentinels",
                    view.replicas, view.others
                ));
            }
            Sentinel::Up(view) if !view.quorum => {
                reason = Some(format!("Sentinel on {name} has no quorum"));
            }
            Sentinel::Up(view) if view.replicas > known || view.others > known => {
                extra = extra.or(Some(name));
            }
            Sentinel::Up(_) => {}
        }
    }
    if let Some(reason) = reason {
        return Some(Decision::wait(
            state,
            "Sentinels get to know each other",
            &reason,
            wanted.settle,
        ));
    }
    // One at a time: while it learns anew, the others keep the majority.
    extra.map(|name| {
        Decision::act(
            state,
            format!("Sentinel on {name} remembers members that are no more"),
            vec![Action::ForgetStrangers { member: name.clone() }],
        )
    })
}

/// Brings about what differs from the role, one member at a time: what can be set while running at
/// once, then replicas, then Sentinels, and last the leader after it handed over (E5).
fn renew(members: &[(&Member, &Seen)], live: Ipv4Addr) -> Option<Decided> {
    let found = |member: &Member, what: &[String]| {
        format!("{} differs from its role: {}", member.name, what.join(", "))
    };
    for (member, seen) in members {
        let stale = &seen.stale;
        if !stale.files.is_empty() && !stale.restarts_server() && stale.sentinel.is_empty() {
            let write = Action::Write { member: member.name.clone() };
            return Some(Decision::act(State::Degraded, found(member, &stale.files), vec![write]));
        }
        if !stale.settings.is_empty() && !stale.restarts_server() {
            let keys: Vec<String> = stale.settings.iter().map(|(key, _)| key.clone()).collect();
            let set = Action::Set { member: member.name.clone(), settings: stale.settings.clone() };
            return Some(Decision::act(State::Degraded, found(member, &keys), vec![set]));
        }
        if !stale.sentinel_settings.is_empty() && stale.sentinel.is_empty() {
            let keys: Vec<String> =
                stale.sentinel_settings.iter().map(|(key, _)| key.clone()).collect();
            let set = Action::SetSentinel {
                member: member.name.clone(),
                settings: stale.sentinel_settings.clone(),
            };
            return Some(Decision::act(State::Degraded, found(member, &keys), vec![set]));
        }
    }
    let replicas_first = members
        .iter()
        .filter(|(member, _)| member.address != live)
        .chain(members.iter().filter(|(member, _)| member.address == live));
    for (member, seen) in replicas_first {
        let restart = |part| Action::Renew { member: member.name.clone(), part };
        if seen.stale.restarts_server() {
            let action = if member.address == live {
                Action::HandOver { from: member.name.clone() }
            } else {
                restart(Part::Server)
            };
            return Some(Decision::act(
                State::Degraded,
                found(member, &seen.stale.server_reasons()),
                vec![action],
            ));
        }
        if !seen.stale.sentinel.is_empty() {
            let why = found(member, &seen.stale.sentinel);
            return Some(Decision::act(State::Degraded, why, vec![restart(Part::Sentinel)]));
        }
    }
    None
}

fn create(member: &Member, live: Ipv4Addr, part: Part, forming: bool) -> Action {
    Action::Create { member: member.name.clone(), leader: live, part, forming }
}

/// True when nobody but the chosen member has anything: the formation cannot have got further.
fn nothing_but(members: &[(&Member, &Seen)], chosen: Ipv4Addr) -> bool {
    members.iter().all(|(member, seen)| member.address == chosen || (!seen.data && !is_up(seen)))
}

pub(super) const fn is_up(seen: &Seen) -> bool {
    matches!(seen.server, Server::Up(_))
}

fn is_linked(seen: &Seen, live: Ipv4Addr) -> bool {
    matches!(&seen.server, Server::Up(view)
        if view.role == Role::Replica { of: Some(live), linked: true })
}

fn name_of(members: &[(&Member, &Seen)], address: Ipv4Addr) -> String {
    members
        .iter()
        .find(|(member, _)| member.address == address)
        .map_or_else(|| address.to_string(), |(member, _)| member.name.clone())
}
