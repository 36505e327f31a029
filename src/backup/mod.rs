//! Backups of what a rebuilt operator host needs: a tar archive, compressed with zstd and sealed
//! with age, that is written whole or not at all and restored only when all of it is as it was
//! written.
//!
//! Without strata: `age -d -i KEY FILE | zstd -d | tar -x`. Entries stand below `site/` and
//! `home/`; the first one says which format it is, the last one names every entry with its mode,
//! owner and SHA-256.

mod error;
mod gather;
mod manifest;
mod read;
mod restore;
#[cfg(test)]
mod tests;
mod tree;
mod write;

pub use error::BackupError;
pub use gather::{Gathering, Item, LeftOut, gather};
pub use manifest::{Entry, FORMAT, Head, Kind};
pub use read::{Problem, Verified};
pub use restore::{Comparison, Places, Restored};
pub use write::{Written, write};

/// What a backup's result is.
pub type Result<T> = std::result::Result<T, BackupError>;
