//! What can be seen of a site's secrets without an identity: which files there are, and which names
//! they hold.

use super::codes;
use super::declaration::Declared;
use super::document::EnvDocument;
use super::files::{self, Guard};
use super::manifest::Manifest;
use super::name::is_brick_name;
use super::secret::Secret;
use super::stale;
use crate::diag::{Diagnostic, Diagnostics};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The directory of the files, below the site's root.
pub const DIRECTORY: &str = "credentials";

pub(super) const MANIFEST: &str = "manifest.toml";
pub(super) const MANIFEST_KEY: &str = "manifest.key.age";
pub(super) const RECIPIENTS: &str = "recipients.txt";

/// Plain files belong to root (KB-H3).
pub(super) const PLAIN_OWNER: u32 = 0;

/// How a brick's secrets are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Encrypted, `<brick>.env.age`.
    Encrypted,
    /// Clear, `<brick>.env`, mode 0600, owned by root.
    Plain,
}

impl Form {
    pub(super) fn file(self, brick: &str) -> String {
        match self {
            Self::Encrypted => format!("{brick}.env.age"),
            Self::Plain => format!("{brick}.env"),
        }
    }
}

/// Which names have a value, found without any identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// The names that each brick's file holds.
    pub bricks: BTreeMap<String, (Form, BTreeSet<String>)>,
}

impl Present {
    /// True when the name has a value in some brick.
    pub fn contains(&self, name: &str) -> bool {
        self.bricks.values().any(|(_, names)| names.contains(name))
    }

    /// Finds what a site holds. Plain files are read and checked in full; of encrypted ones the
    /// manifest tells the names.
    pub fn find(site_root: &Path, declared: &Declared) -> (Self, Diagnostics) {
        let directory = Directory::new(site_root);
        directory
            .settled(|| Self::find_once(&directory, declared), |(_, found)| !found.has_errors())
    }

    fn find_once(directory: &Directory, declared: &Declared) -> (Self, Diagnostics) {
        let mut problems = Diagnostics::new();
        let mut present = Self::default();
        let manifest = directory.manifest().unwrap_or_else(|problem| {
            problems.push(problem);
            Manifest::empty()
        });
        let bricks = directory.bricks(&mut problems);
        for (brick, form) in bricks {
            let names = match form {
                Form::Plain => match directory.read_plain(&brick) {
                    Ok(Some((document, found))) => {
                        problems.extend(found);
                        problems.extend(document.check(&declared.of(&brick)));
                        document.entries().iter().map(|entry| entry.name.clone()).collect()
                    }
                    Ok(None) => continue,
                    Err(problem) => {
                        problems.push(problem);
                        continue;
                    }
                },
                Form::Encrypted => match directory.read_sealed(&brick) {
                    Ok(Some(sealed)) => match manifest.of_content(&brick, &sealed) {
                        Some(record) => record.names.keys().cloned().collect(),
                        None => {
                            problems.push(replaced(&brick, "its content"));
                            continue;
                        }
                    },
                    Ok(None) => continue,
                    Err(problem) => {
                        problems.push(problem);
                        continue;
                    }
                },
            };
            unique(&mut problems, &present, &brick, &names);
            present.bricks.insert(brick, (form, names));
        }
        problems.extend(stale::warnings(directory, &manifest));
        (present, problems)
    }
}

fn unique(problems: &mut Diagnostics, present: &Present, brick: &str, names: &BTreeSet<String>) {
    for (other, (_, theirs)) in &present.bricks {
        for name in names.intersection(theirs) {
            problems.push(loaded_twice(name, other, brick));
        }
    }
}

pub(super) fn loaded_twice(name: &str, first: &str, second: &str) -> Diagnostic {
    let shown = if super::name::is_showable(name) { name } else { "a name" };
    Diagnostic::error(
        codes::LOADED_TWICE,
        format!("{shown} has a value in {first} and in {second}"),
    )
    .hint(format!("delete it from one of them with `strata secrets edit {second}`"))
}

