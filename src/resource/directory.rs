//! A directory with its owner and mode.

use super::converge::{Converge, Progress};
use super::mode::FileMode;
use super::outcome::{Change, Failure};
use super::ownership::{Ownership, root};
use super::system::{Metadata, PathKind, System};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};

/// One directory or several with the same owner and mode. Data is never deleted: an absent
/// directory must be empty.
///
/// ```toml
/// directory = { paths = ["/opt/keybuzz", "/opt/keybuzz/redis"], mode = "0750" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// One absolute path. Either this or `paths`.
    #[serde(default)]
    pub path: Option<String>,
    /// Several absolute paths, parents first.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Permission bits as an octal string. Default: `"0755"`.
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
}

fn default_mode() -> FileMode {
    FileMode::new(0o755)
}

impl Directory {
    fn all(&self) -> impl DoubleEndedIterator<Item = &String> {
        self.path.iter().chain(&self.paths)
    }
}

/// What was found at each path, in order.
#[derive(Debug)]
pub struct DirectoriesFound(Vec<(String, Option<Metadata>, Ownership)>);

impl Converge for Directory {
    type Found = DirectoriesFound;

    fn validate(&self) -> Vec<Problem> {
        let rules = Rules::new()
            .that(self.path.is_some() == self.paths.is_empty(), || {
                Problem::new("path", "exactly one of `path` and `paths` is needed")
            })
            .account("owner", &self.owner)
            .account("group", &self.group);
        let field = if self.path.is_some() { "path" } else { "paths" };
        self.all().fold(rules, |rules, path| rules.path_below_root(field, path)).done()
    }

    fn find(&self, system: &mut dyn System) -> Result<DirectoriesFound, Failure> {
        let mut found = Vec::new();
        for path in self.all() {
            let metadata = system.metadata(path)?;
            let ownership = Ownership::find(&self.owner, &self.group, metadata.as_ref(), system)?;
            found.push((path.clone(), metadata, ownership));
        }
        Ok(DirectoriesFound(found))
    }

    fn compare(&self, found: &DirectoriesFound) -> Vec<Change> {
        let several = found.0.len() > 1;
        let mut changes = Vec::new();
        for (path, metadata, ownership) in &found.0 {
            let of_path = match (self.state, metadata) {
                (Presence::Absent, None) => Vec::new(),
                (Presence::Absent, Some(metadata)) => {
                    vec![Change::new("path", Some(metadata.kind.name().into()), None)]
                }
                (Presence::Present, None) => {
                    vec![Change::new("directory", None, Some(format!("mode {}", self.mode)))]
                }
                (Presence::Present, Some(metadata)) if metadata.kind != PathKind::Directory => {
                    let was = metadata.kind.name().to_owned();
                    vec![Change::new("type", Some(was), Some("directory".into()))]
                }
                (Presence::Present, Some(metadata)) => ownership.compare(self.mode, metadata),
            };
            changes.extend(of_path.into_iter().map(|change| Change {
                what: if several { format!("{path}: {}", change.what) } else { change.what },
                ..change
            }));
        }
        changes
    }

    fn apply(
        &self,
        found: &DirectoriesFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        if self.state == Presence::Absent {
            for (path, metadata, _) in found.0.iter().rev() {
                match metadata.map(|metadata| metadata.kind) {
                    Some(PathKind::Directory) => remove_empty(path, system)?,
                    Some(kind) => return Err(not_a_directory(path, kind)),
                    None => {}
                }
            }
            return Ok(());
        }
        for (path, metadata, ownership) in &found.0 {
            match metadata {
                None => {
                    let (uid, gid) = ownership.ids()?;
                    system.make_directory(path, self.mode.bits(), uid, gid)?;
                }
                Some(metadata) if metadata.kind == PathKind::Directory => {
                    ownership.apply(path, self.mode, metadata, system)?;
                }
                Some(metadata) => return Err(not_a_directory(path, metadata.kind)),
            }
        }
        Ok(())
    }
}

fn remove_empty(path: &str, system: &mut dyn System) -> Result<(), Failure> {
    let entries = system.list(path)?.unwrap_or_default();
    if !entries.is_empty() {
        return Err(Failure::new(format!("{path} is not empty: {} entries", entries.len()))
            .hint("look at them and move them away by hand: strata deletes no data"));
    }
    system.remove_directory(path)
}

fn not_a_directory(path: &str, kind: PathKind) -> Failure {
    Failure::new(format!("{path} is a {}, not a directory", kind.name()))
        .hint("move it away by hand: strata deletes no data")
}

#[cfg(test)]
mod tests {
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn makes_parents_first_and_once() {
        let mut host = Host::new();
        let wanted = resource("[directory]\npaths=['/srv','/srv/a','/srv/a/b']\nmode='0750'\n");
        assert!(matches!(host.apply(&wanted), Outcome::Changed(changes) if changes.len() == 3));
        assert_eq!(host.mode("/srv/a/b"), 0o750);
        assert_eq!(host.apply(&wanted), Outcome::Unchanged);
    }

    #[test]
    fn never_deletes_data() {
        let mut host = Host::new();
        host.make_directory("/data");
        host.put("/data/x", "1");
        let gone = resource("[directory]\npath='/data'\nstate='absent'\n");
        let Outcome::Failed(failure) = host.apply(&gone) else { panic!("must refuse") };
        assert!(failure.message.contains("not empty"));
        host.remove("/data/x");
        assert!(matches!(host.apply(&gone), Outcome::Changed(_)));
        assert_eq!(host.apply(&gone), Outcome::Unchanged);
    }
}
