//! When a cluster may be formed, and what is written down about it: the same for every technology.
//! Pure.

use super::look::{Looked, Signs, seen};
use super::marker::{Formation, Marker, Record};
use super::state::{Decision, Next, State};
use std::fmt::Display;
use std::net::Ipv4Addr;

/// What is formed, in words and in actions.
pub struct Formed<'a, A> {
    /// What it is called in sentences: `a RabbitMQ`.
    pub what: &'a str,
    /// The marker of a cluster that would be formed now.
    pub marker: &'a Marker,
    /// Who leads, or begins.
    pub leader: Ipv4Addr,
    /// The action that writes a record.
    pub record: fn(Record) -> A,
}

impl<A> Formed<'_, A> {
    /// What the operator host writes down.
    pub fn describe<S>(
        &self,
        members: &[Looked<S>],
        marker: Marker,
        formation: Formation,
    ) -> Record {
        let names = members.iter().map(|member| member.name.clone()).collect();
        Record { marker, formation, leader: self.leader, members: names }
    }

    /// The record, or what comes first without one: to restore it from the members' markers, to
    /// leave alone what another made, or, where nothing at all is there, to begin.
    ///
    /// # Errors
    /// That decision.
    pub fn known<'r, S: Signs>(
        &self,
        record: &'r Result<Option<Record>, String>,
        members: &[Looked<S>],
    ) -> Result<&'r Record, Box<Decision<A>>> {
        let decided = match record {
            Ok(Some(record)) => return Ok(record),
            Ok(None) => self.forgotten(members),
            Err(error) => Decision::refuse(
                State::Unknown,
                format!("the record on the operator host cannot be read: {error}"),
                "mend or restore the file: without it nothing tells whether the cluster was formed",
            ),
        };
        Err(Box::new(decided))
    }

    fn forgotten<S: Signs>(&self, members: &[Looked<S>]) -> Decision<A> {
        let marker = seen(members).find_map(|(_, seen)| seen.marker().as_ref().ok()?.clone());
        if let Some(marker) = marker {
            // Whoever has a marker was formed: the record was lost with the operator host.
            let record = self.describe(members, marker, Formation::Complete);
            return Decision::act(
                State::Degraded,
                "the members' markers prove a cluster that the operator host has forgotten",
                vec![(self.record)(record)],
            );
        }
        if let Some((member, _)) = seen(members).find(|(_, seen)| seen.data() || seen.alive()) {
            return Decision::refuse(
                State::Foreign,
                format!(
                    "{} has data, files or a running server of {} that strata did not make",
                    member.name, self.what
                ),
                "if it is yours, `strata adopt` records it as it is; else move it away by hand",
            );
        }
        let record = self.describe(members, self.marker.clone(), Formation::Begun);
        Decision::act(
            State::Absent,
            "every data directory is empty, nothing answers, and no marker exists",
            vec![(self.record)(record)],
        )
    }

    /// The action that ends a formation.
    pub fn complete<S>(&self, record: &Record, members: &[Looked<S>]) -> Option<Decision<A>> {
        (record.formation == Formation::Begun).then(|| {
            let record = self.describe(members, record.marker.clone(), Formation::Complete);
            Decision::act(State::Forming, "every member does its part", vec![(self.record)(record)])
        })
    }

    /// The members as they would be with markers of ours, and their record: a cluster that another
    /// made is judged so before it is adopted.
    ///
    /// # Errors
    /// Why it is not another's: it has a record, or a marker.
    pub fn as_if_ours<S: Signs + Clone>(
        &self,
        record: &Result<Option<Record>, String>,
        members: &[Looked<S>],
    ) -> Result<(Record, Vec<Looked<S>>), String> {
        if let Some(record) = record.clone()? {
            return Err(format!("it is known already, as cluster {}", record.marker.id));
        }
        let mut pretended = members.to_vec();
        for member in &mut pretended {
            let Ok(seen) = &mut member.seen else { continue };
            match seen.marker() {
                Ok(None) => *seen.marker_mut() = Ok(Some(self.marker.clone())),
                Ok(Some(other)) => {
                    return Err(format!(
                        "{} has a marker of cluster {}: an install restores its record",
                        member.name, other.id
                    ));
                }
                Err(_) => {}
            }
        }
        Ok((self.describe(members, self.marker.clone(), Formation::Complete), pretended))
    }
}

/// A cluster that was formed and of which nothing is left: a disaster and no formation.
pub fn lost<S: Signs, A>(
    record: &Record,
    members: &[Looked<S>],
    hint: &str,
) -> Option<Decision<A>> {
    let formed = record.formation == Formation::Complete;
    let nothing = seen(members).all(|(_, seen)| !seen.data() && !seen.answers());
    (formed && nothing).then(|| {
        Decision::refuse(
            State::Down,
            "the cluster was formed, and every data directory is empty now",
            hint,
        )
    })
}

