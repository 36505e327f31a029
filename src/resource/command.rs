//! A program to run.

use super::content::Content;
use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{Cache, Program, System};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A program to run, without a shell. With `creates` or `unless` it runs only while that does not
/// hold, and must make it hold. Without them it runs each time.
///
/// ```toml
/// command = { argv = ["systemd-machine-id-setup"], creates = "/etc/machine-id" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program and arguments. Secrets never belong here: use `stdin`.
    pub argv: Vec<String>,
    /// Do not run while this absolute path exists.
    #[serde(default)]
    pub creates: Option<String>,
    /// Do not run while this program exits with 0.
    #[serde(default)]
    pub unless: Option<Vec<String>>,
    /// Working directory. Default: `/`.
    #[serde(default)]
    pub cwd: Option<String>,
    /// User to run as. Default: root.
    #[serde(default)]
    pub user: Option<String>,
    /// Variables added to a small fixed environment. Secrets never belong here.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Bytes for its standard input.
    #[serde(default)]
    pub stdin: Content,
    /// Seconds that it may take. Default: 300.
    #[serde(default = "default_timeout")]
    pub timeout: u32,
    /// Whether a run counts as a change; false for a program that only looks. Default: true.
    #[serde(default = "yes")]
    pub changes: bool,
}

fn default_timeout() -> u32 {
    300
}

fn yes() -> bool {
    true
}

impl Command {
    fn program(&self, argv: &[String]) -> Program {
        Program {
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            env: self.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            timeout: Duration::from_secs(self.timeout.into()),
            ..Program::new(argv.iter().cloned())
        }
    }
}

impl Converge for Command {
    /// True when it need not run.
    type Found = bool;

    fn validate(&self) -> Vec<Problem> {
        let mut rules = Rules::new()
            .argv("argv", &self.argv)
            .that(self.creates.is_none() || self.unless.is_none(), || {
                Problem::new("unless", "only one of `creates` and `unless` can be given")
            });
        for path in self.creates.iter() {
            rules = rules.path("creates", path);
        }
        for path in self.cwd.iter() {
            rules = rules.path("cwd", path);
        }
        for argv in self.unless.iter() {
            rules = rules.argv("unless", argv);
        }
        for user in self.user.iter() {
            rules = rules.account("user", user);
        }
        for name in self.env.keys() {
            rules = rules.name("env", name, "_");
        }
        rules.that(self.timeout > 0, || Problem::new("timeout", "must be above 0")).done()
    }

    fn find(&self, system: &mut dyn System) -> Result<bool, Failure> {
        if let Some(path) = &self.creates {
            return Ok(system.metadata(path)?.is_some());
        }
        match &self.unless {
            Some(argv) => match system.run(&self.program(argv)) {
                Ok(output) if output.code.is_some() && !output.timed_out => Ok(output.success()),
                // One that hung or was killed said nothing at all.
                Ok(output) => {
                    let name = argv.first().map_or("", String::as_str);
                    let failure = output.failure(&format!("`unless` gave no answer: `{name}`"));
                    Err(failure.hint(format!(
                        "run it on the host by hand: it must end by itself within {} s",
                        self.timeout
                    )))
                }
                // A program that is not installed yet does not say that nothing is to be done.
                Err(_) => Ok(false),
            },
            None => Ok(false),
        }
    }

    fn compare(&self, done: &bool) -> Vec<Change> {
        if *done {
            return Vec::new();
        }
        vec![Change::new("command", None, Some(self.argv.join(" ")))]
    }

    fn apply(
        &self,
        _: &bool,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let program = self.program(&self.argv).stdin(self.stdin.as_bytes());
        let output = system.run(&program);
        system.invalidate(Cache::All);
        let output = output?;
        if output.success() {
            return Ok(());
        }
        let name = self.argv.first().map_or("", String::as_str);
        let failure = output.failure(&format!("`{name}` failed"));
        Err(if output.timed_out {
            failure.hint(format!("its `timeout` is {} s", self.timeout))
        } else {
            failure
        })
    }

    fn remaining(&self, system: &mut dyn System) -> Result<Vec<Change>, Failure> {
        if self.creates.is_none() && self.unless.is_none() {
            return Ok(Vec::new());
        }
        let done = self.find(system)?;
        Ok(self.compare(&done))
    }

    fn changes(&self) -> bool {
        self.changes
    }

    fn runs_each_time(&self) -> bool {
        self.changes && self.creates.is_none() && self.unless.is_none()
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn conditions_are_kept_and_checked() {
        let mut host = Host::new();
        host.put("/etc/done", "");
        let done = resource("[command]\nargv=['make']\ncreates='/etc/done'\n");
        assert_eq!(host.apply(&done), Outcome::Unchanged);
        assert!(host.ran().is_empty());
        let never = resource("[command]\nargv=['make']\ncreates='/etc/never'\n");
        let Outcome::Failed(failure) = host.apply(&never) else { panic!() };
        assert!(failure.message.contains("did not reach the wanted state"), "{failure:?}");
        let look = resource("[command]\nargv=['look']\nchanges=false\n");
        assert_eq!(host.apply(&look), Outcome::Unchanged);
        assert_eq!(host.ran(), ["make", "look"]);
        // Only a program that ended by itself says whether something is to be done.
        let unless = resource("[command]\nargv=['make']\nunless=['is-made']\n");
        host.answer(|program| (program.argv == ["is-made"]).then(|| (-9, String::new())));
        let Outcome::Failed(failure) = host.apply(&unless) else { panic!("killed") };
        assert!(failure.message.starts_with("`unless` gave no answer: `is-made`"), "{failure:?}");
        assert_eq!(host.ran(), ["make", "look", "is-made"], "it was not made");
        let mut asked = 0;
        host.answer(move |program| {
            asked += i32::from(program.argv == ["is-made"]);
            Some((i32::from(program.argv == ["is-made"] && asked == 1), String::new()))
        });
        assert!(matches!(host.apply(&unless), Outcome::Changed(_)));
        host.answer(|_| Some((2, "boom".into())));
        let Outcome::Failed(failure) = host.apply(&look) else { panic!() };
        assert_eq!(failure.message, "`look` failed: exit code 2");
        assert_eq!(failure.output.as_deref(), Some("boom"));
    }
}
