//! Files of secrets: who may read them, atomic replacement, and the lock of the directory.

use super::codes;
use crate::diag::Diagnostic;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a command waits for another one to finish changing secrets.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// What part of a temporary file's name tells it from others.
pub(super) const TEMPORARY: &str = ".strata-tmp-";

/// What a file must be before its content is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Encrypted or public: any mode, any owner.
    Public,
    /// Clear secrets: mode 0600 or narrower, owned by this user.
    Private {
        /// The user id that must own it.
        owner: u32,
    },
}

/// Why a file with clear secrets is refused; `None` when it is well kept. Pure.
pub(super) fn exposure(mode: u32, owner: u32, wanted_owner: u32, widest: u32) -> Option<String> {
    let permissions = mode & 0o7777;
    let mut faults = Vec::new();
    if permissions & !widest != 0 {
        faults.push(format!("has mode {permissions:04o}, wider than {widest:04o}"));
    }
    if owner != wanted_owner {
        faults.push(format!("is owned by user {owner}, not by user {wanted_owner}"));
    }
    (!faults.is_empty()).then(|| faults.join(" and "))
}

/// Reads a whole file through one handle; `None` when it does not exist. `shown` is the path for
/// messages.
pub(super) fn read(path: &Path, shown: &Path, guard: Guard) -> Result<Option<Vec<u8>>, Diagnostic> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let handle: OwnedFd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(not_regular(shown)),
        Err(error) => return Err(access("read", shown, error.into())),
    };
    let mut file = File::from(handle);
    let metadata = file.metadata().map_err(|error| access("read", shown, error))?;
    if !metadata.is_file() {
        return Err(not_regular(shown));
    }
    if let Guard::Private { owner } = guard
        && let Some(fault) = exposure(metadata.mode(), metadata.uid(), owner, 0o600)
    {
        return Err(Diagnostic::error(codes::FILE_MODE, format!("{} {fault}", shown.display()))
            .hint(format!(
                "`chown {owner}:{owner} {0} && chmod 600 {0}`; if others could read it, change its values",
                shown.display()
            )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.read_to_end(&mut bytes).map_err(|error| access("read", shown, error))?;
    Ok(Some(bytes))
}

fn not_regular(shown: &Path) -> Diagnostic {
    Diagnostic::error(
        codes::FILE_KIND,
        format!("{} is a link or not a regular file", shown.display()),
    )
    .hint("put the file itself there")
}

/// An error of the file system as a diagnostic.
pub(super) fn access(verb: &str, shown: &Path, error: std::io::Error) -> Diagnostic {
    Diagnostic::error(codes::FILE_ACCESS, format!("cannot {verb} {}: {error}", shown.display()))
}

/// A new content beside the file that it will replace. Dropped without [`Replacement::commit`], it
/// disappears.
#[derive(Debug)]
pub(super) struct Replacement {
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl Replacement {
    /// Writes and syncs `bytes` under a temporary name in the target's directory, then reads them
    /// back; nothing is visible under the target's name yet.
    pub(super) fn write(
        target: &Path,
        shown: &Path,
        bytes: &[u8],
        mode: u32,
    ) -> Result<Self, Diagnostic> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let chance = getrandom::u64()
            .map_err(|error| access("write", shown, std::io::Error::other(error.to_string())))?;
        let temporary = target.with_file_name(format!(".{name}{TEMPORARY}{chance:016x}"));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&temporary, flags, Mode::from_raw_mode(mode))
            .map_err(|error| access("write", shown, error.into()))?;
        let replacement = Self { temporary, target: target.to_owned(), committed: false };
        done();
        let mut file = File::from(handle);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(|error| access("write", shown, error.into()))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| access("write", shown, error))?;
        done();
        let written = std::fs::read(&replacement.temporary)
            .map_err(|error| access("read back", shown, error))?;
        if written != bytes {
            return Err(access("write", shown, std::io::Error::other("read back differently")));
        }
        Ok(replacement)
    }

    /// Gives the content its name.
    pub(super) fn commit(mut self, shown: &Path) -> Result<(), Diagnostic> {
        std::fs::rename(&self.temporary, &self.target)
            .map_err(|error| access("replace", shown, error))?;
        self.committed = true;
        done();
        sync_directory(&self.target).map_err(|error| access("replace", shown, error))
    }

    /// Gives the content its name unless that name exists already.
    pub(super) fn commit_new(self, shown: &Path) -> Result<(), Diagnostic> {
        // The link fails where the name exists; the temporary name goes when this is dropped.
        rustix::fs::linkat(
            rustix::fs::CWD,
            &self.temporary,
            rustix::fs::CWD,
            &self.target,
            AtFlags::empty(),
        )
        .map_err(|error| access("create", shown, error.into()))?;
        sync_directory(&self.target).map_err(|error| access("create", shown, error))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.committed {
            // It may be gone already; nothing can be done about other failures here, and the next
            // command that locks the directory tries again.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Operations on files to do before the process kills itself; 0 for never.
#[cfg(debug_assertions)]
static DIES_AFTER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Kills the process, as `kill -9` does, once this many operations on files of secrets are done:
/// only so can a test end a command between any two of them. Not in what is released.
#[cfg(debug_assertions)]
pub fn dies_after(operations: Option<u32>) {
    DIES_AFTER.store(operations.unwrap_or(0), std::sync::atomic::Ordering::Relaxed);
}

/// An operation on a file was done.
pub(super) fn done() {
    #[cfg(debug_assertions)]
    if DIES_AFTER.load(std::sync::atomic::Ordering::Relaxed) > 0
        && DIES_AFTER.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1
    {
        // It cannot fail, and there would be nobody to tell.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

fn sync_directory(file: &Path) -> std::io::Result<()> {
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The right to change the secrets of a site; ends when dropped, or with the process.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock lives as long as the handle")] File);

impl Lock {
    /// Waits for the lock of an existing directory and removes what killed commands left there.
    pub(super) fn acquire(directory: &Path, shown: &Path) -> Result<Self, Diagnostic> {
        Self::acquire_until(directory, shown, Instant::now() + LOCK_DEADLINE)
    }

    fn acquire_until(
        directory: &Path,
        shown: &Path,
        deadline: Instant,
    ) -> Result<Self, Diagnostic> {
        let handle = loop {
            let handle = File::open(directory).map_err(|error| access("open", shown, error))?;
            match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
                // While this waited, `rekey` may have put another directory under the name.
                Ok(()) if names(directory, &handle) => break handle,
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Diagnostic::error(
                        codes::LOCKED,
                        format!("another command is changing the secrets in {}", shown.display()),
                    )
                    .hint("wait until it has ended, then run this one again"));
                }
                Err(error) => return Err(access("lock", shown, error.into())),
            }
        };
        super::exchange::clean(directory).map_err(|error| access("clean", shown, error))?;
        let entries = std::fs::read_dir(directory).map_err(|error| access("list", shown, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| access("list", shown, error))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.contains(TEMPORARY) {
                std::fs::remove_file(entry.path())
                    .map_err(|error| access("clean", shown, error))?;
            }
        }
        Ok(Self(handle))
    }
}

/// True when the path leads to this open directory.
fn names(path: &Path, handle: &File) -> bool {
    let same =
        |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    handle.metadata().ok().zip(std::fs::metadata(path).ok()).is_some_and(|(a, b)| same(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_owners() {
        assert_eq!(exposure(0o100_600, 0, 0, 0o600), None);
        assert_eq!(exposure(0o100_400, 7, 7, 0o600), None);
        for (mode, owner) in [(0o640, 0), (0o604, 0), (0o600, 7), (0o4600, 0), (0o700, 0)] {
            assert!(exposure(mode, owner, 0, 0o600).is_some(), "{mode:o} {owner}");
        }
    }

    #[test]
    fn a_second_holder_waits_in_vain_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::acquire(directory.path(), Path::new("credentials")).unwrap();
        let soon = Instant::now() + Duration::from_millis(60);
        let refused = Lock::acquire_until(directory.path(), Path::new("credentials"), soon);
        assert_eq!(refused.unwrap_err().code, codes::LOCKED);
        drop(held);
        assert!(Lock::acquire(directory.path(), Path::new("credentials")).is_ok());
    }

    #[test]
    fn a_replacement_that_is_not_committed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x");
        drop(Replacement::write(&target, Path::new("x"), b"new", 0o600).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let replacement = Replacement::write(&target, Path::new("x"), b"new", 0o600).unwrap();
        replacement.commit_new(Path::new("x")).unwrap();
        let second = Replacement::write(&target, Path::new("x"), b"other", 0o600).unwrap();
        assert!(second.commit_new(Path::new("x")).is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
