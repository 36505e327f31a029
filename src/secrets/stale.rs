//! Files that others read than the recipients file says: somebody was added or removed there, and
//! nothing was encrypted anew.

use super::codes;
use super::directory::{DIRECTORY, Directory, RECIPIENTS};
use super::manifest::Manifest;
use super::readers::Recipients;
use crate::diag::{Diagnostic, Diagnostics};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How the readers of files differ from those that are wanted; by the names of their holders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// The bricks whose files have other readers.
    pub(super) bricks: Vec<String>,
    /// Key and name of those who read although nobody wants them to.
    pub(super) still: BTreeMap<String, String>,
    /// Key and name of those who cannot read yet.
    pub(super) not_yet: BTreeMap<String, String>,
    /// Of some file nobody knows who reads it.
    pub(super) unknown: bool,
}

impl Difference {
    /// The difference between the records of files and the readers that are wanted, if there is one.
    pub(super) fn of(manifest: &Manifest, wanted: &Recipients) -> Option<Self> {
        let digest = wanted.digest();
        let names = wanted.names();
        let mut difference = Self::default();
        let others = manifest.records().iter().filter(|record| record.recipients != digest);
        let mut bricks = BTreeSet::new();
        for record in others {
            bricks.insert(record.brick.clone());
            let Some(keys) = manifest.keys_of(&record.recipients) else {
                difference.unknown = true;
                continue;
            };
            let missing = |in_: &BTreeMap<String, String>, from: &BTreeMap<String, String>| {
                in_.iter()
                    .filter(|(key, _)| !from.contains_key(*key))
                    .map(|(key, name)| (key.clone(), name.clone()))
                    .collect::<Vec<_>>()
            };
            difference.still.extend(missing(keys, &names));
            difference.not_yet.extend(missing(&names, keys));
        }
        difference.bricks = bricks.into_iter().collect();
        (!difference.bricks.is_empty()).then_some(difference)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |keys: &BTreeMap<String, String>| {
            keys.values().map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let mut parts = Vec::new();
        if !self.still.is_empty() {
            parts.push(format!("still read by {}", list(&self.still)));
        }
        if !self.not_yet.is_empty() {
            parts.push(format!("not yet by {}", list(&self.not_yet)));
        }
        if self.unknown {
            parts.push("read by nobody knows whom".to_owned());
        }
        write!(f, "{} {}", self.bricks.join(", "), parts.join(", "))
    }
}

/// Warnings for files whose readers are not those of the recipients file. Needs no identity.
pub(super) fn warnings(directory: &Directory, manifest: &Manifest) -> Diagnostics {
    let mut problems = Diagnostics::new();
    // A missing or unreadable file is told by the commands that need it.
    let Ok(Some((text, shown))) = directory.read_text(RECIPIENTS) else { return problems };
    let (wanted, found) = Recipients::parse(&text, &shown);
    if found.has_errors() {
        problems.extend(found);
        return problems;
    }
    if let Some(difference) = Difference::of(manifest, &wanted) {
        problems.push(
            Diagnostic::warning(
                codes::READERS_STALE,
                format!(
                    "files have other readers than {DIRECTORY}/{RECIPIENTS} names: {difference}"
                ),
            )
            .hint("`strata secrets rekey` encrypts all files to the readers named there"),
        );
    }
    problems
}
