//! A session with one host's agent: everything that strata does on a host goes through one.

use super::connection::{HostKeyCheck, establish};
use super::error::{ConnectError, LockError, OpenError, SessionError};
use super::launch::{self, Launched};
use super::link::LinkEvent;
use super::reachability;
use super::relay_stream::RelayStream;
use super::router::{BatchNews, LockNews, Router};
use super::running_program::{ProgramEvent, RunningProgram};
use super::target::{ConnectOptions, Target, Transport};
use crate::resource::{Batch, ItemReport};
use crate::wire::{
    ExecOutcome, ExecSpec, FromAgent, Hello, LockHolder, OutputStream, PROTOCOL, RelayTarget,
    ToAgent,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// What [`AgentSession::exec`] keeps of a program's output, both streams together.
const CAPTURE_LIMIT: usize = 64 * 1024 * 1024;

/// How long [`AgentSession::close`] waits for the agent to finish the item in hand.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long [`AgentSession::lock`] waits for an answer that the agent gives without waiting.
const LOCK_ANSWER: Duration = Duration::from_secs(10);

/// How a program ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecResult {
    /// How it ended.
    pub outcome: ExecOutcome,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchResult {
    /// True when every item was looked at and none failed.
    pub complete: bool,
    /// Handlers that waited and that the role does not have any more: the host forgot them.
    pub forgotten: Vec<String>,
}

impl ExecResult {
    /// True when it exited with status 0.
    pub const fn success(&self) -> bool {
        matches!(self.outcome, ExecOutcome::Exited(0))
    }
}

/// A session with the agent on one host, over one connection and one channel. All methods take
/// `&self` and may run at the same time. Dropping it tells the agent to end after the item in hand,
/// and with the agent the host's lock; [`AgentSession::close`] waits for that.
pub struct AgentSession {
    router: Arc<Router>,
    target: Arc<Target>,
    options: Arc<ConnectOptions>,
    hello: Hello,
    clock_skew_ms: i64,
    /// Keeps the SSH connection; `None` on this machine.
    handle: Option<russh::client::Handle<HostKeyCheck>>,
}

impl std::fmt::Debug for AgentSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentSession").field("host", &self.target.name).finish_non_exhaustive()
    }
}

impl AgentSession {
    /// Connects, starts the agent (uploading it where it is missing) and takes its greeting.
    ///
    /// # Errors
    /// See [`ConnectError`]; each has a hint.
    pub async fn connect(target: &Target, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let (launched, handle, half_round_trip) = match target.transport {
            Transport::Local => (launch::locally(target, options).await?, None, Duration::ZERO),
            Transport::Ssh => {
                let connection = establish(target, options).await?;
                let launched = launch::over_ssh(&connection.handle, target, options).await?;
                (launched, Some(connection.handle), connection.half_round_trip)
            }
        };
        let greeting = greet(target, launched);
        let (hello, arrived, launched) = timeout(options.start_timeout, greeting)
            .await
            .map_err(|_| start_error(target, "it did not greet in time".into()))??;
        // Its clock was read half a round trip before the greeting arrived.
        let sent = arrived.saturating_sub(half_round_trip);
        let controller_ms = i64::try_from(sent.as_millis()).unwrap_or(i64::MAX);
        let host_ms = i64::try_from(hello.unix_time_ms).unwrap_or(i64::MAX);
        let Launched { reader, writer, decoder } = launched;
        tracing::debug!(host = %target.name, address = %target.address, "a session began");
        Ok(Self {
            router: Router::start(target.name.clone(), reader, writer, decoder),
            target: Arc::new(target.clone()),
            options: Arc::new(options.clone()),
            hello,
            clock_skew_ms: host_ms.saturating_sub(controller_ms),
            handle,
        })
    }

    /// The host's name.
    pub fn host(&self) -> &str {
        &self.target.name
    }

    /// The agent's greeting with the host's facts.
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The host's clock minus ours, in milliseconds.
    pub const fn clock_skew_ms(&self) -> i64 {
        self.clock_skew_ms
    }