/// Data that nobody can tell whose it is; `server` is what could.
pub fn unclaimed<S: Signs, A>(
    members: &[Looked<S>],
    server: &str,
    hint: &str,
) -> Option<Decision<A>> {
    let nobodys = |seen: &S| seen.data() && *seen.marker() == Ok(None) && !seen.answers();
    let (member, _) = seen(members).find(|(_, seen)| nobodys(seen))?;
    Some(Decision::refuse(
        State::Foreign,
        format!("{} has data without a marker, and no {server} that could tell whose", member.name),
        hint,
    ))
}

/// Puts missing markers beside the data, on all members at once.
pub fn mark<S: Signs, A>(
    members: &[Looked<S>],
    record: &Record,
    state: State,
    mark: impl Fn(String, Marker) -> A,
) -> Option<Decision<A>> {
    let unmarked: Vec<A> = seen(members)
        .filter(|(_, seen)| *seen.marker() == Ok(None))
        .map(|(member, _)| mark(member.name.clone(), record.marker.clone()))
        .collect();
    (!unmarked.is_empty()).then(|| Decision::act(state, "markers are missing", unmarked))
}

/// Why a cluster is not whole; `None` when at most renewals are left, which nothing is missing
/// without.
pub fn missing<S, A: Display>(
    members: &[Looked<S>],
    decision: &Decision<A>,
    is_renewal: impl Fn(&A) -> bool,
) -> Option<String> {
    let absent = members.iter().find(|member| member.view().is_none());
    match &decision.next {
        Next::Done => {
            absent.map(|member| format!("it is not whole: {} is out of service", member.name))
        }
        Next::Act(actions) if actions.iter().all(is_renewal) => None,
        Next::Act(actions) => {
            let wanted: Vec<String> = actions.iter().map(ToString::to_string).collect();
            Some(format!("it is not whole: {}", wanted.join("; ")))
        }
        Next::Wait { reason, .. } => Some(format!("it is not whole: {reason}")),
        Next::Refuse(refusal) => Some(refusal.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone)]
    struct Plain(Result<Option<Marker>, String>, bool, bool);

    impl Signs for Plain {
        fn marker(&self) -> &Result<Option<Marker>, String> {
            &self.0
        }
        fn marker_mut(&mut self) -> &mut Result<Option<Marker>, String> {
            &mut self.0
        }
        fn data(&self) -> bool {
            self.1
        }
        fn alive(&self) -> bool {
            self.2
        }
        fn answers(&self) -> bool {
            false
        }
    }

    fn formed(marker: &Marker) -> Formed<'_, String> {
        Formed {
            what: "a thing",
            marker,
            leader: Ipv4Addr::LOCALHOST,
            record: |record| format!("{:?} {}", record.formation, record.marker.id),
        }
    }

    fn members(seen: [Plain; 2]) -> Vec<Looked<Plain>> {
        let member = |(name, seen): (&str, Plain)| Looked {
            name: name.to_owned(),
            address: Ipv4Addr::LOCALHOST,
            seen: Ok(seen),
        };
        ["a", "b"].into_iter().zip(seen).map(member).collect()
    }

    #[test]
    fn only_where_nothing_is_a_cluster_begins() {
        let (ours, theirs) = (Marker::new("c", "d", 1).unwrap(), Marker::new("c", "d", 1).unwrap());
        let formed = formed(&ours);
        let nothing = || Plain(Ok(None), false, false);
        let state = |other| formed.known(&Ok(None), &members([nothing(), other])).unwrap_err();
        assert_eq!(state(nothing()).state, State::Absent);
        assert_eq!(state(Plain(Ok(None), true, false)).state, State::Foreign);
        assert_eq!(state(Plain(Ok(None), false, true)).state, State::Foreign);
        let forgotten = state(Plain(Ok(Some(theirs.clone())), false, false));
        assert_eq!(forgotten.next, Next::Act(vec![format!("Complete {}", theirs.id)]));
        let unreadable = formed.known::<Plain>(&Err("half".into()), &[]).unwrap_err();
        assert!(matches!(unreadable.next, Next::Refuse(_)));
    }

    #[test]
    fn what_has_a_marker_is_nobody_elses() {
        let (ours, theirs) = (Marker::new("c", "d", 1).unwrap(), Marker::new("c", "d", 1).unwrap());
        let formed = formed(&ours);
        let found = members([Plain(Ok(None), true, true), Plain(Ok(Some(theirs)), true, true)]);
        assert!(formed.as_if_ours(&Ok(None), &found).unwrap_err().contains("b has a marker"));
        let found = members([Plain(Ok(None), true, true), Plain(Ok(None), true, true)]);
        let (record, pretended) = formed.as_if_ours(&Ok(None), &found).unwrap();
        assert_eq!((record.formation, record.members.len()), (Formation::Complete, 2));
        assert!(pretended.iter().all(|member| member.view().unwrap().0 == Ok(Some(ours.clone()))));
        assert!(formed.as_if_ours(&Ok(Some(record)), &found).is_err());
    }
}
