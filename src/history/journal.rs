//! One run's events as JSON lines, on disk before anything that follows from them; only that a host is
//! converged may be told a moment before.

use crate::event::{Consumer, Event, EventKind, HostState};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of lines that are written at once, at most.
const MOST_LINES: usize = 64 * 1024;

/// Converged hosts that wait for one sync together, at most: those of a fleet end a layer at nearly the
/// same moment, and one that is lost is looked at again. They wait as long as events come without a pause.
const MOST_UNSYNCED: u32 = 64;

/// The journal of one run.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Bytes of whole lines in it.
    length: u64,
    /// Lines that are written with those that come next.
    lines: Vec<u8>,
    /// Events that are written and may not be on disk.
    unsynced: u32,
    /// How often the disk was waited for.
    #[cfg(test)]
    syncs: u32,
    /// Events to write before the process kills itself.
    #[cfg(debug_assertions)]
    dies_after: Option<u32>,
}

impl Journal {
    /// Creates the journal; it must not exist.
    ///
    /// # Errors
    /// When the file cannot be made, for example on a full or read-only disk.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file =
            std::fs::OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self {
            file,
            length: 0,
            lines: Vec::new(),
            unsynced: 0,
            #[cfg(test)]
            syncs: 0,
            #[cfg(debug_assertions)]
            dies_after: None,
        })
    }

    /// Kills the process, as `kill -9` does, once this many events are written: only so can a test
    /// end a run between any two events. Not in what is released.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn dies_after(mut self, events: Option<u32>) -> Self {
        self.dies_after = events;
        self
    }

    #[cfg(debug_assertions)]
    fn die_if_due(&mut self) {
        let Some(left) = &mut self.dies_after else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            // It cannot fail, and there would be nobody to tell.
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

impl Journal {
    fn write(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.lines);
        let length = self.lines.len() as u64;
        self.lines.clear();
        if let Err(error) = written {
            // A full disk may have taken half a line; the next one must not stick to it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += length;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unsynced) > 0 {
            self.file.sync_data()?;
            #[cfg(test)]
            {
                self.syncs += 1;
            }
        }
        Ok(())
    }

    /// True when every event is written by itself: it is counted how many there are.
    const fn one_by_one(&self) -> bool {
        #[cfg(debug_assertions)]
        return self.dies_after.is_some();
        #[cfg(not(debug_assertions))]
        return false;
    }
}

impl Consumer for Journal {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let whole = self.lines.len();
        if let Err(error) = serde_json::to_writer(&mut self.lines, event) {
            self.lines.truncate(whole);
            return Err(error.into());
        }
        self.lines.push(b'\n');
        // What decides about a resume or a verdict is on disk at once, but for converged hosts; the rest
        // follows with it.
        let decisive = !matches!(
            event.kind,
            EventKind::StepStarted { .. }
                | EventKind::StepWaiting { .. }
                | EventKind::HostConnected { .. }
                | EventKind::TestStarted { .. }
                | EventKind::StepFinished { .. }
        );
        if decisive || self.lines.len() >= MOST_LINES || self.one_by_one() {
            self.write()?;
        }
        if decisive {
            self.unsynced += 1;
            let may_wait =
                matches!(event.kind, EventKind::HostFinished { state: HostState::Converged, .. });
            if !may_wait || self.unsynced >= MOST_UNSYNCED {
                self.sync()?;
            }
        }
        #[cfg(debug_assertions)]
        self.die_if_due();
        Ok(())
    }

    fn rest(&mut self) -> io::Result<()> {
        self.write()?;
        self.sync()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Whoever wants to know whether it was written asks before.
        let _ = self.rest();
    }
}

/// Reads a journal. A last line cut by a power loss is left out.
///
/// # Errors
/// When the file cannot be read, or a whole line is not an event.
pub fn read_journal(path: &Path) -> io::Result<Vec<Event>> {
    let bytes = std::fs::read(path)?;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // The text after the last line feed: nothing, or a line that was cut.
    lines.pop();
    let mut events = Vec::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate() {
        let event = serde_json::from_slice(line).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}:{}: {error}", path.display(), index + 1),
            )
        })?;
        events.push(event);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_last_line_is_left_out_and_other_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        for text in ["a", "b"] {
            let kind = EventKind::Note { text: text.into() };
            journal.event(&Event { at_ms: 1, kind }).unwrap();
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(read_journal(&path).unwrap().len(), 2);
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert_eq!(read_journal(&path).unwrap().len(), 1);
        std::fs::write(&path, [b"{\n".as_slice(), &whole].concat()).unwrap();
        assert!(read_journal(&path).is_err());
    }

    #[test]
    fn lines_are_written_in_order_when_nothing_more_comes_or_something_decides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let mut journal = Journal::create(&path).unwrap();
        let lines = || std::fs::read(&path).unwrap().iter().filter(|byte| **byte == b'\n').count();
        let test = |name: &str| Event {
            at_ms: 1,
            kind: EventKind::TestStarted { layer: "base".into(), test: name.into() },
        };
        journal.event(&test("a")).unwrap();
        assert_eq!(lines(), 0, "it waits for others");
        journal.rest().unwrap();
        assert_eq!(lines(), 1);
        journal.event(&test("b")).unwrap();
        let note = Event { at_ms: 1, kind: EventKind::Note { text: "c".into() } };
        journal.event(&note).unwrap();
        assert_eq!(lines(), 3);
        let long = test(&"d".repeat(MOST_LINES));
        journal.event(&long).unwrap();
        assert_eq!(lines(), 4, "no more than some are kept");
        journal.event(&test("e")).unwrap();
        drop(journal);
        let expected = [test("a"), test("b"), note, long, test("e")];
        assert_eq!(read_journal(&path).unwrap(), expected);
    }

    #[test]
    fn converged_hosts_share_a_sync_and_whatever_decides_more_waits_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(&folder.path().join("r.jsonl")).unwrap();
        let mut syncs_after = |state: Option<HostState>| {
            let kind = match state {
                None => EventKind::Note { text: "a".into() },
                Some(state) => EventKind::HostFinished {
                    host: "a".into(),
                    layer: "base".into(),
                    state,
                    changed: 0,
                    steps: 1,
                    waiting_handlers: Vec::new(),
                    took_ms: 1,
                },
            };
            journal.event(&Event { at_ms: 1, kind }).unwrap();
            journal.syncs
        };
        let converged = Some(HostState::Converged);
        assert!((1..MOST_UNSYNCED).all(|_| syncs_after(converged) == 0));
        assert_eq!(syncs_after(converged), 1, "no more than some wait");
        assert_eq!(syncs_after(converged), 1);
        assert_eq!(syncs_after(None), 2);
        assert_eq!(syncs_after(converged), 2);
        assert_eq!(syncs_after(Some(HostState::Failed)), 3, "a resume must know of it");
        assert_eq!(syncs_after(converged), 3);
        journal.rest().unwrap();
        assert_eq!(journal.syncs, 4);
        journal.rest().unwrap();
        assert_eq!(journal.syncs, 4, "nothing waits");
    }

    #[test]
    fn a_journal_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        Journal::create(&path).unwrap();
        assert_eq!(Journal::create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
