//! What scenarios ask of hosts: programs, connections, and waiting with a deadline.

use crate::ssh::{AgentSession, OpenError};
use crate::wire::{ExecOutcome, ExecSpec};
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a program of a probe may take.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(200);

/// A program's standard output.
///
/// # Errors
/// When it could not be run or did not end with status 0; the text says which and why.
pub async fn output(session: &AgentSession, argv: &[&str]) -> Result<String, String> {
    output_of(session, argv, Vec::new()).await
}

/// As [`output`], with bytes for the program's standard input.
///
/// # Errors
/// As [`output`].
pub async fn output_of(
    session: &AgentSession,
    argv: &[&str],
    stdin: Vec<u8>,
) -> Result<String, String> {
    succeeded(argv, run(session, argv, stdin).await?)
}

/// As [`output`], for a program that may take longer.
///
/// # Errors
/// As [`output`].
pub async fn output_within(
    session: &AgentSession,
    argv: &[&str],
    timeout: Duration,
) -> Result<String, String> {
    succeeded(argv, run_within(session, argv, Vec::new(), timeout).await?)
}

fn succeeded(
    argv: &[&str],
    (outcome, stdout, stderr): (ExecOutcome, String, String),
) -> Result<String, String> {
    match outcome {
        ExecOutcome::Exited(0) => Ok(stdout),
        other => {
            // Some programs complain on their standard output.
            let said = [tail(&stderr), tail(&stdout)].into_iter().find(|text| !text.is_empty());
            Err(format!("{}: {}{}", argv.join(" "), ended(&other), said.unwrap_or_default()))
        }
    }
}

/// A program's end and output, whatever its status.
///
/// # Errors
/// When the connection is lost.
pub async fn run(
    session: &AgentSession,
    argv: &[&str],
    stdin: Vec<u8>,
) -> Result<(ExecOutcome, String, String), String> {
    run_within(session, argv, stdin, PROGRAM_TIMEOUT).await
}

async fn run_within(
    session: &AgentSession,
    argv: &[&str],
    stdin: Vec<u8>,
    timeout: Duration,
) -> Result<(ExecOutcome, String, String), String> {
    let spec = ExecSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        stdin,
        env: Vec::new(),
        user: None,
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
    };
    let result = session.exec(spec).await.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((result.outcome, text(&result.stdout), text(&result.stderr)))
}

fn ended(outcome: &ExecOutcome) -> String {
    match outcome {
        ExecOutcome::Exited(status) => format!("exit status {status}"),
        ExecOutcome::Signaled(signal) => format!("ended by signal {signal}"),
        ExecOutcome::TimedOut => "timed out".to_owned(),
        ExecOutcome::NotStarted(why) => format!("not started: {why}"),
    }
}

fn tail(text: &str) -> String {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .map_or_else(String::new, |line| format!(": {}", line.trim()))
}

/// What a TCP port answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// A connection.
    Open,
    /// A refusal: the packet came through, nobody listens.
    Refused,
    /// Nothing: the packet was dropped.
    Filtered,
    /// Something else, for example no route.
    Other(String),
}

/// Tries a TCP port from the session's host.
pub async fn port(session: &AgentSession, to: SocketAddr, timeout: Duration) -> Port {
    match session.open_stream(to, timeout).await {
        Ok(_stream) => Port::Open,
        Err(OpenError::Refused { .. }) => Port::Refused,
        Err(OpenError::Timeout { .. }) => Port::Filtered,
        Err(error) => Port::Other(error.to_string()),
    }
}

/// Looks until `look` is content or the deadline passes.
///
/// # Errors
/// The last reason.
pub async fn wait_until<T, F>(deadline: Duration, mut look: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + deadline;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= end => {
                return Err(format!("{reason} (after {} s)", deadline.as_secs()));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// A probe of the agent on the session's host: what it prints.
///
/// # Errors
/// As [`output`].
pub async fn agent(session: &AgentSession, words: &[&str]) -> Result<String, String> {
    // The agent's own file, wherever it was put.
    let argv: Vec<&str> = ["/proc/self/exe", "probe"].iter().chain(words).copied().collect();
    output(session, &argv).await
}

/// The number of a line `name value`.
///
/// # Errors
/// When there is no such line.
pub fn value(text: &str, name: &str) -> Result<f64, String> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<f64>().ok())
        .filter(|value| value.is_finite())
        .ok_or_else(|| format!("the probe did not say `{name}`: {}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_value_is_a_number_behind_its_whole_name() {
        let text = "count 500\np99_us 1234\np9 x\n";
        assert_eq!(value(text, "p99_us"), Ok(1234.0));
        for missing in ["p99", "p9", "bytes", ""] {
            assert!(value(text, missing).is_err(), "{missing}");
        }
    }
}
