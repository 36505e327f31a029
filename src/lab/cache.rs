//! What labs keep between rehearsals, and throwing it away.

use super::error::{At as _, LabError, Result};
use super::paths::{CACHE, STATE};
use super::spec::digest;
use super::state::{Lock, remove_tree};
use std::fs;
use std::path::{Path, PathBuf};

/// A directory that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) directory: PathBuf,
    /// What it is made of, as a digest.
    pub(super) key: String,
    /// Whether this call made it.
    pub(super) built: bool,
}

/// The kept directory of a kind, found by what it is made of, else made: under another name first,
/// so that one that is cut off is never taken for whole.
pub(super) fn ensure(
    kind: &str,
    made_of: &[&str],
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<Kept> {
    let key = digest(made_of.iter().copied())[..16].to_owned();
    let directory = Path::new(CACHE).join(format!("{kind}-{key}"));
    if directory.is_dir() {
        return Ok(Kept { directory, key, built: false });
    }
    fs::create_dir_all(CACHE).at("cannot create", CACHE)?;
    let _lock = Lock::wait(&Path::new(CACHE).join(format!("{kind}.lock")))?;
    if directory.is_dir() {
        return Ok(Kept { directory, key, built: false });
    }
    let building = directory.with_extension("building");
    remove_tree(&building)?;
    make(&building)?;
    fs::rename(&building, &directory).at("cannot rename", &building)?;
    Ok(Kept { directory, key, built: true })
}

/// The names of packages, each once and in order.
pub(super) fn names(packages: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = packages.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

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
