//! Handlers that were notified and have not run yet, as files: `<state>/pending/<role>/<handler>`.
//!
//! Invariant: a record is on the disk (file and directory synced) *before* the change that
//! notifies it is made, and it goes only after the handler succeeded. A crash at any moment can
//! therefore cost a needless run of a handler, never a lost one.

use super::paths::make_private_directory;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The records of one host.
#[derive(Debug, Clone)]
pub struct PendingHandlers {
    directory: PathBuf,
}

impl PendingHandlers {
    /// Records kept in `directory`, which need not exist yet.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Whether the handler waits to run.
    pub fn contains(&self, role: &str, handler: &str) -> bool {
        self.path(role, handler).exists()
    }

    /// Records that the handler must run; true when the record is new.
    ///
    /// # Errors
    /// When the record cannot be made durable.
    pub fn record(&self, role: &str, handler: &str) -> io::Result<bool> {
        let path = self.path(role, handler);
        if path.exists() {
            return Ok(false);
        }
        let role_directory = self.directory.join(encode(role));
        make_private_directory(&role_directory)?;
        File::create(&path)?.sync_all()?;
        for directory in
            [role_directory.as_path(), &self.directory].into_iter().chain(self.directory.parent())
        {
            sync_directory(directory)?;
        }
        Ok(true)
    }

    /// Forgets the handler after it ran.
    ///
    /// # Errors
    /// When the record is there and cannot be removed.
    pub fn remove(&self, role: &str, handler: &str) -> io::Result<()> {
        let path = self.path(role, handler);
        match fs::remove_file(&path) {
            Ok(()) => sync_directory(&self.directory.join(encode(role))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Forgets the handlers of a role that it does not have any more, for example after they were
    /// renamed: nothing could ever run them. Returns their names, sorted.
    ///
    /// # Errors
    /// When a record cannot be removed.
    pub fn forget_unknown(
        &self,
        role: &str,
        known: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        let mut forgotten = names(&self.directory.join(encode(role)));
        forgotten.retain(|handler| !known(handler));
        forgotten.sort();
        for handler in &forgotten {
            self.remove(role, handler)?;
        }
        Ok(forgotten)
    }

    /// All records as `role/handler`, sorted.
    pub fn list(&self) -> Vec<String> {
        let mut found: Vec<String> = names(&self.directory)
            .into_iter()
            .flat_map(|role| {
                let handlers = names(&self.directory.join(encode(&role)));
                handlers.into_iter().map(move |handler| format!("{role}/{handler}"))
            })
            .collect();
        found.sort();
        found
    }

    fn path(&self, role: &str, handler: &str) -> PathBuf {
        self.directory.join(encode(role)).join(encode(handler))
    }
}

/// The names that the files of a directory stand for; none where there is no directory.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| decode(entry.file_name().to_str()?)).collect()
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A name as a file name: letters, digits, `-` and `_` stay, every other byte becomes `%XX`.
/// Injective, and never `.`, `..` or empty (`%` alone stands for the empty name).
pub(super) fn encode(name: &str) -> String {
    if name.is_empty() {
        return "%".into();
    }
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn decode(name: &str) -> Option<String> {
    if name == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_name_makes_the_way_there_and_back(name in ".{0,40}") {
            let encoded = encode(&name);
            prop_assert!(!encoded.is_empty() && !encoded.contains(['/', '.', '\0']));
            prop_assert_eq!(decode(&encoded), Some(name));
        }
    }

    #[test]
    fn records_stay_until_removed() {
        let directory = tempfile::tempdir().unwrap();
        let pending = PendingHandlers::in_directory(directory.path().join("pending"));
        assert_eq!(pending.list(), Vec::<String>::new());
        assert!(pending.record("base", "restart chrony").unwrap());
        assert!(!pending.record("base", "restart chrony").unwrap());
        assert!(pending.record("base", "../../etc").unwrap());
        assert_eq!(pending.list(), ["base/../../etc", "base/restart chrony"]);
        assert!(pending.contains("base", "restart chrony"));
        assert!(!pending.contains("redis", "restart chrony"));
        pending.remove("base", "restart chrony").unwrap();
        pending.remove("base", "restart chrony").unwrap();
        assert_eq!(pending.list(), ["base/../../etc"]);
    }

    #[test]
    fn what_no_role_has_any_more_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let pending = PendingHandlers::in_directory(directory.path().join("pending"));
        let forget = |role: &str| pending.forget_unknown(role, |name| name == "new").unwrap();
        assert_eq!(forget("base"), Vec::<String>::new());
        for (role, handler) in [("base", "new"), ("base", "old"), ("redis", "old")] {
            pending.record(role, handler).unwrap();
        }
        assert_eq!(forget("base"), ["old"]);
        assert_eq!(pending.list(), ["base/new", "redis/old"]);
    }
}
