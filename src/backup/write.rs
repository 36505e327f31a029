//! Writes an archive: under a temporary name, synced, and given its name only when it is whole and
//! the name is free.

use super::gather::Item;
use super::manifest::{Entry, FORMAT, HEAD, Head, Kind, MANIFEST, Manifest};
use super::{BackupError, Result};
use crate::secrets::SealTo;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A good ratio at a speed that disks do not exceed.
const COMPRESSION: i32 = 3;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Files in the archive.
    pub files: usize,
    /// Bytes of their contents.
    pub content: u64,
    /// Bytes of the archive.
    pub bytes: u64,
    /// The archive's own digest in hexadecimal.
    pub sha256: String,
}

/// Writes `items` to a new file.
///
/// # Errors
/// When the name is taken, something cannot be read or written, or changes meanwhile. Nothing
/// stands under the name then.
pub fn write(target: &Path, head: &Head, items: &[Item], to: &SealTo) -> Result<Written> {
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let failed = BackupError::io("write", target);
    let temporary = Temporary::beside(target)?;
    let out = Counting { inner: temporary.open()?, bytes: 0, digest: Sha256::new() };
    let sealed = to.seal(out).map_err(&failed)?;
    let packed = zstd::Encoder::new(sealed, COMPRESSION).map_err(&failed)?;
    let mut archive = tar::Builder::new(packed);
    let head = Head { format: FORMAT, ..head.clone() };
    text(&mut archive, HEAD, &serde_json::to_vec(&head).map_err(io::Error::from).map_err(&failed)?)
        .map_err(&failed)?;
    let (mut files, mut content) = (0, 0);
    let mut entries = Vec::with_capacity(items.len());
    for item in items {
        let entry = one(&mut archive, item, &failed)?;
        if let Kind::File { size, .. } = entry.kind {
            files += 1;
            content += size;
        }
        entries.push(entry);
    }
    let manifest = serde_json::to_vec(&Manifest { entries }).map_err(io::Error::from);
    manifest.and_then(|manifest| text(&mut archive, MANIFEST, &manifest)).map_err(&failed)?;
    let out = archive
        .into_inner()
        .and_then(|packed| packed.finish())
        .and_then(|sealed| sealed.finish())
        .map_err(&failed)?;
    out.inner.sync_all().map_err(&failed)?;
    temporary.name(target)?;
    let sha256 = super::manifest::hex(&out.digest.finalize());
    Ok(Written { files, content, bytes: out.bytes, sha256 })
}

/// Puts one item into the archive.
fn one<W: Write>(
    archive: &mut tar::Builder<W>,
    item: &Item,
    failed: &impl Fn(io::Error) -> BackupError,
) -> Result<Entry> {
    let Item { name, path, metadata } = item;
    let mode = metadata.mode() & 0o7777;
    let (uid, gid) = (metadata.uid(), metadata.gid());
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    let kind = if metadata.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        archive.append_data(&mut header, name, io::empty()).map_err(failed)?;
        Kind::Directory
    } else if metadata.is_symlink() {
        let target = std::fs::read_link(path).map_err(BackupError::io("read", path))?;
        let target = target.to_str().ok_or_else(|| BackupError::Name(path.clone()))?.to_owned();
        header.set_entry_type(tar::EntryType::Symlink);
        archive.append_link(&mut header, name, &target).map_err(failed)?;
        Kind::Link { target }
    } else {
        let reading = BackupError::io("read", path);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(&reading)?;
        let now = file.metadata().map_err(&reading)?;
        let stamp = |metadata: &std::fs::Metadata| {
            (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
        };
        if !now.is_file() || stamp(&now) != stamp(metadata) {
            return Err(BackupError::Changed(path.clone()));
        }
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(now.size());
        let mut content = Hashing { inner: file, digest: Sha256::new(), bytes: 0 };
        archive.append_data(&mut header, name, (&mut content).take(now.size())).map_err(
            |error| {
                if content.bytes < now.size() && error.kind() == io::ErrorKind::UnexpectedEof {
                    BackupError::Changed(path.clone())
                } else {
                    failed(error)
                }
            },
        )?;
        let after = content.inner.metadata().map_err(&reading)?;
        if content.bytes != now.size() || stamp(&after) != stamp(&now) {
            return Err(BackupError::Changed(path.clone()));
        }
        let sha256 = super::manifest::hex(&content.digest.finalize());
        Kind::File { size: now.size(), sha256 }
    };
    Ok(Entry { path: name.clone(), kind, mode, uid, gid })
}

fn text<W: Write>(archive: &mut tar::Builder<W>, name: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content)
}

/// Hashes what is read through it.
pub(super) struct Hashing<R> {
    pub(super) inner: R,
    pub(super) digest: Sha256,
    pub(super) bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.digest.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Counts and hashes what is written.
struct Counting {
    inner: File,
    bytes: u64,
    digest: Sha256,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file that disappears unless it is given a name.
struct Temporary {
    path: PathBuf,
    named: bool,
}

impl Temporary {
    fn beside(target: &Path) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let chance = getrandom::u64().map_err(|error| {
            BackupError::io("write", target)(io::Error::other(error.to_string()))
        })?;
        let path = target.with_file_name(format!(".{name}.strata-tmp-{chance:016x}"));
        Ok(Self { path, named: false })
    }

    fn open(&self) -> Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(BackupError::io("write", &self.path))
    }

    /// Gives it its name, unless something has that name already.
    fn name(mut self, target: &Path) -> Result<()> {
        let failed = BackupError::io("write", target);
        match renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => self.named = true,
            Err(rustix::io::Errno::EXIST) => return Err(BackupError::Exists(target.to_owned())),
            // A file system without it: a link fails as well where the name is taken.
            Err(rustix::io::Errno::INVAL) => match std::fs::hard_link(&self.path, target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(BackupError::Exists(target.to_owned()));
                }
                linked => linked.map_err(&failed)?,
            },
            Err(error) => return Err(failed(error.into())),
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all()).map_err(failed)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
            // It may never have been made.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
