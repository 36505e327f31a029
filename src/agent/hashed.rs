//! Which file was found to have a digest a moment ago, so that the programs of a run on a host need
//! not each hash a large file again. Whoever hashed it leaves a note among the received files: a link
//! with the digest in its name, whose target tells the file's content from any other.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long a note counts: from the look before a layer's first change to the step itself.
const COUNTS: Duration = Duration::from_secs(900);

/// A file that was written later than this before it was hashed may be written again without another
/// time: file systems count in ticks of some milliseconds.
const SETTLED: Duration = Duration::from_secs(1);

/// What tells one content of a file from another. A new name, owner or mode changes none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// The stamp of an open file.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (device, inode, size) = (metadata.dev(), metadata.ino(), metadata.size());
        Ok(Self { device, inode, size, modified: metadata.modified().ok() })
    }

    /// True when nobody could have written to the file after `now` without changing its stamp.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let age = self.modified.and_then(|at| now.duration_since(at).ok());
        age.is_some_and(|age| age > SETTLED)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let nanoseconds = since.unwrap_or_default().as_nanos();
        write!(f, "{} {} {} {nanoseconds}", self.device, self.inode, self.size)
    }
}

/// The name of the note about a digest.
pub fn note(digest: &str) -> String {
    format!("{digest}.hashed")
}

/// True for a note of this age: one of an earlier run says nothing.
pub fn counts(age: Duration) -> bool {
    age < COUNTS
}

/// Leaves the note that a file with this stamp has this digest. Without one it is hashed again.
pub fn leave(folder: &Path, digest: &str, stamp: Stamp) {
    let path = folder.join(note(digest));
    fs::remove_file(&path).ok();
    symlink(stamp.to_string(), &path).ok();
}

/// Takes the note about a digest away.
pub fn withdraw(folder: &Path, digest: &str) {
    fs::remove_file(folder.join(note(digest))).ok();
}
