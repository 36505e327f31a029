//! The SQLite index over the journals. Only an index: it can be deleted and is rebuilt.

use super::figures::{self, Figures};
use super::identity::{self, Identities, Identity};
use super::wanted::{self, Wanted};
use super::{StateDir, read_journal};
use crate::event::{Consumer, Event, EventKind, HostState, ProgramEnd, StepOutcome, Verdict};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::io;

/// Version of the tables; an index of another version is rebuilt.
const VERSION: i64 = 5;

/// The test whose verdict says whether a layer's hosts are as wanted.
const DRIFT_TEST: &str = "converged";

/// The last look at whether the hosts of a layer are as wanted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Drift {
    /// The layer.
    pub layer: String,
    /// How the look ended.
    pub verdict: Verdict,
    /// Differences found.
    pub differences: u32,
    /// Hosts that the run was for.
    pub hosts: u32,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The run that looked.
    pub run: String,
}

/// The index.
#[derive(Debug)]
pub struct Index {
    pub(super) database: Connection,
    current: Option<RunSummary>,
    identities: Identities,
    wanted: Wanted,
    figures: Figures,
    /// What the last event brought to light.
    news: Vec<EventKind>,
}

/// One line of `strata history`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RunSummary {
    /// The run's id.
    pub run: String,
    /// What was asked for.
    pub command: String,
    /// Milliseconds since the epoch.
    pub started_ms: u64,
    /// Milliseconds, `None` when the run did not end by itself.
    pub took_ms: Option<u64>,
    /// The exit code, `None` when the run did not end by itself.
    pub exit_code: Option<u8>,
    /// Hosts selected.
    pub hosts: u32,
    /// Steps changed.
    pub changed: u32,
    /// Steps failed.
    pub failed: u32,
    /// Hosts that could not be used or were lost.
    pub unreachable: u32,
}

impl Index {
    /// Opens the index; runs that are not in it are read from their journals.
    ///
    /// # Errors
    /// When the database cannot be opened or a journal cannot be read.
    pub fn open(state: &StateDir) -> io::Result<Self> {
        let path = state.path().join("index.sqlite");
        let mut index = Self {
            database: Connection::open(&path).map_err(other)?,
            current: None,
            identities: Identities::default(),
            wanted: Wanted::default(),
            figures: Figures::default(),
            news: Vec::new(),
        };
        let version: i64 = index
            .database
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(other)?;
        if version != VERSION {
            index
                .database
                .execute_batch(&format!(
                    "DROP TABLE IF EXISTS runs;
                     DROP TABLE IF EXISTS drift;
                     DROP TABLE IF EXISTS identities;
                     DROP TABLE IF EXISTS wanted;
                     DROP TABLE IF EXISTS figures;
                     {}
                     {}
                     {}
                     CREATE TABLE drift (
                        layer TEXT PRIMARY KEY, verdict TEXT NOT NULL, differences INTEGER NOT NULL,
                        hosts INTEGER NOT NULL, at_ms INTEGER NOT NULL, run TEXT NOT NULL);
                     CREATE TABLE runs (
                        run TEXT PRIMARY KEY, command TEXT NOT NULL, started_ms INTEGER NOT NULL,
                        took_ms INTEGER, exit_code INTEGER, hosts INTEGER NOT NULL,
                        changed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
                        unreachable INTEGER NOT NULL DEFAULT 0);
                     PRAGMA user_version = {VERSION};",
                    identity::TABLE,
                    wanted::TABLE,
                    figures::TABLE
                ))
                .map_err(other)?;
        }
        index.identities = Identities::read(&index.database).map_err(other)?;
        index.catch_up(state)?;
        Ok(index)
    }

