//! What forbids every change of every technology: members that cannot be looked at, and markers
//! that do not belong together. Pure.

use super::marker::{Marker, Record};
use super::state::{Decision, State};

/// Members that could not be looked at; those in `out` are absent on purpose.
pub fn unreachable<'a, A>(
    members: impl Iterator<Item = (&'a str, &'a str)>,
    out: &[String],
) -> Option<Decision<A>> {
    let unreachable: Vec<String> = members
        .filter(|(name, _)| !out.iter().any(|other| other == name))
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    if unreachable.is_empty() {
        return None;
    }
    Some(Decision::refuse(
        State::Unknown,
        format!("not every member could be looked at: {}", unreachable.join("; ")),
        "a cluster is changed only when all of it is known; bring the host back, then run again",
    ))
}

/// Markers of members that were looked at: one that cannot be read, or one of another cluster.
pub fn foreign<'a, A>(
    record: Option<&Record>,
    members: impl Iterator<Item = (&'a str, &'a Result<Option<Marker>, String>)>,
) -> Option<Decision<A>> {
    let mut first = record.map(|record| ("the operator host", &record.marker));
    let mut mixed = None;
    for (name, marker) in members {
        let marker = match marker {
            Ok(None) => continue,
            Ok(Some(marker)) => marker,
            Err(error) => {
                return Some(Decision::refuse(
                    State::Unknown,
                    format!("the marker beside the data of {name} cannot be read: {error}"),
                    "restore the file .strata-cluster from another member: it proves whose data this is",
                ));
            }
        };
        match first {
            Some((whose, known)) if known.id != marker.id => {
                mixed.get_or_insert_with(|| {
                    Decision::refuse(
                        State::Foreign,
                        format!(
                            "the data on {name} belongs to cluster {} (made by {}), {whose} knows {}",
                            marker.id, marker.driver, known.id
                        ),
                        "two clusters are mixed here: move the foreign data away by hand, or restore the right record; strata deletes nothing",
                    )
                });
            }
            Some(_) => {}
            None => first = Some((name, marker)),
        }
    }
    mixed
}
