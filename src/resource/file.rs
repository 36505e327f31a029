//! A file with content, owner and mode, or its absence.

use super::content::Content;
use super::converge::{Converge, Progress};
use super::keep::{merge, region};
use super::mode::FileMode;
use super::outcome::{Change, Failure};
use super::ownership::{Ownership, root};
use super::system::{
    FileWrite, GuardPlan, Metadata, PathKind, Program, RevertStep, SavedFile, System, run_checked,
};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Content above this many bytes is compared by size first and shown as a size, not as a text.
const SHOWN: u64 = 256 * 1024;

/// A file. It is written to a temporary file in the same directory with its owner and mode, and
/// takes its name in one step; the file that it replaces is kept as a last-good copy. Missing
/// directories above it are made.
///
/// ```toml
/// file = { path = "/etc/ssh/sshd_config.d/00-site.conf", content = "MaxAuthTries 3\n", validate = ["sshd", "-t", "-f", "{file}"] }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute path, for example `/etc/motd`. A symbolic link there is replaced.
    pub path: String,
    /// The whole content. Default: an empty file. In a role, `src = "ROLE/NAME.j2"` instead takes it
    /// from a template.
    #[serde(default)]
    pub content: Content,
    /// Permission bits as an octal string. Default: `"0644"`.
    #[serde(default = "default_mode")]
    pub mode: FileMode,
    /// Owner, a name or a number. Default: `"root"`.
    #[serde(default = "root")]
    pub owner: String,
    /// Group, a name or a number. Default: `"root"`.
    #[serde(default = "root")]
    pub group: String,
    /// `"present"` (default) or `"absent"`.
    #[serde(default)]
    pub state: Presence,
    /// Leave whatever exists at the path exactly as it is, a symbolic link too: for files that
    /// belong to a daemon once they exist. Default: false.
    #[serde(default)]
    pub create_only: bool,
    /// Name of a live region: the lines between `# strata:keep NAME` and `# strata:end NAME` belong to
    /// something on the host. They are taken over from the file that exists when it has exactly one
    /// such region; what the content says there only seeds a new file. Not with `create_only`.
    #[serde(default)]
    pub keep: Option<String>,
    /// A program that must accept the new content before the swap; `{file}` stands for the path of
    /// the temporary file. Example: `["visudo", "-cf", "{file}"]`.
    #[serde(default)]
    pub validate: Option<Vec<String>>,
    /// Take the change back unless the host is reachable over a new connection afterwards.
    #[serde(default)]
    pub guard: Option<FileGuard>,
}

/// How a file that may lock the operator out becomes active, and when it is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGuard {
    /// The program that makes the change active, run after each change of the file and after its
    /// reversal. Example: `["systemctl", "reload", "ssh"]`.
    pub activate: Vec<String>,
    /// Seconds within which the host must be reachable over a new connection. Default: 30.
    #[serde(default = "default_revert_after")]
    pub revert_after: u32,
}

fn default_mode() -> FileMode {
    FileMode::new(0o644)
}

fn default_revert_after() -> u32 {
    30
}

/// What was found at the path.
#[derive(Debug)]
pub struct FileFound {
    metadata: Option<Metadata>,
    content: FoundContent,
    ownership: Ownership,
}

#[derive(Debug)]
enum FoundContent {
    Same,
    Differs(Option<Content>),
}

impl FileFound {
    fn regular(&self) -> Option<&Metadata> {
        self.metadata.as_ref().filter(|metadata| metadata.kind == PathKind::File)
    }
}

