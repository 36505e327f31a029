//! Tells the operator's program what a run came to. Whatever becomes of it, the run's exit stays.

use super::output::tell;
use super::runtime;
use crate::report::Notice;
use crate::secrets::SharedRedactor;
use crate::secrets::provider::TOKEN_VARIABLE;
use crate::site::notify::NotifySettings;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// Bytes of the program's errors that are shown when it fails.
const LONGEST_ERROR: u64 = 2_000;

/// Runs the program if one of its occasions has come.
pub fn send(notify: &NotifySettings, notice: &Notice, redactor: &SharedRedactor) {
    let causes = notice.causes();
    if !causes.iter().any(|cause| notify.on.iter().any(|word| word == cause.word())) {
        return;
    }
    let told = notice.json().map_err(|error| error.to_string()).and_then(|text| {
        runtime::block_on(run(
            &notify.command,
            &text,
            Duration::from_secs(u64::from(notify.timeout)),
        ))?
    });
    if let Err(reason) = told {
        let reason = redactor.redact(&reason).into_owned();
        let program = notify.command.first().map_or("", String::as_str);
        tell!("warning: the notification by {program} failed: {reason}");
    }
}

/// Runs a program with a text on its standard input and waits for it, in a group of its own: what
/// it started goes with it when its time is over.
async fn run(command: &[String], text: &str, limit: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut child = Command::new(program)
        .args(arguments)
        .env_remove(TOKEN_VARIABLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    let work = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read it may have all that it needs.
                let _ = stdin.write_all(text.as_bytes()).await;
            }
        };
        let listen = async {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                // What it said is only for the warning.
                let _ = stderr.take(LONGEST_ERROR).read_to_end(&mut said).await;
            }
            String::from_utf8_lossy(&said).trim().to_owned()
        };
        let (status, (), said) = tokio::join!(child.wait(), feed, listen);
        ended(status.map_err(|error| error.to_string())?, &said)
    };
    let result = tokio::select! {
        result = work => return result,
        () = tokio::time::sleep(limit) => format!("not done after {} s; it was killed", limit.as_secs()),
        _ = tokio::signal::ctrl_c() => "interrupted; it was killed".to_owned(),
    };
    if let Some(group) = group {
        // It may have ended just now.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    Err(result)
}

fn ended(status: ExitStatus, said: &str) -> Result<(), String> {
    let how = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(()),
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    Err(if said.is_empty() { how } else { format!("{how}: {said}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Cause;
    use crate::site::notify::OCCASIONS;
    use std::time::Instant;

    fn told(script: &str, limit_ms: u64) -> Result<(), String> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        runtime::block_on(run(&command, "{\"a\":1}", Duration::from_millis(limit_ms))).unwrap()
    }

    #[test]
    fn the_program_reads_the_text_and_its_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("got");
        assert_eq!(told(&format!("cat > {}", file.display()), 30_000), Ok(()));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "{\"a\":1}");
        assert_eq!(told("exec <&-; exit 0", 30_000), Ok(()));
        assert_eq!(told("echo no way >&2; exit 3", 30_000), Err("exit 3: no way".into()));
        assert_eq!(told("kill -9 $$", 30_000), Err("signal 9".into()));
        let missing = ["/no/such/program".to_owned()];
        let none = runtime::block_on(run(&missing, "", Duration::from_secs(9))).unwrap();
        assert!(none.unwrap_err().contains("No such file"));
    }

    #[test]
    fn one_that_hangs_is_killed_with_what_it_started() {
        let start = Instant::now();
        // The child holds standard error open; only the end of the group ends it.
        let result = told("sleep 600 & sleep 600", 300);
        assert!(result.unwrap_err().contains("it was killed"));
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn occasions_and_causes_have_the_same_words() {
        assert_eq!(OCCASIONS, Cause::ALL.map(Cause::word));
    }
}