pub(super) fn replaced(brick: &str, what: &str) -> Diagnostic {
    Diagnostic::error(
        codes::REPLACED,
        format!("{DIRECTORY}/{brick}.env.age is not the file that the manifest names: {what}"),
    )
    .hint(format!(
        "somebody replaced one without the other; if the file is right, look at it and accept it \
         with `strata secrets edit {brick}`, else restore both from version control"
    ))
}

/// Paths and plain reading; knows no identity.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
}

impl Directory {
    pub(super) fn new(site_root: &Path) -> Self {
        Self { path: site_root.join(DIRECTORY) }
    }

    /// What `read` finds, read again while the whole directory was replaced under its hands.
    pub(super) fn settled<T>(&self, read: impl Fn() -> T, good: impl Fn(&T) -> bool) -> T {
        use std::os::unix::fs::MetadataExt as _;
        let which = || std::fs::metadata(&self.path).map(|facts| (facts.dev(), facts.ino())).ok();
        let mut before = which();
        // Every further one would need another `rekey` in between.
        for _ in 0..5 {
            let found = read();
            let after = which();
            if good(&found) || after == before {
                return found;
            }
            before = after;
        }
        read()
    }

    pub(super) fn at(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.path.join(name), Path::new(DIRECTORY).join(name))
    }

    /// The bricks that have a file, in alphabetical order.
    pub(super) fn bricks(&self, problems: &mut Diagnostics) -> BTreeMap<String, Form> {
        let mut found: BTreeMap<String, Form> = BTreeMap::new();
        let listed: std::io::Result<Vec<String>> = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.and_then(|entries| {
                entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
            }),
        };
        let mut names = listed.unwrap_or_else(|error| {
            problems.push(files::access("list", Path::new(DIRECTORY), error));
            Vec::new()
        });
        names.sort();
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            let (brick, form) = match (name.strip_suffix(".env"), name.strip_suffix(".env.age")) {
                (_, Some(brick)) => (brick, Form::Encrypted),
                (Some(brick), None) => (brick, Form::Plain),
                (None, None) => continue,
            };
            if !is_brick_name(brick) {
                problems.push(
                    Diagnostic::error(
                        codes::ENV_NAME,
                        format!("`{brick}` is not a name of a brick: {DIRECTORY}/{name}"),
                    )
                    .hint("bricks are a-z, then a-z, 0-9 and `-`"),
                );
                continue;
            }
            if found.insert(brick.to_owned(), form).is_some() {
                problems.push(
                    Diagnostic::error(
                        codes::BOTH_FORMS,
                        format!(
                            "both {DIRECTORY}/{brick}.env and {DIRECTORY}/{brick}.env.age exist"
                        ),
                    )
                    .hint(format!(
                        "decide which one holds; to keep the plain one encrypted, set its values \
                         with `strata secrets set {brick} NAME` after moving it away"
                    )),
                );
            }
        }
        found
    }

    pub(super) fn read_plain(
        &self,
        brick: &str,
    ) -> Result<Option<(EnvDocument, Diagnostics)>, Diagnostic> {
        let (path, shown) = self.at(&Form::Plain.file(brick));
        let bytes = files::read(&path, &shown, Guard::Private { owner: PLAIN_OWNER })?;
        Ok(bytes.map(|bytes| EnvDocument::parse(&shown, Secret::new(bytes).expose())))
    }

    pub(super) fn read_sealed(&self, brick: &str) -> Result<Option<Vec<u8>>, Diagnostic> {
        let (path, shown) = self.at(&Form::Encrypted.file(brick));
        files::read(&path, &shown, Guard::Public)
    }

    pub(super) fn manifest(&self) -> Result<Manifest, Diagnostic> {
        match self.read_text(MANIFEST)? {
            Some((text, shown)) => Manifest::parse(&text, &shown).map_err(|problem| *problem),
            None => Ok(Manifest::empty()),
        }
    }

    pub(super) fn read_text(&self, name: &str) -> Result<Option<(String, PathBuf)>, Diagnostic> {
        let (path, shown) = self.at(name);
        let Some(bytes) = files::read(&path, &shown, Guard::Public)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).map_err(|_| {
            Diagnostic::error(codes::ENV_NOT_UTF8, format!("{} is not UTF-8", shown.display()))
                .hint("save the file as UTF-8")
        })?;
        Ok(Some((text, shown)))
    }
}
