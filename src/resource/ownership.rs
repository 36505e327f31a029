//! Owner, group and mode: what files, directories and others have in common.

use super::mode::FileMode;
use super::outcome::{Change, Failure};
use super::system::{Metadata, System};
use super::validity::no_such_account;

/// Wanted owner and group with their numbers on this host; `None` where the host does not have
/// them (yet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    owner: String,
    group: String,
    uid: Option<u32>,
    gid: Option<u32>,
    owner_found: String,
    group_found: String,
}

impl Ownership {
    /// Asks the host for the numbers, and for the names of what was found.
    pub(super) fn find(
        owner: &str,
        group: &str,
        found: Option<&Metadata>,
        system: &mut dyn System,
    ) -> Result<Self, Failure> {
        let accounts = system.accounts()?;
        Ok(Self {
            owner: owner.to_owned(),
            group: group.to_owned(),
            uid: accounts.uid(owner),
            gid: accounts.gid(group),
            owner_found: found.map_or_else(String::new, |meta| accounts.user_name(meta.uid)),
            group_found: found.map_or_else(String::new, |meta| accounts.group_name(meta.gid)),
        })
    }

    /// The numbers.
    pub(super) fn ids(&self) -> Result<(u32, u32), Failure> {
        let uid = self.uid.ok_or_else(|| no_such_account("user", &self.owner))?;
        let gid = self.gid.ok_or_else(|| no_such_account("group", &self.group))?;
        Ok((uid, gid))
    }

    /// Differences of mode, owner and group.
    pub(super) fn compare(&self, mode: FileMode, found: &Metadata) -> Vec<Change> {
        let mut changes = Vec::new();
        if found.mode != mode.bits() {
            let was = format!("{:04o}", found.mode);
            changes.push(Change::new("mode", Some(was), Some(mode.to_string())));
        }
        let pairs = [
            ("owner", self.uid == Some(found.uid), &self.owner_found, &self.owner),
            ("group", self.gid == Some(found.gid), &self.group_found, &self.group),
        ];
        for (what, same, was, wanted) in pairs {
            if !same {
                changes.push(Change::new(what, Some(was.clone()), Some(wanted.clone())));
            }
        }
        changes
    }

    /// Sets what differs. The owner comes first: changing it clears set-id bits.
    pub(super) fn apply(
        &self,
        path: &str,
        mode: FileMode,
        found: &Metadata,
        system: &mut dyn System,
    ) -> Result<(), Failure> {
        let (uid, gid) = self.ids()?;
        let owner_differs = (found.uid, found.gid) != (uid, gid);
        if owner_differs {
            system.set_owner(path, uid, gid)?;
        }
        if owner_differs || found.mode != mode.bits() {
            system.set_mode(path, mode.bits())?;
        }
        Ok(())
    }
}

pub(super) fn root() -> String {
    "root".to_owned()
}