    /// All runs, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn runs(&self, limit: u32) -> io::Result<Vec<RunSummary>> {
        let mut statement = self
            .database
            .prepare(
                "SELECT run, command, started_ms, took_ms, exit_code, hosts, changed, failed,
                        unreachable FROM runs ORDER BY started_ms DESC, run DESC LIMIT ?1",
            )
            .map_err(other)?;
        let rows = statement
            .query_map([limit], |row| {
                Ok(RunSummary {
                    run: row.get(0)?,
                    command: row.get(1)?,
                    started_ms: row.get(2)?,
                    took_ms: row.get(3)?,
                    exit_code: row.get(4)?,
                    hosts: row.get(5)?,
                    changed: row.get(6)?,
                    failed: row.get(7)?,
                    unreachable: row.get(8)?,
                })
            })
            .map_err(other)?;
        rows.collect::<Result<_, _>>().map_err(other)
    }

    /// The last look at a layer.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn drift(&self, layer: &str) -> io::Result<Option<Drift>> {
        self.database
            .query_row(
                "SELECT verdict, differences, hosts, at_ms, run FROM drift WHERE layer = ?1",
                [layer],
                |row| {
                    let verdict: String = row.get(0)?;
                    let Ok(verdict) = serde_json::from_str(&verdict) else { return Ok(None) };
                    let layer = layer.to_owned();
                    Ok(Some(Drift {
                        layer,
                        verdict,
                        differences: row.get(1)?,
                        hosts: row.get(2)?,
                        at_ms: row.get(3)?,
                        run: row.get(4)?,
                    }))
                },
            )
            .optional()
            .map(Option::flatten)
            .map_err(other)
    }

    /// One run, if it is known.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn run(&self, run: &str) -> io::Result<Option<RunSummary>> {
        Ok(self.runs(u32::MAX)?.into_iter().find(|summary| summary.run == run))
    }

    /// A host as the last run found it.
    pub fn identity(&self, host: &str) -> Option<&Identity> {
        self.identities.get(host)
    }

    /// Forgets runs whose journals are gone.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn forget(&self, runs: &[String]) -> io::Result<()> {
        for run in runs {
            self.database.execute("DELETE FROM runs WHERE run = ?1", [run]).map_err(other)?;
            self.database.execute("DELETE FROM figures WHERE run = ?1", [run]).map_err(other)?;
        }
        Ok(())
    }

    /// Notes a look at a layer; an older one than that which is known is left.
    fn write_drift(&self, drift: &Drift) -> io::Result<()> {
        self.database
            .execute(
                "INSERT INTO drift VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (layer) DO UPDATE SET verdict = excluded.verdict,
                    differences = excluded.differences, hosts = excluded.hosts,
                    at_ms = excluded.at_ms, run = excluded.run
                 WHERE excluded.at_ms >= drift.at_ms",
                params![
                    drift.layer,
                    serde_json::to_string(&drift.verdict)?,
                    drift.differences,
                    drift.hosts,
                    drift.at_ms,
                    drift.run
                ],
            )
            .map_err(other)?;
        Ok(())
    }

    /// Reads the journals that are not in the index, or were cut short when they were read. One
    /// that is damaged is left out: it must not keep the operator from the others.
    fn catch_up(&mut self, state: &StateDir) -> io::Result<()> {
        let known: Vec<String> = self
            .runs(u32::MAX)?
            .into_iter()
            .filter(|summary| summary.exit_code.is_some())
            .map(|summary| summary.run)
            .collect();
        for run in state.runs() {
            if known.contains(&run) {
                continue;
            }
            match read_journal(&state.journal(&run)) {
                Ok(events) => {
                    for event in &events {
                        self.event(event)?;
                    }
                    self.write()?;
                }
                Err(error) => tracing::warn!(%run, %error, "a journal cannot be read"),
            }
        }
        self.current = None;
        self.news.clear();
        Ok(())
    }

    /// Writes the row of the run in hand, and what it found its hosts to be.
    fn write(&mut self) -> io::Result<()> {
        self.identities.write(&mut self.database).map_err(other)?;
        let Some(run) = &self.current else { return Ok(()) };
        self.wanted.write(&mut self.database, &run.run).map_err(other)?;
        self.figures.write(&mut self.database, &run.run).map_err(other)?;
        self.database
            .execute(
                "INSERT OR REPLACE INTO runs
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    run.run,
                    run.command,
                    run.started_ms,
                    run.took_ms,
                    run.exit_code,
                    run.hosts,
                    run.changed,
                    run.failed,
                    run.unreachable
                ],
            )
            .map_err(other)?;
        Ok(())
    }
}

