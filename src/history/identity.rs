//! Which machine each host was when it was last connected, and which boot of it. Kept in the index,
//! rebuilt from the journals.
//!
//! The machine that a host is known by stays the known one until the operator says that the host
//! was rebuilt: a warning that went away by itself would be one that nobody answered.

use crate::event::EventKind;
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet};

/// The table of the index.
pub(super) const TABLE: &str = "CREATE TABLE identities (
    host TEXT PRIMARY KEY, known TEXT, machine TEXT NOT NULL, boot TEXT NOT NULL,
    architecture TEXT NOT NULL, at_ms INTEGER NOT NULL, run TEXT NOT NULL);";

/// A host as the last run found it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Identity {
    /// The machine id that the host is known by; none since the operator rebuilt it.
    pub known: Option<String>,
    /// The machine id that it had last.
    pub machine: String,
    /// The boot id that it had last.
    pub boot: String,
    /// Its architecture as `uname -m` prints it; empty when an older strata saw it.
    pub architecture: String,
    /// When that was, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The run that saw it.
    pub run: String,
}

/// What is known of all hosts.
#[derive(Debug, Default)]
pub(super) struct Identities {
    hosts: BTreeMap<String, Identity>,
    /// Those that the index does not have yet.
    unwritten: BTreeSet<String>,
}

impl Identities {
    pub(super) fn read(database: &Connection) -> rusqlite::Result<Self> {
        let mut statement = database.prepare(
            "SELECT host, known, machine, boot, architecture, at_ms, run FROM identities",
        )?;
        let rows = statement.query_map([], |row| {
            let identity = Identity {
                known: row.get(1)?,
                machine: row.get(2)?,
                boot: row.get(3)?,
                architecture: row.get(4)?,
                at_ms: row.get(5)?,
                run: row.get(6)?,
            };
            Ok((row.get(0)?, identity))
        })?;
        Ok(Self { hosts: rows.collect::<Result<_, _>>()?, unwritten: BTreeSet::new() })
    }

    /// Writes what is new, all at once; what another run wrote later stays.
    pub(super) fn write(&mut self, database: &mut Connection) -> rusqlite::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let change = database.transaction()?;
        for (host, identity) in self.hosts.iter().filter(|(h, _)| self.unwritten.contains(*h)) {
            change.execute(
                "INSERT INTO identities VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (host) DO UPDATE SET known = excluded.known,
                    machine = excluded.machine, boot = excluded.boot,
                    architecture = excluded.architecture, at_ms = excluded.at_ms,
                    run = excluded.run
                 WHERE excluded.at_ms >= identities.at_ms",
                params![
                    host,
                    identity.known,
                    identity.machine,
                    identity.boot,
                    identity.architecture,
                    identity.at_ms,
                    identity.run
                ],
            )?;
        }
        change.commit()?;
        self.unwritten.clear();
        Ok(())
    }

    /// What is known of a host.
    pub(super) fn get(&self, host: &str) -> Option<&Identity> {
        self.hosts.get(host)
    }

    /// A host was connected; gives what there is to say about it. A boot within the run in hand was
    /// that run's own doing.
    pub(super) fn connected(
        &mut self,
        host: &str,
        (machine, boot, architecture): (&str, &str, &str),
        at_ms: u64,
        run: &str,
    ) -> Option<EventKind> {
        let before = self.hosts.get(host);
        if machine.is_empty() || before.is_some_and(|before| before.at_ms > at_ms) {
            return None;
        }
        let known = before.and_then(|before| before.known.clone());
        let said = before.and_then(|before| said(host, before, machine, boot, run));
        let identity = Identity {
            known: Some(known.unwrap_or_else(|| machine.to_owned())),
            machine: machine.to_owned(),
            boot: boot.to_owned(),
            architecture: architecture.to_owned(),
            at_ms,
            run: run.to_owned(),
        };
        self.hosts.insert(host.to_owned(), identity);
        self.unwritten.insert(host.to_owned());
        said
    }

    /// The operator rebuilt a host: whichever machine answers next is the known one. What was seen
    /// last stays to be shown, and an older journal that is read again does not bring it back.
    pub(super) fn rebuilt(&mut self, host: &str, at_ms: u64) {
        if let Some(identity) = self.hosts.get_mut(host)
            && identity.at_ms <= at_ms
        {
            identity.known = None;
            identity.at_ms = at_ms;
            self.unwritten.insert(host.to_owned());
        }
    }
}

