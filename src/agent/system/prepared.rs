//! Writes that were prepared ahead of their turn.
//!
//! A file costs a disk three waits: for its content, for its new name, and for the old content's copy. Files
//! in a row need not wait for one another: while one takes its name, the content of those behind it
//! is on its way to the disk, all of it together, and one sync of the directory serves many names.
//!
//! Invariants:
//! - A file takes its name in its own turn, and only when its content is on the disk.
//! - A prepared file is used for exactly the write that it was prepared for; else it is removed.
//! - A name is on the disk once [`LocalSystem::settle`] has returned; whoever reports it waits for that.
//! - What an agent that was killed had prepared is found by its record and removed by the next one.

use super::LocalSystem;
use super::guard::start_time;
use super::root::{Place, cannot, own_gid, own_uid};
use super::syncs::{Synced, Syncs};
use super::write::{create_temporary, names_of, remove_leftovers};
use crate::resource::{Failure, FileWrite};
use rustix::fs::{self, AtFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where agents record in which directories they prepare files: one file an agent.
const RECORDS: &str = "/var/lib/strata/prepared";

/// How many files may be prepared and not yet used.
const MOST: usize = 256;

/// How many bytes they may have together.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Largest content that is prepared, in bytes: what is larger gains nothing.
const LARGEST: usize = 256 * 1024;

/// Longest record that is read, in bytes.
const RECORD_LIMIT: u64 = 4 * 1024 * 1024;

/// What is prepared, and what is not on the disk yet.
#[derive(Default)]
pub(super) struct Prepared {
    files: BTreeMap<String, PreparedFile>,
    syncs: Syncs,
    directories: BTreeMap<String, Arc<OwnedFd>>,
    unsynced: BTreeSet<String>,
    recorded: BTreeSet<String>,
    /// Nothing more is prepared after something could not be.
    given_up: bool,
}

/// A file that lacks nothing but its name.
struct PreparedFile {
    directory: Arc<OwnedFd>,
    temporary: String,
    content: Vec<u8>,
    /// Mode, owner and group.
    access: (u32, u32, u32),
    synced: Option<Synced>,
    placed: bool,
}

impl Drop for PreparedFile {
    fn drop(&mut self) {
        if !self.placed {
            // The record is still there, so that the next agent tries again.
            let _ = fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

impl PreparedFile {
    fn serves(&self, file: &FileWrite<'_>, place: &Place) -> bool {
        let identity = |handle: &OwnedFd| fs::fstat(handle).map(|stat| (stat.st_dev, stat.st_ino));
        file.validate.is_none()
            && self.access == (file.mode, file.uid, file.gid)
            && self.content == file.content
            // The way to the directory may be another one by now.
            && identity(&self.directory).is_ok_and(|own| identity(&place.directory) == Ok(own))
    }

    /// Waits until the content is on the disk.
    fn wait(&mut self) -> bool {
        self.synced.take().is_some_and(Synced::wait)
    }
}

impl Prepared {
    /// True when files wait for their turn.
    pub(super) fn any(&self) -> bool {
        !self.files.is_empty()
    }

    /// Removes what was prepared and prepares nothing more.
    pub(super) fn give_up(&mut self) {
        // A file gives its room back when who waits for the disk has closed it, too.
        for file in self.files.values_mut() {
            file.wait();
        }
        self.files.clear();
        self.given_up = true;
    }
}

impl LocalSystem {
    /// Prepares a write. What is in its way will be in the way of the write itself, which reports it.
    pub(super) fn prepare_file(&mut self, file: &FileWrite<'_>) {
        let waiting = &self.prepared.files;
        let bytes: usize = waiting.values().map(|file| file.content.len()).sum();
        let full = waiting.len() >= MOST || bytes + file.content.len() > MOST_BYTES;
        let unfit = file.content.len() > LARGEST || file.validate.is_some();
        if full || unfit || self.prepared.given_up || self.prepared.files.contains_key(file.path) {
            return;
        }
        match self.prepared_file(file) {
            Ok(Some(prepared)) => {
                self.prepared.files.insert(file.path.to_owned(), prepared);
            }
            Ok(None) => {}
            Err(_) => self.prepared.give_up(),
        }
    }

    /// `None` where the directory does not exist (yet).
    fn prepared_file(&mut self, file: &FileWrite<'_>) -> Result<Option<PreparedFile>, Failure> {
        let Some((parent, _)) = file.path.rsplit_once('/') else { return Ok(None) };
        let known = self.prepared.directories.get(parent).map(Arc::clone);
        let directory = match known {
            Some(known) => known,
            None if self.root.place(file.path)?.is_none() => return Ok(None),
            None => self.directory_of(file.path, parent)?,
        };
        let (temporary, handle) = create_temporary(&directory, file, || self.temporary_name())
            .map_err(|error| cannot("write", file.path, error))?;
        let mut prepared = PreparedFile {
            directory,
            temporary,
            content: file.content.to_vec(),
            access: (file.mode, file.uid, file.gid),
            synced: None,
            placed: false,
        };
        prepared.synced = Some(self.prepared.syncs.sync(handle).map_err(|error| {
            Failure::new(format!("no thread for {} could be started: {error}", file.path))
        })?);
        Ok(Some(prepared))
    }

    /// Opens a directory in which files will be prepared, after that is on record.
    fn directory_of(&mut self, path: &str, parent: &str) -> Result<Arc<OwnedFd>, Failure> {
        let place = self.root.existing_place(path)?;
        remove_leftovers(&place);
        if self.prepared.recorded.insert(parent.to_owned()) {
            self.record_prepared()?;
        }
        let handle = Arc::new(place.directory);
        self.prepared.directories.insert(parent.to_owned(), Arc::clone(&handle));
        Ok(handle)
    }

    fn own_record() -> String {
        format!("{RECORDS}/{}", std::process::id())
    }

    /// Writes down in which directories this agent prepares files.
    fn record_prepared(&mut self) -> Result<(), Failure> {
        let started = start_time(std::process::id());
        let names = self.prepared.recorded.iter().map(String::as_str);
        let words: Vec<&str> = std::iter::once(started.as_str()).chain(names).collect();
        self.root.make_all(RECORDS, 0o700)?;
        self.write_file(&FileWrite {
            path: &Self::own_record(),
            content: words.join("\0").as_bytes(),
            mode: 0o600,
            uid: own_uid(),
            gid: own_gid(),
            validate: None,
            keep: false,
        })
    }

    /// Gives a prepared file its name. False when none was prepared for this very write.
    pub(super) fn place_prepared(
        &mut self,
        file: &FileWrite<'_>,
        place: &Place,
    ) -> Result<bool, Failure> {
        let Some(mut prepared) = self.prepared.files.remove(file.path) else { return Ok(false) };
        if !prepared.serves(file, place) || !prepared.wait() {
            return Ok(false);
        }
        if file.keep {
            self.keep_copy(file.path)?;
        }
        fs::renameat(&prepared.directory, &prepared.temporary, &place.directory, &place.name)
            .map_err(|error| cannot("write", file.path, error))?;
        prepared.placed = true;
        let parent = file.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.prepared.unsynced.insert(parent.to_owned());
        Ok(true)
    }

    /// Waits until every name that was taken is on the disk. What is still prepared stays.
    ///
    /// # Errors
    /// When a directory cannot be synced.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        for parent in std::mem::take(&mut self.prepared.unsynced) {
            let Some(directory) = self.prepared.directories.get(&parent) else { continue };
            if let Err(error) = fs::fsync(directory) {
                result = result.and(Err(cannot("sync the directory", &parent, error)));
            }
        }
        // Handles that no prepared file has are closed: directories may be many.
        self.prepared.directories.retain(|_, handle| Arc::strong_count(handle) > 1);
        result
    }

    /// Removes what was prepared and not used.
    pub fn drop_prepared(&mut self) {
        self.prepared.files.clear();
    }

    /// Removes the record of what was prepared, when nothing is any more.
    pub fn forget_prepared(&mut self) {
        self.drop_prepared();
        if std::mem::take(&mut self.prepared.recorded).is_empty() {
            return;
        }
        // A record that stays does no harm: what it names is looked for in vain.
        if let Ok(place) = self.root.existing_place(&Self::own_record()) {
            let _ = fs::unlinkat(&place.directory, &place.name, AtFlags::empty());
        }
    }

    /// Removes what agents that were killed had prepared. Returns how many files these were.
    pub(super) fn remove_prepared(&mut self) -> Result<usize, Failure> {
        let mut removed = 0;
        for name in self.root.list(RECORDS)?.unwrap_or_default() {
            let path = format!("{RECORDS}/{name}");
            let Some(pid) = name.parse::<u32>().ok() else { continue };
            let text = self.root.read(&path, RECORD_LIMIT)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let mut words = text.split('\0');
            let started = start_time(pid);
            if !started.is_empty() && words.next() == Some(started.as_str()) {
                continue;
            }
            removed += words.map(|directory| self.remove_of(pid, directory)).sum::<usize>();
            self.root.remove(&path, false)?;
        }
        Ok(removed)
    }

    /// Removes the temporary files of a process from a directory, as far as that is possible.
    fn remove_of(&self, pid: u32, directory: &str) -> usize {
        let Ok(place) = self.root.existing_place(&format!("{directory}/-")) else { return 0 };
        names_of(&place, pid)
            .into_iter()
            .filter(|name| fs::unlinkat(&place.directory, name, AtFlags::empty()).is_ok())
            .count()
    }
}

#[cfg(test)]
#[path = "prepared_tests.rs"]
mod tests;
