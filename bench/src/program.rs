//! Runs a program to its end and says what it cost.

use crate::Outcome;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wait4::Wait4;

/// A command line with a fixed environment, which can be run many times.
#[derive(Debug, Clone)]
pub struct Program {
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<std::path::PathBuf>,
}

/// What a run cost.
#[derive(Debug, Clone)]
pub struct Cost {
    /// From its start to its end.
    pub wall: Duration,
    /// Processor time of the program and of the processes that it waited for.
    pub cpu: Duration,
    /// The largest resident memory of any one of them, in bytes.
    pub memory: u64,
    /// Its exit code.
    pub code: i32,
    /// What it printed, errors included.
    pub output: String,
}

impl Program {
    /// A program with its arguments.
    pub fn new(words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let words = words.into_iter().map(Into::into).collect();
        Self { words, environment: Vec::new(), directory: None }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with(mut self, words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in a directory.
    #[must_use]
    pub fn within(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Puts words before the program: another program that starts it.
    #[must_use]
    pub fn under(mut self, words: &[OsString]) -> Self {
        self.words.splice(0..0, words.iter().cloned());
        self
    }

    fn command(&self) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or(OsStr::new(""), OsString::as_os_str));
        command.args(words).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn measure(&self) -> Outcome<Cost> {
        // A file takes any amount of output without anybody reading meanwhile.
        let mut output: File = tempfile::tempfile()?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        let start = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("{:?}: {error}", self.words))?;
        let used = child.wait4()?;
        let wall = start.elapsed();
        output.rewind()?;
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes)?;
        Ok(Cost {
            wall,
            cpu: used.rusage.utime + used.rusage.stime,
            memory: used.rusage.maxrss,
            code: used.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// Runs it to its end, which must be a good one.
    ///
    /// # Errors
    /// When it cannot be started or ends with another status than 0; with what it printed.
    pub fn succeed(&self) -> Outcome<Cost> {
        let cost = self.measure()?;
        match cost.code {
            0 => Ok(cost),
            code => Err(format!("{:?} ended with {code}:\n{}", self.words, cost.output).into()),
        }
    }

    /// Starts it without waiting for its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> Outcome<std::process::Child> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(command.spawn().map_err(|error| format!("{:?}: {error}", self.words))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_waited_for_and_what_it_printed_is_kept() {
        let program = Program::new(["sh", "-c", "echo \"$WORD\"; pwd; exit 3"]);
        let cost = program.variable("WORD", "heard").within(Path::new("/")).measure().unwrap();
        assert_eq!((cost.code, cost.output.as_str()), (3, "heard\n/\n"));
        assert!(cost.memory > 100_000, "{} bytes", cost.memory);
        let error = Program::new(["sh", "-c", "echo why; exit 1"]).succeed().unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
