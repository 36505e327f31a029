//! Files that the controller brought: from where they were received to where they belong.

use super::LocalSystem;
use super::root::{Place, cannot};
use super::write::{Temporary, create_filled, remove_leftovers, set_owner_and_mode};
use crate::resource::{BlobPlace, Failure, sha256};
use rustix::fs::{self, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};

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

    /// Copies a received file to its place, and removes what was received.
    pub(super) fn place_received(&mut self, blob: &BlobPlace<'_>) -> Result<(), Failure> {
        let received = format!("{RECEIVED}/{}", blob.digest);
        let from = match self.root.open_path(&received, OFlags::RDONLY) {
            Ok(handle) => File::from(handle),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(Failure::new(format!(
                    "the content of {} was not brought to this host",
                    blob.path
                ))
                .hint("strata brings it before a layer's first change: run it again"));
            }
            Err(error) => return Err(cannot("read", &received, error)),
        };
        let place = self.root.existing_place(blob.path)?;
        remove_leftovers(&place);
        self.copy_into(blob, from, &place)?;
        // What stays is removed some days later.
        let _ = self.root.remove(&received, false);
        Ok(())
    }

    fn copy_into(
        &mut self,
        blob: &BlobPlace<'_>,
        from: File,
        place: &Place,
    ) -> Result<(), Failure> {
        let fail = |error| cannot("write", blob.path, error);
        let mut digest = String::new();
        let fill = |handle: &mut File| {
            digest = sha256(from, |piece| handle.write_all(piece)).map_err(|e| errno(&e))?;
            set_owner_and_mode(handle, (blob.uid, blob.gid), blob.mode)
        };
        let name = || self.temporary_name();
        let (name, handle) = create_filled(&place.directory, name, fill).map_err(fail)?;
        let mut temporary = Temporary::new(place, name);
        // It was right when it arrived: a disk may have damaged it since.
        if digest != blob.digest {
            let received = format!("{RECEIVED}/{}", blob.digest);
            let _ = self.root.remove(&received, false);
            return Err(Failure::new(format!(
                "what was brought for {} has the digest {digest} now, wanted {}",
                blob.path, blob.digest
            ))
            .hint("run it again: it is brought anew; see `dmesg` for errors of the disk"));
        }
        fs::fsync(&handle).map_err(fail)?;
        // A program must not be open for writing when it is started.
        drop(handle);
        temporary.rename().map_err(fail)?;
        fs::fsync(&place.directory).map_err(fail)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
