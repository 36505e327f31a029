//! Steps that run each time, and what became of them, as files:
//! `<state>/once/<layer>/<role>/<step>`.
//!
//! Invariant: that a step begins is on the disk before it does, that it ended after it did. So a
//! run that goes on, over a new link or as another process, knows on the host itself what was done,
//! and what nobody knows is told apart from what was not done.

use super::paths::make_private_directory;
use super::pending::{encode, sync_directory};
use crate::resource::{Batch, Item, Once, Unknown};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

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

    /// The record of one step of a batch.
    pub fn of(&self, batch: &Batch, item: &Item) -> OnceRecord {
        let folders = [&batch.once.layer, &batch.role].map(|name| encode(name));
        OnceRecord {
            root: self.directory.clone(),
            folder: folders.iter().fold(self.directory.clone(), |path, name| path.join(name)),
            name: encode(&item.name),
            what: digest(item),
        }
    }
}

/// The record of one step.
#[derive(Debug, Clone)]
pub struct OnceRecord {
    root: PathBuf,
    folder: PathBuf,
    name: String,
    /// What the step does: a step that was changed is another one.
    what: String,
}

impl OnceRecord {
    /// Whether the step is due in this run.
    ///
    /// # Errors
    /// When there is a record that cannot be read.
    pub fn due(&self, once: &Once) -> io::Result<Due> {
        let text = match fs::read_to_string(self.folder.join(&self.name)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Due::Run),
            Err(error) => return Err(error),
        };
        Ok(due(&text, once, &self.what))
    }

    /// Notes that the step begins.
    ///
    /// # Errors
    /// When the record cannot be made durable; the step must not run then.
    pub fn begun(&self, run: &str) -> io::Result<()> {
        self.write(&format!("{run}\nbegun\n{}\n", self.what))
    }

    /// Notes that the step was done.
    ///
    /// # Errors
    /// When the record cannot be made durable.
    pub fn done(&self, run: &str) -> io::Result<()> {
        self.write(&format!("{run}\ndone\n{}\n", self.what))
    }

    /// Notes that the step failed: a run that goes on tries it again.
    ///
    /// # Errors
    /// When the record cannot be removed.
    pub fn failed(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(&self.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whole or not at all: a file of its own takes the name.
    fn write(&self, text: &str) -> io::Result<()> {
        make_private_directory(&self.folder)?;
        let new = self.folder.join(format!(".new.{}", std::process::id()));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.folder.join(&self.name))?;
        let top = self.root.parent();
        let above = self.folder.ancestors().take_while(|path| Some(*path) != top);
        above.chain(top).try_for_each(sync_directory)
    }
}

fn digest(item: &Item) -> String {
    // What cannot be encoded could not have come here either.
    let bytes = postcard::to_stdvec(&item.resource).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a record says to a run. A record of another run says nothing: the step runs once in each. The
/// operator's word is about what older runs left, not about what this one does.
fn due(record: &str, once: &Once, what: &str) -> Due {
    let mut lines = record.lines();
    let run = lines.next().unwrap_or_default();
    let own = once.run.as_deref() == Some(run);
    if !own && !once.resumes.iter().any(|one| one == run) {
        return Due::Run;
    }
    let (state, same) = (lines.next(), lines.next() == Some(what));
    match (state, same) {
        (Some("done"), true) => Due::Done,
        (Some("done"), false) => Due::Run,
        _ if own => Due::Unknown,
        _ => match once.unknown {
            Unknown::Refuse => Due::Unknown,
            Unknown::Repeat => Due::Run,
            Unknown::Done => Due::Done,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Mode, Resource};

    fn once(run: &str, resumes: &[&str], unknown: Unknown) -> Once {
        let resumes = resumes.iter().map(|run| (*run).to_owned()).collect();
        Once { run: Some(run.to_owned()), layer: "l".to_owned(), resumes, unknown }
    }

    fn record(records: &OnceRecords, layer: &str, argv: &str) -> OnceRecord {
        let resource: Resource =
            toml::from_str(&format!("[command]\nargv = ['{argv}']\n")).unwrap();
        let item =
            Item { name: "s".into(), resource, notify: Vec::new(), secret: false, timeout_ms: 1 };
        let batch = Batch {
            role: "r".into(),
            mode: Mode::Apply,
            items: Vec::new(),
            handlers: Vec::new(),
            once: Once { layer: layer.to_owned(), ..Once::default() },
        };
        records.of(&batch, &item)
    }

    #[test]
    fn a_step_runs_once_in_a_run_and_those_that_resume_it() {
        let folder = tempfile::tempdir().unwrap();
        let records = OnceRecords::in_directory(folder.path().join("once"));
        let step = record(&records, "l", "make");
        let due = |run, resumes: &[&str], unknown| step.due(&once(run, resumes, unknown)).unwrap();
        assert_eq!(due("one", &[], Unknown::Refuse), Due::Run);
        step.begun("one").unwrap();
        for (unknown, expected) in [
            (Unknown::Refuse, Due::Unknown),
            (Unknown::Repeat, Due::Run),
            (Unknown::Done, Due::Done),
        ] {
            assert_eq!(due("two", &["one"], unknown), expected, "a run that resumes");
            assert_eq!(due("two", &[], unknown), Due::Run, "a run of its own");
            assert_eq!(due("one", &[], unknown), Due::Unknown, "a new link in the same run");
        }
        step.done("one").unwrap();
        assert_eq!(due("two", &["one"], Unknown::Refuse), Due::Done);
        assert_eq!(due("two", &["zero"], Unknown::Refuse), Due::Run);
        step.failed().unwrap();
        step.failed().unwrap();
        assert_eq!(due("one", &[], Unknown::Refuse), Due::Run);
    }

    #[test]
    fn another_layer_and_a_step_that_was_changed_are_others() {
        let folder = tempfile::tempdir().unwrap();
        let records = OnceRecords::in_directory(folder.path().join("once"));
        record(&records, "l", "make").done("one").unwrap();
        let resumes = once("two", &["one"], Unknown::Refuse);
        let due = |layer, argv| record(&records, layer, argv).due(&resumes).unwrap();
        assert_eq!(due("l", "make"), Due::Done);
        assert_eq!(due("l", "mended"), Due::Run);
        assert_eq!(due("other", "make"), Due::Run);
        record(&records, "l", "make").begun("one").unwrap();
        assert_eq!(due("l", "mended"), Due::Unknown);
    }

    #[test]
    fn a_record_that_was_cut_is_not_taken_for_done() {
        for record in ["one", "one\n", "one\nbeg", "one\nwhatever\n"] {
            assert_eq!(super::due(record, &once("one", &[], Unknown::Refuse), "w"), Due::Unknown);
        }
        assert_eq!(super::due("", &once("one", &[], Unknown::Refuse), "w"), Due::Run);
    }
}
