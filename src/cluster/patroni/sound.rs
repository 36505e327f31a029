//! What forbids every change: members that cannot be looked at, and those that do not belong
//! together. Pure.

use super::decide::{Decided, Wanted};
use super::view::{Member, Observation};
use crate::cluster::belonging::{foreign, unreachable};
use crate::cluster::{Decision, State};
use std::collections::BTreeMap;

/// What forbids every change, whatever the cluster's state is.
pub fn unsound(observation: &Observation, wanted: &Wanted) -> Option<Decided> {
    if let Some(refusal) = unreachable(&observation.members, &wanted.out) {
        return Some(refusal);
    }
    for member in &observation.members {
        let Some(seen) = member.view() else { continue };
        if let Some(why) = &seen.refuses {
            return Some(Decision::refuse(
                State::Unknown,
                format!("PostgreSQL on {}: the credential differs: {why}", member.name),
                "put the server's own superuser into the site (`strata secrets set postgres POSTGRES_SUPERPASS`, and POSTGRES_SUPERUSER if that differs); strata never resets it",
            ));
        }
        if let (Err(error), None) = (&seen.control, member.status()) {
            return Some(Decision::refuse(
                State::Unknown,
                format!("the data on {} does not say what it is: {error}", member.name),
                "move the directory away by hand if it holds nothing of worth, then run again: the member copies the leader's data",
            ));
        }
    }
    foreign(&observation.record, &observation.members)
        .or_else(|| foreign_data(observation))
        .or_else(|| two(observation))
        .or_else(|| damaged(observation))
}

/// What would damage data. Nothing else is done either: a member that is started, or copies, would
/// get the same image.
fn damaged(observation: &Observation) -> Option<Decided> {
    let (member, forbidden) = observation.members.iter().find_map(|member| {
        let forbidden = &member.view()?.stale.forbidden;
        (!forbidden.is_empty()).then_some((member, forbidden))
    })?;
    Some(Decision::refuse(
        State::Degraded,
        format!("{}: {}", member.name, forbidden.join("; ")),
        "give the pin its former value; another major version of PostgreSQL, or an image of another C library, needs a dump and a restore, or a cluster of its own that follows this one",
    ))
}

/// Which database clusters the members hold and etcd expects, each with who says so.
fn systems(observation: &Observation) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in &observation.members {
        let Some(Ok(Some(control))) = member.view().map(|seen| &seen.control) else { continue };
        found.entry(control.system.to_string()).or_default().push(member.name.clone());
    }
    let expected = observation.store.as_ref().ok().and_then(|store| store.initialize.clone());
    if let Some(expected) = expected.filter(|expected| !expected.is_empty()) {
        found.entry(expected).or_default().push("etcd".to_owned());
    }
    found
}

/// Data of two database clusters.
fn foreign_data(observation: &Observation) -> Option<Decided> {
    let systems = systems(observation);
    if systems.len() < 2 {
        return None;
    }
    let told: Vec<String> =
        systems.iter().map(|(system, whose)| format!("{system} ({})", whose.join(", "))).collect();
    Some(Decision::refuse(
        State::Foreign,
        format!("there is more than one database system identifier: {}", told.join(", ")),
        "two clusters are mixed here: move the data that does not belong here away by hand, then run again; strata deletes nothing",
    ))
}

/// Two that take writes. One may be about to learn that it does not any more.
fn two(observation: &Observation) -> Option<Decided> {
    let primary =
        |member: &&Member| member.status().is_some_and(|status| status.runs() && status.primary);
    let names: Vec<&str> =
        observation.members.iter().filter(primary).map(|member| member.name.as_str()).collect();
    (names.len() > 1).then(|| {
        let reason = format!("{} say that they are primary", names.join(" and "));
        Decision::wait(State::Split, &reason, &reason, super::decide::SETTLE)
    })
}
