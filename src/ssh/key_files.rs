//! The private keys that all connections of a run sign with.

use super::read_once::ReadOnce;
use russh::keys::PrivateKey;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// Keeps what was read of private key files for as long as the files are the same.
#[derive(Debug, Clone, Default)]
pub struct KeyFiles(ReadOnce<PrivateKey>);

impl KeyFiles {
    /// The key of a file; `None` where no file is.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn read(&self, path: &Path) -> Result<Option<Arc<PrivateKey>>, String> {
        self.0.read(path, |meta| load(path, meta.permissions().mode()))
    }
}

fn load(path: &Path, mode: u32) -> Result<PrivateKey, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    if mode & 0o077 != 0 {
        return Err(format!("mode {:04o} lets others read it", mode & 0o7777));
    }
    // The OpenSSH form is read without decrypting, so that its public half is known; older forms
    // are left to the library.
    match PrivateKey::from_openssh(&text) {
        Ok(key) => Ok(key),
        Err(_) => match russh::keys::decode_secret_key(&text, None) {
            Ok(key) => Ok(key),
            Err(russh::keys::Error::KeyIsEncrypted) => Err("encrypted".into()),
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_and_again_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        let files = KeyFiles::default();
        assert!(files.read(&path).unwrap().is_none());
        let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
        let key = PrivateKey::from(pair);
        fs::write(&path, key.to_openssh(Default::default()).unwrap().as_bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let first = files.read(&path).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &files.read(&path).unwrap().unwrap()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(files.read(&path).unwrap_err(), "mode 0644 lets others read it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(*files.read(&path).unwrap().unwrap(), key);
    }
}
