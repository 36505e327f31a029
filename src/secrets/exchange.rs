//! Replacing the whole directory of secrets in one step.
//!
//! The new directory is made beside the old one: what stays is linked, what changes is written and
//! synced. Then the two exchange their names, which the kernel does at once. Whoever looks sees all
//! of the old directory or all of the new one, whenever the command ends; what is left under the
//! temporary name is removed by the next command that takes the lock.

use super::files::{TEMPORARY, access, done};
use crate::diag::Diagnostic;
use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, RenameFlags, Uid};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// A new directory that does not have its name yet. Dropped without [`Staged::exchange`], it
/// disappears.
#[derive(Debug)]
pub(super) struct Staged {
    /// The directory that is replaced, without links in its path.
    old: PathBuf,
    /// The temporary name.
    new: PathBuf,
    /// Its path for messages.
    shown: PathBuf,
    /// Locks the new directory, so that nobody changes it as soon as it has its name.
    lock: File,
}

impl Staged {
    /// Makes the new directory, with everything of the old one that `stays`.
    pub(super) fn new(
        directory: &Path,
        shown: &Path,
        stays: impl Fn(&str) -> bool,
    ) -> Result<Self, Diagnostic> {
        let failed = |error: std::io::Error| access("prepare the replacement of", shown, error);
        let old = directory.canonicalize().map_err(failed)?;
        let chance = getrandom::u64().map_err(|e| failed(std::io::Error::other(e.to_string())))?;
        let mut name = prefix(&old);
        name.push_str(&format!("{chance:016x}"));
        let new = old.with_file_name(name);
        std::fs::DirBuilder::new().mode(0o700).create(&new).map_err(failed)?;
        done();
        let lock = match File::open(&new) {
            Ok(lock) => lock,
            Err(error) => {
                // Nothing is in it yet; if it stays, the next command removes it.
                let _ = std::fs::remove_dir(&new);
                return Err(failed(error));
            }
        };
        let staged = Self { old, new, shown: shown.to_owned(), lock };
        rustix::fs::flock(&staged.lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(error.into()))?;
        link(&staged.old, &staged.new, &stays).map_err(failed)?;
        let facts = std::fs::metadata(&staged.old).map_err(failed)?;
        let (owner, group) = (Uid::from_raw(facts.uid()), Gid::from_raw(facts.gid()));
        rustix::fs::fchown(&staged.lock, Some(owner), Some(group))
            .and_then(|()| rustix::fs::fchmod(&staged.lock, Mode::from_raw_mode(facts.mode())))
            .map_err(|error| failed(error.into()))?;
        done();
        Ok(staged)
    }

    /// Writes and syncs a file into the new directory, then reads it back.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Diagnostic> {
        let failed = |error: std::io::Error| access("write", &self.shown.join(name), error);
        let path = self.new.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644))
            .map_err(|error| failed(error.into()))?;
        done();
        let mut file = File::from(handle);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))
            .map_err(|error| failed(error.into()))?;
        file.write_all(bytes).map_err(failed)?;
        done();
        file.sync_all().map_err(failed)?;
        done();
        match std::fs::read(&path).map_err(failed)? == bytes {
            true => Ok(()),
            false => Err(failed(std::io::Error::other("read back differently"))),
        }
    }

    /// Gives the new directory its name, and removes the old one.
    pub(super) fn exchange(self) -> Result<(), Diagnostic> {
        let failed = |error: std::io::Error| access("replace", &self.shown, error);
        self.lock.sync_all().map_err(failed)?;
        done();
        rustix::fs::renameat_with(CWD, &self.new, CWD, &self.old, RenameFlags::EXCHANGE).map_err(
            |error| {
                failed(error.into()).hint(
                    "nothing was changed. The directory is replaced as a whole, in one step of \
                     the file system: it must be no mount of its own, and lie on a file system that \
                     can exchange two names (ext4, xfs, btrfs and tmpfs can)",
                )
            },
        )?;
        done();
        if let Some(parent) = self.old.parent() {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
        done();
        remove(&self.new).map_err(|error| {
            access("remove the old files of", &self.shown, error)
                .hint("the new files hold; the next command that changes secrets tries again")
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Nothing can be done about failures here, and the next command tries again.
        let _ = remove(&self.new);
    }
}

/// Removes what commands that were killed left beside the directory. Only for whoever holds the
/// directory's lock.
pub(super) fn clean(directory: &Path) -> std::io::Result<()> {
    let real = directory.canonicalize()?;
    let prefix = prefix(&real);
    let Some(parent) = real.parent() else { return Ok(()) };
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn prefix(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}{TEMPORARY}")
}

/// Links everything that stays; folders are made anew, with their modes.
fn link(from: &Path, to: &Path, stays: &dyn Fn(&str) -> bool) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !stays(&name.to_string_lossy()) {
            continue;
        }
        let target = to.join(&name);
        let facts = entry.metadata()?;
        if facts.is_dir() {
            std::fs::DirBuilder::new().mode(0o700).create(&target)?;
            done();
            link(&entry.path(), &target, &|_| true)?;
            let (owner, group) = (Uid::from_raw(facts.uid()), Gid::from_raw(facts.gid()));
            rustix::fs::chown(&target, Some(owner), Some(group))?;
            rustix::fs::chmod(&target, Mode::from_raw_mode(facts.mode()))?;
            File::open(&target)?.sync_all()?;
        } else {
            rustix::fs::linkat(CWD, entry.path(), CWD, &target, AtFlags::empty())?;
        }
        done();
    }
    Ok(())
}

/// Removes a directory file by file; what is gone already is no error.
fn remove(directory: &Path) -> std::io::Result<()> {
    let gone = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return gone(error),
    };
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => remove(&entry.path())?,
            false => std::fs::remove_file(entry.path()).or_else(gone)?,
        }
        done();
    }
    std::fs::remove_dir(directory).or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_directory_is_replaced_whole_and_what_stays_is_the_same_file() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("credentials");
        std::fs::create_dir_all(directory.join("notes/deep")).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o750)).unwrap();
        for (name, text) in [("a.env.age", "old"), ("b.env", "plain"), ("notes/deep/x", "note")] {
            std::fs::write(directory.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("b.env", directory.join("link")).unwrap();
        let inode = |name: &str| std::fs::metadata(directory.join(name)).unwrap().ino();
        let (plain, note) = (inode("b.env"), inode("notes/deep/x"));
        let shown = Path::new("credentials");
        let staged = Staged::new(&directory, shown, |name| !name.ends_with(".age")).unwrap();
        staged.put("a.env.age", b"new").unwrap();
        assert_eq!(std::fs::read(directory.join("a.env.age")).unwrap(), b"old");
        staged.exchange().unwrap();
        assert_eq!(std::fs::read(directory.join("a.env.age")).unwrap(), b"new");
        assert_eq!((inode("b.env"), inode("notes/deep/x")), (plain, note));
        assert!(std::fs::symlink_metadata(directory.join("link")).unwrap().is_symlink());
        assert_eq!(std::fs::metadata(&directory).unwrap().mode() & 0o777, 0o750);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        // Given up before: nothing is left, and nothing was changed.
        drop(Staged::new(&directory, shown, |_| true).unwrap());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        // Killed before or after: whoever takes the lock next removes what is left.
        std::fs::create_dir_all(root.path().join(".credentials.strata-tmp-01/deep")).unwrap();
        std::fs::create_dir_all(root.path().join(".other.strata-tmp-01")).unwrap();
        clean(&directory).unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2);
    }
}
