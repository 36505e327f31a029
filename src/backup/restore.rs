//! Restores an archive that was verified: first compared with what is there, then written file by
//! file, each whole.

use super::manifest::{Entry, HOME, Kind, SITE, hex};
use super::read::{Problem, Verified};
use super::tree::{Found, Rights, Tree, file_type};
use super::write::Hashing;
use super::{BackupError, Result};
use rustix::fs::FileType;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where a backup is restored to.
#[derive(Debug, Clone)]
pub struct Places {
    /// The site's directory.
    pub site: PathBuf,
    /// The operator's home directory.
    pub home: PathBuf,
}

/// How what is there differs from an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Entries that are not there.
    pub missing: usize,
    /// Entries that are there as they are in the archive.
    pub same: usize,
    /// What is there and differs, each with how.
    pub different: Vec<(PathBuf, String)>,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Entries written.
    pub written: usize,
    /// Entries that were there already.
    pub same: usize,
    /// True when owners could be restored.
    pub owners: bool,
}

impl Places {
    /// Where an entry goes: the root, and the path below it. The root itself is `None`: it is made
    /// when it is missing, and left as it is otherwise.
    fn of<'a>(&self, name: &'a str) -> Option<(&Path, &'a Path)> {
        let (root, below) = name.split_once('/')?;
        match root {
            SITE => Some((&self.site, Path::new(below))),
            HOME => Some((&self.home, Path::new(below))),
            _ => None,
        }
    }

    /// Compares an archive with what is there. Nothing is written.
    ///
    /// # Errors
    /// When something cannot be read, or stands in the way and is never replaced.
    pub fn compare(&self, archive: &Verified) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        let (site, home) = (open(&self.site)?, open(&self.home)?);
        for entry in &archive.entries {
            let Some((root, below)) = self.of(&entry.path) else { continue };
            let tree = if root == self.site { &site } else { &home };
            let path = root.join(below);
            let Some(tree) = tree else {
                comparison.missing += 1;
                continue;
            };
            match difference(tree, below, entry, &path)? {
                None => comparison.missing += 1,
                Some(how) if how.is_empty() => comparison.same += 1,
                Some(how) => comparison.different.push((path, how)),
            }
        }
        Ok(comparison)
    }

    /// Writes everything that is missing or differs.
    ///
    /// # Errors
    /// When something cannot be written; what was written stays, each file whole.
    pub fn restore(&self, archive: &mut Verified) -> std::result::Result<Restored, Problem> {
        let root = archive.entries.iter().find(|entry| entry.path == SITE);
        let mode = root.map_or(0o700, |root| root.mode);
        let (site, home) = (made(&self.site, mode)?, made(&self.home, 0o700)?);
        let mut restored = Restored { owners: site.owners(), ..Restored::default() };
        let mut changed: BTreeSet<(bool, PathBuf)> = BTreeSet::new();
        let mut links = Vec::new();
        let mut above = BTreeSet::new();
        archive.each(&mut |entry, content| {
            let Some((root, below)) = self.of(&entry.path) else { return Ok(()) };
            let in_site = root == self.site;
            let tree = if in_site { &site } else { &home };
            let path = root.join(below);
            if !in_site {
                make_above(tree, below, &mut above, root)?;
            }
            if difference(tree, below, entry, &path)?.is_some_and(|how| how.is_empty()) {
                restored.same += 1;
                return Ok(());
            }
            let rights = Rights { mode: entry.mode, uid: entry.uid, gid: entry.gid };
            let failed = BackupError::io("write", &path);
            match &entry.kind {
                Kind::Directory => tree.directory(below, rights).map_err(failed)?,
                Kind::File { size, sha256 } => {
                    let wanted = (*size, sha256.as_str());
                    tree.file(below, rights, |file| copy(content, file, wanted)).map_err(failed)?;
                }
                // Last of all, so that nothing is ever written through one.
                Kind::Link { target } => {
                    links.push((in_site, below.to_owned(), target.clone(), rights))
                }
            }
            restored.written += 1;
            changed.insert((in_site, below.to_owned()));
            Ok(())
        })?;
        for (in_site, below, target, rights) in links {
            let tree = if in_site { &site } else { &home };
            let failed = BackupError::io("write", &below);
            tree.make_link(&below, &target, rights).map_err(failed)?;
        }
        for (in_site, below) in changed {
            let tree = if in_site { &site } else { &home };
            tree.sync_above(&below).map_err(BackupError::io("sync", &below))?;
        }
        Ok(restored)
    }
}

