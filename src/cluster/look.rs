//! What every look at a cluster's members has, whatever their technology.

use super::marker::{Marker, Record};
use std::net::Ipv4Addr;

/// One member, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked<S> {
    /// Its host.
    pub name: String,
    /// Its private address.
    pub address: Ipv4Addr,
    /// What was seen; an error when the host could not be asked.
    pub seen: Result<S, String>,
}

impl<S> Looked<S> {
    /// What was seen, if the host could be asked.
    pub const fn view(&self) -> Option<&S> {
        match &self.seen {
            Ok(seen) => Some(seen),
            Err(_) => None,
        }
    }
}

/// What every technology shows of a member.
pub trait Signs {
    /// The marker beside the data; an error when it is there and cannot be read.
    fn marker(&self) -> &Result<Option<Marker>, String>;

    /// The same, to be changed.
    fn marker_mut(&mut self) -> &mut Result<Option<Marker>, String>;

    /// True when the data directory holds anything.
    fn data(&self) -> bool;

    /// True when anything else of such a server is there: files of its own, something that listens.
    fn alive(&self) -> bool;

    /// True when its server answers, as one of this cluster.
    fn answers(&self) -> bool;
}

/// The members that could be looked at.
pub fn seen<S>(members: &[Looked<S>]) -> impl Iterator<Item = (&Looked<S>, &S)> {
    members.iter().filter_map(|member| Some((member, member.view()?)))
}

/// True when there is no cluster as far as can be seen: nothing remembers one, and no member that
/// can be looked at has anything of one.
pub fn owes_nothing<S: Signs>(
    record: &Result<Option<Record>, String>,
    members: &[Looked<S>],
) -> bool {
    *record == Ok(None)
        && seen(members)
            .all(|(_, seen)| *seen.marker() == Ok(None) && !seen.data() && !seen.alive())
}
