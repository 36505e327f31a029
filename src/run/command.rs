//! `strata run`: one program on many hosts at once, its output as it comes.

use super::Exit;
use super::underway::no_journal;
use crate::event::{EventKind, HostProblem, ProgramEnd, elapsed_ms};
use crate::fleet::{Connection, Events, Fleet, Stop};
use crate::site::Site;
use crate::ssh::{AgentSession, ProgramEvent};
use crate::wire::{ExecOutcome, ExecSpec, OutputStream};
use futures::stream::{self, StreamExt};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How long the end of a killed program is waited for.
const KILLED: Duration = Duration::from_secs(10);

/// A program and where it runs.
pub struct CommandRequest<'a> {
    /// The site.
    pub site: &'a Site,
    /// The hosts.
    pub hosts: Vec<String>,
    /// How to reach them; as many as `parallel` says at the same time.
    pub connection: Connection,
    /// The program.
    pub spec: ExecSpec,
}

/// What a program printed, for whoever shows it. What is not taken holds the programs back.
#[derive(Debug)]
pub enum CommandOutput {
    /// Bytes, cut anywhere.
    Bytes {
        /// The host.
        host: String,
        /// Which stream.
        stream: OutputStream,
        /// The bytes as the program wrote them.
        bytes: Vec<u8>,
    },
    /// Nothing follows from this host; to be answered with its last lines once all is shown.
    End {
        /// The host.
        host: String,
        /// Takes the last lines.
        shown: oneshot::Sender<Option<String>>,
    },
}

/// What came of one host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostEnd {
    /// The program ran, or was tried.
    Ended(ProgramEnd),
    /// The host could not be used; its event says why.
    Unusable(&'static str, Exit),
    /// The run was stopped before.
    NotBegun,
}

impl std::fmt::Display for HostEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(end) => end.fmt(f),
            Self::Unusable(word, _) => f.write_str(word),
            Self::NotBegun => f.write_str("not begun: the run was stopped"),
        }
    }
}

impl HostEnd {
    /// True for an exit with status 0.
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Ended(end) if end.is_good())
    }

    const fn exit(&self) -> Exit {
        match self {
            Self::Ended(ProgramEnd::Exited { code: 0 }) => Exit::Done,
            Self::Ended(ProgramEnd::Lost { .. }) => Exit::Unreachable,
            Self::Ended(ProgramEnd::Stopped) | Self::NotBegun => Exit::Interrupted,
            Self::Ended(_) => Exit::StepFailed,
            Self::Unusable(_, exit) => *exit,
        }
    }
}

impl From<HostProblem> for HostEnd {
    fn from(problem: HostProblem) -> Self {
        let word = match problem {
            HostProblem::Unreachable => "unreachable",
            HostProblem::Identity => "not the pinned host",
            HostProblem::Locked => "locked",
            HostProblem::Unfit => "unfit",
        };
        Self::Unusable(word, Exit::from(problem))
    }
}

/// Runs the program on all hosts; gives what came of each, the exit, and the reason in a line.
pub async fn command(
    request: &CommandRequest<'_>,
    output: &mpsc::Sender<CommandOutput>,
    events: &Events,
    stop: &Stop,
) -> (Vec<(String, HostEnd)>, Exit, String) {
    if let Some((exit, reason)) = no_journal(events).await {
        return (Vec::new(), exit, reason);
    }
    let fleet = Fleet::default();
    let work = Work { request, output, fleet: &fleet, events, stop };
    let ends: Vec<(String, HostEnd)> = stream::iter(&request.hosts)
        .map(|host| work.one(host))
        .buffer_unordered(request.connection.parallel.max(1))
        .collect()
        .await;
    fleet.close().await;
    let (exit, reason) = ending(&ends);
    (ends, exit, reason)
}

/// The exit of a run and its reason.
fn ending(ends: &[(String, HostEnd)]) -> (Exit, String) {
    let exit = ends.iter().fold(Exit::Done, |exit, (_, end)| exit.worse(end.exit()));
    let good = ends.iter().filter(|(_, end)| end.is_good()).count();
    let count = |wanted: HostEnd| ends.iter().filter(|(_, end)| *end == wanted).count();
    let reason = match exit {
        Exit::Interrupted => format!(
            "stopped by the operator: {good} of {} hosts had exited 0; the program was killed on {}, and not begun on {}",
            ends.len(),
            count(HostEnd::Ended(ProgramEnd::Stopped)),
            count(HostEnd::NotBegun)
        ),
        _ => format!("exit 0 on {good} of {} hosts", ends.len()),
    };
    (exit, reason)
}

struct Work<'a> {
    request: &'a CommandRequest<'a>,
    output: &'a mpsc::Sender<CommandOutput>,
    fleet: &'a Fleet,
    events: &'a Events,
    stop: &'a Stop,
}

