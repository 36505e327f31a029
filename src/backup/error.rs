//! What can go wrong with a backup, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The archive's name is taken.
    #[error("{} exists already; nothing was written", .0.display())]
    Exists(PathBuf),
    /// The archive would stand in what it holds.
    #[error("{} is inside of the site that it would hold", .0.display())]
    Inside(PathBuf),
    /// A file changed while it was read.
    #[error("{} changed while it was read; no backup was written", .0.display())]
    Changed(PathBuf),
    /// A name that cannot be kept.
    #[error("the name of {} is not UTF-8 text", .0.display())]
    Name(PathBuf),
    /// The archive is not as it was written.
    #[error("the archive is damaged: {0}; nothing was restored")]
    Damaged(String),
    /// The archive is of another format.
    #[error("the archive has format {0}, this strata reads format {read}; nothing was restored", read = super::FORMAT)]
    Format(u32),
    /// The archive holds what no backup of strata holds.
    #[error("the archive is not one that strata writes: {0}; nothing was restored")]
    Foreign(String),
    /// Something stands in the way that is not replaced.
    #[error("{} is in the way: {why}", path.display())]
    InTheWay {
        /// What.
        path: PathBuf,
        /// Why it is not replaced.
        why: String,
    },
}

impl BackupError {
    /// An error of the system; for `map_err`.
    pub fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { what, path: path.clone(), source }
    }

    /// What to do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room and run the same command again"
            }
            Self::Io { .. } => return None,
            Self::Exists(_) => "give another name: no backup is ever overwritten",
            Self::Inside(_) => "write it elsewhere, and bring it off this host",
            Self::Changed(_) => "run the same command again, when nobody works in the site",
            Self::Name(_) => "rename it, or move it out of the site",
            Self::Damaged(_) => "bring another copy of it",
            Self::Format(_) => "use the version of strata that wrote it, or a newer one",
            Self::Foreign(_) => "find out who made it before anything of it is used",
            Self::InTheWay { .. } => "look at it, and move it away by hand",
        })
    }
}
