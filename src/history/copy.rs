//! A copy of the index that is whole, also while others write to it: a database in use is not
//! copied as a file.

use super::StateDir;
use super::index::other;
use rusqlite::Connection;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The name of the copy, beside the index.
const COPY: &str = "index.sqlite-copy";

/// A copy of the index, which goes when this is dropped.
#[derive(Debug)]
pub struct IndexCopy(PathBuf);

impl IndexCopy {
    /// Copies the index of a site; `None` where there is none yet. Under the site's lock only.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn of(state: &StateDir) -> io::Result<Option<Self>> {
        let (from, to) = (state.path().join("index.sqlite"), state.path().join(COPY));
        if !from.is_file() {
            return Ok(None);
        }
        // One that a killed command left; the site's lock says that nobody works with it.
        if let Err(error) = std::fs::remove_file(&to)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let copy = Self(to);
        let database = Connection::open(&from).map_err(other)?;
        let name = copy.0.to_string_lossy();
        database.execute("VACUUM INTO ?1", [name.as_ref()]).map_err(other)?;
        std::fs::set_permissions(&copy.0, std::fs::Permissions::from_mode(0o600))?;
        Ok(Some(copy))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for IndexCopy {
    fn drop(&mut self) {
        // The next copy removes it otherwise.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Index;
    use super::*;

    #[test]
    fn a_copy_is_an_index_and_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        assert!(IndexCopy::of(&state).unwrap().is_none());
        let index = Index::open(&state).unwrap();
        std::fs::write(state.path().join(COPY), "left by a killed command").unwrap();
        let copy = IndexCopy::of(&state).unwrap().unwrap();
        let tables: i64 = Connection::open(copy.path())
            .unwrap()
            .query_row("SELECT count(*) FROM runs", [], |row| row.get(0))
            .unwrap();
        assert_eq!((tables, index.runs(9).unwrap().len()), (0, 0));
        assert_eq!(copy.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(copy);
        assert!(!state.path().join(COPY).exists());
    }
}