impl Work<'_> {
    async fn one(&self, host: &str) -> (String, HostEnd) {
        (host.to_owned(), self.end_on(host).await)
    }

    async fn end_on(&self, host: &str) -> HostEnd {
        if self.stop.wished() {
            return HostEnd::NotBegun;
        }
        let CommandRequest { site, connection, .. } = self.request;
        let obtained = self.fleet.obtain(site, host, connection, self.events, self.stop).await;
        let Some(session) = obtained else {
            return match self.fleet.problem(host) {
                _ if self.stop.wished() => HostEnd::NotBegun,
                problem => problem.unwrap_or(HostProblem::Unreachable).into(),
            };
        };
        let start = Instant::now();
        let end = self.follow(host, &session).await;
        let took_ms = elapsed_ms(start);
        let output = self.last_lines(host).await;
        self.events.emit(EventKind::ProgramFinished {
            host: host.to_owned(),
            end: end.clone(),
            output,
            took_ms,
        });
        HostEnd::Ended(end)
    }

    /// Runs the program to its end. The first wish to stop kills it and waits for its end, the
    /// second leaves that to the agent.
    async fn follow(&self, host: &str, session: &AgentSession) -> ProgramEnd {
        let lost = |reason: String| {
            let own = format!("{host}: ");
            ProgramEnd::Lost { reason: reason.strip_prefix(&own).unwrap_or(&reason).to_owned() }
        };
        let mut program = match session.exec_streaming(self.request.spec.clone()) {
            Ok(program) => program,
            Err(error) => return lost(error.to_string()),
        };
        let mut killed = None;
        loop {
            let deadline = killed.unwrap_or_else(tokio::time::Instant::now);
            let event = tokio::select! {
                event = program.next() => event,
                () = self.stop.soon(), if killed.is_none() => {
                    program.kill();
                    killed = Some(tokio::time::Instant::now() + KILLED);
                    continue;
                }
                () = self.stop.now() => return ProgramEnd::Stopped,
                () = tokio::time::sleep_until(deadline), if killed.is_some() => {
                    return lost(format!(
                        "it was killed, and its end was not heard of within {} s",
                        KILLED.as_secs()
                    ));
                }
            };
            match event {
                Ok(ProgramEvent::Output(stream, bytes)) => {
                    let piece = CommandOutput::Bytes { host: host.to_owned(), stream, bytes };
                    tokio::select! {
                        // Whoever shows it is gone, or does not take it: the end is what counts.
                        _ = self.output.send(piece) => {}
                        () = self.stop.soon() => {}
                    }
                }
                Ok(ProgramEvent::Done(outcome)) => return self.end_of(outcome, killed.is_some()),
                Err(error) => return lost(error.to_string()),
            }
        }
    }

    fn end_of(&self, outcome: ExecOutcome, killed: bool) -> ProgramEnd {
        match outcome {
            ExecOutcome::Exited(code) => ProgramEnd::Exited { code },
            ExecOutcome::Signaled(_) if killed => ProgramEnd::Stopped,
            ExecOutcome::Signaled(signal) => ProgramEnd::Signaled { signal },
            ExecOutcome::TimedOut => {
                ProgramEnd::TimedOut { seconds: self.request.spec.timeout_ms / 1000 }
            }
            ExecOutcome::NotStarted(reason) => ProgramEnd::NotStarted { reason },
        }
    }

    /// Waits until everything of a host is shown, unless the operator does not wait any more.
    async fn last_lines(&self, host: &str) -> Option<String> {
        let (shown, lines) = oneshot::channel();
        let end = CommandOutput::End { host: host.to_owned(), shown };
        let answer = async {
            self.output.send(end).await.ok()?;
            lines.await.ok()?
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = self.stop.now() => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32) -> (String, HostEnd) {
        (String::new(), HostEnd::Ended(ProgramEnd::Exited { code }))
    }

    #[test]
    fn only_exits_with_0_everywhere_are_done() {
        let exit = |ends: &[(String, HostEnd)]| ending(ends).0;
        let unreachable = || (String::new(), HostProblem::Identity.into());
        let stopped = (String::new(), HostEnd::Ended(ProgramEnd::Stopped));
        assert_eq!(exit(&[ended(0), ended(0)]), Exit::Done);
        assert_eq!(exit(&[ended(0), ended(3)]), Exit::StepFailed);
        assert_eq!(exit(&[ended(3), unreachable()]), Exit::Unreachable);
        assert_eq!(exit(&[ended(0), unreachable(), stopped.clone()]), Exit::Interrupted);
        let (_, reason) = ending(&[ended(0), stopped, (String::new(), HostEnd::NotBegun)]);
        assert_eq!(
            reason,
            "stopped by the operator: 1 of 3 hosts had exited 0; the program was killed on 1, and not begun on 1"
        );
    }
}
