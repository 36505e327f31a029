//! Large files of the site, known by their digests: `artifacts/`.

use crate::resource::sha256;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The directory, below the site's root.
const FOLDER: &str = "artifacts";

/// The files below `artifacts/`.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: PathBuf,
    /// Whether their digests are looked at: that reads all of them.
    thorough: bool,
    known: Arc<Mutex<BTreeMap<String, Result<String, String>>>>,
}

impl Artifacts {
    /// Those of the site in `root`.
    pub(super) fn below(root: &Path) -> Self {
        Self { folder: root.join(FOLDER), thorough: false, known: Arc::default() }
    }

    /// Their directory; it may be missing.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on digests are looked at too. Otherwise they are when a file is brought to a host.
    pub fn look_at_digests(&mut self) {
        self.thorough = true;
    }

    /// Whether a file is there and has this digest, as far as that is looked at; else the digest that
    /// it has.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn other_digest(&self, name: &str, wanted: &str) -> Result<Option<String>, String> {
        let path = self.folder.join(name);
        if !self.thorough {
            let file = File::open(&path).and_then(|file| file.metadata());
            return match file.map_err(|error| error.to_string())?.is_file() {
                true => Ok(None),
                false => Err("it is no regular file".to_owned()),
            };
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = known.entry(name.to_owned()).or_insert_with(|| {
            let digest = File::open(path).and_then(|file| sha256(file, |_| Ok(())));
            digest.map_err(|error| error.to_string())
        });
        digest.clone().map(|digest| (digest != wanted).then_some(digest))
    }

    /// The files that are there, by their paths below the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        let (mut names, mut folders) = (Vec::new(), vec![self.folder.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(below) = path.strip_prefix(&self.folder) {
                    names.push(below.to_string_lossy().into_owned());
                }
            }
        }
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::Artifacts;

    #[test]
    fn a_file_is_known_by_its_name_and_digest() {
        let folder = tempfile::tempdir().unwrap();
        let none = Artifacts::below(folder.path());
        assert_eq!(none.names(), Vec::<String>::new());
        std::fs::create_dir_all(folder.path().join("artifacts/v1")).unwrap();
        std::fs::write(folder.path().join("artifacts/v1/k3s"), "").unwrap();
        let mut some = Artifacts::below(folder.path());
        assert_eq!(some.names(), ["v1/k3s"]);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(some.other_digest("v1/k3s", "another"), Ok(None), "not looked at");
        some.look_at_digests();
        assert_eq!(some.other_digest("v1/k3s", empty), Ok(None));
        assert_eq!(some.other_digest("v1/k3s", "another"), Ok(Some(empty.to_owned())));
        for missing in ["k3s", "v1"] {
            assert!(some.other_digest(missing, empty).is_err(), "{missing}");
        }
    }
}
