//! One run at a time per site. The lock is an flock: it dies with its holder.

use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A held site lock.
#[derive(Debug)]
pub struct SiteLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it; the text says which.
    #[error("the site is locked by {0}")]
    Held(String),
    /// The lock file cannot be used.
    #[error("cannot lock the site: {0}")]
    Io(#[from] io::Error),
}

impl SiteLock {
    /// Takes the lock and writes `purpose` into it for others to read.
    ///
    /// # Errors
    /// [`LockError::Held`] when another run holds it.
    pub fn take(state: &Path, purpose: &str) -> Result<Self, LockError> {
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(state.join("lock"))?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io::Error::from(error).into());
            }
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            return Err(LockError::Held(holder.trim().to_owned()));
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{purpose} (process {})", std::process::id())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_learns_who_holds_the_site() {
        let folder = tempfile::tempdir().unwrap();
        let held = SiteLock::take(folder.path(), "install --layer base").unwrap();
        let error = SiteLock::take(folder.path(), "verify").unwrap_err();
        assert!(error.to_string().contains("install --layer base (process "), "{error}");
        drop(held);
        SiteLock::take(folder.path(), "verify").unwrap();
    }
}
