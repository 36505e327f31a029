//! A mounted file system and its line in `/etc/fstab`.

use super::converge::{Converge, Progress};
use super::mount_table::{Mounted, escape, mounted_at, with_entry};
use super::outcome::{Change, Failure};
use super::system::{FileWrite, Program, System, read_text, run_checked};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};

/// A mounted file system. Nothing is ever formatted, and what is mounted with another device is
/// left alone and reported.
///
/// ```toml
/// mount = { path = "/var/lib/docker", device = "UUID=0f3a6c1e-7f55-4b52-9c3c-3f1c1d1f0a11", fstype = "ext4", options = "noatime" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path of the mount point, which must exist.
    pub path: String,
    /// Device as fstab names it: a path, `UUID=…`, `LABEL=…`, or a word such as `tmpfs`.
    pub device: String,
    /// Type, for example `"ext4"`.
    pub fstype: String,
    /// Options, separated by commas. Default: `"defaults"`.
    #[serde(default = "default_options")]
    pub options: String,
    /// `"mounted"` (default), `"unmounted"` (its line stays, with `noauto`) or `"absent"`.
    #[serde(default)]
    pub state: MountState,
}

/// What is wanted of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountState {
    /// Mounted now and at each boot.
    #[default]
    Mounted,
    /// Not mounted, with a line in fstab for those who mount it by hand.
    Unmounted,
    /// Not mounted and without a line.
    Absent,
}

fn default_options() -> String {
    "defaults".to_owned()
}

const FSTAB: &str = "/etc/fstab";

/// Mount and fstab found.
#[derive(Debug)]
pub struct MountFound {
    mounted: Option<Mounted>,
    fstab: Vec<u8>,
    wanted_fstab: Vec<u8>,
    swapped: bool,
}

impl Mount {
    fn entry(&self) -> Option<String> {
        let options = match self.state {
            MountState::Absent => return None,
            MountState::Unmounted => format!("{},noauto", self.options),
            MountState::Mounted => self.options.clone(),
        };
        let (device, path) = (escape(&self.device), escape(&self.path));
        Some(format!("{device}\t{path}\t{}\t{options}\t0\t0", self.fstype))
    }
}

impl Converge for Mount {
    type Found = MountFound;

    fn validate(&self) -> Vec<Problem> {
        let word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        Rules::new()
            .path_below_root("path", &self.path)
            .one_line("device", &self.device)
            .that(!self.device.is_empty(), || Problem::new("device", "is empty"))
            .that(word(&self.fstype), || Problem::new("fstype", "must be one word"))
            .that(word(&self.options), || Problem::new("options", "must be one word"))
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<MountFound, Failure> {
        let info = read_text(system, "/proc/self/mountinfo")?.unwrap_or_default();
        let mounted = mounted_at(&String::from_utf8_lossy(&info), &self.path);
        let fstab = read_text(system, FSTAB)?.unwrap_or_default();
        let wanted_fstab = with_entry(&fstab, &self.path, self.entry().as_deref());
        // Only a plain device path can be compared; UUIDs and labels stand for whatever has them.
        let swapped = mounted.as_ref().is_some_and(|mounted| {
            mounted.fstype != self.fstype
                || (self.device.starts_with("/dev/sd") && mounted.source != self.device)
        });
        Ok(MountFound { mounted, fstab, wanted_fstab, swapped })
    }

    fn shown_files(&self) -> Vec<String> {
        vec![FSTAB.to_owned()]
    }

    fn compare(&self, found: &MountFound) -> Vec<Change> {
        let mut changes = Vec::new();
        if found.fstab != found.wanted_fstab {
            let before = Some(found.fstab.clone());
            changes.push(Change { before, ..Change::new(FSTAB, None, self.entry()) });
        }
        let was = found.mounted.as_ref().map(|m| format!("{} ({})", m.source, m.fstype));
        let wanted = self.state == MountState::Mounted;
        if wanted && (was.is_none() || found.swapped) {
            let to = format!("{} ({})", self.device, self.fstype);
            changes.push(Change::new("mount", was, Some(to)));
        } else if !wanted && was.is_some() {
            changes.push(Change::new("mount", was, None));
        }
        changes
    }

    fn apply(
        &self,
        found: &MountFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        if self.state == MountState::Mounted && found.swapped {
            let source = found.mounted.as_ref().map_or("", |mounted| mounted.source.as_str());
            return Err(Failure::new(format!("{} is already the mount of {source}", self.path))
                .hint("stop what uses it and unmount it by hand"));
        }
        if found.fstab != found.wanted_fstab {
            system.write(&FileWrite::of_root(FSTAB, &found.wanted_fstab))?;
        }
        match (self.state, &found.mounted) {
            (MountState::Mounted, None) => {
                let program = Program::new(["mount", "--", &self.path]);
                run_checked(system, &program, &format!("cannot mount {}", self.path))?;
            }
            (MountState::Unmounted | MountState::Absent, Some(_)) => {
                let program = Program::new(["umount", "--", &self.path]);
                run_checked(system, &program, &format!("cannot unmount {}", self.path)).map_err(
                    |failure| failure.hint("`fuser -vm` on the host shows what uses it"),
                )?;
            }
            _ => {}
        }
        Ok(())
    }
}
