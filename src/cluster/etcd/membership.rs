//! Who is in the list of members, and who has to come or go: one change at a time, and only while
//! those that stay are a majority that has everything. Pure.

use super::action::{Action, Begins};
use super::decide::{Decided, Known};
use super::gateway::Peer;
use super::settings::Beginning;
use super::view::{Member, Named, Seen, Server, View};
use crate::cluster::{Decision, State};

/// What of the list has to change first. `leader` is the view of the member that leads.
pub(super) fn change_of_members(
    all: &[Member],
    members: &Known<'_>,
    leader: &View,
    state: State,
) -> Option<Decided> {
    let list = &leader.list;
    begun(members, list, state)
        .or_else(|| strangers(all, members, leader, state))
        .or_else(|| gone(members, leader, state))
        .or_else(|| lacking(members, list, state))
}

/// Goes on with a change that was made half: a member that is in the list and never began, and one
/// without a vote.
fn begun(members: &Known<'_>, list: &[Peer], state: State) -> Option<Decided> {
    members.iter().find_map(|(member, seen)| {
        let entry = member.entry(list)?;
        let name = member.name.clone();
        if !entry.began() && !seen.data && seen.server == Server::Down {
            let found = format!("{name} is in the list and has not begun");
            if seen.anything {
                return Some(Decision::act(state, found, vec![Action::SetAside { member: name }]));
            }
            let begins = Begins { how: Beginning::Existing, members: as_listed(members, list) };
            return Some(Decision::act(state, found, vec![Action::Begin { member: name, begins }]));
        }
        let up = matches!(seen.server, Server::Up(_));
        (entry.learner && up).then(|| {
            let found = format!("{name} has no vote yet");
            Decision::act(state, found, vec![Action::Promote { member: name, id: entry.id }])
        })
    })
}

/// Entries of the list that no member of the inventory is, in service or not.
fn strangers(all: &[Member], members: &Known<'_>, leader: &View, state: State) -> Option<Decided> {
    let ours = |peer: &Peer| all.iter().any(|member| peer.address() == Some(member.address));
    let stranger = leader.list.iter().find(|peer| !ours(peer))?;
    let url = stranger.peer_urls.first().map_or("no address", String::as_str);
    let called = if stranger.name.is_empty() {
        url.to_owned()
    } else {
        format!("{} at {url}", stranger.name)
    };
    let found = format!("{called} is in the list and not in the inventory");
    if let Err(why) = may_lose(members, leader, stranger.id) {
        return Some(Decision::refuse(
            state,
            format!("{found}, and cannot be taken out: {why}"),
            "bring the other members back first, then run again",
        ));
    }
    Some(Decision::act(state, found, vec![Action::Remove { member: called, id: stranger.id }]))
}

/// Members whose data is gone, and members whose place is gone.
fn gone(members: &Known<'_>, leader: &View, state: State) -> Option<Decided> {
    let (member, seen, entry) = members.iter().find_map(|(member, seen)| {
        let entry = member.entry(&leader.list);
        let lost = !seen.data && entry.is_some_and(Peer::began);
        let homeless = entry.is_none() && (seen.anything || seen.server != Server::Down);
        (lost || homeless).then_some((*member, *seen, entry))
    })?;
    let name = member.name.clone();
    let found = match entry {
        Some(_) => format!("the data of {name} is gone"),
        None => format!("{name} has data, and is no member any more"),
    };
    let id = entry.map_or(0, |entry| entry.id);
    if let Err(why) = may_lose(members, leader, id) {
        return Some(Decision::refuse(
            state,
            format!("{found}, and the others are not enough to go on without it: {why}"),
            "nothing of it is touched. Save the keys now (`etcdctl snapshot save`), bring the other members back, then run again",
        ));
    }
    let action = match entry {
        Some(entry) if leader.leader == Some(entry.id) => {
            let other = |m: &Member| m.name != name && is_sound(m, leader);
            let (to, view) = members.iter().find_map(|(m, _)| {
                let view = m.up().filter(|_| other(m))?;
                Some((m, view))
            })?;
            Action::MoveLeader { from: name, to: to.name.clone(), id: view.id }
        }
        Some(entry) if !seen.anything && seen.server == Server::Down => {
            Action::Remove { member: name, id: entry.id }
        }
        _ => Action::SetAside { member: name },
    };
    Some(Decision::act(state, found, vec![action]))
}

/// Members that are not in the list.
fn lacking(members: &Known<'_>, list: &[Peer], state: State) -> Option<Decided> {
    // One change at a time: whoever was added last has to have its vote first.
    if list.iter().any(|peer| peer.learner || !peer.began()) {
        return None;
    }
    let (member, _) = members.iter().find(|(member, _)| member.entry(list).is_none())?;
    let found = format!("{} is not in the list of members", member.name);
    Some(Decision::act(state, found, vec![Action::Add { member: member.named() }]))
}

/// The list as a joining member must be told of it: exactly those that are in it.
fn as_listed(members: &Known<'_>, list: &[Peer]) -> Vec<Named> {
    list.iter()
        .filter_map(|peer| {
            let address = peer.address()?;
            let ours = members.iter().find(|(member, _)| member.address == address);
            let name = ours.map_or(&peer.name, |(member, _)| &member.name);
            Some(Named { name: name.clone(), address })
        })
        .collect()
}

/// True for a member with a vote that has its data and follows the leader.
fn is_sound(member: &Member, leader: &View) -> bool {
    let entry = member.entry(&leader.list);
    member.view().is_some_and(|seen: &Seen| seen.data)
        && entry.is_some_and(|entry| !entry.learner && entry.began())
        && member.up().is_some_and(|view| {
            view.trouble.is_none() && !view.learner && view.leader == leader.leader
        })
}

/// Whether the cluster goes on without an entry: a majority of those that stay has everything.
///
/// # Errors
/// Who is missing.
fn may_lose(members: &Known<'_>, leader: &View, id: u64) -> Result<(), String> {
    let stay: Vec<&Peer> =
        leader.list.iter().filter(|peer| peer.id != id && !peer.learner).collect();
    let sound = |peer: &&&Peer| {
        let member = members.iter().find(|(m, _)| peer.address() == Some(m.address));
        member.is_some_and(|(member, _)| is_sound(member, leader))
    };
    let enough = stay.iter().filter(sound).count() > stay.len() / 2;
    if enough && !stay.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = stay
        .iter()
        .filter(|peer| !sound(peer))
        .map(|peer| if peer.name.is_empty() { "one without a name" } else { peer.name.as_str() })
        .collect();
    Err(format!("{} of {} others are not in step", missing.join(", "), stay.len()))
}
