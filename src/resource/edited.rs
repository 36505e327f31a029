//! A file that others own and resources edit: what line, block and hosts have in common.

use super::outcome::{Change, Failure};
use super::system::{FileWrite, PathKind, System, read_text};

/// A text file before and after an edit.
#[derive(Debug)]
pub struct Edited {
    before: Option<Vec<u8>>,
    after: Vec<u8>,
}

impl Edited {
    /// Reads the file and edits it. An absent file counts as empty.
    pub(super) fn find(
        path: &str,
        system: &mut dyn System,
        edit: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<Self, Failure> {
        let before = read_text(system, path)?;
        let after = edit(before.as_deref().unwrap_or_default()).map_err(|reason| {
            Failure::new(format!("cannot edit {path}: {reason}"))
                .hint("repair the markers in the file by hand")
        })?;
        Ok(Self { before, after })
    }

    /// The difference, described by `what`.
    pub(super) fn compare(&self, what: &str, to: Option<String>) -> Vec<Change> {
        if self.before.as_deref().unwrap_or_default() == self.after {
            return Vec::new();
        }
        vec![Change { before: self.before.clone(), ..Change::new(what, None, to) }]
    }

    /// Writes the edited text; owner and mode stay.
    pub(super) fn apply(
        &self,
        path: &str,
        validate: Option<&[String]>,
        system: &mut dyn System,
    ) -> Result<(), Failure> {
        let mut target = path.to_owned();
        let mut metadata = system.metadata(path)?;
        if metadata.is_some_and(|metadata| metadata.kind == PathKind::Link) {
            // The file belongs to someone who chose a link: edit what it points to.
            target = system.read_link(path)?.filter(|target| target.starts_with('/')).ok_or_else(
                || Failure::new(format!("{path} is a link; edit the file that it points to")),
            )?;
            metadata = system.metadata(&target)?;
        }
        let base = FileWrite { validate, ..FileWrite::of_root(&target, &self.after) };
        match metadata {
            Some(found) if found.kind == PathKind::File => system.write(&FileWrite {
                mode: found.mode,
                uid: found.uid,
                gid: found.gid,
                ..base
            }),
            Some(found) => {
                Err(Failure::new(format!("{target} is a {}, not a file", found.kind.name())))
            }
            None => system.write(&base),
        }
    }
}
