//! Last-good copies of replaced files, and the way back to them.

use super::LocalSystem;
use crate::resource::{Failure, FileWrite, Metadata, PathKind, System};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where copies live: one directory per file, one copy per time of replacement.
pub const BACKUP_DIRECTORY: &str = "/var/lib/strata/backup";

/// How many copies of a file are kept.
pub const COPIES_KEPT: usize = 5;

const LONGEST_NAME: usize = 200;

/// A path as one file name: `/` becomes `-`, and everything but letters, digits, `_`, `.` and `:`
/// becomes `\xNN`. Different paths have different names. A name that would be too long ends in a
/// digest instead.
pub fn escape_path(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    for byte in path.trim_start_matches('/').bytes() {
        match byte {
            b'/' => name.push('-'),
            // A name must not begin with a dot: `.` and `..` mean something else.
            b'.' if name.is_empty() => name.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b':' => name.push(byte.into()),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    if name.len() > LONGEST_NAME {
        let digest = Sha256::digest(path.as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        name.truncate(LONGEST_NAME - digest.len() - 1);
        // `+` stands in no other name.
        name = format!("{name}+{digest}");
    }
    name
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl LocalSystem {
    /// Copies a file into the backup directory with its owner and mode, and drops copies beyond
    /// [`COPIES_KEPT`].
    pub(super) fn store_copy(
        &mut self,
        path: &str,
        found: &Metadata,
        limit: u64,
    ) -> Result<(), Failure> {
        let Some(content) = self.root.read(path, limit)? else {
            return Ok(());
        };
        self.root.make_all(BACKUP_DIRECTORY, 0o700)?;
        let directory = format!("{BACKUP_DIRECTORY}/{}", escape_path(path));
        self.root.make_all(&directory, 0o700)?;
        let mut times = self.copies(&directory)?;
        // Two replacements within a millisecond still get their own copies, in order.
        let time = times.last().map_or(now_ms(), |last| now_ms().max(last + 1));
        self.write_file(&FileWrite {
            path: &format!("{directory}/{time}"),
            content: &content,
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
            validate: None,
            keep: false,
        })?;
        times.push(time);
        let surplus = times.len().saturating_sub(COPIES_KEPT);
        for old in &times[..surplus] {
            self.root.remove(&format!("{directory}/{old}"), false)?;
        }
        Ok(())
    }

    fn copies(&self, directory: &str) -> Result<Vec<u64>, Failure> {
        let names = self.root.list(directory)?.unwrap_or_default();
        let mut times: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        times.sort_unstable();
        Ok(times)
    }
}

/// Restores the newest last-good copy of `path` that differs from the current file; the current
/// one is kept as a copy too. Returns what was done, in words.
///
/// # Errors
/// When there is no such copy or the file cannot be written.
pub fn undo(root: &Path, path: &str) -> Result<String, Failure> {
    let mut system = LocalSystem::new(root, Box::new(|_| false))?;
    let directory = format!("{BACKUP_DIRECTORY}/{}", escape_path(path));
    let current = system.root.metadata(path)?;
    if current.is_some_and(|found| found.kind != PathKind::File) {
        return Err(Failure::new(format!("{path} is not a regular file")));
    }
    let limit = current.map_or(0, |found| found.size);
    let content = system.root.read(path, limit)?;
    for time in system.copies(&directory)?.into_iter().rev() {
        let copy = format!("{directory}/{time}");
        let Some(saved) = system.root.metadata(&copy)? else {
            continue;
        };
        let Some(bytes) = system.root.read(&copy, saved.size)? else {
            continue;
        };
        let same_file = current.is_some_and(|found| {
            (found.mode, found.uid, found.gid) == (saved.mode, saved.uid, saved.gid)
        }) && content.as_ref() == Some(&bytes);
        if same_file {
            continue;
        }
        system.write(&FileWrite {
            path,
            content: &bytes,
            mode: saved.mode,
            uid: saved.uid,
            gid: saved.gid,
            validate: None,
            keep: true,
        })?;
        return Ok(format!("restored {path} as it was before the change at {time} (unix ms)"));
    }
    Err(Failure::new(format!("there is no last-good copy of {path} that differs from it"))
        .hint(format!("copies are below {BACKUP_DIRECTORY}, at most {COPIES_KEPT} per file")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_paths_have_different_names(a in "/[a-c./\\-\\\\x2é+]{1,12}", b in "/[a-c./\\-\\\\x2é+]{1,12}") {
            let name = escape_path(&a);
            prop_assert!(!name.contains('/') && !name.starts_with('.') && name.len() <= 255);
            let trim = |path: &str| path.trim_start_matches('/').to_owned();
            prop_assert_eq!(trim(&a) == trim(&b), name == escape_path(&b));
        }

        #[test]
        fn long_paths_fit(a in "/[aé]{90,400}", b in "/[aé]{90,400}") {
            prop_assert!(escape_path(&a).len() <= LONGEST_NAME);
            prop_assert_eq!(a == b, escape_path(&a) == escape_path(&b));
        }
    }
}
