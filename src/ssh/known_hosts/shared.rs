//! The pinned keys that all connections of a run look into.

use super::KnownHosts;
use crate::ssh::read_once::ReadOnce;
use std::path::Path;
use std::sync::Arc;

/// Keeps what was read of a known_hosts file for as long as the file is the same. A run with a
/// thousand hosts reads its thousand lines once, and a key that is pinned meanwhile counts at once.
#[derive(Debug, Clone, Default)]
pub struct PinnedKeys(ReadOnce<KnownHosts>);

impl PinnedKeys {
    /// What the file says now; one that does not exist has no keys.
    ///
    /// # Errors
    /// As [`KnownHosts::read`].
    pub fn read(&self, path: &Path) -> Result<Arc<KnownHosts>, String> {
        self.0.read(path, |_| KnownHosts::read(path)).map(Option::unwrap_or_default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK7tNdPk+b8f/0qSpFi5Ig3/BCRi9OOsHvJ+bDLOYkAv";

    #[test]
    fn the_file_is_read_once_and_again_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        let keys = PinnedKeys::default();
        let names = ["db-01".to_owned()];
        let pinned = |known: &KnownHosts| known.pinned(&names).unwrap().len();
        assert_eq!(pinned(&keys.read(&path).unwrap()), 0);
        fs::write(&path, format!("db-01 {KEY}\n")).unwrap();
        let first = keys.read(&path).unwrap();
        assert_eq!(pinned(&first), 1);
        assert!(Arc::ptr_eq(&first, &keys.read(&path).unwrap()));
        fs::write(&path, "# nothing is pinned any more\n").unwrap();
        assert_eq!(pinned(&keys.read(&path).unwrap()), 0);
    }
}