    /// Runs a batch and hands over every report as it comes. When the host asks for a proof that it can still be reached, one is made over a new connection.
    /// Dropping the future stops the batch after the item in hand.
    ///
    /// # Errors
    /// When the session is lost before the batch's end.
    pub async fn converge(
        &self,
        work: Batch,
        mut on_report: impl FnMut(ItemReport) + Send,
    ) -> Result<BatchResult, SessionError> {
        let (batch, mut news) = self.router.add_batch()?;
        let guard = BatchGuard { router: &self.router, batch };
        self.router.send(ToAgent::Converge { batch, work });
        loop {
            match news.recv().await {
                None => return Err(self.router.lost()),
                Some(BatchNews::Item(report)) => on_report(report),
                Some(BatchNews::Prove(limit)) => self.prove(batch, limit),
                Some(BatchNews::Done { complete, forgotten }) => {
                    drop(guard);
                    return Ok(BatchResult { complete, forgotten });
                }
            }
        }
    }

    /// Proves in the background, so that reports still flow.
    fn prove(&self, batch: u32, limit: Duration) {
        let router = Arc::clone(&self.router);
        let (target, options) = (Arc::clone(&self.target), Arc::clone(&self.options));
        tokio::spawn(async move {
            if reachability::prove(&target, &options, limit).await {
                router.send_urgent(ToAgent::ConfirmReachable { batch });
            }
        });
    }

    /// Stops every running batch after the item in hand.
    pub fn stop_batch(&self) {
        for batch in self.router.running_batches() {
            self.router.send_urgent(ToAgent::StopBatch { batch });
        }
    }

    /// Runs a program and collects its output.
    ///
    /// # Errors
    /// When the session is lost, or the output exceeds 64 MiB.
    pub async fn exec(&self, spec: ExecSpec) -> Result<ExecResult, SessionError> {
        let mut program = self.exec_streaming(spec)?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match program.next().await? {
                ProgramEvent::Output(OutputStream::Stdout, bytes) => {
                    stdout.extend_from_slice(&bytes)
                }
                ProgramEvent::Output(OutputStream::Stderr, bytes) => {
                    stderr.extend_from_slice(&bytes)
                }
                ProgramEvent::Done(outcome) => {
                    return Ok(ExecResult { outcome, stdout, stderr });
                }
            }
            if stdout.len() + stderr.len() > CAPTURE_LIMIT {
                let host = self.target.name.clone();
                return Err(SessionError::OutputTooLarge { host, limit: CAPTURE_LIMIT });
            }
        }
    }

    /// Starts a program whose output is taken as it comes.
    ///
    /// # Errors
    /// When the session is lost.
    pub fn exec_streaming(&self, spec: ExecSpec) -> Result<RunningProgram, SessionError> {
        RunningProgram::start(Arc::clone(&self.router), spec)
    }

    /// Opens a TCP connection *from the host* to `to`.
    ///
    /// # Errors
    /// Refusal, time-out and other failures are told apart.
    pub async fn open_stream(
        &self,
        to: SocketAddr,
        limit: Duration,
    ) -> Result<RelayStream, OpenError> {
        RelayStream::open(Arc::clone(&self.router), RelayTarget::Tcp(to), limit).await
    }

    /// Opens a connection, on the host, to the stream socket at an absolute path.
    ///
    /// # Errors
    /// As [`AgentSession::open_stream`].
    pub async fn open_unix(&self, path: &str, limit: Duration) -> Result<RelayStream, OpenError> {
        let to = RelayTarget::Unix(path.to_owned());
        RelayStream::open(Arc::clone(&self.router), to, limit).await
    }

    /// Takes the host's lock, without waiting. It is held until the agent ends.
    ///
    /// # Errors
    /// When another run holds it (with who, where known), or it cannot be tried.
    pub async fn lock(&self, holder: LockHolder) -> Result<(), LockError> {
        let answer = self.router.add_lock()?;
        self.router.send(ToAgent::Lock { holder });
        let host = self.target.name.clone();
        match timeout(LOCK_ANSWER, answer).await {
            Ok(Ok(LockNews::Taken)) => Ok(()),
            Ok(Ok(LockNews::Held(holder))) => Err(LockError::Held { host, holder }),
            Ok(Ok(LockNews::Failed(reason))) => Err(LockError::Failed { host, reason }),
            Ok(Err(_)) => Err(self.router.lost().into()),
            // A late answer must not be taken for that of another request.
            Err(_) => {
                self.router.break_off(&format!(
                    "the agent gave no answer about the lock within {} s",
                    LOCK_ANSWER.as_secs()
                ));
                Err(self.router.lost().into())
            }
        }
    }

    /// True once the connection or the agent is gone.
    pub fn is_lost(&self) -> bool {
        self.router.is_over()
    }

    /// Waits until the connection or the agent is gone, and says why.
    pub async fn lost(&self) -> SessionError {
        self.router.wait_for_end().await;
        self.router.lost()
    }

    /// Lets the agent finish the item in hand and end, then closes the connection.
    pub async fn close(mut self) {
        end(Arc::clone(&self.router), self.handle.take()).await;
    }
}

