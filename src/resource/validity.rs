//! Rules that types cannot express, checked when a role is loaded and again before a change.

use super::outcome::Failure;
use serde::{Deserialize, Serialize};

/// A field of a resource that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field's key in the role.
    pub field: &'static str,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem that needs no hint.
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into(), hint: None }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether something is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It is there.
    #[default]
    Present,
    /// It is not there.
    Absent,
}

impl Presence {
    /// The word in roles and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Absent => "absent",
        }
    }
}

/// Collects problems of one resource.
#[derive(Default)]
pub(super) struct Rules(Vec<Problem>);

impl Rules {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn done(self) -> Vec<Problem> {
        self.0
    }

    /// Adds a problem unless the rule holds.
    pub(super) fn that(mut self, holds: bool, problem: impl FnOnce() -> Problem) -> Self {
        if !holds {
            self.0.push(problem());
        }
        self
    }

    pub(super) fn add(mut self, problems: impl IntoIterator<Item = Problem>) -> Self {
        self.0.extend(problems);
        self
    }

    /// An absolute path without `.`, `..`, double slashes, a slash at its end, or control
    /// characters.
    pub(super) fn path(self, field: &'static str, path: &str) -> Self {
        self.that(path.starts_with('/'), || {
            Problem::new(field, format!("the path `{path}` is not absolute"))
                .hint("begin it with /")
        })
        .that(!path.chars().any(char::is_control), || {
            Problem::new(field, "a path must not hold control characters")
        })
        .that(
            path == "/"
                || !path
                    .trim_start_matches('/')
                    .split('/')
                    .any(|part| matches!(part, "" | "." | ".."))
                    && !path.starts_with("//"),
            || {
                Problem::new(field, format!("the path `{path}` is not in its plain form"))
                    .hint("leave out `.`, `..`, double slashes and a slash at the end")
            },
        )
    }

    /// A path below `/`: the root itself cannot be meant.
    pub(super) fn path_below_root(self, field: &'static str, path: &str) -> Self {
        self.path(field, path)
            .that(path != "/", || Problem::new(field, "the root directory cannot be meant"))
    }

    /// One line of text.
    pub(super) fn one_line(self, field: &'static str, text: &str) -> Self {
        self.that(!text.contains(['\n', '\r', '\0']), || {
            Problem::new(field, "must be one line, without line breaks or NUL")
        })
    }

    /// A name of letters, digits and the characters in `more`, not beginning with `-` or `.`.
    pub(super) fn name(self, field: &'static str, name: &str, more: &str) -> Self {
        let good = !name.is_empty()
            && name.len() <= 200
            && !name.starts_with(['-', '.'])
            && name.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        self.that(good, || {
            Problem::new(field, format!("`{name}` is not a valid name")).hint(if more.is_empty() {
                "use letters and digits".to_owned()
            } else {
                format!("use letters, digits and any of `{more}`, beginning with a letter or digit")
            })
        })
    }

    /// A user or group: a name as useradd accepts it, or a number.
    pub(super) fn account(self, field: &'static str, name: &str) -> Self {
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.len() <= 32
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        self.that(named || name.parse::<u32>().is_ok(), || {
            Problem::new(field, format!("`{name}` is not a user or group name"))
                .hint("a name of at most 32 letters, digits, `_`, `.`, `-`, or a number")
        })
    }

    /// A program with its arguments.
    pub(super) fn argv(self, field: &'static str, argv: &[String]) -> Self {
        self.that(argv.first().is_some_and(|program| !program.is_empty()), || {
            Problem::new(field, "names no program").hint("a list of strings: program, arguments")
        })
        .that(!argv.iter().any(|part| part.contains('\0')), || {
            Problem::new(field, "an argument holds a NUL byte")
        })
    }
}

/// Failure for an account that a resource needs and the host does not have.
pub(super) fn no_such_account(what: &str, name: &str) -> Failure {
    Failure::new(format!("the {what} `{name}` does not exist on the host"))
        .hint(format!("add a `{what}` step before this one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in ["/", "/etc/hosts", "/a b/c", "/ünï"] {
            assert_eq!(Rules::new().path("path", good).done(), [], "{good}");
        }
        for bad in ["", "etc", "/a/../b", "/a/./b", "/a//b", "//a", "/a/", "/a\nb"] {
            assert!(!Rules::new().path("path", bad).done().is_empty(), "{bad}");
        }
        assert!(!Rules::new().path_below_root("path", "/").done().is_empty());
    }

    #[test]
    fn accounts() {
        for good in ["root", "_apt", "www-data", "999"] {
            assert_eq!(Rules::new().account("owner", good).done(), [], "{good}");
        }
        for bad in ["", "-x", "a:b", "a b", "9x", "root\n"] {
            assert!(!Rules::new().account("owner", bad).done().is_empty(), "{bad:?}");
        }
    }
}
