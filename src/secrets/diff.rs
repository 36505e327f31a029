//! `strata secrets diff`: which names were added, removed and changed, and which readers; never a
//! value.
//!
//! Where both sides have the same manifest key, the keyed hashes tell, and no identity is needed.
//! Otherwise, and where a file is plain, the values are compared in memory.

use super::codes;
use super::directory::{
    DIRECTORY, Directory, MANIFEST, MANIFEST_KEY, PLAIN_OWNER, RECIPIENTS, replaced,
};
use super::document::EnvDocument;
use super::files::{self, Guard};
use super::identity::Identity;
use super::manifest::Manifest;
use super::name::is_brick_name;
use super::readers::Recipients;
use super::secret::Secret;
use crate::diag::{Diagnostic, Diagnostics};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What became of a name or a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// It was not there.
    Added,
    /// It is gone.
    Removed,
    /// It has another value.
    Changed,
}

impl Became {
    /// The word that is printed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// What differs; names only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Brick and name.
    pub names: Vec<(String, String, Became)>,
    /// Readers by name.
    pub readers: Vec<(String, Became)>,
}

impl Differences {
    /// True when nothing differs.
    pub const fn is_empty(&self) -> bool {
        self.names.is_empty() && self.readers.is_empty()
    }
}

/// Compares the secrets of a site with those of another directory, or of a revision of git.
///
/// # Errors
/// When one side cannot be read.
pub fn diff(
    site_root: &Path,
    identity_path: &Path,
    with: &str,
) -> Result<Differences, Diagnostics> {
    let now = Directory::new(site_root);
    now.settled(|| compare(site_root, identity_path, with), Result::is_ok).map_err(|problem| {
        let mut problems = Diagnostics::new();
        problems.push(*problem);
        problems
    })
}

type Fallible<T> = Result<T, Box<Diagnostic>>;

fn compare(site_root: &Path, identity_path: &Path, with: &str) -> Fallible<Differences> {
    let new = Side::read(&Origin::Directory(site_root.join(DIRECTORY)))?;
    let folder = Path::new(with);
    let old = Side::read(&match folder.is_dir() {
        // A whole site, or the directory itself.
        true => Origin::Directory(match folder.join(DIRECTORY).is_dir() {
            true => folder.join(DIRECTORY),
            false => folder.to_owned(),
        }),
        false => Origin::revision(site_root, with)?,
    })?;
    let same_key = new.key == old.key && !new.has_plain() && !old.has_plain();
    let identity = match same_key {
        true => None,
        false if new.is_plain() && old.is_plain() => None,
        false => Some(Identity::load(identity_path)?),
    };
    let (old_names, new_names) = (old.held(identity.as_ref())?, new.held(identity.as_ref())?);
    Ok(Differences {
        names: changes(&old_names, &new_names)
            .into_iter()
            .map(|((brick, name), became)| (brick, name, became))
            .collect(),
        readers: changes(&old.readers, &new.readers)
            .into_iter()
            .filter(|(_, became)| *became != Became::Changed)
            .map(|(key, became)| {
                let side = if became == Became::Added { &new } else { &old };
                (side.readers.get(&key).cloned().unwrap_or(key), became)
            })
            .collect(),
    })
}

fn changes<K: Ord + Clone, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Vec<(K, Became)> {
    let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let became = match (old.get(key), new.get(key)) {
                (None, _) => Became::Added,
                (_, None) => Became::Removed,
                (Some(a), Some(b)) if a != b => Became::Changed,
                _ => return None,
            };
            Some((key.clone(), became))
        })
        .collect()
}

/// Where a side is read from.
enum Origin {
    Directory(PathBuf),
    Revision { root: PathBuf, revision: String },
}

impl Origin {
    fn revision(root: &Path, revision: &str) -> Fallible<Self> {
        let root = root.to_owned();
        let revision = revision.to_owned();
        if revision.starts_with('-') || revision.is_empty() {
            return Err(Box::new(unreadable(&revision, "it is no name of a revision")));
        }
        let wanted = format!("{revision}^{{commit}}");
        git(&root, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]).map_err(
            |why| {
                let why = match why.is_empty() {
                    true => "it is neither a directory nor a revision of the site's repository",
                    false => &why,
                };
                Box::new(unreadable(&revision, why))
            },
        )?;
        Ok(Self::Revision { root, revision })
    }

    fn files(&self) -> Fallible<Vec<String>> {
        match self {
            Self::Directory(path) => {
                let shown = || path.clone();
                let entries = std::fs::read_dir(path)
                    .map_err(|error| files::access("list", &shown(), error))?;
                let name = |entry: std::io::Result<std::fs::DirEntry>| {
                    Ok(entry?.file_name().to_string_lossy().into_owned())
                };
                let names: std::io::Result<Vec<String>> = entries.map(name).collect();
                Ok(names.map_err(|error| files::access("list", &shown(), error))?)
            }
            Self::Revision { root, revision } => {
                let folder = format!("{DIRECTORY}/");
                let listed = git(root, &["ls-tree", "-z", "--name-only", revision, "--", &folder])
                    .map_err(|why| Box::new(unreadable(revision, &why)))?;
                Ok(listed
                    .split(|byte| *byte == 0)
                    .filter_map(|name| std::str::from_utf8(name).ok()?.strip_prefix(&folder))
                    .map(ToOwned::to_owned)
                    .collect())
            }
        }
    }

    fn file(&self, name: &str, guard: Guard) -> Fallible<Option<Vec<u8>>> {
        match self {
            Self::Directory(path) => {
                let path = path.join(name);
                Ok(files::read(&path, &path, guard)?)
            }
            Self::Revision { root, revision } => {
                let object = format!("{revision}:./{DIRECTORY}/{name}");
                let bytes = git(root, &["show", "--end-of-options", &object])
                    .map_err(|why| Box::new(unreadable(revision, &why)))?;
                Ok(Some(bytes))
            }
        }
    }

    fn shown(&self, name: &str) -> PathBuf {
        match self {
            Self::Directory(path) => path.join(name),
            Self::Revision { revision, .. } => {
                PathBuf::from(format!("{revision}:{DIRECTORY}/{name}"))
            }
        }
    }
}

