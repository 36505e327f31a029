//! Files that all connections of a run look into: read once, and again when they changed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What was read of files, kept for as long as they are the same.
pub(super) struct ReadOnce<T>(Arc<Mutex<BTreeMap<PathBuf, Kept<T>>>>);

/// What was read, and of which content.
struct Kept<T> {
    of: Stamp,
    read: Arc<T>,
}

/// What tells one content of a file from another: its number, its size, and when it was changed.
type Stamp = (u64, u64, i64, i64);

impl<T> ReadOnce<T> {
    /// What `load` makes of the file; `None` where no file is.
    ///
    /// # Errors
    /// Why it cannot be read. It may go right for the next connection, so that is not kept.
    pub(super) fn read(
        &self,
        path: &Path,
        load: impl FnOnce(&Metadata) -> Result<T, String>,
    ) -> Result<Option<Arc<T>>, String> {
        // Taken before reading: a change in between makes the next connection read again.
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let of = (meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.get(path).filter(|kept| kept.of == of) {
            return Ok(Some(Arc::clone(&kept.read)));
        }
        let read = Arc::new(load(&meta)?);
        kept.insert(path.to_owned(), Kept { of, read: Arc::clone(&read) });
        Ok(Some(read))
    }
}

impl<T> Clone for ReadOnce<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for ReadOnce<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Shows nothing of it: it may be a private key.
impl<T> fmt::Debug for ReadOnce<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("ReadOnce")
    }
}
