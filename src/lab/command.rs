//! Running the machine's own programs: argument vectors only, output captured, failures explained.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::error::{LabError, Result};

/// How much of a failed program's standard error is repeated, in bytes.
const STDERR_TAIL: usize = 1200;

/// Runs a command to its end and fails unless it exits with 0.
pub(super) fn check(what: &str, command: &mut Command) -> Result<Output> {
    check_with_input(what, command, &[])
}

/// Runs a command with the given standard input and fails unless it exits with 0.
pub(super) fn check_with_input(what: &str, command: &mut Command, input: &[u8]) -> Result<Output> {
    let output = capture(command, input).map_err(|source| LabError::Tool {
        what: what.to_owned(),
        program: describe(command),
        status: "not started".to_owned(),
        stderr: source.to_string(),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(LabError::Tool {
        what: what.to_owned(),
        program: describe(command),
        status: output.status.to_string(),
        stderr: tail(&output.stderr),
    })
}

/// Runs a command to its end, whatever its exit code.
pub(super) fn capture(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_empty() {
        command.stdin(Stdio::null());
        return command.output();
    }
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // A thread of its own, so that a program which answers before it has read everything
        // cannot block both sides. A closed pipe is the program's own decision.
        scope.spawn(move || {
            if let Some(mut pipe) = stdin {
                let _closed_early = pipe.write_all(input);
            }
        });
        child.wait_with_output()
    })
}

/// A command with its arguments.
pub(super) fn program<I, S>(name: &str, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

/// Waits until `condition` gives `Ok`, asking every `pause`, and fails with its last reason.
pub(super) fn wait_until(
    what: &str,
    deadline: Duration,
    pause: Duration,
    mut condition: impl FnMut() -> std::result::Result<(), String>,
) -> Result<()> {
    let started = Instant::now();
    loop {
        let reason = match condition() {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        if started.elapsed() >= deadline {
            return Err(LabError::Deadline {
                what: what.to_owned(),
                seconds: deadline.as_secs(),
                reason,
            });
        }
        std::thread::sleep(pause);
    }
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().take(12).map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(STDERR_TAIL);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).trim().to_owned()
}
