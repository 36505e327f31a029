//! A directory below which a backup is restored. Every path is resolved by the kernel below the
//! directory's handle and through no link (`openat2`), so that nothing leads out of it, also when
//! somebody changes directories meanwhile.

use super::manifest::Kind;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Beneath, and through no link.
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A directory to restore into.
#[derive(Debug)]
pub(super) struct Tree {
    handle: OwnedFd,
    /// Change owners: only root can.
    owners: bool,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
}

/// Permissions and owner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Tree {
    /// An existing directory; `None` where there is none.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match fs::open(path, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(Self { handle, owners: rustix::process::geteuid().is_root() })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory that holds a path, and the last name of it.
    fn place<'a>(&self, path: &'a Path) -> rustix::io::Result<(OwnedFd, &'a Path)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::openat2(&self.handle, parent, flags, Mode::empty(), RESOLVE)?;
        Ok((folder, Path::new(name)))
    }

    /// What stands at a path; `None` where nothing does.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        let (folder, name) = match self.place(path) {
            Err(Errno::NOENT) => return Ok(None),
            place => place?,
        };
        match fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(stat) => Ok(Some(Found {
                kind: FileType::from_raw_mode(stat.st_mode),
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
                size: u64::try_from(stat.st_size).unwrap_or(0),
            })),
        }
    }

    /// A file to read.
    pub(super) fn read(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(File::from(fs::openat2(&self.handle, path, flags, Mode::empty(), RESOLVE)?))
    }

    /// Where a link leads to.
    pub(super) fn link(&self, path: &Path) -> io::Result<PathBuf> {
        let (folder, name) = self.place(path)?;
        let target = fs::readlinkat(&folder, name, Vec::new())?;
        let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(target.as_bytes());
        Ok(PathBuf::from(bytes))
    }

    /// Makes a directory, or gives an existing one its rights.
    pub(super) fn directory(&self, path: &Path, rights: Rights) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        match fs::mkdirat(&folder, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let made = fs::openat(&folder, name, flags, Mode::empty())?;
        self.give(&made, rights)?;
        Ok(())
    }

    /// Writes a file: whole, with its rights, and synced before it has its name.
    pub(super) fn file<E: From<io::Error>>(
        &self,
        path: &Path,
        rights: Rights,
        write: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error: Errno| E::from(error.into());
        let (folder, name) = self.place(path).map_err(failed)?;
        let temporary = temporary_name().map_err(E::from)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let handle = fs::openat(&folder, &*temporary, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(handle.map_err(failed)?);
        let written = write(&mut file).and_then(|()| {
            self.give(&file, rights).map_err(failed)?;
            file.sync_all().map_err(E::from)?;
            fs::renameat(&folder, &*temporary, &folder, name).map_err(failed)
        });
        if written.is_err() {
            // The failure that is told is the first one.
            let _ = fs::unlinkat(&folder, &*temporary, AtFlags::empty());
        }
        written
    }

    /// Makes a link, in place of whatever file or link stands there.
    pub(super) fn make_link(&self, path: &Path, target: &str, rights: Rights) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        let temporary = temporary_name()?;
        fs::symlinkat(target, &folder, &*temporary)?;
        let owned = if self.owners {
            let (uid, gid) = (Uid::from_raw(rights.uid), Gid::from_raw(rights.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            fs::chownat(&folder, &*temporary, Some(uid), Some(gid), flags)
        } else {
            Ok(())
        };
        let named = owned.and_then(|()| fs::renameat(&folder, &*temporary, &folder, name));
        if named.is_err() {
            // The failure that is told is the first one.
            let _ = fs::unlinkat(&folder, &*temporary, AtFlags::empty());
        }
        Ok(named?)
    }

    /// Syncs the directory that holds a path, so that its names outlive a power cut.
    pub(super) fn sync_above(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = parent.unwrap_or(Path::new("."));
        let folder = fs::openat2(&self.handle, parent, flags, Mode::empty(), RESOLVE)?;
        Ok(fs::fsync(&folder)?)
    }

    /// Owner first: changing it can clear permissions.
    fn give(&self, handle: impl AsFd, rights: Rights) -> rustix::io::Result<()> {
        if self.owners {
            let (uid, gid) = (Uid::from_raw(rights.uid), Gid::from_raw(rights.gid));
            fs::fchown(&handle, Some(uid), Some(gid))?;
        }
        fs::fchmod(&handle, Mode::from_raw_mode(rights.mode))
    }

    /// Whether owners are restored.
    pub(super) const fn owners(&self) -> bool {
        self.owners
    }
}

fn temporary_name() -> io::Result<String> {
    let chance = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!(".strata-tmp-{chance:016x}"))
}

/// The kind of file that an entry is.
pub(super) const fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File { .. } => FileType::RegularFile,
        Kind::Link { .. } => FileType::Symlink,
    }
}
