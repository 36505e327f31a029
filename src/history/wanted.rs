//! When each host was last as wanted, layer by layer. Kept in the index, rebuilt from the journals.

use super::index::{Index, other};
use crate::event::{EventKind, HostState, LastWanted, Verdict};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::io;

/// The table of the index.
pub(super) const TABLE: &str = "CREATE TABLE wanted (
    layer TEXT NOT NULL, host TEXT NOT NULL, run TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (layer, host));";

/// The test that finds every host of a layer to be as wanted.
const CONVERGED: &str = "converged";

/// Follows a run for the hosts that it sees to be as wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The hosts of each layer in hand.
    layers: BTreeMap<String, Vec<String>>,
    seen: BTreeMap<(String, String), u64>,
}

impl Wanted {
    /// Takes an event of a run. Hosts are as wanted when nothing on them differed, or when the test
    /// that looks once more after a change says so.
    pub(super) fn event(&mut self, kind: &EventKind, at_ms: u64) {
        match kind {
            EventKind::LayerStarted { layer, hosts } => {
                self.layers.insert(layer.clone(), hosts.clone());
            }
            EventKind::HostFinished {
                host,
                layer,
                state: HostState::Converged,
                changed: 0,
                ..
            } => self.see(layer, host, at_ms),
            EventKind::TestFinished { layer, test, verdict: Verdict::Pass, .. }
                if test == CONVERGED =>
            {
                for host in self.layers.remove(layer).unwrap_or_default() {
                    self.see(layer, &host, at_ms);
                }
            }
            EventKind::LayerAudited { layer, audited } => {
                for host in audited.as_wanted() {
                    self.see(layer, host, at_ms);
                }
            }
            _ => {}
        }
    }

    fn see(&mut self, layer: &str, host: &str, at_ms: u64) {
        self.seen.insert((layer.to_owned(), host.to_owned()), at_ms);
    }

    /// Writes what was seen, all at once; what another run saw later stays.
    pub(super) fn write(&mut self, database: &mut Connection, run: &str) -> rusqlite::Result<()> {
        if self.seen.is_empty() {
            return Ok(());
        }
        let change = database.transaction()?;
        for ((layer, host), at_ms) in &self.seen {
            change.execute(
                "INSERT INTO wanted VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (layer, host) DO UPDATE SET run = excluded.run, at_ms = excluded.at_ms
                 WHERE excluded.at_ms >= wanted.at_ms",
                params![layer, host, run, at_ms],
            )?;
        }
        change.commit()?;
        self.seen.clear();
        Ok(())
    }
}

impl Index {
    /// When the hosts of a layer were last as wanted; those that never were are not in it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn last_wanted(&self, layer: &str) -> io::Result<BTreeMap<String, LastWanted>> {
        let mut statement = self
            .database
            .prepare("SELECT host, run, at_ms FROM wanted WHERE layer = ?1")
            .map_err(other)?;
        let rows = statement
            .query_map([layer], |row| {
                Ok((row.get(0)?, LastWanted { run: row.get(1)?, at_ms: row.get(2)? }))
            })
            .map_err(other)?;
        rows.collect::<Result<_, _>>().map_err(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Audited, Drifted, TestKind};

    fn finished(host: &str, changed: u32) -> EventKind {
        EventKind::HostFinished {
            host: host.into(),
            layer: "base".into(),
            state: HostState::Converged,
            changed,
            steps: 9,
            waiting_handlers: Vec::new(),
            took_ms: 1,
        }
    }

    #[test]
    fn a_host_is_as_wanted_when_nothing_differed_or_a_second_look_says_so() {
        let mut database = Connection::open_in_memory().unwrap();
        database.execute_batch(TABLE).unwrap();
        let rows = |database: &Connection| -> Vec<(String, String, u64)> {
            let mut all =
                database.prepare("SELECT host, run, at_ms FROM wanted ORDER BY 1").unwrap();
            let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            rows.unwrap().map(Result::unwrap).collect()
        };
        let mut wanted = Wanted::default();
        wanted.event(&finished("a", 0), 1);
        wanted.event(&finished("b", 2), 2);
        wanted.write(&mut database, "one").unwrap();
        assert_eq!(rows(&database), [("a".into(), "one".into(), 1)]);
        let drifted = Drifted {
            place: "a".into(),
            differences: vec!["x".into()],
            waived: Vec::new(),
            since: None,
        };
        let audited = Audited {
            looked_at: vec!["a".into(), "b".into()],
            not_looked_at: vec!["c".into()],
            drifted: vec![drifted],
        };
        wanted.event(&EventKind::LayerAudited { layer: "base".into(), audited }, 3);
        wanted.write(&mut database, "two").unwrap();
        let both = [("a".into(), "one".into(), 1), ("b".into(), "two".into(), 3)];
        assert_eq!(rows(&database), both);
        // An older run that is read again changes nothing.
        wanted.event(&finished("b", 0), 2);
        wanted.write(&mut database, "older").unwrap();
        assert_eq!(rows(&database), both);
    }

    #[test]
    fn layers_that_are_in_hand_together_are_kept_apart() {
        let started = |layer: &str, host: &str| EventKind::LayerStarted {
            layer: layer.into(),
            hosts: vec![host.into()],
        };
        let converged = |layer: &str| EventKind::TestFinished {
            layer: layer.into(),
            test: CONVERGED.into(),
            kind: TestKind::Diag,
            verdict: Verdict::Pass,
            expected: String::new(),
            found: Vec::new(),
            measured: Vec::new(),
            waived: Vec::new(),
            took_ms: 1,
        };
        let mut wanted = Wanted::default();
        wanted.event(&started("db", "a"), 1);
        wanted.event(&started("redis", "b"), 2);
        wanted.event(&converged("db"), 3);
        wanted.event(&converged("redis"), 4);
        let seen: Vec<(&str, &str, u64)> =
            wanted.seen.iter().map(|((layer, host), at)| (&**layer, &**host, *at)).collect();
        assert_eq!(seen, [("db", "a", 3), ("redis", "b", 4)]);
    }
}
