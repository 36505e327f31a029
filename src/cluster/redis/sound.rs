//! What forbids every change: members that cannot be looked at, and those that do not belong
//! together.

use super::decide::Decided;
use super::view::{Member, Observation, Server};
use crate::cluster::{Decision, Marker, State};

/// What forbids every change, whatever the cluster's state is. Members in `out` are absent on
/// purpose.
pub fn unsound(observation: &Observation, out: &[String]) -> Option<Decided> {
    let unreachable: Vec<String> = observation
        .members
        .iter()
        .filter(|member| !out.contains(&member.name))
        .filter_map(|member| Some(format!("{}: {}", member.name, member.seen.as_ref().err()?)))
        .collect();
    if !unreachable.is_empty() {
        return Some(Decision::refuse(
            State::Unknown,
            format!("not every member could be looked at: {}", unreachable.join("; ")),
            "a cluster is changed only when all of it is known; bring the host back, then run again",
        ));
    }
    for member in &observation.members {
        let Some(seen) = member.view() else { continue };
        if let Server::Refuses(why) = &seen.server {
            return Some(Decision::refuse(
                State::Unknown,
                format!("Redis on {} does not take REDIS_PASSWORD: {why}", member.name),
                "the credential differs from the running server's: put the server's own password into credentials/redis.env.age (`strata secrets set redis REDIS_PASSWORD`); strata never resets it, and changes it by `strata secrets rotate` only",
            ));
        }
        if let Err(error) = &seen.marker {
            return Some(Decision::refuse(
                State::Unknown,
                format!("the marker beside the data of {} cannot be read: {error}", member.name),
                "restore the file .strata-cluster from another member: it proves whose data this is",
            ));
        }
    }
    same_sentinel(&observation.members).or_else(|| foreign(observation))
}

/// Two Sentinels with one id: a copied file.
fn same_sentinel(members: &[Member]) -> Option<Decided> {
    for (index, member) in members.iter().enumerate() {
        let Some(view) = member.sentinel() else { continue };
        let twin = members[..index]
            .iter()
            .find(|other| other.sentinel().is_some_and(|other| other.id == view.id));
        if let Some(twin) = twin {
            return Some(Decision::refuse(
                State::Split,
                format!(
                    "the Sentinels of {} and {} have one id: {}",
                    twin.name, member.name, view.id
                ),
                format!(
                    "stop Sentinel on {}, remove `sentinel myid` from its sentinel.conf and start it again",
                    member.name
                ),
            ));
        }
    }
    None
}

/// Markers of another cluster.
fn foreign(observation: &Observation) -> Option<Decided> {
    let own = observation.record.as_ref().ok()?.as_ref().map(|record| &record.marker);
    let mut first: Option<(&str, &Marker)> = own.map(|marker| ("the operator host", marker));
    for member in &observation.members {
        let Some(Ok(Some(marker))) = member.view().map(|seen| &seen.marker) else { continue };
        match first {
            Some((whose, known)) if known.id != marker.id => {
                return Some(Decision::refuse(
                    State::Foreign,
                    format!(
                        "the data on {} belongs to cluster {} (made by {}), {whose} knows {}",
                        member.name, marker.id, marker.driver, known.id
                    ),
                    "two clusters are mixed here: move the foreign data away by hand, or restore the right record; strata deletes nothing",
                ));
            }
            Some(_) => {}
            None => first = Some((&member.name, marker)),
        }
    }
    None
}
