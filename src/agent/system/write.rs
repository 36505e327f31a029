//! Atomic writes.
//!
//! A file is written to a temporary name in its own directory, gets its owner and mode, is
//! checked, synced and renamed. Whoever opens the name sees the old file or the whole new one.
//! A temporary file of an agent that was killed is recognised by its name and removed by the next
//! write in that directory.

use super::LocalSystem;
use super::root::{Place, cannot, list_handle};
use crate::resource::{Failure, FileWrite, PathKind, Program, System};
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::Pid;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

/// How temporary names begin; the number of the process follows.
const PREFIX: &str = ".strata-";

/// Largest file of which a last-good copy is kept, in bytes.
const COPY_LIMIT: u64 = 64 * 1024 * 1024;

/// Removes the temporary file unless it got its name.
pub(super) struct Temporary<'a> {
    place: &'a Place,
    name: String,
    placed: bool,
}

impl<'a> Temporary<'a> {
    pub(super) const fn new(place: &'a Place, name: String) -> Self {
        Self { place, name, placed: false }
    }

    /// Gives it the name that it was made for.
    pub(super) fn rename(&mut self) -> Result<(), Errno> {
        let directory = &self.place.directory;
        fs::renameat(directory, &self.name, directory, &self.place.name)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing more can be done when even this fails; the next write here tries again.
            let _ = fs::unlinkat(&self.place.directory, &self.name, AtFlags::empty());
        }
    }
}

impl LocalSystem {
    pub(super) fn temporary_name(&mut self) -> String {
        self.serial += 1;
        format!("{PREFIX}{}-{}", std::process::id(), self.serial)
    }

    /// Writes a file whole or not at all.
    pub(super) fn write_file(&mut self, file: &FileWrite<'_>) -> Result<(), Failure> {
        let written = self.try_write(file);
        if written.is_err() && self.prepared.any() {
            // The room that prepared files take may be what it lacks.
            self.prepared.give_up();
            return self.try_write(file);
        }
        written
    }

    fn try_write(&mut self, file: &FileWrite<'_>) -> Result<(), Failure> {
        let place = self.root.existing_place(file.path)?;
        if self.place_prepared(file, &place)? {
            return Ok(());
        }
        remove_leftovers(&place);
        let fail = |error| cannot("write", file.path, error);
        let (name, handle) =
            create_temporary(&place.directory, file, || self.temporary_name()).map_err(fail)?;
        let mut temporary = Temporary::new(&place, name);
        fs::fsync(&handle).map_err(fail)?;
        // A program that runs or reads the file must not find it open for writing.
        drop(handle);
        if let Some(argv) = file.validate {
            self.validate_file(file.path, &temporary.name, argv)?;
        }
        if file.keep {
            self.keep_copy(file.path)?;
        }
        temporary.rename().map_err(fail)?;
        fs::fsync(&place.directory).map_err(fail)
    }

    fn validate_file(&mut self, path: &str, name: &str, argv: &[String]) -> Result<(), Failure> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let temporary = format!("{parent}/{name}");
        let argv: Vec<String> =
            argv.iter().map(|part| part.replace("{file}", &temporary)).collect();
        let output = self.run(&Program::new(argv.clone()))?;
        if output.success() {
            return Ok(());
        }
        let program = argv.first().map_or("", String::as_str);
        Err(output
            .failure(&format!("{program} refuses the new {path}"))
            .hint("the old file is untouched; correct the content"))
    }

    pub(super) fn place_link(&mut self, path: &str, target: &str) -> Result<(), Failure> {
        let place = self.root.existing_place(path)?;
        remove_leftovers(&place);
        let fail = |error| cannot("make the link", path, error);
        let name = self.temporary_name();
        fs::symlinkat(target, &place.directory, &name).map_err(fail)?;
        Temporary::new(&place, name).rename().map_err(fail)?;
        fs::fsync(&place.directory).map_err(fail)
    }

    /// Keeps a copy of a regular file before it is replaced or removed.
    pub(super) fn keep_copy(&mut self, path: &str) -> Result<(), Failure> {
        match self.root.metadata(path)? {
            Some(found) if found.kind == PathKind::File && found.size <= COPY_LIMIT => {
                self.store_copy(path, &found, COPY_LIMIT)
            }
            _ => Ok(()),
        }
    }
}

/// Writes a file's content to a temporary name in its directory, with its owner and mode; not
/// synced yet. A file that could not be written whole is removed.
pub(super) fn create_temporary(
    directory: &OwnedFd,
    file: &FileWrite<'_>,
    name: impl FnMut() -> String,
) -> Result<(String, File), Errno> {
    create_filled(directory, name, |handle| fill(handle, file))
}

/// Makes a file under a temporary name and has it filled. One that could not be filled is removed.
pub(super) fn create_filled(
    directory: &OwnedFd,
    mut name: impl FnMut() -> String,
    fill: impl FnOnce(&mut File) -> Result<(), Errno>,
) -> Result<(String, File), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (name, handle) = loop {
        let name = name();
        match fs::openat(directory, &name, flags, Mode::from_raw_mode(0o600)) {
            // Left by an agent of another boot that had this one's number.
            Err(Errno::EXIST) => {}
            handle => break (name, handle?),
        }
    };
    let mut handle = File::from(handle);
    let filled = fill(&mut handle);
    if filled.is_err() {
        // Nothing more can be done when even this fails; the next write here tries again.
        let _ = fs::unlinkat(directory, &name, AtFlags::empty());
    }
    filled.map(|()| (name, handle))
}

fn fill(handle: &mut File, file: &FileWrite<'_>) -> Result<(), Errno> {
    let written = handle.write_all(file.content);
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    set_owner_and_mode(handle, (file.uid, file.gid), file.mode)
}

pub(super) fn set_owner_and_mode(
    handle: &File,
    (uid, gid): (u32, u32),
    mode: u32,
) -> Result<(), Errno> {
    fs::fchown(handle, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fs::fchmod(handle, Mode::from_raw_mode(mode))
}

/// Names of the temporary files of a process.
pub(super) fn names_of(place: &Place, pid: u32) -> Vec<String> {
    let mut names = list_handle(&place.directory).unwrap_or_default();
    names.retain(|name| writer_of(name).and_then(|writer| u32::try_from(writer).ok()) == Some(pid));
    names
}

/// Removes temporary files whose agent is gone.
pub(super) fn remove_leftovers(place: &Place) {
    let Ok(names) = list_handle(&place.directory) else {
        return;
    };
    for name in names {
        let Some(pid) = writer_of(&name) else {
            continue;
        };
        let alive = Pid::from_raw(pid)
            .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH));
        if !alive {
            // Best effort: a leftover that cannot be removed does no harm.
            let _ = fs::unlinkat(&place.directory, &name, AtFlags::empty());
        }
    }
}

/// The process that wrote a temporary file, from its name.
fn writer_of(name: &str) -> Option<i32> {
    let (pid, serial) = name.strip_prefix(PREFIX)?.split_once('-')?;
    serial.parse::<u64>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_leftovers() {
        assert_eq!(writer_of(".strata-12-3"), Some(12));
        for foreign in [".strata-cluster", ".strata-", ".strata-a-1", "strata-1-1", ".strata-1-x"] {
            assert_eq!(writer_of(foreign), None, "{foreign}");
        }
    }
}
