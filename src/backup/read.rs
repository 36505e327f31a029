//! Reads an archive whole and compares it with what it says of itself, before anything of it is
//! used.

use super::manifest::{Entry, FORMAT, HEAD, Head, Kind, MANIFEST, Manifest, hex};
use super::write::Hashing;
use super::{BackupError, Result};
use crate::secrets::Opener;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// Bytes of what an archive says of itself at most.
const LONGEST_TEXT: u64 = 256 << 20;

/// An archive that is as it was written.
#[derive(Debug)]
pub struct Verified {
    file: File,
    path: PathBuf,
    opener: Opener,
    /// What it says first.
    pub head: Head,
    /// Everything in it.
    pub entries: Vec<Entry>,
}

/// What is done with the content of a file of an archive.
pub(super) type Take<'a> = dyn FnMut(&Entry, &mut dyn Read) -> Result<()> + 'a;

impl Verified {
    /// Reads all of an archive. With `sha256` its own digest must be that one.
    ///
    /// # Errors
    /// When it is not as it was written, or not to be opened with this; nothing was changed.
    pub fn open(
        path: &Path,
        mut file: File,
        opener: Opener,
        sha256: Option<&str>,
    ) -> std::result::Result<Self, Problem> {
        if let Some(wanted) = sha256 {
            let found = digest(&mut file).map_err(BackupError::io("read", path))?;
            if !found.eq_ignore_ascii_case(wanted) {
                let why = format!("its SHA-256 is {found}, not {wanted}");
                return Err(BackupError::Damaged(why).into());
            }
        }
        let (head, seen, manifest) = pass(&mut file, path, &opener, None)?;
        manifest.check().map_err(BackupError::Foreign)?;
        let same = seen.len() == manifest.entries.len()
            && seen
                .iter()
                .zip(&manifest.entries)
                .all(|((name, kind), entry)| *name == entry.path && *kind == entry.kind);
        if !same {
            let why = "its entries are not those that it names";
            return Err(BackupError::Damaged(why.to_owned()).into());
        }
        Ok(Self { file, path: path.to_owned(), opener, head, entries: manifest.entries })
    }

    /// Reads it once more and hands over each directory, file and link in the order of the
    /// archive. What is handed over was verified by [`Self::open`]; that it still is the same is
    /// for the taker to see from the digest.
    pub(super) fn each(&mut self, take: &mut Take<'_>) -> std::result::Result<(), Problem> {
        let entries = std::mem::take(&mut self.entries);
        let result = pass(&mut self.file, &self.path, &self.opener, Some((&entries, take)));
        self.entries = entries;
        result.map(drop)
    }
}

/// Why an archive is not restored.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be opened with what there is.
    Sealed(Box<crate::diag::Diagnostic>),
    /// Everything else.
    Backup(BackupError),
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

impl From<crate::diag::Diagnostic> for Problem {
    fn from(problem: crate::diag::Diagnostic) -> Self {
        Self::Sealed(Box::new(problem))
    }
}

/// What one reading found: what the archive says first, what is in it, and what it says last.
type Found = (Head, Vec<(String, Kind)>, Manifest);

/// Reads the archive from its beginning to its very end.
fn pass(
    file: &mut File,
    path: &Path,
    opener: &Opener,
    mut taking: Option<(&[Entry], &mut Take<'_>)>,
) -> std::result::Result<Found, Problem> {
    file.rewind().map_err(BackupError::io("read", path))?;
    let opened = opener.open(BufReader::new(file), path)?;
    let damaged = |error: io::Error| BackupError::Damaged(plain(&error));
    let unpacked = zstd::Decoder::new(opened).map_err(damaged)?;
    let mut archive = tar::Archive::new(unpacked);
    let mut head: Option<Head> = None;
    let mut manifest: Option<Manifest> = None;
    let mut seen = Vec::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| BackupError::Foreign("a name in it is not UTF-8".to_owned()))?;
        let name = name.trim_end_matches('/').to_owned();
        if manifest.is_some() {
            let why = format!("{name} comes after its end");
            return Err(BackupError::Foreign(why).into());
        }
        match (name.as_str(), &head) {
            (HEAD, None) => {
                let read: Head = json(&mut entry)?;
                if read.format != FORMAT {
                    return Err(BackupError::Format(read.format).into());
                }
                head = Some(read);
            }
            (_, None) => {
                let why = format!("it begins with {name}");
                return Err(BackupError::Foreign(why).into());
            }
            (MANIFEST, Some(_)) => manifest = Some(json(&mut entry)?),
            _ => {
                let index = seen.len();
                let kind = match &mut taking {
                    None => look(&mut entry)?,
                    Some((entries, take)) => {
                        let known = entries.get(index).filter(|known| known.path == name);
                        let known = known.ok_or_else(|| {
                            BackupError::Damaged("it changed meanwhile".to_owned())
                        })?;
                        take(known, &mut entry)?;
                        known.kind.clone()
                    }
                };
                seen.push((name, kind));
            }
        }
    }
    // What comes after the last entry belongs to the archive too: a cut end is found only there.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    match (head, manifest) {
        (Some(head), Some(manifest)) => Ok((head, seen, manifest)),
        _ => Err(BackupError::Damaged("it has no end".to_owned()).into()),
    }
}

/// What an entry is, its content hashed.
fn look<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Kind> {
    let damaged = |error: io::Error| BackupError::Damaged(plain(&error));
    match entry.header().entry_type() {
        tar::EntryType::Directory => Ok(Kind::Directory),
        tar::EntryType::Symlink => {
            let target = entry.link_name_bytes().map(|bytes| bytes.into_owned());
            let target = String::from_utf8(target.unwrap_or_default())
                .map_err(|_| BackupError::Foreign("a link in it is not UTF-8".to_owned()))?;
            Ok(Kind::Link { target })
        }
        tar::EntryType::Regular => {
            let mut content = Hashing { inner: entry, digest: Sha256::new(), bytes: 0 };
            io::copy(&mut content, &mut io::sink()).map_err(damaged)?;
            Ok(Kind::File { size: content.bytes, sha256: hex(&content.digest.finalize()) })
        }
        other => Err(BackupError::Foreign(format!("it holds an entry of the kind {other:?}"))),
    }
}

fn json<T: serde::de::DeserializeOwned>(entry: &mut impl Read) -> Result<T> {
    let mut bytes = Vec::new();
    entry
        .take(LONGEST_TEXT)
        .read_to_end(&mut bytes)
        .map_err(|error| BackupError::Damaged(plain(&error)))?;
    serde_json::from_slice(&bytes).map_err(|error| BackupError::Foreign(error.to_string()))
}

/// The digest of a whole file.
fn digest(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut hashing = Hashing { inner: file, digest: Sha256::new(), bytes: 0 };
    io::copy(&mut hashing, &mut io::sink())?;
    Ok(hex(&hashing.digest.finalize()))
}

/// An error's text without the invisible direction marks of localised messages.
fn plain(error: &io::Error) -> String {
    error.to_string().replace(['\u{2068}', '\u{2069}'], "")
}
