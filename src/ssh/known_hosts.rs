//! Pinned host keys: reading and matching `known_hosts`.
//!
//! Stricter than OpenSSH where that is safer: a revoked key is refused whatever else the file says,
//! a line for this host that cannot be read is an error, and an unreadable file is never an empty
//! one.

mod certificate;
mod change;
mod shared;

pub(super) use certificate::jiff_text;
pub use change::{Added, append_known_host, replace_known_host};
pub use shared::PinnedKeys;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::{Algorithm, HashAlg, PublicKey};
use sha1::Sha1;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

/// The lines of a known_hosts file.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
    /// Entries by the plain names that they are for, so that a host of many is found at once.
    named: HashMap<String, Vec<usize>>,
    /// Entries that have to be looked at for every host: patterns and hashed names.
    wide: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Entry {
    line: usize,
    marker: Marker,
    hosts: Hosts,
    /// `Err` with the reason when the key cannot be read.
    key: Result<PublicKey, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    CertAuthority,
}

#[derive(Debug, Clone)]
enum Hosts {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, digest: Vec<u8> },
}

/// A pinned key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The line that pins it.
    pub line: usize,
    /// Algorithm and SHA-256 fingerprint.
    pub description: String,
    /// Type and key, as in the file.
    pub key: String,
}

impl Pinned {
    /// True for the key with this SHA-256 fingerprint.
    pub fn has(&self, fingerprint: &str) -> bool {
        self.description.split(' ').nth(1) == Some(fingerprint)
    }
}

/// What the file says about a key that a host presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeyVerdict {
    /// It is pinned.
    Trusted,
    /// Nothing is pinned for this host.
    Unknown,
    /// Other keys are pinned: their descriptions and the first line.
    Changed {
        /// Algorithm and fingerprint of each pinned key.
        pinned: Vec<String>,
        /// The first line that pins a key for this host.
        line: usize,
    },
    /// It comes with a certificate of a known authority, which does not vouch for this host.
    BadCertificate {
        /// Why.
        reason: String,
    },
    /// The key is revoked on this line.
    Revoked {
        /// The line.
        line: usize,
    },
}

impl KnownHosts {
    /// Reads a file; one that does not exist has no keys.
    ///
    /// # Errors
    /// When it exists and cannot be read, or a line is not of this format at all.
    pub fn read(path: &Path) -> Result<Self, String> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// A text with the line number, when a line has an unknown marker, too few fields, or revokes a
    /// key that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut entries = Vec::new();
        for (line, text) in (1_usize..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let entry =
                Entry::parse(line, text).map_err(|reason| format!("line {line}: {reason}"))?;
            entries.push(entry);
        }
        Ok(Self::of(entries))
    }

    fn of(entries: Vec<Entry>) -> Self {
        let mut known = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            match entry.hosts.plain_names() {
                None => known.wide.push(index),
                Some(names) => {
                    for name in names {
                        known.named.entry(name.clone()).or_default().push(index);
                    }
                }
            }
        }
        Self { entries, ..known }
    }

    /// The entries for a host that is known under any of `names`, in the order of the file.
    fn here(&self, names: &[String]) -> Vec<&Entry> {
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let plain = names.iter().filter_map(|name| self.named.get(name)).flatten().copied();
        let matches = |index: &usize| {
            self.entries.get(*index).is_some_and(|entry| entry.hosts.matches_any(&names))
        };
        let mut found: Vec<usize> =
            plain.chain(self.wide.iter().copied().filter(matches)).collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|index| self.entries.get(index)).collect()
    }

    /// Judges `key`, presented by a host that is known under any of `names`.
    ///
    /// # Errors
    /// A text with the line number, when a line for this host cannot be read.
    pub fn judge(&self, names: &[String], key: &PublicKey) -> Result<HostKeyVerdict, String> {
        let here = self.here(names);
        for entry in &here {
            if let Err(reason) = &entry.key {
                return Err(format!("line {}: {reason}", entry.line));
            }
        }
        let same = |entry: &Entry| {
            entry.key.as_ref().is_ok_and(|pinned| pinned.key_data() == key.key_data())
        };
        if let Some(entry) = here.iter().find(|e| e.marker == Marker::Revoked && same(e)) {
            return Ok(HostKeyVerdict::Revoked { line: entry.line });
        }
        let pinned: Vec<&Entry> =
            here.into_iter().filter(|entry| entry.marker == Marker::None).collect();
        if pinned.iter().any(|entry| same(entry)) {
            return Ok(HostKeyVerdict::Trusted);
        }
        Ok(match pinned.first() {
            None => HostKeyVerdict::Unknown,
            Some(first) => HostKeyVerdict::Changed {
                pinned: pinned.iter().filter_map(|e| e.key.as_ref().ok().map(describe)).collect(),
                line: first.line,
            },
        })
    }

    /// The keys that are pinned for a host, in the order of the file.
    ///
    /// # Errors
    /// A text with the line number, when a line for this host cannot be read.
    pub fn pinned(&self, names: &[String]) -> Result<Vec<Pinned>, String> {
        let mut found = Vec::new();
        for entry in self.here(names).into_iter().filter(|entry| entry.marker == Marker::None) {
            let line = entry.line;
            let unreadable = |reason: String| format!("line {line}: {reason}");
            let key = entry.key.as_ref().map_err(|reason| unreadable(reason.clone()))?;
            let mut bare = key.clone();
            bare.set_comment("");
            let text = bare.to_openssh().map_err(|error| unreadable(error.to_string()))?;
            found.push(Pinned { line, description: describe(key), key: text.trim().to_owned() });
        }
        Ok(found)
    }

    /// The algorithms of the keys that are pinned for a host, so that it can be asked for one of
    /// them: a host of which only the RSA key is known would otherwise look unknown.
    pub fn pinned_algorithms(&self, names: &[String]) -> Vec<Algorithm> {
        let mut found = Vec::new();
        for entry in self.here(names).into_iter().filter(|e| e.marker == Marker::None) {
            if let Ok(key) = &entry.key
                && !found.contains(&key.algorithm())
            {
                found.push(key.algorithm());
            }
        }
        found
    }
}

