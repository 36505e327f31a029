//! What tells one content of a file from another.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// A file's number, its size, and when it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(u64, u64, i64, i64);

impl Stamp {
    /// Taken before the file is read: a change in between makes the next one read again.
    pub(super) fn of(meta: &Metadata) -> Self {
        Self(meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec())
    }
}
