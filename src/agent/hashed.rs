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
/// another time: file systems count in ticks, of two seconds at most.
const COARSE: Duration = Duration::from_secs(3);

/// The same where the file system tells parts of a second: its tick is that of the kernel's clock or of
/// its own, ten milliseconds at most, and the clock is this host's or one that agrees with it.
const FINE: Duration = Duration::from_millis(200);

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
        let (Ok(seconds), Ok(parts)) =
            (u64::try_from(self.changed.0), u32::try_from(self.changed.1))
        else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, parts));
        let age = changed.and_then(|changed| now.duration_since(changed).ok());
        age.is_some_and(|age| age > if parts == 0 { COARSE } else { FINE })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_settled_once_its_file_system_would_count_on() {
        let changed = |seconds, parts| Stamp {
            device: 1,
            inode: 2,
            size: 3,
            written: (0, 0),
            changed: (seconds, parts),
        };
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        for (stamp, settled_from) in [
            (changed(100, 0), 103_001),
            (changed(100, 4_000_000), 100_205),
            (changed(100, 999_000_000), 101_200),
        ] {
            for (now, settled) in [(90_000, false), (settled_from - 1, false), (settled_from, true)]
            {
                assert_eq!(stamp.is_settled(at(now)), settled, "{stamp} at {now}");
            }
        }
        // What no file system says.
        assert!(!changed(-1, 0).is_settled(at(1_000_000)));
        assert!(!changed(100, -1).is_settled(at(1_000_000)));
    }
}