impl Entry {
    fn parse(line: usize, text: &str) -> Result<Self, String> {
        let mut fields = text.split_ascii_whitespace().peekable();
        let marker = match fields.next_if(|field| field.starts_with('@')) {
            None => Marker::None,
            Some("@revoked") => Marker::Revoked,
            Some("@cert-authority") => Marker::CertAuthority,
            Some(other) => return Err(format!("unknown marker {other}")),
        };
        let (Some(hosts), Some(algorithm), Some(key)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Err("expected host names, a key type and a key".into());
        };
        let key = PublicKey::from_openssh(&format!("{algorithm} {key}"))
            .map_err(|error| format!("the {algorithm} key cannot be read: {error}"));
        if let (Marker::Revoked, Err(reason)) = (marker, &key) {
            return Err(reason.clone());
        }
        Ok(Self { line, marker, hosts: Hosts::parse(hosts)?, key })
    }
}

impl Hosts {
    fn parse(field: &str) -> Result<Self, String> {
        let Some(hashed) = field.strip_prefix("|1|") else {
            return Ok(Self::Patterns(field.split(',').map(str::to_ascii_lowercase).collect()));
        };
        let decode =
            |text| BASE64.decode(text).map_err(|error| format!("hashed host name: {error}"));
        let (salt, digest) = hashed.split_once('|').ok_or("a hashed host name has two parts")?;
        Ok(Self::Hashed { salt: decode(salt)?, digest: decode(digest)? })
    }

    /// The names, where all of them stand for themselves and for nothing else.
    fn plain_names(&self) -> Option<&[String]> {
        match self {
            Self::Patterns(names) if !names.iter().any(|name| name.contains(['*', '?', '!'])) => {
                Some(names)
            }
            Self::Patterns(_) | Self::Hashed { .. } => None,
        }
    }

    fn matches_any(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.matches(&name.to_ascii_lowercase()))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, digest } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name).verify_slice(digest).is_ok()),
            Self::Patterns(patterns) => {
                let mut found = false;
                for pattern in patterns {
                    match pattern.strip_prefix('!') {
                        Some(pattern) if glob(pattern.as_bytes(), name.as_bytes()) => return false,
                        Some(_) => {}
                        None => found |= glob(pattern.as_bytes(), name.as_bytes()),
                    }
                }
                found
            }
        }
    }
}

/// `*` and `?` as in OpenSSH; everything else, brackets included, stands for itself.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|byte| *byte == b'?' || *byte == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after, from)) = star {
            p = after;
            t = from + 1;
            star = Some((after, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Algorithm and SHA-256 fingerprint of a key.
pub fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

#[cfg(test)]
#[path = "known_hosts_tests.rs"]
mod tests;