impl Consumer for Index {
    /// Counts in memory; a row is written at the start and at the end of a run, and at a look at drift.
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let EventKind::RunStarted { run, command, hosts, .. } = &event.kind {
            self.wanted = Wanted::default();
            self.figures = Figures::default();
            self.current = Some(RunSummary {
                run: run.clone(),
                command: command.clone(),
                started_ms: event.at_ms,
                took_ms: None,
                exit_code: None,
                hosts: u32::try_from(hosts.len()).unwrap_or(u32::MAX),
                changed: 0,
                failed: 0,
                unreachable: 0,
            });
            return self.write();
        }
        let Some(run) = &mut self.current else { return Ok(()) };
        self.wanted.event(&event.kind, event.at_ms);
        self.figures.event(&event.kind, event.at_ms);
        match &event.kind {
            EventKind::StepFinished { outcome: StepOutcome::Changed { .. }, .. } => {
                run.changed += 1;
            }
            EventKind::ProgramFinished { end: ProgramEnd::Lost { .. }, .. } => {
                run.unreachable += 1;
            }
            EventKind::ProgramFinished { end, .. } if end.is_good() => {}
            EventKind::ProgramFinished { .. }
            | EventKind::StepFinished { outcome: StepOutcome::Failed { .. }, .. } => {
                run.failed += 1;
            }
            EventKind::HostConnected { host, machine_id, boot_id, architecture, .. } => {
                let found = (machine_id.as_str(), boot_id.as_str(), architecture.as_str());
                let news = self.identities.connected(host, found, event.at_ms, &run.run);
                self.news.extend(news);
            }
            EventKind::HostRebuilt { host, .. } => self.identities.rebuilt(host, event.at_ms),
            EventKind::HostUnusable { .. }
            | EventKind::HostFinished { state: HostState::Lost, .. } => run.unreachable += 1,
            EventKind::TestFinished { layer, test, verdict, found, .. } if test == DRIFT_TEST => {
                let drift = Drift {
                    layer: layer.clone(),
                    verdict: *verdict,
                    differences: u32::try_from(found.len()).unwrap_or(u32::MAX),
                    hosts: run.hosts,
                    at_ms: event.at_ms,
                    run: run.run.clone(),
                };
                return self.write_drift(&drift);
            }
            EventKind::LayerAudited { layer, audited } => {
                let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                let drift = Drift {
                    layer: layer.clone(),
                    verdict: audited.verdict(),
                    differences: count(audited.differences() + audited.waived()),
                    hosts: count(audited.looked_at.len()),
                    at_ms: event.at_ms,
                    run: run.run.clone(),
                };
                return self.write_drift(&drift);
            }
            EventKind::RunFinished { exit_code, took_ms, .. } => {
                run.exit_code = Some(*exit_code);
                run.took_ms = Some(*took_ms);
                return self.write();
            }
            _ => {}
        }
        Ok(())
    }

    fn follow_ups(&mut self) -> Vec<EventKind> {
        std::mem::take(&mut self.news)
    }
}

pub(super) fn other(error: rusqlite::Error) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::*;

    #[test]
    fn the_index_is_rebuilt_from_the_journals() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let mut journal = Journal::create(&state.journal("20260101-000000-abcd")).unwrap();
        let kinds = [
            EventKind::RunStarted {
                schema: 1,
                run: "20260101-000000-abcd".into(),
                site: "s".into(),
                command: "install".into(),
                version: "0".into(),
                rehearsal: false,
                hosts: vec!["a".into(), "b".into()],
                layers: vec![],
                resumes: None,
            },
            EventKind::HostConnected {
                host: "a".into(),
                took_ms: 1,
                skew_ms: 0,
                machine_id: "machine".into(),
                boot_id: "boot".into(),
                architecture: "x86_64".into(),
            },
            EventKind::TestFinished {
                layer: "base".into(),
                test: "converged".into(),
                kind: crate::event::TestKind::Diag,
                verdict: Verdict::Fail,
                expected: "nothing to change".into(),
                found: vec!["a: content".into()],
                measured: Vec::new(),
                waived: Vec::new(),
                took_ms: 1,
            },
            EventKind::RunFinished { exit_code: 0, reason: "done".into(), took_ms: 5 },
        ];
        for kind in kinds {
            journal.event(&Event { at_ms: 1, kind }).unwrap();
        }
        for _ in 0..2 {
            let index = Index::open(&state).unwrap();
            let drift = index.drift("base").unwrap().unwrap();
            assert_eq!((drift.verdict, drift.differences, drift.hosts), (Verdict::Fail, 1, 2));
            assert_eq!(index.drift("redis").unwrap(), None);
            assert_eq!(index.identity("a").unwrap().boot, "boot");
            let runs = index.runs(10).unwrap();
            assert_eq!(runs.len(), 1);
            assert_eq!((runs[0].hosts, runs[0].exit_code), (2, Some(0)));
            std::fs::remove_file(state.path().join("index.sqlite")).unwrap();
        }
    }

    #[test]
    fn the_oldest_journals_go_and_the_index_forgets_them() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let ids = ["20260101-000000-aaaa", "20260102-000000-aaaa", "20260103-000000-aaaa"];
        for run in ids {
            let mut journal = Journal::create(&state.journal(run)).unwrap();
            let kind = EventKind::RunStarted {
                schema: 1,
                run: run.into(),
                site: "s".into(),
                command: "install".into(),
                version: "0".into(),
                rehearsal: false,
                hosts: vec![],
                layers: vec![],
                resumes: None,
            };
            journal.event(&Event { at_ms: 1, kind }).unwrap();
        }
        let index = Index::open(&state).unwrap();
        assert_eq!(index.runs(10).unwrap().len(), 3);
        assert_eq!(state.prune(3).unwrap(), Vec::<String>::new());
        let gone = state.prune(1).unwrap();
        assert_eq!(gone, ids[..2]);
        index.forget(&gone).unwrap();
        assert_eq!(state.runs(), ids[2..]);
        let left: Vec<String> =
            Index::open(&state).unwrap().runs(10).unwrap().into_iter().map(|run| run.run).collect();
        assert_eq!(left, ids[2..]);
    }
}
