//! What an archive says of itself: its format first, everything that it holds last. Pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the archive's format.
pub const FORMAT: u32 = 1;

/// The name of the first entry.
pub(super) const HEAD: &str = "strata-backup.json";

/// The name of the last entry.
pub(super) const MANIFEST: &str = "manifest.json";

/// Below this stands the site.
pub(super) const SITE: &str = "site";

/// Below this stands what is kept in the operator's home directory.
pub(super) const HOME: &str = "home";

/// What of a home directory a backup may hold.
pub(super) const IDENTITIES: &str = "home/.config/strata";

/// Where login keys are.
pub(super) const LOGIN_KEYS: &str = "home/.ssh";

/// The first entry: enough to know what the rest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: u32,
    /// The site's name.
    pub site: String,
    /// When it was made, in milliseconds since the epoch.
    pub made_ms: u64,
    /// On which host.
    pub host: String,
    /// The version of strata that made it.
    pub strata: String,
}

/// One thing in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its path: `site/…` or `home/…`.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permissions.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// The digest of its content in hexadecimal.
        sha256: String,
    },
    /// A symbolic link, which is never followed.
    Link {
        /// Where to.
        target: String,
    },
}

/// The last entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) entries: Vec<Entry>,
}

/// A path as archives may have it: below one of the roots, nothing but names, and in the home
/// directory only what a backup takes from there.
pub(super) fn acceptable(path: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("the path {path:?} {why}"));
    if path.len() > 4_000 || path.contains('\0') {
        return wrong("is too long or holds a zero byte");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return wrong("does not consist of names");
    }
    let below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let login_key = path.strip_prefix(LOGIN_KEYS).and_then(|rest| rest.strip_prefix('/'));
    match login_key {
        Some(name) if name.contains('/') || name.starts_with("authorized_keys") => {
            wrong("is no login key")
        }
        None if !below(SITE) && !below(IDENTITIES) => wrong("belongs to no backup"),
        _ => Ok(()),
    }
}

/// Bytes as lower case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Manifest {
    /// Everything that must hold before anything is written.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut kinds: BTreeMap<&Path, &Kind> = BTreeMap::new();
        for entry in &self.entries {
            acceptable(&entry.path)?;
            if entry.mode & !0o7777 != 0 {
                return Err(format!("{} has the mode {:o}", entry.path, entry.mode));
            }
            let path = Path::new(&entry.path);
            if path.starts_with(LOGIN_KEYS) && !matches!(entry.kind, Kind::File { .. }) {
                return Err(format!("{} is no file", entry.path));
            }
            if let Some(above) = path
                .ancestors()
                .skip(1)
                .find(|above| kinds.get(above).is_some_and(|kind| !matches!(kind, Kind::Directory)))
            {
                return Err(format!("{} stands below {}", entry.path, above.display()));
            }
            if kinds.insert(path, &entry.kind).is_some() {
                return Err(format!("{} stands twice", entry.path));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.to_owned(), kind, mode: 0o600, uid: 0, gid: 0 }
    }

    #[test]
    fn only_names_below_the_roots_are_acceptable() {
        for path in
            ["site", "site/a", "site/.strata/runs/x", "home/.config/strata/a", "home/.ssh/id"]
        {
            assert_eq!(acceptable(path), Ok(()), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "site/../x",
            "site//x",
            "site/.",
            "sites/x",
            "home",
            "home/.bashrc",
            "home/.config",
            "home/.config/strata2",
            "home/.ssh/a/b",
            "home/.ssh/authorized_keys",
            "home/.ssh/authorized_keys2",
            "site/a\0b",
        ] {
            assert!(acceptable(path).is_err(), "{path}");
        }
    }

    #[test]
    fn nothing_stands_below_a_link_or_twice() {
        let link = || Kind::Link { target: "/etc".to_owned() };
        let check = |entries: Vec<Entry>| Manifest { entries }.check();
        let file = || Kind::File { size: 0, sha256: String::new() };
        assert!(check(vec![entry("site/a", link()), entry("site/a/b", file())]).is_err());
        assert!(check(vec![entry("site/a", file()), entry("site/a", file())]).is_err());
        assert!(check(vec![entry("home/.ssh/id", link())]).is_err());
        assert!(check(vec![entry("site/a", Kind::Directory), entry("site/a/b", link())]).is_ok());
    }

    proptest! {
        #[test]
        fn no_path_leads_out(parts in proptest::collection::vec("[a-z.]{0,3}", 0..6)) {
            let path = format!("site/{}", parts.join("/"));
            if acceptable(&path).is_ok() {
                let joined = Path::new("/root").join(&path);
                prop_assert!(joined.components().all(|part| part.as_os_str() != ".."));
                prop_assert!(joined.starts_with("/root/site"));
            }
        }
    }
}