/// A root, made where it is missing.
fn made(path: &Path, mode: u32) -> Result<Tree> {
    let failed = BackupError::io("create", path);
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(&failed)?;
    open(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

fn open(path: &Path) -> Result<Option<Tree>> {
    Tree::open(path).map_err(BackupError::io("open", path))
}

/// The directories of a home directory above what is restored are not in the archive: they are
/// made for their owner alone where they are missing.
fn make_above(tree: &Tree, below: &Path, known: &mut BTreeSet<PathBuf>, root: &Path) -> Result<()> {
    let mut above: Vec<&Path> = below.ancestors().skip(1).collect();
    above.reverse();
    for folder in above.into_iter().filter(|folder| !folder.as_os_str().is_empty()) {
        if known.contains(folder) {
            continue;
        }
        let failed = BackupError::io("create", &root.join(folder));
        if tree.find(folder).map_err(&failed)?.is_none() {
            let own = Rights {
                mode: 0o700,
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
            };
            tree.directory(folder, own).map_err(&failed)?;
        }
        known.insert(folder.to_owned());
    }
    Ok(())
}

/// Writes a content that must be the one of the manifest.
fn copy(
    from: &mut dyn Read,
    to: &mut std::fs::File,
    (size, sha256): (u64, &str),
) -> io::Result<()> {
    let mut content = Hashing { inner: from, digest: Sha256::new(), bytes: 0 };
    io::copy(&mut content, to)?;
    if content.bytes == size && hex(&content.digest.finalize()) == sha256 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the archive changed meanwhile"))
}

/// How what is there differs from an entry: `None` where nothing is there, an empty text where it
/// is the same.
fn difference(tree: &Tree, below: &Path, entry: &Entry, path: &Path) -> Result<Option<String>> {
    let in_the_way = |why: String| BackupError::InTheWay { path: path.to_owned(), why };
    let found = tree.find(below).map_err(|error| match error.raw_os_error() {
        Some(code) if rustix::io::Errno::from_raw_os_error(code) == rustix::io::Errno::LOOP => {
            in_the_way(
                "a directory above it is a symbolic link, which is never followed".to_owned(),
            )
        }
        Some(code) if rustix::io::Errno::from_raw_os_error(code) == rustix::io::Errno::NOTDIR => {
            in_the_way("what stands above it is no directory".to_owned())
        }
        _ => BackupError::io("read", path)(error),
    })?;
    let Some(found) = found else { return Ok(None) };
    let wanted = file_type(&entry.kind);
    if found.kind != wanted {
        let replaceable = |kind| matches!(kind, FileType::RegularFile | FileType::Symlink);
        let how = format!("{} instead of {}", word(found.kind), word(wanted));
        if replaceable(found.kind) && replaceable(wanted) {
            return Ok(Some(how));
        }
        return Err(in_the_way(how));
    }
    let reading = BackupError::io("read", path);
    let content = match &entry.kind {
        Kind::Directory => true,
        Kind::Link { target } => tree.link(below).map_err(&reading)? == Path::new(target),
        Kind::File { size, .. } if *size != found.size => false,
        Kind::File { sha256, .. } => {
            let file = tree.read(below).map_err(&reading)?;
            let mut hashing = Hashing { inner: file, digest: Sha256::new(), bytes: 0 };
            io::copy(&mut hashing, &mut io::sink()).map_err(&reading)?;
            hex(&hashing.digest.finalize()) == *sha256
        }
    };
    Ok(Some(how_different(content, &found, entry, tree.owners())))
}

/// The words for a difference. Pure.
fn how_different(content: bool, found: &Found, entry: &Entry, owners: bool) -> String {
    let mut how = Vec::new();
    if !content {
        how.push("content".to_owned());
    }
    if found.mode != entry.mode && !matches!(entry.kind, Kind::Link { .. }) {
        how.push(format!("mode {:04o} instead of {:04o}", found.mode, entry.mode));
    }
    if owners && (found.uid, found.gid) != (entry.uid, entry.gid) {
        let (uid, gid) = (entry.uid, entry.gid);
        how.push(format!("owner {}:{} instead of {uid}:{gid}", found.uid, found.gid));
    }
    how.join(", ")
}

const fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        FileType::Symlink => "a symbolic link",
        _ => "something else",
    }
}