impl Drop for AgentSession {
    /// Ends the session in the background. Without it the router's tasks would keep the link, the
    /// agent and with it the host's lock alive for as long as this program runs.
    fn drop(&mut self) {
        if self.router.is_over() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(end(Arc::clone(&self.router), self.handle.take()));
            }
            // Nothing can be said any more, but the tasks can be ended and the link with them.
            Err(_) => self.router.break_off("the session was dropped"),
        }
    }
}

/// Says goodbye, gives the agent time for the item in hand, and lets go of the link. An agent that
/// needs longer finds its input closed and ends by itself, all the same.
async fn end(router: Arc<Router>, handle: Option<russh::client::Handle<HostKeyCheck>>) {
    router.send(ToAgent::Goodbye);
    timeout(GOODBYE, router.wait_for_end()).await.ok();
    router.break_off("the session was closed");
    if let Some(handle) = handle {
        handle.disconnect(russh::Disconnect::ByApplication, "", "").await.ok();
    }
}

/// Takes the greeting and the time at which it arrived.
async fn greet(
    target: &Target,
    mut launched: Launched,
) -> Result<(Hello, Duration, Launched), ConnectError> {
    loop {
        match launched.decoder.next_message::<FromAgent>() {
            Ok(Some(FromAgent::Hello(hello))) if hello.protocol == PROTOCOL => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                return Ok((*hello, now, launched));
            }
            Ok(Some(FromAgent::Hello(hello))) => {
                let reason = format!("it speaks protocol {}, not {PROTOCOL}", hello.protocol);
                return Err(start_error(target, reason));
            }
            Ok(Some(_)) => {
                return Err(start_error(target, "its first message is no greeting".into()));
            }
            Err(error) => return Err(start_error(target, error.to_string())),
            Ok(None) => {}
        }
        match launched.reader.next().await {
            LinkEvent::Data(bytes) => launched.decoder.push(&bytes),
            LinkEvent::Stderr(_) | LinkEvent::Exit(_) => {}
            LinkEvent::Closed => {
                return Err(start_error(target, "it ended before its greeting".into()));
            }
        }
    }
}

fn start_error(target: &Target, reason: String) -> ConnectError {
    ConnectError::AgentStart { host: target.name.clone(), reason }
}

/// Stops the batch when nobody waits for it any more.
struct BatchGuard<'a> {
    router: &'a Router,
    batch: u32,
}

impl Drop for BatchGuard<'_> {
    fn drop(&mut self) {
        if self.router.running_batches().contains(&self.batch) {
            self.router.send_urgent(ToAgent::StopBatch { batch: self.batch });
            self.router.remove_batch(self.batch);
        }
    }
}