fn unreadable(revision: &str, why: &str) -> Diagnostic {
    Diagnostic::error(codes::COMPARED, format!("cannot compare with `{revision}`: {why}"))
        .hint("name a revision (`HEAD`, `main~3`) or a directory that holds credentials/")
}

/// The output of git, or what it says.
fn git(root: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments)
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// A name's value, as far as it must be known to compare it.
#[derive(PartialEq)]
enum Held {
    Hash(String),
    Value(Secret<String>),
}

enum Content {
    Plain(EnvDocument),
    Sealed { bytes: Vec<u8>, shown: PathBuf },
}

/// One of the two sets that are compared.
struct Side {
    bricks: BTreeMap<String, Content>,
    manifest: Manifest,
    key: Option<Vec<u8>>,
    readers: BTreeMap<String, String>,
}

impl Side {
    fn read(origin: &Origin) -> Fallible<Self> {
        let names: BTreeSet<String> = origin.files()?.into_iter().collect();
        let public = |name: &str| match names.contains(name) {
            true => origin.file(name, Guard::Public),
            false => Ok(None),
        };
        let text = |name: &str| -> Fallible<String> {
            Ok(String::from_utf8_lossy(&public(name)?.unwrap_or_default()).into_owned())
        };
        let manifest = match names.contains(MANIFEST) {
            true => Manifest::parse(&text(MANIFEST)?, &origin.shown(MANIFEST))?,
            false => Manifest::empty(),
        };
        let (recipients, _) = Recipients::parse(&text(RECIPIENTS)?, &origin.shown(RECIPIENTS));
        let mut bricks = BTreeMap::new();
        for name in &names {
            if let Some(brick) = name.strip_suffix(".env.age").filter(|brick| is_brick_name(brick))
            {
                let bytes = public(name)?.unwrap_or_default();
                bricks
                    .insert(brick.to_owned(), Content::Sealed { bytes, shown: origin.shown(name) });
            } else if let Some(brick) = name.strip_suffix(".env").filter(|b| is_brick_name(b)) {
                let guard = Guard::Private { owner: PLAIN_OWNER };
                let clear = Secret::new(origin.file(name, guard)?.unwrap_or_default());
                let (document, _) = EnvDocument::parse(&origin.shown(name), clear.expose());
                bricks.insert(brick.to_owned(), Content::Plain(document));
            }
        }
        let key = public(MANIFEST_KEY)?;
        Ok(Self { bricks, manifest, key, readers: recipients.names() })
    }

    fn has_plain(&self) -> bool {
        self.bricks.values().any(|content| matches!(content, Content::Plain(_)))
    }

    fn is_plain(&self) -> bool {
        self.bricks.values().all(|content| matches!(content, Content::Plain(_)))
    }

    /// Every name; with an identity by value, else by hash.
    fn held(&self, identity: Option<&Identity>) -> Fallible<BTreeMap<(String, String), Held>> {
        let mut held = BTreeMap::new();
        let values = |document: &EnvDocument| {
            let entries = document.entries().iter();
            entries.map(|e| (e.name.clone(), Held::Value(e.value.clone()))).collect::<Vec<_>>()
        };
        for (brick, content) in &self.bricks {
            let names = match (content, identity) {
                (Content::Plain(document), _) => values(document),
                (Content::Sealed { bytes, shown }, Some(identity)) => {
                    let clear = identity.decrypt(bytes, shown)?;
                    values(&EnvDocument::parse(shown, clear.expose()).0)
                }
                (Content::Sealed { bytes, .. }, None) => {
                    let record = self
                        .manifest
                        .of_content(brick, bytes)
                        .ok_or_else(|| replaced(brick, "its content"))?;
                    let hash =
                        |(name, hash): (&String, &String)| (name.clone(), Held::Hash(hash.clone()));
                    record.names.iter().map(hash).collect()
                }
            };
            for (name, value) in names {
                held.insert((brick.clone(), name), value);
            }
        }
        Ok(held)
    }
}
