//! What happened before: the journal of each run (the truth), a SQLite index over the journals
//! (which can be rebuilt from them), the site lock, and the records of gates.
//!
//! Everything lives in the site's `.strata/` directory, readable by its owner only.

mod baseline;
mod copy;
mod figures;
mod identity;
mod index;
mod journal;
mod lock;
mod record;
mod redacting;
mod unfinished;
mod wanted;

pub use baseline::Baseline;
pub use copy::IndexCopy;
pub use figures::MeasuredThen;
pub use identity::Identity;
pub use index::{Drift, Index, RunSummary};
pub use journal::{Journal, read_journal};
pub use lock::{LockError, SiteLock};
pub use record::{GateRecord, RecordState, RecordedWaiver, Records, Terms};
pub use redacting::{Redact, Redacting};
pub use unfinished::Unfinished;

use std::path::{Path, PathBuf};

/// The paths below `.strata/`.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The state directory of a site, made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made or written: a run must not begin without a journal.
    pub fn open(site: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = site.join(".strata");
        for folder in [path.clone(), path.join("runs"), path.join("gates")] {
            let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
            if let Err(error) = made
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
        }
        Ok(Self(path))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The journals of rehearsals that were brought back to this site, where there are any.
    pub fn rehearsal(&self) -> Option<Self> {
        let folder = self.0.join("rehearsal");
        folder.join("runs").is_dir().then_some(Self(folder))
    }

    /// The journal of a run.
    pub fn journal(&self, run: &str) -> PathBuf {
        self.0.join("runs").join(format!("{run}.jsonl"))
    }

    /// Ids of all runs, oldest first.
    pub fn runs(&self) -> Vec<String> {
        let mut runs: Vec<String> = std::fs::read_dir(self.0.join("runs"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".jsonl").map(ToOwned::to_owned))
            .collect();
        runs.sort();
        runs
    }

    /// The newest run whose id begins so, here or in a rehearsal that was brought back; without a
    /// beginning the newest of all.
    pub fn find(&self, beginning: Option<&str>) -> Option<(Self, String)> {
        let wanted = |run: &String| beginning.is_none_or(|start| run.starts_with(start));
        let newest = |state: Self| {
            let run = state.runs().into_iter().rev().find(wanted)?;
            Some((state, run))
        };
        let own = newest(self.clone());
        let rehearsed = self.rehearsal().and_then(newest);
        match (own, rehearsed) {
            (Some(own), Some(rehearsed)) if rehearsed.1 > own.1 => Some(rehearsed),
            (own, rehearsed) => own.or(rehearsed),
        }
    }

    /// Removes the oldest journals beyond the newest `keep`, and says which. A run that was never
    /// indexed goes like any other: the journal is what is kept.
    ///
    /// # Errors
    /// When a journal cannot be removed; those before it are gone.
    pub fn prune(&self, keep: usize) -> std::io::Result<Vec<String>> {
        let mut runs = self.runs();
        runs.truncate(runs.len().saturating_sub(keep));
        for run in &runs {
            match std::fs::remove_file(self.journal(run)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(runs)
    }

    /// A new run's id: its start in UTC, so that ids are in the order of their runs. The fraction
    /// of the second is four letters, 2.2 microseconds each.
    pub fn new_run_id() -> String {
        run_id(jiff::Timestamp::now())
    }
}

fn run_id(start: jiff::Timestamp) -> String {
    const LETTERS: u64 = 26_u64.pow(4);
    let nanoseconds = u64::try_from(start.subsec_nanosecond()).unwrap_or_default();
    let fraction = nanoseconds * LETTERS / 1_000_000_000;
    let letter = |place: u32| (b'a'..=b'z').nth((fraction / 26_u64.pow(place) % 26) as usize);
    let letters: String = (0..4).rev().filter_map(letter).map(char::from).collect();
    format!("{}-{letters}", start.strftime("%Y%m%d-%H%M%S"))
}

#[cfg(test)]
mod tests {
    use super::{StateDir, run_id};
    use proptest::prelude::*;

    #[test]
    fn a_run_is_found_by_its_beginning_here_or_among_rehearsals() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let found = |beginning| state.find(beginning).map(|(_, run)| run);
        assert_eq!(found(None), None);
        let make = |path: std::path::PathBuf| std::fs::write(path, b"").unwrap();
        make(state.journal("20260102-000000-aaaa"));
        make(state.journal("20260102-000000-bbbb"));
        assert_eq!(found(Some("20260102")).as_deref(), Some("20260102-000000-bbbb"));
        std::fs::create_dir_all(state.path().join("rehearsal/runs")).unwrap();
        let rehearsal = state.rehearsal().unwrap();
        make(rehearsal.journal("20260101-000000-aaaa"));
        assert_eq!(found(None).as_deref(), Some("20260102-000000-bbbb"));
        make(rehearsal.journal("20260103-000000-aaaa"));
        assert_eq!(found(None).as_deref(), Some("20260103-000000-aaaa"));
        assert_eq!(state.find(Some("20260101")).unwrap().0.path(), rehearsal.path());
        assert_eq!(found(Some("x")), None);
    }

    proptest! {
        #[test]
        fn ids_are_in_the_order_of_their_runs(
            seconds in 0_i64..4_000_000_000,
            nanoseconds in 0_i32..999_990_000,
            later in 3_000_i32..10_000,
        ) {
            let at = |nanoseconds| run_id(jiff::Timestamp::new(seconds, nanoseconds).unwrap());
            prop_assert_eq!(at(nanoseconds).len(), "20260101-000000-abcd".len());
            prop_assert!(at(nanoseconds) < at(nanoseconds + later));
        }
    }
}
