//! What comes next. Pure: the same look always gives the same decision.

use super::action::Action;
use super::sound::unsound;
use super::view::{Member, Observation, Seen, Server};
use crate::cluster::formation::{Formed, lost, mark, missing as missing_of, unclaimed};
use crate::cluster::look::seen;
use crate::cluster::{Decision, Formation, Marker, Next, Record, State};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long nodes may wait for each other after a start: RabbitMQ itself gives up after ten times
/// half a minute.
pub const START: Duration = Duration::from_secs(330);

/// How long a partition may take to heal once the network is whole.
const SETTLE: Duration = Duration::from_secs(180);

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

type Known<'a> = [(&'a Member, &'a Seen)];

/// Decides.
pub fn decide(observation: &Observation, wanted: &Wanted) -> Decided {
    if let Some(refusal) = unsound(observation, &wanted.out) {
        return refusal;
    }
    let formed = formed(observation, &wanted.marker);
    match formed.known(&observation.record, &observation.members) {
        Ok(record) => known(observation, record, &formed),
        Err(decided) => *decided,
    }
    .without(&wanted.out)
}

/// Why the cluster is not whole.
pub fn missing(observation: &Observation, decision: &Decided) -> Option<String> {
    if observation.owes_nothing() {
        return None;
    }
    missing_of(&observation.members, decision, Action::is_renewal)
}

/// What is formed here. No node leads: the first one of the group begins.
pub fn formed<'a>(observation: &Observation, marker: &'a Marker) -> Formed<'a, Action> {
    let members = &observation.members;
    Formed {
        what: "a RabbitMQ",
        marker,
        leader: members.first().map_or(Ipv4Addr::UNSPECIFIED, |member| member.address),
        record: Action::Record,
    }
}

/// The cluster was formed, or its formation began.
fn known(observation: &Observation, record: &Record, formed: &Formed<'_, Action>) -> Decided {
    let all = &observation.members;
    let members: Vec<(&Member, &Seen)> = seen(all).collect();
    let forming = record.formation == Formation::Begun;
    lost(
        record,
        all,
        "this is a disaster, not a formation: restore the definitions and the data. To give the data up for good, move away the record (state/ of the site) and .strata-cluster on every member",
    )
    .or_else(|| {
        unclaimed(
            all,
            "RabbitMQ",
            "move it away by hand if it is not needed, then run again: the member joins",
        )
    })
    .or_else(|| stand_up(&members, forming))
    .or_else(|| fill_up(&members, forming))
    .or_else(|| together(&members, forming))
    .or_else(|| {
        mark(all, record, unfinished(forming), |member, marker| Action::Mark { member, marker })
    })
    .or_else(|| declare(&members, forming))
    .or_else(|| formed.complete(record, all))
    .or_else(|| renew(&members))
    .unwrap_or_else(|| as_wanted(&members))
}

const fn unfinished(forming: bool) -> State {
    if forming { State::Forming } else { State::Degraded }
}

/// Nodes with data start all at the same time: each waits for those that stopped after it.
fn stand_up(members: &Known<'_>, forming: bool) -> Option<Decided> {
    let nobody = members.iter().all(|(member, _)| member.up().is_none());
    let state = match (forming, nobody) {
        (true, _) => State::Forming,
        (false, true) => State::Down,
        (false, false) => State::Degraded,
    };
    // A node with another cookie waits for ever: it finds nobody who answers it.
    let lost = |seen: &Seen| {
        seen.stale.cookie && matches!(seen.server, Server::Unready(_)) && seen.container
    };
    // One that ends again and again with what the role would change has nothing to lose by it.
    let mends =
        |seen: &Seen| matches!(seen.server, Server::Fails(_)) && !seen.stale.reasons().is_empty();
    let asleep: Vec<Action> = members
        .iter()
        .filter(|(_, seen)| {
            (seen.data && (seen.server == Server::Down || lost(seen))) || mends(seen)
        })
        .map(|(member, _)| Action::Start { member: member.name.clone() })
        .collect();
    if !asleep.is_empty() {
        return Some(Decision::act(state, "nodes do not run where their data is", asleep));
    }
    let failing = members.iter().find_map(|(member, seen)| match &seen.server {
        Server::Fails(failing) => Some(Decision::refuse(
            state,
            format!("RabbitMQ on {} does not stay up: {failing}", member.name),
            failing.hint(&member.name),
        )),
        _ => None,
    });
    failing.or_else(|| {
        members.iter().find_map(|(member, seen)| match &seen.server {
            Server::Unready(why) => {
                Some(Decision::wait(state, "nodes start", format!("{}: {why}", member.name), START))
            }
            _ => None,
        })
    })
}