impl File {
    /// A file of root's that everyone may read.
    pub fn new(path: impl Into<String>, content: impl Into<Content>) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
            mode: default_mode(),
            owner: root(),
            group: root(),
            state: Presence::default(),
            create_only: false,
            keep: None,
            validate: None,
            guard: None,
        }
    }

    /// The content with the live region of the file that exists; `None` where none is kept.
    fn live(
        &self,
        found: Option<&Metadata>,
        system: &mut dyn System,
    ) -> Result<Option<Content>, Failure> {
        let (Some(name), Some(_)) = (&self.keep, found) else { return Ok(None) };
        let found = system.read(&self.path, MAX_KEPT)?.unwrap_or_default();
        Ok(Some(merge(self.content.as_bytes(), &found, name).into()))
    }

    fn write(&self, found: &FileFound, system: &mut dyn System) -> Result<(), Failure> {
        let (uid, gid) = found.ownership.ids()?;
        // The region may have changed since it was looked at.
        let live = self.live(found.regular(), system)?;
        system.write(&FileWrite {
            path: &self.path,
            content: live.as_ref().unwrap_or(&self.content).as_bytes(),
            mode: self.mode.bits(),
            uid,
            gid,
            validate: self.validate.as_deref(),
            keep: true,
        })
    }

    /// True for a file that concerns nothing but itself: no program judges or activates it, and
    /// nothing on the host shares it. What stands before and behind it may be prepared with it.
    pub(super) fn is_plain(&self) -> bool {
        self.state == Presence::Present
            && self.guard.is_none()
            && self.validate.is_none()
            && self.keep.is_none()
    }

    /// Prepares the write of a plain file, where it will need one. What stands in the way is left
    /// to the file's own turn, which reports it.
    pub(super) fn prepare(&self, system: &mut dyn System) {
        if !self.is_plain() || !Converge::validate(self).is_empty() {
            return;
        }
        let Ok(found) = self.find(system) else { return };
        let kind = found.metadata.map(|metadata| metadata.kind);
        let same = matches!((&found.content, found.regular()), (FoundContent::Same, Some(_)));
        if same || kind == Some(PathKind::Directory) || self.compare(&found).is_empty() {
            return;
        }
        if let Ok((uid, gid)) = found.ownership.ids() {
            let content = self.content.as_bytes();
            let mode = self.mode.bits();
            let (path, validate) = (self.path.as_str(), None);
            system.prepare(&FileWrite { path, content, mode, uid, gid, validate, keep: true });
        }
    }

    fn change(&self, found: &FileFound, system: &mut dyn System) -> Result<(), Failure> {
        if self.state == Presence::Absent {
            return system.remove_file(&self.path, true);
        }
        match (&found.content, found.regular()) {
            (FoundContent::Same, Some(metadata)) => {
                found.ownership.apply(&self.path, self.mode, metadata, system)
            }
            _ => self.write(found, system),
        }
    }

    fn change_guarded(
        &self,
        guard: &FileGuard,
        found: &FileFound,
        system: &mut dyn System,
    ) -> Result<(), Failure> {
        let was = match found.regular() {
            Some(metadata) => system.read(&self.path, MAX_GUARDED)?.map(|content| SavedFile {
                content,
                mode: metadata.mode,
                uid: metadata.uid,
                gid: metadata.gid,
            }),
            None => None,
        };
        let plan = GuardPlan {
            name: "file".to_owned(),
            revert: vec![
                RevertStep::File { path: self.path.clone(), was },
                RevertStep::Run {
                    argv: guard.activate.clone(),
                    stdin: Vec::new(),
                    required: false,
                },
            ],
            deadline: Duration::from_secs(guard.revert_after.into()),
            hint: format!(
                "look at what the new {} changes for logins from the operator host: port, addresses, users, keys",
                self.path
            ),
        };
        system.guarded(&plan, &mut |system| {
            self.change(found, system)?;
            let activate = Program::new(guard.activate.iter().cloned());
            run_checked(system, &activate, &format!("cannot activate {}", self.path)).map(|_| ())
        })
    }
}

/// What not everyone on the host shall be able to read is not shown either: the file may hold a
/// secret that strata never knew.
const WORLD_READ: u32 = 0o004;

/// A file with a live region is small: it is read at every look.
const MAX_KEPT: u64 = 4 * 1024 * 1024;

/// A guarded file is small: it is kept inside the guard's record.
const MAX_GUARDED: u64 = 4 * 1024 * 1024;

impl Converge for File {
    type Found = FileFound;

