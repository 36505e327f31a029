//! A group of users.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{Cache, Program, System, run_checked};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};

/// A group.
///
/// ```toml
/// group = { name = "redis", gid = 999, system = true }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name, for example `"redis"`.
    pub name: String,
    /// Group id. Default: the next free one.
    #[serde(default)]
    pub gid: Option<u32>,
    /// Take a free id from the range of system groups. Default: false.
    #[serde(default)]
    pub system: bool,
    /// `"present"` (default) or `"absent"`.
    #[serde(default)]
    pub state: Presence,
}

impl Converge for Group {
    /// The id found.
    type Found = Option<u32>;

    fn validate(&self) -> Vec<Problem> {
        Rules::new()
            .account("name", &self.name)
            .that(self.name.parse::<u32>().is_err(), || Problem::new("name", "is a number"))
            .that(self.state == Presence::Present || self.name != "root", || {
                Problem::new("state", "the group root cannot be absent")
            })
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<Option<u32>, Failure> {
        Ok(system.accounts()?.groups.get(&self.name).map(|group| group.gid))
    }

    fn compare(&self, found: &Option<u32>) -> Vec<Change> {
        let gid = |gid: u32| format!("gid {gid}");
        match (self.state, *found) {
            (Presence::Present, None) => {
                let to = self.gid.map_or_else(|| "present".to_owned(), gid);
                vec![Change::new("group", None, Some(to))]
            }
            (Presence::Present, Some(was)) if self.gid.is_some_and(|wanted| wanted != was) => {
                vec![Change::new("gid", Some(gid(was)), self.gid.map(gid))]
            }
            (Presence::Absent, Some(was)) => vec![Change::new("group", Some(gid(was)), None)],
            _ => Vec::new(),
        }
    }

    fn apply(
        &self,
        found: &Option<u32>,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let mut argv = match (self.state, found) {
            (Presence::Absent, _) => vec!["groupdel".to_owned()],
            (Presence::Present, None) => vec!["groupadd".to_owned()],
            (Presence::Present, Some(_)) => vec!["groupmod".to_owned()],
        };
        if self.state == Presence::Present {
            if let Some(gid) = self.gid {
                argv.extend(["--gid".to_owned(), gid.to_string()]);
            }
            if self.system && found.is_none() {
                argv.push("--system".to_owned());
            }
        }
        argv.push(self.name.clone());
        let what = format!("cannot change the group {}", self.name);
        let result = run_checked(system, &Program::new(argv), &what);
        system.invalidate(Cache::Accounts);
        result.map(|_| ()).map_err(|failure| match self.gid {
            Some(gid) => failure.hint(format!("`getent group {gid}` shows who has the id")),
            None => failure,
        })
    }
}
