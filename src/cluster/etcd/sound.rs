//! What forbids every change: members that cannot be looked at, and those that do not belong
//! together.

use super::decide::Decided;
use super::view::{Member, Observation, View};
use crate::cluster::belonging::{foreign, unreachable};
use crate::cluster::{Decision, State};

/// The alarm of a member whose data is not that of the others.
const CORRUPT: &str = "CORRUPT";

/// What forbids every change, whatever the cluster's state is. Members in `out` are absent on
/// purpose.
pub fn unsound(observation: &Observation, out: &[String]) -> Option<Decided> {
    let members = &observation.members;
    unreachable(members, out)
        .or_else(|| foreign(&observation.record, members))
        .or_else(|| several_clusters(members))
        .or_else(|| twins(members))
        .or_else(|| corrupt(members))
}

fn up(members: &[Member]) -> impl Iterator<Item = (&Member, &View)> {
    members.iter().filter_map(|member| Some((member, member.up()?)))
}

/// Servers of two clusters.
fn several_clusters(members: &[Member]) -> Option<Decided> {
    let (first, view) = up(members).next()?;
    let (other, differing) = up(members).find(|(_, other)| other.cluster != view.cluster)?;
    Some(Decision::refuse(
        State::Split,
        format!(
            "{} belongs to the etcd cluster {:x}, and {} to {:x}",
            first.name, view.cluster, other.name, differing.cluster
        ),
        "two histories exist and only you can say which one counts: stop etcd on the members of the other one, move their data directories away by hand, then run again: they join",
    ))
}

/// Two servers with one id: a copied data directory.
fn twins(members: &[Member]) -> Option<Decided> {
    let (twin, other) = up(members).enumerate().find_map(|(index, (member, view))| {
        let (other, _) = up(members).take(index).find(|(_, other)| other.id == view.id)?;
        Some((member, other))
    })?;
    Some(Decision::refuse(
        State::Split,
        format!("etcd on {} and on {} have one member id", other.name, twin.name),
        format!(
            "one of the data directories is a copy: stop etcd on {}, move its data directory away by hand, then run again: it joins",
            twin.name
        ),
    ))
}

/// etcd itself found that a member's data differs from the others'.
fn corrupt(members: &[Member]) -> Option<Decided> {
    let mut alarms = up(members).flat_map(|(_, view)| &view.alarms);
    let (_, id) = alarms.find(|(kind, _)| kind == CORRUPT)?;
    let whose = name_of(members, *id);
    Some(Decision::refuse(
        State::Split,
        format!("etcd raised the alarm CORRUPT for {whose}: its data differs from the others'"),
        format!(
            "keep the keys of the other members first (`etcdctl snapshot save`); then stop etcd on {whose}, move its data directory away by hand, disarm the alarm (`etcdctl alarm disarm`) and run again: it joins"
        ),
    ))
}

/// The host of a member's id, else the id.
pub(super) fn name_of(members: &[Member], id: u64) -> String {
    let known = up(members).find(|(_, view)| view.id == id);
    known.map_or_else(|| format!("the member {id:x}"), |(member, _)| member.name.clone())
}
