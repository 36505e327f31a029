//! Which file was found to have a digest a moment ago, so that the programs of a run on a host need
//! not each hash a large file again. Whoever hashed it leaves a note among the received files: a link
//! with the digest in its name, whose target tells the file's content from any other. Without a note
//! a file is hashed; nothing fails for the want of one.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long a note counts: from the look before a layer's first change to the step itself.
const COUNTS: Duration = Duration::from_secs(900);

/// A file that was changed less than this before it was looked at may be changed once more without
/// another time: file systems count in ticks, of some milliseconds to two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// What tells a file and its content from any other. Its times are those of the last write and of the
/// last change of whatever kind, which nobody can set: a new name, owner or mode makes another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of an open file.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            written: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// True where every change from `now` on gives another stamp.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let seconds = u64::try_from(self.changed.0.saturating_add(1)).map(Duration::from_secs);
        let changed = seconds.ok().and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        let age = changed.and_then(|changed| now.duration_since(changed).ok());
        age.is_some_and(|age| age > SETTLED)
    }

    /// Bytes of the file.
    pub const fn size(&self) -> u64 {
        self.size
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode, size, written, changed } = self;
        write!(f, "{device} {inode} {size} {}.{} {}.{}", written.0, written.1, changed.0, changed.1)
    }
}

/// The name of the note about a digest.
pub fn note(digest: &str) -> String {
    format!("{digest}.hashed")
}

/// True for a note of this age. One that some run of long ago left says nothing.
pub fn counts(age: Duration) -> bool {
    age < COUNTS
}

/// Leaves the note that a file with this stamp has this digest.
pub fn leave(folder: &Path, digest: &str, stamp: Stamp) {
    withdraw(folder, digest);
    symlink(stamp.to_string(), folder.join(note(digest))).ok();
}

/// Takes the note about a digest away.
pub fn withdraw(folder: &Path, digest: &str) {
    fs::remove_file(folder.join(note(digest))).ok();
}
