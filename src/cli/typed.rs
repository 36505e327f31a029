//! A command as it could be typed again: what the journal and the locks say of a run. What stands
//! for itself is left out, what a shell would read otherwise is quoted.

use super::install::{
    GateArgument, InstallArguments, SelectionArguments, StepArguments, VerifyArguments,
};
use super::run::RunArguments;
use std::borrow::Cow;

struct Typed(String);

impl Typed {
    fn new(verb: &str, selection: &SelectionArguments) -> Self {
        let mut typed = Self(verb.to_owned());
        typed.options("--layer", &selection.layer);
        typed.options("--from", &selection.from);
        typed.options("--to", &selection.to);
        typed.options("--host", &selection.host);
        typed
    }

    fn steps(&mut self, steps: &StepArguments) {
        self.options("--tag", &steps.tag);
        self.options("--step", &steps.step);
        self.options("--start-at", &steps.start_at);
    }

    fn flag(&mut self, name: &str) {
        self.0.push(' ');
        self.0.push_str(name);
    }

    fn options<'a>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>,
    ) {
        for value in values {
            self.flag(name);
            self.flag(&quoted(value.as_ref()));
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// `reboot` of these hosts.
pub fn reboot(selection: &SelectionArguments) -> String {
    Typed::new("reboot", selection).0
}

/// `plan` of this selection.
pub fn plan(selection: &SelectionArguments, steps: &StepArguments) -> String {
    let mut typed = Typed::new("plan", selection);
    typed.steps(steps);
    typed.0
}

/// `audit` of this selection.
pub fn audit(selection: &SelectionArguments) -> String {
    Typed::new("audit", selection).0
}

/// `adopt` of these layers.
pub fn adopt(selection: &SelectionArguments) -> String {
    Typed::new("adopt", selection).0
}

impl InstallArguments {
    /// The command, options in the order of `--help`.
    pub fn typed(&self) -> String {
        let mut typed = Typed::new("install", &self.selection);
        typed.steps(&self.steps);
        if self.keep_going {
            typed.flag("--keep-going");
        }
        typed.options("--deadline", &self.deadline.map(super::times::typed));
        if self.check {
            typed.flag("--check");
        }
        if self.gate != GateArgument::Formed {
            typed.options("--gate", [self.gate.word()]);
        }
        typed.options("--confirm", &self.confirm);
        typed.0
    }
}

impl VerifyArguments {
    /// The command, options in the order of `--help`.
    pub fn typed(&self) -> String {
        let mut typed = Typed::new("verify", &self.selection);
        typed.options("--kind", self.kind.iter().map(|kind| kind.test().word()));
        typed.options("--test", &self.test);
        typed.options("--deadline", &self.deadline.map(super::times::typed));
        typed.options("--confirm", &self.confirm);
        typed.0
    }
}

impl RunArguments {
    /// The command, options in the order of `--help`, then the program's own words.
    pub fn typed(&self) -> String {
        let mut typed = Typed::new("run", &self.selection);
        typed.options("--timeout", &self.timeout.map(|seconds| seconds.to_string()));
        typed.options("--limit", &self.limit.map(|limit| limit.to_string()));
        typed.options("--stdin", &self.stdin.as_ref().map(|file| file.to_string_lossy()));
        if self.lock {
            typed.flag("--lock");
        }
        typed.flag("--");
        for word in &self.command {
            typed.flag(&quoted(word));
        }
        typed.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::{Arguments, Command};
    use clap::Parser;

    fn typed(words: &[&str]) -> String {
        let words = ["strata"].iter().chain(words);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Install(arguments) => arguments.typed(),
            Command::Verify(arguments) => arguments.typed(),
            Command::Run(arguments) => arguments.typed(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_run_is_named_with_all_that_restricts_it() {
        for words in [
            &["install"][..],
            &["install", "--layer", "a", "--layer", "b", "--host", "db", "--tag", "t", "--check"],
            &["install", "--gate", "full", "--confirm", "site"],
            &["install", "--from", "a", "--to", "b", "--step", "s", "--start-at", "t"],
            &["install", "--keep-going", "--deadline", "30m"],
            &["verify", "--layer", "a", "--kind", "diag", "--kind", "perf", "--confirm", "site"],
            &["verify", "--test", "a", "--test", "b"],
        ] {
            assert_eq!(typed(words), words.join(" "));
        }
        assert_eq!(
            typed(&[
                "run",
                "--host",
                "db",
                "--timeout",
                "5",
                "--limit",
                "2",
                "--lock",
                "--",
                "sh",
                "-c",
                "a | b"
            ]),
            "run --host db --timeout 5 --limit 2 --lock -- sh -c 'a | b'"
        );
        // The default says nothing.
        assert_eq!(typed(&["install", "--gate", "formed"]), "install");
        assert_eq!(
            typed(&["install", "--host", "!db-03", "--host", "db-0*", "--tag", "a'b"]),
            r"install --host '!db-03' --host 'db-0*' --tag 'a'\''b'"
        );
    }
}
