//! What the encrypted files hold, by name: `credentials/manifest.toml`.
//!
//! An age file shows neither its names nor its readers without an identity. The manifest does, so
//! that a site can be checked on a machine that cannot read its secrets. It names each file's
//! content by its SHA-256, so a file that was replaced without the manifest is noticed by everyone,
//! and holds a keyed hash of each value, so that a change shows by name and a manifest that was
//! forged to fit a replaced file is noticed by every reader. The key is random and encrypted to the
//! readers; without it the hashes tell nothing.
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

const VERSION: u32 = 1;
const HEADER: &str = "# Made by `strata secrets`; no values. Which names each encrypted file holds, \
                      with a keyed hash of each value.\n";

/// The names and hashes of all encrypted files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    records: Vec<Record>,
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
    /// A keyed hash of each value.
    pub(super) names: BTreeMap<String, String>,
}

/// The key of the hashes.
pub(super) struct HashKey(pub(super) Secret<Vec<u8>>);

impl HashKey {
    /// The hash of a value; the same value has another hash under another name.
    fn hash(&self, brick: &str, name: &str, value: &Secret<String>) -> String {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose()) else {
            return String::new();
        };
        for part in [brick, name, value.expose()] {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        hex(&mac.finalize().into_bytes()[..8])
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
        Record {
            brick: brick.to_owned(),
            sha256: digest(sealed),
            recipients,
            names: names
                .map(|entry| (entry.name.clone(), self.hash(brick, &entry.name, &entry.value)))
                .collect(),
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
        Self { version: VERSION, records: Vec::new() }
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
        if manifest.version != VERSION {
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
        Ok(manifest)
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

    fn sort(&mut self) {
        self.records.sort_by(|a, b| (&a.brick, &a.sha256).cmp(&(&b.brick, &b.sha256)));
    }
}
