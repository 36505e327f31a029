//! Paths below a root handle.
//!
//! Every path is resolved by the kernel with the handle as its root (`openat2` with
//! `RESOLVE_IN_ROOT`), so that no link, relative or absolute, leads out of it; changes are then
//! made relative to the parent directory's handle.

use crate::resource::{Failure, Metadata, PathKind};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A directory that stands for `/`.
#[derive(Debug)]
pub(super) struct Root {
    handle: OwnedFd,
}

/// The directory that holds a path, and the path's last name in it.
pub(super) struct Place {
    pub(super) directory: OwnedFd,
    pub(super) name: String,
}

/// The failure of an operation on a path.
pub(super) fn cannot(what: &str, path: &str, error: Errno) -> Failure {
    let failure = Failure::new(format!("cannot {what} {path}: {}", reason(error)));
    match error {
        Errno::NOSPC | Errno::DQUOT => {
            failure.hint("free space on the file system; the old content is untouched")
        }
        Errno::ROFS => failure.hint("the file system is mounted read-only: see `dmesg` and fstab"),
        Errno::ACCESS | Errno::PERM => {
            failure.hint("the agent must run as root; an immutable attribute is another cause")
        }
        _ => failure,
    }
}

/// The kernel's words for an error, without the number.
pub(super) fn reason(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = fs::open(path, flags, Mode::empty())
            .map_err(|error| cannot("open", &path.display().to_string(), error))?;
        Ok(Self { handle })
    }

    /// Opens a path, links followed within the root.
    pub(super) fn open_path(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut attempts = 0;
        loop {
            match fs::openat2(&self.handle, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // The kernel gives up when a rename elsewhere races with the walk.
                Err(Errno::AGAIN) if attempts < 64 => attempts += 1,
                result => return result,
            }
        }
    }

    /// The directory that holds `path`; `None` where it does not exist.
    pub(super) fn place(&self, path: &str) -> Result<Option<Place>, Failure> {
        let (parent, name) = split(path)?;
        match self.open_path(parent, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => Ok(Some(Place { directory, name: name.to_owned() })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(cannot("open", parent, error)),
        }
    }

    /// The directory that holds `path`, which must exist. It is opened for reading, so that it can
    /// be synced.
    pub(super) fn existing_place(&self, path: &str) -> Result<Place, Failure> {
        let (parent, name) = split(path)?;
        match self.open_path(parent, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => Ok(Place { directory, name: name.to_owned() }),
            Err(Errno::NOENT) => {
                Err(Failure::new(format!("the directory {parent} does not exist"))
                    .hint("add a `directory` step before this one"))
            }
            Err(error) => Err(cannot("open", parent, error)),
        }
    }

    pub(super) fn metadata(&self, path: &str) -> Result<Option<Metadata>, Failure> {
        if path == "/" {
            let stat = fs::statat(&self.handle, "", AtFlags::EMPTY_PATH)
                .map_err(|error| cannot("look at", path, error))?;
            return Ok(Some(metadata(&stat)));
        }
        let Some(place) = self.place(path)? else {
            return Ok(None);
        };
        match fs::statat(&place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(metadata(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(cannot("look at", path, error)),
        }
    }

    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let handle = match self.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(handle) => handle,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(cannot("read", path, error)),
        };
        let mut bytes = Vec::new();
        File::from(handle).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(
            |error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                cannot("read", path, errno)
            },
        )?;
        if bytes.len() as u64 > limit {
            return Err(Failure::new(format!("{path} is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    pub(super) fn read_link(&self, path: &str) -> Result<Option<String>, Failure> {
        let Some(place) = self.place(path)? else {
            return Ok(None);
        };
        match fs::readlinkat(&place.directory, &place.name, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(cannot("read the link", path, error)),
        }
    }

    pub(super) fn list(&self, path: &str) -> Result<Option<Vec<String>>, Failure> {
        let handle = match self.open_path(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(handle) => handle,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(cannot("list", path, error)),
        };
        list_handle(&handle).map(Some).map_err(|error| cannot("list", path, error))
    }

    pub(super) fn make_directory(
        &self,
        path: &str,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<(), Failure> {
        let fail = |error| cannot("make the directory", path, error);
        let place = self.existing_place(path)?;
        fs::mkdirat(&place.directory, &place.name, Mode::from_raw_mode(0o700)).map_err(fail)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = fs::openat(&place.directory, &place.name, flags, Mode::empty()).map_err(fail)?;
        fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(fail)?;
        fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(fail)?;
        fs::fsync(&place.directory).map_err(fail)
    }

    /// Makes a directory of root's and its parents where they do not exist.
    pub(super) fn make_all(&self, path: &str, mode: u32) -> Result<(), Failure> {
        for (end, _) in path.char_indices().filter(|(index, c)| *c == '/' && *index > 0) {
            let parent = &path[..end];
            if self.metadata(parent)?.is_none() {
                self.make_directory(parent, 0o755, own_uid(), own_gid())?;
            }
        }
        if self.metadata(path)?.is_none() {
            self.make_directory(path, mode, own_uid(), own_gid())?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, path: &str, directory: bool) -> Result<(), Failure> {
        let place = self.existing_place(path)?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match fs::unlinkat(&place.directory, &place.name, flags) {
            Ok(()) => fs::fsync(&place.directory).map_err(|error| cannot("remove", path, error)),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(cannot("remove", path, error)),
        }
    }

    pub(super) fn set_mode(&self, path: &str, mode: u32) -> Result<(), Failure> {
        let place = self.existing_place(path)?;
        let fail = |error| cannot("set the mode of", path, error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle =
            fs::openat(&place.directory, &place.name, flags, Mode::empty()).map_err(fail)?;
        fs::fchmod(&handle, Mode::from_raw_mode(mode)).map_err(fail)
    }

    pub(super) fn set_owner(&self, path: &str, uid: u32, gid: u32) -> Result<(), Failure> {
        let place = self.existing_place(path)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fs::chownat(&place.directory, &place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| cannot("set the owner of", path, error))
    }
}

/// Names in an open directory, sorted.
pub(super) fn list_handle(handle: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(handle)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The agent's own user: root in production.
pub(super) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The agent's own group.
pub(super) fn own_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

fn metadata(stat: &Stat) -> Metadata {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => PathKind::File,
        FileType::Directory => PathKind::Directory,
        FileType::Symlink => PathKind::Link,
        _ => PathKind::Other,
    };
    Metadata {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: stat.st_mtime,
    }
}

fn split(path: &str) -> Result<(&str, &str), Failure> {
    match path.rsplit_once('/') {
        Some((parent, name)) if !matches!(name, "" | "." | "..") => {
            Ok((if parent.is_empty() { "/" } else { parent }, name))
        }
        _ => Err(Failure::new(format!("`{path}` is not an absolute path to a name"))),
    }
}
