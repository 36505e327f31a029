//! What goes into a backup, found without following any link, and what is left out with its
//! reason.

use super::manifest::{HOME, SITE};
use super::{BackupError, Result};
use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How a directory says that it can be made again (the Cache Directory Tagging convention).
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Archives of images stand here.
const IMAGES: &str = "images";

/// Held by whoever works in the site.
const LOCK: &str = ".strata/lock";

/// The index of runs: a database in use is not copied as a file.
const INDEX: &str = ".strata/index.sqlite";

/// What to gather.
#[derive(Debug)]
pub struct Gathering<'a> {
    /// The site's directory.
    pub site: &'a Path,
    /// The operator's home directory.
    pub home: &'a Path,
    /// The directory of the age identity.
    pub identities: &'a Path,
    /// A copy of the index of runs that nobody writes to, where there is one.
    pub index: Option<&'a Path>,
    /// The login keys, those that exist.
    pub login_keys: &'a [PathBuf],
    /// Take the login keys.
    pub with_login_key: bool,
    /// Take archives of images.
    pub with_images: bool,
}

/// One thing to put into the archive.
#[derive(Debug)]
pub struct Item {
    /// Its path in the archive.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub metadata: Metadata,
}

/// Something that is not in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// What.
    pub path: PathBuf,
    /// Why.
    pub why: String,
    /// Bytes.
    pub bytes: u64,
}

/// Finds everything, directories before what is in them, in the order of names.
///
/// # Errors
/// When something cannot be read, or has a name that is no text.
pub fn gather(wanted: &Gathering<'_>) -> Result<(Vec<Item>, Vec<LeftOut>)> {
    let mut walk = Walk { wanted, items: Vec::new(), left_out: Vec::new() };
    walk.item(SITE.to_owned(), wanted.site.to_owned(), true)?;
    let identities = wanted.identities;
    if identities.is_dir() {
        walk.item(home_name(wanted.home, identities)?, identities.to_owned(), true)?;
    }
    for key in wanted.login_keys {
        walk.login_key(key)?;
    }
    if let Some(index) = wanted.index {
        walk.item(format!("{SITE}/{INDEX}"), index.to_owned(), false)?;
    }
    Ok((walk.items, walk.left_out))
}

fn home_name(home: &Path, path: &Path) -> Result<String> {
    let below = path.strip_prefix(home).ok().and_then(Path::to_str);
    let below = below.ok_or_else(|| BackupError::Name(path.to_owned()))?;
    Ok(format!("{HOME}/{below}"))
}

struct Walk<'a> {
    wanted: &'a Gathering<'a>,
    items: Vec<Item>,
    left_out: Vec<LeftOut>,
}

impl Walk<'_> {
    /// Takes one thing, and what is in it. A root may be reached through a link, nothing below it.
    fn item(&mut self, name: String, path: PathBuf, root: bool) -> Result<()> {
        let metadata = if root { path.metadata() } else { path.symlink_metadata() };
        let metadata = metadata.map_err(BackupError::io("read", &path))?;
        let kind = metadata.file_type();
        if let Some(why) = self.not_taken(&name, &path, &metadata) {
            let bytes = size_of(&path);
            self.left_out.push(LeftOut { path, why: why.to_owned(), bytes });
            return Ok(());
        }
        let listed = kind.is_dir().then(|| std::fs::read_dir(&path));
        let (above, folder) = (name.clone(), path.clone());
        self.items.push(Item { name, path, metadata });
        let Some(listed) = listed else { return Ok(()) };
        let failed = BackupError::io("list", &folder);
        let mut names = Vec::new();
        for entry in listed.map_err(&failed)? {
            names.push(entry.map_err(&failed)?.file_name());
        }
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let name = name.to_str().ok_or_else(|| BackupError::Name(path.clone()))?;
            let name = format!("{above}/{name}");
            if !self.is_made_anew(&name) {
                self.item(name, path, false)?;
            }
        }
        Ok(())
    }

    /// What belongs to this process only, or is copied in another way.
    fn is_made_anew(&self, name: &str) -> bool {
        name.strip_prefix(SITE)
            .and_then(|name| name.strip_prefix('/'))
            .is_some_and(|name| name == LOCK || name.starts_with(INDEX))
    }

    fn not_taken(&self, name: &str, path: &Path, metadata: &Metadata) -> Option<&'static str> {
        let kind = metadata.file_type();
        if name == format!("{SITE}/{IMAGES}") && !self.wanted.with_images {
            return Some("archives of images; --with-images takes them");
        }
        if kind.is_dir() && is_cache(path) {
            return Some("a cache, by its CACHEDIR.TAG");
        }
        let taken = kind.is_dir() || kind.is_file() || kind.is_symlink();
        (!taken).then_some("neither a file nor a directory nor a link")
    }

    fn login_key(&mut self, key: &Path) -> Result<()> {
        if !key.is_file() {
            return Ok(());
        }
        let below = key.parent() == Some(&self.wanted.home.join(".ssh"));
        let why = match (self.wanted.with_login_key, below) {
            (false, _) => "a login key; --with-login-key takes it",
            (true, false) => "a login key outside of ~/.ssh: keep it yourself",
            (true, true) => "",
        };
        if !why.is_empty() {
            let left = LeftOut { path: key.to_owned(), why: why.to_owned(), bytes: size_of(key) };
            self.left_out.push(left);
            return Ok(());
        }
        let mut public = key.as_os_str().to_owned();
        public.push(".pub");
        for path in [key.to_owned(), PathBuf::from(public)] {
            if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
                self.item(home_name(self.wanted.home, &path)?, path, false)?;
            }
        }
        Ok(())
    }
}

fn is_cache(folder: &Path) -> bool {
    let mut begin = [0; CACHE_TAG.len()];
    std::fs::File::open(folder.join("CACHEDIR.TAG"))
        .and_then(|mut file| file.read_exact(&mut begin))
        .is_ok_and(|()| begin == CACHE_TAG)
}

/// The bytes of a file or of everything in a directory; what cannot be read counts nothing.
fn size_of(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    if !metadata.is_dir() {
        return metadata.size();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size_of(&entry.path())).sum()
}
