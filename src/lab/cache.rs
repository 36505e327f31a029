//! What labs keep between rehearsals, and throwing it away.

use super::error::{LabError, Result};
use super::paths::{CACHE, STATE};
use std::path::{Path, PathBuf};

/// The directory that all labs share.
pub fn cache() -> &'static Path {
    Path::new(CACHE)
}

/// Labs that exist on this machine, up or not.
///
/// # Errors
/// When their directory cannot be read.
pub fn existing() -> Result<Vec<String>> {
    let failed = |source| LabError::Io { what: "cannot read", path: PathBuf::from(STATE), source };
    let entries = match std::fs::read_dir(STATE) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut labs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.path().join("lab.json").exists() {
            labs.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    labs.sort();
    Ok(labs)
}

/// Removes the cache; the next rehearsal makes it again. The caller has seen that no lab exists:
/// hosts stand on it.
///
/// # Errors
/// When a part cannot be removed.
pub fn clear() -> Result<()> {
    match std::fs::remove_dir_all(CACHE) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::Io { what: "cannot remove", path: PathBuf::from(CACHE), source: error })
        }
        _ => Ok(()),
    }
}
