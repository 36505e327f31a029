//! What forbids every change of every technology: members that cannot be looked at, and markers
//! that do not belong together. Pure.

use super::look::{Looked, Signs, seen};
use super::marker::Record;
use super::state::{Decision, State};

/// Members that could not be looked at; those in `out` are absent on purpose.
pub fn unreachable<S, A>(members: &[Looked<S>], out: &[String]) -> Option<Decision<A>> {
    let unreachable: Vec<String> = members
        .iter()
        .filter(|member| !out.contains(&member.name))
        .filter_map(|member| Some(format!("{}: {}", member.name, member.seen.as_ref().err()?)))
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

/// Markers that cannot be read, or of another cluster.
pub fn foreign<S: Signs, A>(
    record: &Result<Option<Record>, String>,
    members: &[Looked<S>],
) -> Option<Decision<A>> {
    let record = record.as_ref().ok().and_then(Option::as_ref);
    let mut first = record.map(|record| ("the operator host", &record.marker));
    let mut mixed = None;
    for (member, seen) in seen(members) {
        let name = member.name.as_str();
        let marker = match seen.marker() {
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
