//! `inventory/lab/exceptions.toml`: what a host made on one machine cannot do, each with its
//! reason. A rehearsal leaves exactly these out and says so; production never reads the file.

use super::reader::TableReader;
use super::tree;
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};

/// The exceptions of the lab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceptions(pub Vec<Exception>);

/// One exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// What is left out.
    pub what: Excepted,
    /// Why a lab host cannot do it.
    pub reason: String,
    /// Its place.
    pub span: Span,
}

/// What an exception leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excepted {
    /// A step of a role.
    Step {
        /// The role.
        role: String,
        /// The step's name.
        step: String,
    },
    /// A kernel setting.
    Sysctl(String),
    /// A test of a gate.
    Test(String),
    /// A bound of a test: its figure is measured and shown, and not judged.
    Bound {
        /// The test.
        test: String,
        /// The bound's key.
        bound: String,
    },
}

impl Exceptions {
    /// The reason why this step is left out, if it is.
    pub fn step(&self, role: &str, step: &str) -> Option<&str> {
        self.find(
            |what| matches!(what, Excepted::Step { role: r, step: s } if r == role && s == step),
        )
    }

    /// The reason why this kernel setting is left out, if it is.
    pub fn sysctl(&self, key: &str) -> Option<&str> {
        self.find(|what| matches!(what, Excepted::Sysctl(k) if k == key))
    }

    /// The reason why this gate test is left out, if it is.
    pub fn test(&self, name: &str) -> Option<&str> {
        self.find(|what| matches!(what, Excepted::Test(n) if n == name))
    }

    /// The reason why this bound of a gate test is not judged, if it is not.
    pub fn bound(&self, test: &str, bound: &str) -> Option<&str> {
        self.find(
            |what| matches!(what, Excepted::Bound { test: t, bound: b } if t == test && b == bound),
        )
    }

    fn find(&self, wanted: impl Fn(&Excepted) -> bool) -> Option<&str> {
        self.0.iter().find(|exception| wanted(&exception.what)).map(|e| e.reason.as_str())
    }
}

/// Reads the file.
pub fn read(source: &Source, problems: &mut Diagnostics) -> Exceptions {
    let entries = tree::parse(source, problems);
    let mut top = TableReader::new(source, &entries, 0..source.text().len().min(1), problems);
    let nodes = top.tables("exception");
    top.finish();
    let mut exceptions = Exceptions::default();
    for node in nodes {
        let Some(mut table) = TableReader::of(source, node, problems) else { continue };
        let span = table.span();
        let reason = table.required_string("reason");
        let role = table.string("role");
        let step = table.string("step");
        let sysctl = table.string("sysctl");
        let test = table.string("test");
        let bound = table.string("bound");
        table.finish();
        let what = match (role, step, sysctl, test, bound) {
            (Some((role, _)), Some((step, _)), None, None, None) => {
                Excepted::Step { role: role.to_owned(), step: step.to_owned() }
            }
            (None, None, Some((key, _)), None, None) => Excepted::Sysctl(key.to_owned()),
            (None, None, None, Some((name, _)), None) => Excepted::Test(name.to_owned()),
            (None, None, None, Some((test, _)), Some((bound, _))) => {
                Excepted::Bound { test: test.to_owned(), bound: bound.to_owned() }
            }
            _ => {
                problems.push(
                    Diagnostic::error(Code::LAB_EXCEPTION, "an exception names one thing")
                        .at(span, "")
                        .hint("`role` and `step`, or `sysctl`, or `test`, or `test` and `bound`"),
                );
                continue;
            }
        };
        if let Some((reason, _)) = reason {
            exceptions.0.push(Exception { what, reason: reason.to_owned(), span });
        }
    }
    exceptions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excepted_bound_leaves_its_test_in() {
        let text = "[[exception]]\ntest = \"t\"\nbound = \"b\"\nreason = \"why\"\n";
        let mut problems = Diagnostics::new();
        let read = read(&Source::new("e.toml", text), &mut problems);
        assert!(!problems.has_errors());
        assert_eq!(read.bound("t", "b"), Some("why"));
        assert_eq!(
            (read.bound("t", "c"), read.bound("u", "b"), read.test("t")),
            (None, None, None)
        );
    }

    #[test]
    fn a_bound_without_its_test_is_refused() {
        let text = "[[exception]]\nbound = \"b\"\nreason = \"why\"\n";
        let mut problems = Diagnostics::new();
        assert!(read(&Source::new("e.toml", text), &mut problems).0.is_empty());
        assert!(problems.has_errors());
    }
}
