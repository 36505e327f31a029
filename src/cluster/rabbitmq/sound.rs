//! What forbids every change: members that cannot be looked at, and those that do not belong
//! together.

use super::decide::Decided;
use super::view::{Member, Observation, Server, View};
use crate::cluster::belonging::{foreign, unreachable};
use crate::cluster::{Decision, State};

/// What forbids every change, whatever the cluster's state is. Members in `out` are absent on
/// purpose.
pub fn unsound(observation: &Observation, out: &[String]) -> Option<Decided> {
    let members = &observation.members;
    unreachable(members, out)
        .or_else(|| refuses(members))
        .or_else(|| foreign(&observation.record, members))
        .or_else(|| strangers(members))
        .or_else(|| split(members))
        .or_else(|| cookie(members))
        .or_else(|| taken(members))
}

/// A running node that does not take the password.
fn refuses(members: &[Member]) -> Option<Decided> {
    let (member, why) = members.iter().find_map(|member| match &member.view()?.server {
        Server::Refuses(why) => Some((member, why)),
        _ => None,
    })?;
    Some(Decision::refuse(
        State::Unknown,
        format!("RabbitMQ on {} does not take RABBITMQ_ADMIN_PASSWORD: {why}", member.name),
        "the credential differs from the running cluster's: put the cluster's own into credentials/rabbitmq.env.age (`strata secrets set rabbitmq RABBITMQ_ADMIN_PASSWORD`); strata never resets it",
    ))
}

/// Somebody else's server where a node of ours would listen: the node would not start, or would ask
/// another's epmd.
fn taken(members: &[Member]) -> Option<Decided> {
    let (member, who) =
        members.iter().find_map(|member| Some((member, member.view()?.taken.first()?)))?;
    Some(Decision::refuse(
        State::Foreign,
        format!("on {} another program has a port of RabbitMQ: {who}", member.name),
        "stop that program and keep it from starting (a package of RabbitMQ or of Erlang starts its own epmd), then run again",
    ))
}

/// A node in the cluster that is no member: somebody else's, or a host that was renamed.
fn strangers(members: &[Member]) -> Option<Decided> {
    for member in members {
        let Some(view) = member.up() else { continue };
        let stranger =
            view.nodes.iter().find(|node| members.iter().all(|other| other.name != **node));
        if let Some(stranger) = stranger {
            return Some(Decision::refuse(
                State::Foreign,
                format!(
                    "the cluster of {} has a node on {stranger}, which is no member of the group",
                    member.name
                ),
                format!(
                    "a renamed host is another node: if {stranger} is gone for good, `rabbitmqctl forget_cluster_node rabbit@{stranger}` on {}; else put it back into the group",
                    member.name
                ),
            ));
        }
    }
    None
}

/// Two clusters: two nodes that both run, and are of another beginning or do not know each other.
fn split(members: &[Member]) -> Option<Decided> {
    let up: Vec<(&Member, &View)> =
        members.iter().filter_map(|member| Some((member, member.up()?))).collect();
    for (index, (member, view)) in up.iter().enumerate() {
        let other = up[..index].iter().find(|(other, theirs)| {
            let strange = !view.nodes.contains(&other.name) && !theirs.nodes.contains(&member.name);
            strange || view.cluster != theirs.cluster
        });
        if let Some((other, _)) = other {
            return Some(Decision::refuse(
                State::Split,
                format!(
                    "{} and {} run and are nodes of two clusters ({} and {})",
                    other.name,
                    member.name,
                    nodes(other.up()),
                    nodes(member.up())
                ),
                "two histories exist and only you can say which one counts: stop the node that is to give way, set its data aside, then run again: it joins the other",
            ));
        }
    }
    None
}

fn nodes(view: Option<&View>) -> String {
    let names = view.map(|view| view.nodes.iter().cloned().collect::<Vec<_>>());
    names.unwrap_or_default().join(", ")
}

/// Another cookie than that of the running cluster: a restarted node would not find the others.
fn cookie(members: &[Member]) -> Option<Decided> {
    let up: Vec<&Member> = members.iter().filter(|member| member.up().is_some()).collect();
    let differs = |member: &&Member| member.view().is_some_and(|seen| seen.stale.cookie);
    (!up.is_empty() && up.iter().all(differs)).then(|| {
        Decision::refuse(
            State::Unknown,
            "RABBITMQ_ERLANG_COOKIE differs from the cookie of every running node",
            "a node with another cookie finds nobody, so it is never changed node by node: put the cluster's own cookie into credentials/rabbitmq.env.age (`strata secrets set rabbitmq RABBITMQ_ERLANG_COOKIE`)",
        )
    })
}
