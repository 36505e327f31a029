//! Who leads, from what the members themselves say. The inventory has no say in it.

use super::view::{Member, Observation, Role};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leader {
    /// This one, and nothing speaks against it.
    Known(Ipv4Addr),
    /// It is being decided; the text says what is waited for.
    Electing(String),
    /// Nobody does; the text says what was found.
    Nobody(String),
    /// Two histories exist; the text is the evidence.
    Split(String),
}

/// Who leads: what the majority of all Sentinels says; without one, the only Redis that takes
/// writes (layers L2, "who is master when restarting").
pub fn leader(observation: &Observation) -> Leader {
    let members = &observation.members;
    let unsettled = members
        .iter()
        .find(|member| member.sentinel().is_some_and(|view| view.unsettled))
        .map(|member| &member.name);
    let masters: Vec<&Member> = members.iter().filter(|member| member.is_master()).collect();
    let Some(elected) = elected(members) else { return by_role(members, &masters) };
    let Some(chosen) = members.iter().find(|member| member.address == elected) else {
        return Leader::Split(format!(
            "the Sentinels follow {elected}, which is no member of this cluster"
        ));
    };
    if let Some(name) = unsettled {
        return Leader::Electing(format!(
            "Sentinel on {name} takes the master {} for down or is changing it",
            chosen.name
        ));
    }
    if let Some(stray) = masters.iter().find(|member| member.address != elected) {
        return Leader::Electing(format!(
            "{} still says that it is the master, and the Sentinels follow {}",
            stray.name, chosen.name
        ));
    }
    match chosen.up().map(|view| &view.role) {
        Some(Role::Master(_)) => Leader::Known(elected),
        Some(Role::Replica { .. }) => Leader::Electing(format!(
            "the Sentinels follow {}, which is a replica until it is promoted",
            chosen.name
        )),
        None => Leader::Electing(format!(
            "the Sentinels follow {}, where Redis gives no answer",
            chosen.name
        )),
    }
}

/// The master that the majority of all Sentinels names, those that do not answer counted.
pub fn elected<'a>(members: impl IntoIterator<Item = &'a Member>) -> Option<Ipv4Addr> {
    let mut votes: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
    let mut all = 0;
    for member in members {
        all += 1;
        if let Some(master) = member.sentinel().and_then(|view| view.master) {
            *votes.entry(master).or_default() += 1;
        }
    }
    votes.into_iter().find(|(_, count)| *count > all / 2).map(|(master, _)| master)
}

/// Without a majority of Sentinels only one master that nobody contradicts counts.
fn by_role(members: &[Member], masters: &[&Member]) -> Leader {
    let with_data = |member: &&&Member| member.view().is_some_and(|seen| seen.data);
    match masters {
        [] if members.iter().any(|member| member.up().is_some()) => {
            Leader::Nobody("every Redis that answers is a replica".to_owned())
        }
        [] => Leader::Nobody("no Redis answers".to_owned()),
        [only] => {
            let follows_another = members.iter().find(|member| {
                matches!(member.up().map(|view| &view.role),
                    Some(Role::Replica { of: Some(of), .. }) if *of != only.address)
            });
            match follows_another {
                Some(other) => Leader::Nobody(format!(
                    "{} says that it is the master, and {} follows another one",
                    only.name, other.name
                )),
                None => Leader::Known(only.address),
            }
        }
        several if several.iter().filter(with_data).count() > 1 => {
            let claims: Vec<String> = several
                .iter()
                .filter_map(|member| {
                    let view = member.up()?;
                    Some(format!(
                        "{} (replication id {}, offset {})",
                        member.name, view.replid, view.offset
                    ))
                })
                .collect();
            Leader::Split(format!("several masters with data: {}", claims.join(", ")))
        }
        several => Leader::Nobody(format!("{} Redis say that they are the master", several.len())),
    }
}
