//! Steps that run each time, and what became of them, as files: `<state>/once/<role>/<step>`.
//!
//! Invariant: that a step begins is on the disk before it does, that it ended after it did. So a
//! run that goes on, over a new link or as another process, knows on the host itself what was done,
//! and what nobody knows is told apart from what was not done.

use super::paths::make_private_directory;
use super::pending::{encode, sync_directory};
use crate::resource::{Once, Unknown};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a run that goes on does with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It runs.
    Run,
    /// It was done.
    Done,
    /// It was in hand when the run ended, and nothing tells whether it was done.
    Unknown,
}

/// The records of one host.
#[derive(Debug, Clone)]
pub struct OnceRecords {
    directory: PathBuf,
}

impl OnceRecords {
    /// Records kept in `directory`, which need not exist yet.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Whether the step is due in this run.
    ///
    /// # Errors
    /// When there is a record that cannot be read.
    pub fn due(&self, role: &str, step: &str, once: &Once) -> io::Result<Due> {
        let text = match fs::read_to_string(self.path(role, step)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Due::Run),
            Err(error) => return Err(error),
        };
        Ok(due(&text, once))
    }

    /// Notes that the step begins.
    ///
    /// # Errors
    /// When the record cannot be made durable; the step must not run then.
    pub fn begun(&self, role: &str, step: &str, run: &str) -> io::Result<()> {
        self.write(role, step, &format!("{run}\nbegun\n"))
    }

    /// Notes that the step was done.
    ///
    /// # Errors
    /// When the record cannot be made durable.
    pub fn done(&self, role: &str, step: &str, run: &str) -> io::Result<()> {
        self.write(role, step, &format!("{run}\ndone\n"))
    }

    /// Notes that the step failed: a run that goes on tries it again.
    ///
    /// # Errors
    /// When the record cannot be removed.
    pub fn failed(&self, role: &str, step: &str) -> io::Result<()> {
        match fs::remove_file(self.path(role, step)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whole or not at all: a file of its own takes the name.
    fn write(&self, role: &str, step: &str, text: &str) -> io::Result<()> {
        let path = self.path(role, step);
        let folder = self.directory.join(encode(role));
        make_private_directory(&folder)?;
        let new = folder.join(format!(".new.{}", std::process::id()));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        for directory in [folder.as_path(), &self.directory].into_iter().chain(parent(self)) {
            sync_directory(directory)?;
        }
        Ok(())
    }

    fn path(&self, role: &str, step: &str) -> PathBuf {
        self.directory.join(encode(role)).join(encode(step))
    }
}

fn parent(records: &OnceRecords) -> Option<&Path> {
    records.directory.parent()
}

/// What a record says to a run. A record of another run says nothing: the step runs once in each.
fn due(record: &str, once: &Once) -> Due {
    let mut lines = record.lines();
    let run = lines.next().unwrap_or_default();
    let of_this = once.run.iter().chain(&once.resumes).any(|one| one == run);
    match (of_this, lines.next()) {
        (false, _) => Due::Run,
        (true, Some("done")) => Due::Done,
        (true, _) => match once.unknown {
            Unknown::Refuse => Due::Unknown,
            Unknown::Repeat => Due::Run,
            Unknown::Done => Due::Done,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(run: &str, resumes: &[&str], unknown: Unknown) -> Once {
        let resumes = resumes.iter().map(|run| (*run).to_owned()).collect();
        Once { run: Some(run.to_owned()), resumes, unknown }
    }

    #[test]
    fn a_step_runs_once_in_a_run_and_those_that_resume_it() {
        let folder = tempfile::tempdir().unwrap();
        let records = OnceRecords::in_directory(folder.path().join("once"));
        let due =
            |run, resumes: &[&str], unknown| records.due("r", "s", &once(run, resumes, unknown));
        assert_eq!(due("one", &[], Unknown::Refuse).unwrap(), Due::Run);
        records.begun("r", "s", "one").unwrap();
        for (unknown, expected) in [
            (Unknown::Refuse, Due::Unknown),
            (Unknown::Repeat, Due::Run),
            (Unknown::Done, Due::Done),
        ] {
            assert_eq!(due("one", &[], unknown).unwrap(), expected, "a new link");
            assert_eq!(due("two", &["one"], unknown).unwrap(), expected, "a run that resumes");
            assert_eq!(due("two", &[], unknown).unwrap(), Due::Run, "a run of its own");
        }
        records.done("r", "s", "one").unwrap();
        assert_eq!(due("two", &["one"], Unknown::Refuse).unwrap(), Due::Done);
        assert_eq!(due("two", &["zero"], Unknown::Refuse).unwrap(), Due::Run);
        records.failed("r", "s").unwrap();
        records.failed("r", "s").unwrap();
        assert_eq!(due("one", &[], Unknown::Refuse).unwrap(), Due::Run);
    }

    #[test]
    fn a_record_that_was_cut_is_not_taken_for_done() {
        for record in ["one", "one\n", "one\nbeg", "one\nwhatever\n"] {
            assert_eq!(super::due(record, &once("one", &[], Unknown::Refuse)), Due::Unknown);
        }
        assert_eq!(super::due("", &once("one", &[], Unknown::Refuse)), Due::Run);
    }
}
