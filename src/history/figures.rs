//! What tests of gates measured, run by run. Kept in the index, rebuilt from the journals.

use super::index::{Index, other};
use crate::event::{EventKind, Measurement};
use rusqlite::{Connection, Row, params};
use std::io;

/// The table of the index.
pub(super) const TABLE: &str = "CREATE TABLE figures (
    layer TEXT NOT NULL, test TEXT NOT NULL, run TEXT NOT NULL, at_ms INTEGER NOT NULL,
    subject TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (layer, test, run, subject, name, unit)) WITHOUT ROWID;";

/// A figure, and when it was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredThen {
    /// The layer.
    pub layer: String,
    /// The test.
    pub test: String,
    /// The run.
    pub run: String,
    /// When the test ended, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The figure.
    pub measurement: Measurement,
}

/// Follows a run for what its tests measure.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<(String, String, u64, Measurement)>);

impl Figures {
    /// Takes an event of a run.
    pub(super) fn event(&mut self, kind: &EventKind, at_ms: u64) {
        let EventKind::TestFinished { layer, test, measured, .. } = kind else { return };
        // SQLite has no NaN, and nothing can be compared with it.
        let finite = measured.iter().filter(|figure| figure.value.is_finite());
        self.0.extend(finite.map(|figure| (layer.clone(), test.clone(), at_ms, figure.clone())));
    }

    /// Writes what was seen, all at once.
    pub(super) fn write(&mut self, database: &mut Connection, run: &str) -> rusqlite::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let change = database.transaction()?;
        for (layer, test, at_ms, figure) in &self.0 {
            let Measurement { subject, name, value, unit } = figure;
            change.execute(
                "INSERT OR REPLACE INTO figures VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![layer, test, run, at_ms, subject, name, unit, value],
            )?;
        }
        change.commit()?;
        self.0.clear();
        Ok(())
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<MeasuredThen> {
    Ok(MeasuredThen {
        layer: row.get(0)?,
        test: row.get(1)?,
        run: row.get(2)?,
        at_ms: row.get(3)?,
        measurement: Measurement {
            subject: row.get(4)?,
            name: row.get(5)?,
            unit: row.get(6)?,
            value: row.get(7)?,
        },
    })
}

impl Index {
    /// What a test measured in the newest `limit` runs before `run` that measured anything, oldest
    /// first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn measured_before(
        &self,
        run: &str,
        layer: &str,
        test: &str,
        limit: u32,
    ) -> io::Result<Vec<MeasuredThen>> {
        let mut statement = self
            .database
            .prepare(
                "SELECT layer, test, run, at_ms, subject, name, unit, value FROM figures
                 WHERE layer = ?1 AND test = ?2 AND run IN (
                    SELECT DISTINCT run FROM figures
                    WHERE layer = ?1 AND test = ?2 AND run < ?3 ORDER BY run DESC LIMIT ?4)
                 ORDER BY run",
            )
            .map_err(other)?;
        let rows = statement.query_map(params![layer, test, run, limit], row).map_err(other)?;
        rows.collect::<Result<_, _>>().map_err(other)
    }

    /// What each test measured in the last run that measured anything with it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn last_measured(&self) -> io::Result<Vec<MeasuredThen>> {
        let mut statement = self
            .database
            .prepare(
                "SELECT layer, test, run, at_ms, subject, name, unit, value FROM figures AS each
                 WHERE run = (SELECT max(run) FROM figures
                    WHERE layer = each.layer AND test = each.test)
                 ORDER BY layer, test, subject, name",
            )
            .map_err(other)?;
        let rows = statement.query_map([], row).map_err(other)?;
        rows.collect::<Result<_, _>>().map_err(other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Journal, StateDir};
    use super::*;
    use crate::event::{Consumer as _, Event, TestKind, Verdict};

    fn journal(state: &StateDir, run: &str, test: &str, values: &[f64]) {
        let measured = values
            .iter()
            .enumerate()
            .map(|(host, value)| Measurement::new(format!("h{host}"), "p99", *value, "ms"));
        let kinds = [
            EventKind::RunStarted {
                schema: 3,
                run: run.into(),
                site: "s".into(),
                command: "verify".into(),
                version: "0".into(),
                rehearsal: false,
                hosts: Vec::new(),
                layers: Vec::new(),
                resumes: None,
            },
            EventKind::TestFinished {
                layer: "base".into(),
                test: test.into(),
                kind: TestKind::Perf,
                verdict: Verdict::Pass,
                expected: "e".into(),
                found: Vec::new(),
                measured: measured.collect(),
                waived: Vec::new(),
                took_ms: 1,
            },
        ];
        let mut journal = Journal::create(&state.journal(run)).unwrap();
        for kind in kinds {
            journal.event(&Event { at_ms: 7, kind }).unwrap();
        }
    }

    #[test]
    fn figures_of_runs_before_one_and_the_last_of_each_test() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        journal(&state, "20260101-000000-aaaa", "disk-sync", &[1.5, 2.5]);
        journal(&state, "20260102-000000-aaaa", "disk-sync", &[3.5]);
        journal(&state, "20260103-000000-aaaa", "disk-sync", &[4.5]);
        journal(&state, "20260104-000000-aaaa", "steal", &[0.5, f64::INFINITY]);
        for _ in 0..2 {
            let index = Index::open(&state).unwrap();
            let before = |run, limit| -> Vec<f64> {
                let all = index.measured_before(run, "base", "disk-sync", limit).unwrap();
                all.into_iter().map(|one| one.measurement.value).collect()
            };
            assert_eq!(before("20260103-000000-aaaa", 9), [1.5, 2.5, 3.5]);
            assert_eq!(before("20260103-000000-aaaa", 1), [3.5]);
            assert_eq!(before("20260101-000000-aaaa", 9), [] as [f64; 0]);
            let last = index.last_measured().unwrap();
            let last: Vec<(&str, f64)> =
                last.iter().map(|one| (one.test.as_str(), one.measurement.value)).collect();
            assert_eq!(last, [("disk-sync", 4.5), ("steal", 0.5)]);
        }
        // A journal with its run is gone, and its figures with it.
        let index = Index::open(&state).unwrap();
        std::fs::remove_file(state.journal("20260103-000000-aaaa")).unwrap();
        index.forget(&["20260103-000000-aaaa".to_owned()]).unwrap();
        assert_eq!(index.last_measured().unwrap()[0].measurement.value, 3.5);
    }
}
