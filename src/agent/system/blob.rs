//! Files that the controller brought: from where they were received to where they belong.

use super::LocalSystem;
use super::root::{Place, cannot};
use super::write::{Temporary, create_filled, remove_leftovers, set_owner_and_mode};
use crate::resource::{BlobPlace, Failure, sha256};
use rustix::fs::{self, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Seek};

/// Where they were received, by digest.
const RECEIVED: &str = "/var/lib/strata/blobs";

impl LocalSystem {
    /// The digest of a file's content; `None` where nothing is.
    pub(super) fn file_digest(&self, path: &str) -> Result<Option<String>, Failure> {
        let handle = match self.root.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(handle) => handle,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(cannot("read", path, error)),
        };
        let digest = sha256(File::from(handle), |_| Ok(()));
        digest.map(Some).map_err(|error| cannot("read", path, errno(&error)))
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
        let from = match self.root.open_path(source, OFlags::RDONLY) {
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
        // It was right when it arrived: a disk may have damaged it since.
        let found = sha256(&from, |_| Ok(())).map_err(|e| cannot("read", source, errno(&e)))?;
        if found != blob.digest {
            let _ = self.root.remove(&received, false);
            return Err(Failure::new(format!(
                "what was brought for {} has the digest {found} now, wanted {}",
                blob.path, blob.digest
            ))
            .hint("run it again: it is brought anew; see `dmesg` for errors of the disk"));
        }
        let place = self.root.existing_place(blob.path)?;
        remove_leftovers(&place);
        match elsewhere {
            Some(_) => copy_into(|| self.temporary_name(), blob, from, &place)?,
            None => self.move_into(&received, blob, from, &place)?,
        }
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
    ) -> Result<(), Failure> {
        let fail = |error| cannot("write", blob.path, error);
        set_owner_and_mode(&from, (blob.uid, blob.gid), blob.mode).map_err(fail)?;
        fs::fsync(&from).map_err(fail)?;
        let folder = self.root.existing_place(received)?;
        match fs::renameat(&folder.directory, &folder.name, &place.directory, &place.name) {
            Err(Errno::XDEV) => {
                copy_into(|| self.temporary_name(), blob, from, place)?;
                // What stays is removed some days later.
                let _ = self.root.remove(received, false);
                Ok(())
            }
            renamed => renamed.map_err(fail),
        }
    }
}

/// Copies a received file, to another file system or a second place.
fn copy_into(
    name: impl FnMut() -> String,
    blob: &BlobPlace<'_>,
    mut from: File,
    place: &Place,
) -> Result<(), Failure> {
    let fail = |error| cannot("write", blob.path, error);
    let fill = |handle: &mut File| {
        from.rewind().and_then(|()| io::copy(&mut from, handle)).map_err(|e| errno(&e))?;
        set_owner_and_mode(handle, (blob.uid, blob.gid), blob.mode)
    };
    let (name, handle) = create_filled(&place.directory, name, fill).map_err(fail)?;
    let mut temporary = Temporary::new(place, name);
    fs::fsync(&handle).map_err(fail)?;
    // A program must not be open for writing when it is started.
    drop(handle);
    temporary.rename().map_err(fail)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