    fn validate(&self) -> Vec<Problem> {
        let rules = Rules::new()
            .path_below_root("path", &self.path)
            .account("owner", &self.owner)
            .account("group", &self.group)
            .that(self.state == Presence::Present || self.content.is_empty(), || {
                Problem::new("content", "an absent file has no content")
            })
            .that(!(self.create_only && self.guard.is_some()), || {
                Problem::new("guard", "a file that is only created cannot be guarded")
            })
            .that(!(self.create_only && self.keep.is_some()), || {
                Problem::new("keep", "a file that is only created belongs to the host as a whole")
                    .hint("leave out `keep` or `create_only`")
            })
            .that(self.mode.bits() & 0o6000 == 0 || self.mode.bits() & 0o022 == 0, || {
                Problem::new("mode", "a set-id file must not be writable for group or others")
            });
        let rules = match &self.keep {
            Some(name) => rules.name("keep", name, "_.-").that(
                region(self.content.as_bytes(), name).is_some(),
                || {
                    Problem::new("keep", format!("the content has not exactly one region `{name}`"))
                        .hint(format!("write the lines `# strata:keep {name}` and `# strata:end {name}` once each, around what the host may change"))
                },
            ),
            None => rules,
        };
        let rules = match &self.validate {
            Some(argv) => rules.argv("validate", argv).that(
                argv.iter().any(|part| part.contains("{file}")),
                || {
                    Problem::new("validate", "does not name the new file")
                        .hint("write {file} where the program expects the path")
                },
            ),
            None => rules,
        };
        match &self.guard {
            Some(guard) => rules
                .argv("guard.activate", &guard.activate)
                .that((5..=600).contains(&guard.revert_after), || {
                    Problem::new("guard.revert_after", "must be from 5 to 600 seconds")
                }),
            None => rules,
        }
        .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<FileFound, Failure> {
        let metadata = system.metadata(&self.path)?;
        let live = self.live(metadata.as_ref().filter(|m| m.kind == PathKind::File), system)?;
        let wanted = live.as_ref().unwrap_or(&self.content).as_bytes();
        let looked_at = self.state == Presence::Present && !self.create_only;
        let content = match metadata.filter(|found| found.kind == PathKind::File) {
            Some(found) if looked_at => {
                let same_size = usize::try_from(found.size).is_ok_and(|size| size == wanted.len());
                let bytes = if same_size || found.size <= SHOWN {
                    system.read(&self.path, found.size.max(SHOWN))?
                } else {
                    None
                };
                match bytes {
                    Some(bytes) if bytes == wanted => FoundContent::Same,
                    Some(bytes) if found.size <= SHOWN => FoundContent::Differs(Some(bytes.into())),
                    _ => FoundContent::Differs(None),
                }
            }
            _ => FoundContent::Differs(None),
        };
        let ownership = Ownership::find(&self.owner, &self.group, metadata.as_ref(), system)?;
        Ok(FileFound { metadata, content, ownership })
    }

    fn shown_files(&self) -> Vec<String> {
        vec![self.path.clone()]
    }

    fn compare(&self, found: &FileFound) -> Vec<Change> {
        let Some(metadata) = &found.metadata else {
            return match self.state {
                Presence::Absent => Vec::new(),
                Presence::Present => {
                    let size = format!("{} bytes", self.content.as_bytes().len());
                    vec![Change::new("content", None, Some(size))]
                }
            };
        };
        if self.state == Presence::Absent {
            let was = metadata.kind.name().to_owned();
            return vec![Change::new("path", Some(was), None)];
        }
        // Whatever is there stays, a symbolic link too: it belongs to the daemon.
        if self.create_only {
            return Vec::new();
        }
        let Some(metadata) = found.regular() else {
            let was = metadata.kind.name().to_owned();
            return vec![Change::new("type", Some(was), Some("file".to_owned()))];
        };
        let mut changes = found.ownership.compare(self.mode, metadata);
        if let FoundContent::Differs(before) = &found.content {
            let size = |bytes: u64| Some(format!("{bytes} bytes"));
            changes.push(Change {
                before: before
                    .as_ref()
                    .filter(|_| self.mode.bits() & WORLD_READ != 0)
                    .map(|content| content.as_bytes().to_vec()),
                ..Change::new(
                    "content",
                    size(metadata.size),
                    size(self.content.as_bytes().len() as u64),
                )
            });
        }
        changes
    }

    fn apply(
        &self,
        found: &FileFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        if found.metadata.is_some_and(|metadata| metadata.kind == PathKind::Directory) {
            return Err(Failure::new(format!("{} is a directory", self.path))
                .hint("move it away by hand: a directory is never replaced by a file"));
        }
        if self.state == Presence::Present && found.metadata.is_none() {
            make_parents(&self.path, system)?;
        }
        match &self.guard {
            Some(guard) => self.change_guarded(guard, found, system),
            None => self.change(found, system),
        }
    }
}

/// Makes the directories above a new file that are missing, for root with mode 0755: a file owns
/// its way. A directory that needs more has its own step before.
pub(super) fn make_parents(path: &str, system: &mut dyn System) -> Result<(), Failure> {
    let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).skip(1).collect();
    for at in slashes {
        let parent = &path[..at];
        if system.metadata(parent)?.is_none() {
            system.make_directory(parent, 0o755, 0, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