fn said(host: &str, before: &Identity, machine: &str, boot: &str, run: &str) -> Option<EventKind> {
    let known = before.known.as_deref()?;
    if known != machine {
        return Some(EventKind::HostWarning {
            host: host.to_owned(),
            text: format!(
                "another machine answers with the same key: it has the machine id {machine}, the host was known by {known}; either it was reinstalled or cloned with its old key, or somebody has a copy of that key"
            ),
            hint: Some(format!(
                "if that was you: `strata hosts rebuild {host}`; if not, trust neither machine until you know which one answers"
            )),
        });
    }
    (before.boot != boot && before.run != run).then(|| EventKind::Note {
        text: format!("  {host}  rebooted since the last run ({}), not by strata", before.run),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "20260101-000000-aaaa";
    const SECOND: &str = "20260102-000000-aaaa";

    fn text(said: Option<EventKind>) -> String {
        match said {
            None => String::new(),
            Some(EventKind::Note { text }) => text,
            Some(EventKind::HostWarning { text, .. }) => format!("WARNING {text}"),
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_boot_between_runs_is_told_and_one_within_a_run_is_its_own() {
        let mut known = Identities::default();
        assert_eq!(known.connected("a", ("m", "b1", "x86_64"), 1, FIRST), None);
        assert_eq!(known.connected("a", ("m", "b2", "x86_64"), 2, FIRST), None);
        assert_eq!(known.connected("a", ("m", "b2", "x86_64"), 3, SECOND), None);
        let said = text(known.connected("a", ("m", "b3", "x86_64"), 4, FIRST));
        assert_eq!(said, format!("  a  rebooted since the last run ({SECOND}), not by strata"));
        assert_eq!(known.connected("b", ("m", "b9", "x86_64"), 5, FIRST), None);
    }

    #[test]
    fn another_machine_is_warned_of_until_the_operator_says_that_it_was_rebuilt() {
        let mut known = Identities::default();
        known.connected("a", ("old", "b1", "x86_64"), 1, FIRST);
        for at_ms in 2..4 {
            let said = text(known.connected("a", ("new", "b2", "x86_64"), at_ms, SECOND));
            assert!(
                said.starts_with("WARNING another machine answers with the same key"),
                "{said}"
            );
            assert!(said.contains("new") && said.contains("known by old"), "{said}");
        }
        assert_eq!(known.get("a").unwrap().machine, "new");
        known.rebuilt("a", 5);
        // An older journal that is read again changes nothing.
        assert_eq!(known.connected("a", ("old", "b1", "x86_64"), 4, FIRST), None);
        assert_eq!(known.connected("a", ("new", "b3", "x86_64"), 6, SECOND), None);
        assert_eq!(known.get("a").unwrap().known.as_deref(), Some("new"));
    }

    #[test]
    fn the_index_keeps_the_later_of_two() {
        let mut database = Connection::open_in_memory().unwrap();
        database.execute_batch(TABLE).unwrap();
        let (mut one, mut other) = (Identities::default(), Identities::default());
        one.connected("a", ("m", "b1", "x86_64"), 1, FIRST);
        other.connected("a", ("m", "b2", "x86_64"), 2, SECOND);
        other.write(&mut database).unwrap();
        one.write(&mut database).unwrap();
        assert_eq!(Identities::read(&database).unwrap().get("a").unwrap().boot, "b2");
    }
}