/// Members without data join, one after the other: two at a time might both be the first.
fn fill_up(members: &Known<'_>, forming: bool) -> Option<Decided> {
    let state = unfinished(forming);
    // What runs without its data knows nothing that others do not; what stopped is only a shell.
    let hollow = members.iter().find(|(_, seen)| !seen.data && seen.container);
    let up: Vec<&Member> = members
        .iter()
        .filter(|(member, seen)| seen.data && member.up().is_some())
        .map(|(member, _)| *member)
        .collect();
    let lacking = members.iter().find(|(_, seen)| !seen.data && !seen.container);
    let (member, hollow) = match (hollow, lacking) {
        (Some((member, _)), _) => (member, true),
        (None, Some((member, _))) => (member, false),
        (None, None) => return None,
    };
    let found = format!("{} has no data", member.name);
    // The majority of the nodes must be there before one is forgotten and made anew.
    let nodes: BTreeSet<&String> =
        up.iter().filter_map(|member| member.up()).flat_map(|view| &view.nodes).collect();
    if !forming && up.len() * 2 <= nodes.len() {
        return Some(Decision::refuse(
            State::Degraded,
            format!("{found}, and only {} of {} nodes run with theirs", up.len(), nodes.len()),
            "the majority must run before a node is made anew: bring another one back first",
        ));
    }
    if hollow {
        return Some(Decision::act(
            state,
            found,
            vec![Action::Remove { member: member.name.clone() }],
        ));
    }
    let knows =
        up.iter().find(|other| other.up().is_some_and(|view| view.nodes.contains(&member.name)));
    if let Some(by) = knows {
        let forget = Action::Forget { member: member.name.clone(), by: by.name.clone() };
        return Some(Decision::act(state, found, vec![forget]));
    }
    let found = if up.is_empty() { format!("{} begins", member.name) } else { found };
    Some(Decision::act(state, found, vec![Action::Create { member: member.name.clone() }]))
}

/// Every node runs in one cluster, sees all others, takes clients, and has its queues.
fn together(members: &Known<'_>, forming: bool) -> Option<Decided> {
    let state = unfinished(forming);
    for (member, _) in members {
        let Some(view) = member.up() else { continue };
        let name = &member.name;
        let cut = view.partitions.iter().cloned().collect::<Vec<_>>();
        let unseen = members.iter().find(|(other, _)| !view.running.contains(&other.name));
        let reason = if !cut.is_empty() {
            format!("{name} is cut off from {}", cut.join(", "))
        } else if let Some((other, _)) = unseen {
            format!("{name} does not see {} run", other.name)
        } else {
            continue;
        };
        return Some(Decision::wait(state, "nodes find each other", reason, SETTLE));
    }
    let drained = members.iter().find(|(member, _)| member.up().is_some_and(|view| view.drained));
    if let Some((member, _)) = drained {
        let found = format!("{} takes no clients: it was drained", member.name);
        let revive = Action::Revive { member: member.name.clone() };
        return Some(Decision::act(state, found, vec![revive]));
    }
    let by = members.iter().find_map(|(member, _)| Some((member, member.up()?)))?;
    let uncopied = by.1.uncopied.iter().next()?;
    let grow = Action::Grow { member: uncopied.clone(), by: by.0.name.clone() };
    Some(Decision::act(state, format!("quorum queues have no copy on {uncopied}"), vec![grow]))
}

/// What the role declares is declared once, by any node.
fn declare(members: &Known<'_>, forming: bool) -> Option<Decided> {
    let (by, view) = members.iter().find_map(|(member, _)| Some((member, member.up()?)))?;
    if view.undeclared.is_empty() {
        return None;
    }
    let what = view.undeclared.clone();
    let found = format!("the cluster differs from its role: {}", what.join(", "));
    let declare = Action::Declare { by: by.name.clone(), what };
    Some(Decision::act(unfinished(forming), found, vec![declare]))
}

/// One node at a time, and features of the version in use first: nodes of the next version ask for
/// them (E5).
fn renew(members: &Known<'_>) -> Option<Decided> {
    let (member, seen) = members.iter().find(|(_, seen)| !seen.stale.reasons().is_empty())?;
    if let Some((blocked, alarms)) = alarm(members) {
        return Some(Decision::refuse(
            State::Degraded,
            format!("{} differs from its role, and {blocked} has an alarm: {alarms}", member.name),
            "publishers are blocked now: free the disk or the memory first, then run again",
        ));
    }
    let found =
        format!("{} differs from its role: {}", member.name, seen.stale.reasons().join(", "));
    let late = members
        .iter()
        .find(|(member, _)| member.up().is_some_and(|view| !view.features.is_empty()));
    let action = match late {
        Some((by, _)) => Action::EnableFeatures { by: by.name.clone() },
        None => Action::Renew { member: member.name.clone() },
    };
    Some(Decision::act(State::Degraded, found, vec![action]))
}

fn alarm(members: &Known<'_>) -> Option<(String, String)> {
    members.iter().find_map(|(member, _)| {
        let alarms = &member.up()?.alarms;
        let names = alarms.iter().cloned().collect::<Vec<_>>().join(", ");
        (!alarms.is_empty()).then(|| (member.name.clone(), names))
    })
}

fn as_wanted(members: &Known<'_>) -> Decided {
    let (state, found) = match alarm(members) {
        Some((name, alarms)) => {
            (State::Degraded, format!("{name} blocks publishers: alarm of {alarms}"))
        }
        None => (State::Healthy, format!("{} nodes run in one cluster", members.len())),
    };
    Decision { state, found, next: Next::Done }
}
