//! A symbolic link.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{PathKind, System};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};

/// A symbolic link. It replaces another link, never a file or directory.
///
/// ```toml
/// link = { path = "/etc/localtime", target = "/usr/share/zoneinfo/Europe/Paris" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Absolute path of the link.
    pub path: String,
    /// Where it points: absolute, or relative to the link's directory. Not needed with `state =
    /// "absent"`.
    #[serde(default)]
    pub target: String,
    /// `"present"` (default) or `"absent"`.
    #[serde(default)]
    pub state: Presence,
}

/// What was found at the path.
#[derive(Debug)]
pub struct LinkFound {
    kind: Option<PathKind>,
    target: Option<String>,
}

impl Converge for Link {
    type Found = LinkFound;

    fn validate(&self) -> Vec<Problem> {
        Rules::new()
            .path_below_root("path", &self.path)
            .one_line("target", &self.target)
            .that(self.state == Presence::Absent || !self.target.is_empty(), || {
                Problem::new("target", "is missing")
            })
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<LinkFound, Failure> {
        let kind = system.metadata(&self.path)?.map(|metadata| metadata.kind);
        let target = match kind {
            Some(PathKind::Link) => system.read_link(&self.path)?,
            _ => None,
        };
        Ok(LinkFound { kind, target })
    }

    fn compare(&self, found: &LinkFound) -> Vec<Change> {
        let was = || found.target.clone().or(found.kind.map(|kind| kind.name().to_owned()));
        match self.state {
            Presence::Absent if found.kind.is_none() => Vec::new(),
            Presence::Absent => vec![Change::new("link", was(), None)],
            Presence::Present if found.target.as_ref() == Some(&self.target) => Vec::new(),
            Presence::Present => vec![Change::new("link", was(), Some(self.target.clone()))],
        }
    }

    fn apply(
        &self,
        found: &LinkFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        match found.kind {
            None | Some(PathKind::Link) => {}
            Some(kind) => {
                return Err(Failure::new(format!(
                    "{} is a {}, not a link",
                    self.path,
                    kind.name()
                ))
                .hint("move it away by hand"));
            }
        }
        match self.state {
            Presence::Present => system.make_link(&self.path, &self.target),
            Presence::Absent => system.remove_file(&self.path, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn points_where_it_should() {
        let mut host = Host::new();
        host.link("/etc/l", "/old");
        let link = resource("[link]\npath='/etc/l'\ntarget='../new'\n");
        assert!(matches!(host.apply(&link), Outcome::Changed(_)));
        assert_eq!(host.apply(&link), Outcome::Unchanged);
        host.put("/etc/f", "data");
        let Outcome::Failed(_) = host.apply(&resource("[link]\npath='/etc/f'\ntarget='x'\n"))
        else {
            panic!("a file is not replaced")
        };
        assert_eq!(host.get("/etc/f").as_deref(), Some("data"));
    }
}
