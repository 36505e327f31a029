//! One line in a file that others own.

use super::content::Content;
use super::converge::{Converge, Progress};
use super::edited::Edited;
use super::outcome::{Change, Failure};
use super::system::System;
use super::text::{Owned, with_line, without_line};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};

/// One line in a file. It replaces the first line that `key` or `prefix` names (further ones are
/// dropped), or is added at the end. All other bytes of the file stay as they are.
///
/// ```toml
/// line = { path = "/etc/ssh/sshd_config", key = "PermitRootLogin", line = "PermitRootLogin no" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Absolute path of the file; made when it does not exist.
    pub path: String,
    /// The whole line, without a line end. Not needed with `state = "absent"` and `key` or
    /// `prefix`.
    #[serde(default)]
    pub line: Content,
    /// Lines whose first word is this key are replaced; a word ends at white space or `=`.
    /// Example: `"PermitRootLogin"`.
    #[serde(default)]
    pub key: Option<String>,
    /// Lines that begin with this text are replaced. Either this or `key`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// `"present"` (default) or `"absent"`.
    #[serde(default)]
    pub state: Presence,
    /// A program that must accept the new file before the swap; `{file}` stands for its path.
    #[serde(default)]
    pub validate: Option<Vec<String>>,
}

impl Line {
    fn owned(&self) -> Owned<'_> {
        match (&self.key, &self.prefix) {
            (Some(key), _) => Owned::Key(key),
            (None, Some(prefix)) => Owned::Prefix(prefix),
            (None, None) => Owned::Same,
        }
    }
}

impl Converge for Line {
    type Found = Edited;

    fn validate(&self) -> Vec<Problem> {
        let line = self.line.as_bytes();
        let empty =
            |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        Rules::new()
            .path_below_root("path", &self.path)
            .that(!line.contains(&b'\n') && !line.contains(&b'\r'), || {
                Problem::new("line", "must be one line").hint("use a `block` for several lines")
            })
            .that(!(self.key.is_some() && self.prefix.is_some()), || {
                Problem::new("key", "only one of `key` and `prefix` can be given")
            })
            .that(!empty(&self.key) && !empty(&self.prefix), || {
                Problem::new("key", "an empty `key` or `prefix` would match every line")
            })
            .that(
                !line.is_empty()
                    || (self.state == Presence::Absent
                        && (self.key.is_some() || self.prefix.is_some())),
                || Problem::new("line", "is missing"),
            )
            .that(line.is_empty() || self.owned().owns(line, line), || {
                Problem::new("line", "does not begin with its own `key` or `prefix`")
                    .hint("else each run would add the line again")
            })
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<Edited, Failure> {
        Edited::find(&self.path, system, |text| {
            Ok(match self.state {
                Presence::Present => with_line(text, self.line.as_bytes(), self.owned()),
                Presence::Absent => without_line(text, self.line.as_bytes(), self.owned()),
            })
        })
    }

    fn shown_files(&self) -> Vec<String> {
        vec![self.path.clone()]
    }

    fn compare(&self, found: &Edited) -> Vec<Change> {
        let to = String::from_utf8_lossy(self.line.as_bytes()).into_owned();
        found.compare("line", (self.state == Presence::Present).then_some(to))
    }

    fn apply(
        &self,
        found: &Edited,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        found.apply(&self.path, self.validate.as_deref(), system)
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn replaces_by_key_and_keeps_owner_and_mode() {
        let mut host = Host::new();
        host.put("/etc/s", "A 1\nPort 22\n");
        host.set_mode("/etc/s", 0o640);
        let line = resource("[line]\npath='/etc/s'\nkey='Port'\nline='Port 2200'\n");
        assert!(matches!(host.apply(&line), Outcome::Changed(_)));
        assert_eq!(host.get("/etc/s").as_deref(), Some("A 1\nPort 2200\n"));
        assert_eq!(host.mode("/etc/s"), 0o640);
        assert_eq!(host.apply(&line), Outcome::Unchanged);
    }

    #[test]
    fn a_line_must_match_itself() {
        let line = resource("[line]\npath='/etc/s'\nkey='Port'\nline='Prot 2200'\n");
        assert_eq!(line.validate()[0].field, "line");
    }
}
