//! What the encrypted files hold, by name: `credentials/manifest.toml`.
//!
//! An age file shows neither its names nor its readers without an identity. The manifest does, so
//! that a site can be checked on a machine that cannot read its secrets. It names each file's
//! content by its SHA-256, so a file that was replaced without the manifest is noticed by everyone,
//! and holds a keyed hash of each value, so that a change shows by name and a manifest that was
//! forged to fit a replaced file is noticed by every reader. The key is random and encrypted to the
//! readers; without it the hashes tell nothing.
//!
//! Each record is sealed with the same key: a record that names another content or other readers
//! than were written is noticed too. Of each set of readers it keeps the names, so that it can be
//! said who still reads a file although the recipients file does not name them any more.
//!
//! Two files cannot be replaced in one step: while a file is being replaced, the manifest names the
//! old content and the new one, and the file decides which of them holds.

use super::codes;
use super::document::EnvDocument;
use super::identity::hex;
use super::secret::Secret;
use crate::diag::{Diagnostic, Source};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Version 1 had no seals and no names of readers; it is read, and written anew by every change.
const VERSION: u32 = 2;
const HEADER: &str = "# Made by `strata secrets`; no values. Which names each encrypted file holds, \
                      with a keyed hash of each value, and who reads it.\n";

/// The names and hashes of all encrypted files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    #[serde(default, rename = "readers", skip_serializing_if = "Vec::is_empty")]
    sets: Vec<Set>,
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    records: Vec<Record>,
}

/// A set of readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    /// The digest of its keys.
    set: String,
    /// Each key with the name of its holder.
    keys: BTreeMap<String, String>,
}

/// One content of one encrypted file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) brick: String,
    /// Of the encrypted file.
    pub(super) sha256: String,
    /// The set of readers it is encrypted to.
    pub(super) recipients: String,
    /// A keyed hash of brick, content and readers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) seal: String,
    /// A keyed hash of each value.
    pub(super) names: BTreeMap<String, String>,
}

/// The key of the hashes.
pub(super) struct HashKey(pub(super) Secret<Vec<u8>>);

impl HashKey {
    /// A new key.
    pub(super) fn random() -> std::io::Result<Self> {
        let mut key = Secret::new(vec![0_u8; 32]);
        getrandom::fill(key.expose_mut())
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(key))
    }

    /// The hash of a value; the same value has another hash under another name.
    fn hash(&self, brick: &str, name: &str, value: &Secret<String>) -> String {
        hex(self.keyed(&[brick, name, value.expose()]).get(..8).unwrap_or_default())
    }

    /// HMAC-SHA-256 over parts that hold no zero byte.
    fn keyed(&self, parts: &[&str]) -> Vec<u8> {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose()) else {
            return Vec::new();
        };
        for part in parts {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        mac.finalize().into_bytes().to_vec()
    }

    /// The record of a file.
    pub(super) fn record(
        &self,
        brick: &str,
        sealed: &[u8],
        recipients: String,
        document: &EnvDocument,
    ) -> Record {
        let names = document.entries().iter();
        let sha256 = digest(sealed);
        // Four parts, so that it can be the hash of no value.
        let seal = hex(&self.keyed(&["file", brick, &sha256, &recipients]));
        Record {
            brick: brick.to_owned(),
            sha256,
            recipients,
            seal,
            names: names
                .map(|entry| (entry.name.clone(), self.hash(brick, &entry.name, &entry.value)))
                .collect(),
        }
    }
}

impl Record {
    /// True when this is the record that the key makes of the file. A record of version 1 has no
    /// seal to compare.
    pub(super) fn is(&self, made: &Self) -> bool {
        match self.seal.is_empty() {
            true => *self == Self { seal: String::new(), ..made.clone() },
            false => self == made,
        }
    }
}

/// The SHA-256 of a file's bytes in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Manifest {
    /// A manifest of no file.
    pub(super) fn empty() -> Self {
        Self { version: VERSION, sets: Vec::new(), records: Vec::new() }
    }

    /// Reads the text of a manifest.
    pub(super) fn parse(text: &str, shown: &Path) -> Result<Self, Box<Diagnostic>> {
        let hint = "it is written by `strata secrets` only: restore it from version control, or \
                    take one side of a merge whole, with the files that belong to it";
        let manifest: Self = toml::from_str(text).map_err(|error| {
            let source = Source::new(shown, text);
            let line = error.span().map_or(1, |range| {
                text.as_bytes()[..range.start.min(text.len())]
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count()
                    + 1
            });
            Diagnostic::error(codes::MANIFEST, "the manifest cannot be understood")
                .at(source.line_span(line), error.message().lines().next().unwrap_or_default())
                .hint(hint)
        })?;
        if !(1..=VERSION).contains(&manifest.version) {
            return Err(Box::new(
                Diagnostic::error(
                    codes::MANIFEST,
                    format!(
                        "{} has version {}, known is {VERSION}",
                        shown.display(),
                        manifest.version
                    ),
                )
                .hint("a newer strata wrote it: use that one"),
            ));
        }
        Ok(Self { version: VERSION, ..manifest })
    }

    /// The text of the manifest.
    pub(super) fn text(&self) -> Result<String, String> {
        toml::to_string(self).map(|text| format!("{HEADER}{text}")).map_err(|e| e.to_string())
    }

    /// The record that names exactly this content.
    pub(super) fn of_content(&self, brick: &str, sealed: &[u8]) -> Option<&Record> {
        let digest = digest(sealed);
        self.records.iter().find(|record| record.brick == brick && record.sha256 == digest)
    }

    /// True when any content of the brick is named.
    pub(super) fn knows(&self, brick: &str) -> bool {
        self.records.iter().any(|record| record.brick == brick)
    }

    /// True when no file is named.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The manifest that holds while a file is replaced: `kept` beside `new`.
    pub(super) fn during(&self, kept: Option<&Record>, new: &Record) -> Self {
        let mut changed = self.after(new);
        if let Some(kept) = kept.filter(|kept| kept.sha256 != new.sha256) {
            changed.records.push(kept.clone());
        }
        changed.sort();
        changed
    }

    /// The manifest that holds once the file is replaced.
    pub(super) fn after(&self, new: &Record) -> Self {
        let mut changed = self.clone();
        changed.records.retain(|record| record.brick != new.brick);
        changed.records.push(new.clone());
        changed.sort();
        changed
    }

    /// The manifest with the names of a set's holders; sets that no file has any more go.
    pub(super) fn naming(mut self, set: &str, keys: BTreeMap<String, String>) -> Self {
        self.sets.retain(|known| known.set != set);
        self.sets.push(Set { set: set.to_owned(), keys });
        let used = |set: &Set| self.records.iter().any(|record| record.recipients == set.set);
        self.sets = self.sets.iter().filter(|set| used(set)).cloned().collect();
        self.sets.sort_by(|a, b| a.set.cmp(&b.set));
        self.sets.dedup_by(|a, b| a.set == b.set);
        self
    }

    /// The records of all files.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The keys of a set with the names of their holders, where they are known.
    pub(super) fn keys_of(&self, set: &str) -> Option<&BTreeMap<String, String>> {
        let named = self.sets.iter().find(|known| known.set == set)?;
        // The names are for people; the keys are what the digest is of.
        let fits = super::readers::digest(named.keys.keys().map(String::as_str)) == set;
        fits.then_some(&named.keys)
    }

    fn sort(&mut self) {
        self.records.sort_by(|a, b| (&a.brick, &a.sha256).cmp(&(&b.brick, &b.sha256)));
    }
}
