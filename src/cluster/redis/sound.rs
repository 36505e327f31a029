//! What forbids every change: members that cannot be looked at, and those that do not belong
//! together.

use super::decide::Decided;
use super::view::{Member, Observation, Server};
use crate::cluster::belonging::{foreign, unreachable};
use crate::cluster::{Decision, State};

/// What forbids every change, whatever the cluster's state is. Members in `out` are absent on
/// purpose.
pub fn unsound(observation: &Observation, out: &[String]) -> Option<Decided> {
    let members = &observation.members;
    if let Some(refusal) = unreachable(members, out) {
        return Some(refusal);
    }
    for member in members {
        let Some(seen) = member.view() else { continue };
        if let Server::Refuses(why) = &seen.server {
            return Some(Decision::refuse(
                State::Unknown,
                format!("Redis on {} does not take REDIS_PASSWORD: {why}", member.name),
                "the credential differs from the running server's: put the server's own password into credentials/redis.env.age (`strata secrets set redis REDIS_PASSWORD`); strata never resets it, and changes it by `strata secrets rotate` only",
            ));
        }
    }
    same_sentinel(members).or_else(|| foreign(&observation.record, members))
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
