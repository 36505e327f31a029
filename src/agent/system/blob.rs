//! Files that the controller brought: from where they were received to where they belong.

use super::LocalSystem;
use super::root::{Place, cannot};
use super::write::{Temporary, create_filled, remove_leftovers, set_owner_and_mode};
use crate::agent::hashed::{self, Stamp};
use crate::resource::{BlobPlace, Failure, sha256};
use rustix::fs::{self, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::time::{Duration, SystemTime};

/// Where they were received, by digest.
const RECEIVED: &str = "/var/lib/strata/blobs";

impl LocalSystem {
    /// The digest of a file's content; `None` where nothing is.
    pub(super) fn file_digest(&self, path: &str, wanted: &str) -> Result<Option<String>, Failure> {
        let handle = match self.root.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(handle) => File::from(handle),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(cannot("read", path, error)),
        };
        let digest = self.digest_of(&handle, wanted);
        digest.map(Some).map_err(|error| cannot("read", path, errno(&error)))
    }

    /// The digest of a file, hashed only where neither this agent has just done so, nor a note says
    /// that it is the wanted one.
    fn digest_of(&self, file: &File, wanted: &str) -> io::Result<String> {
        let stamp = Stamp::of(file)?;
        if let Some((_, digest)) = self.hashed.as_ref().filter(|(of, _)| *of == stamp) {
            return Ok(digest.clone());
        }
        let note = format!("{RECEIVED}/{}", hashed::note(wanted));
        let stamp = stamp.to_string();
        if self.root.read_link(&note).is_ok_and(|noted| noted == Some(stamp)) && self.counts(&note)
        {
            return Ok(wanted.to_owned());
        }
        sha256(file, |_| Ok(()))
    }

    fn counts(&self, note: &str) -> bool {
        let made = self.root.metadata(note).ok().flatten().map(|found| found.modified);
        let made = made.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let age = made.and_then(|made| (SystemTime::UNIX_EPOCH + made).elapsed().ok());
        age.is_some_and(hashed::counts)
    }

    /// Gives a received file its place: on the same file system it only gets its name.
    pub(super) fn place_received(&mut self, blob: &BlobPlace<'_>) -> Result<(), Failure> {
        let received = format!("{RECEIVED}/{}", blob.digest);
        let placed = format!("{received}.placed");
        // It was brought once and is wanted at a second place: a link tells where the first is.
        let elsewhere = match self.root.metadata(&received)? {
            Some(_) => None,
            None => self.root.read_link(&placed)?,
        };
        let source = elsewhere.as_ref().unwrap_or(&received);
        let from = match self.root.open_path(source, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(handle) => File::from(handle),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(Failure::new(format!(
                    "the content of {} was not brought to this host",
                    blob.path
                ))
                .hint("strata brings it before a layer's first change: run it again"));
            }
            Err(error) => return Err(cannot("read", source, error)),
        };
        let place = self.root.existing_place(blob.path)?;
        remove_leftovers(&place);
        let placed_now = match elsewhere {
            // Its owner may change the first one at any time: what is copied is what is looked at.
            Some(_) => copy_into(|| self.temporary_name(), blob, from, &place),
            None => self.move_into(&received, blob, from, &place),
        };
        if matches!(placed_now, Err(NotPlaced::Another(_))) {
            for stale in [&received, &placed] {
                let _ = self.root.remove(stale, false);
            }
        }
        placed_now.map_err(|error| error.failure(blob))?;
        // Without the link it is brought again for the second place.
        let _ = self.place_link(&placed, blob.path);
        fs::fsync(&place.directory).map_err(|error| cannot("write", blob.path, error))
    }

    fn move_into(
        &mut self,
        received: &str,
        blob: &BlobPlace<'_>,
        from: File,
        place: &Place,
    ) -> Result<(), NotPlaced> {
        // It was right when it arrived: it may have become another since.
        let found = self.digest_of(&from, blob.digest)?;
        if found != blob.digest {
            return Err(NotPlaced::Another(found));
        }
        set_owner_and_mode(&from, (blob.uid, blob.gid), blob.mode)?;
        fs::fsync(&from)?;
        let folder = self.root.existing_place(received).map_err(NotPlaced::Failed)?;
        match fs::renameat(&folder.directory, &folder.name, &place.directory, &place.name) {
            Err(Errno::XDEV) => {
                copy_into(|| self.temporary_name(), blob, from, place)?;
                // What stays is removed some days later.
                let _ = self.root.remove(received, false);
                Ok(())
            }
            renamed => {
                renamed?;
                self.hashed = Some((Stamp::of(&from)?, found));
                Ok(())
            }
        }
    }
}

/// Why a file did not get its place.
enum NotPlaced {
    /// It has this digest.
    Another(String),
    System(Errno),
    Failed(Failure),
}

impl NotPlaced {
    fn failure(self, blob: &BlobPlace<'_>) -> Failure {
        match self {
            Self::System(error) => cannot("write", blob.path, error),
            Self::Failed(failure) => failure,
            Self::Another(found) => Failure::new(format!(
                "what was brought for {} has the digest {found} now, wanted {}",
                blob.path, blob.digest
            ))
            .hint("run it again: it is brought anew; see `dmesg` for errors of the disk"),
        }
    }
}

impl From<Errno> for NotPlaced {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

impl From<io::Error> for NotPlaced {
    fn from(error: io::Error) -> Self {
        Self::System(errno(&error))
    }
}

/// Copies a received file, to another file system or a second place.
fn copy_into(
    name: impl FnMut() -> String,
    blob: &BlobPlace<'_>,
    mut from: File,
    place: &Place,
) -> Result<(), NotPlaced> {
    if !from.metadata()?.is_file() {
        return Err(NotPlaced::Another("of no regular file".to_owned()));
    }
    from.rewind()?;
    let mut found = String::new();
    let fill = |handle: &mut File| {
        found = sha256(from, |piece| handle.write_all(piece)).map_err(|error| errno(&error))?;
        set_owner_and_mode(handle, (blob.uid, blob.gid), blob.mode)
    };
    let (name, handle) = create_filled(&place.directory, name, fill)?;
    let mut temporary = Temporary::new(place, name);
    if found != blob.digest {
        return Err(NotPlaced::Another(found));
    }
    fs::fsync(&handle)?;
    // A program must not be open for writing when it is started.
    drop(handle);
    Ok(temporary.rename()?)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
