//! The agent's session: frames in, work out.
//!
//! The reading thread never waits for work: batches queue for their own thread, programs and the
//! relay have theirs, and the writer orders what goes out. When the input ends (or stays silent too
//! long) the item in hand is finished, everything else is ended, and the agent exits.

use super::batch::{BatchEnd, BatchRunner, ConvergeItem};
use super::exec::Programs;
use super::facts;
use super::lock::{self, HeldLock, LockAttempt};
use super::once::OnceRecords;
use super::paths::HostPaths;
use super::pending::PendingHandlers;
use super::processes;
use super::prove::Prover;
use super::relay::{Relay, RelayRequest};
use super::writer::FrameWriter;
use crate::resource::Batch;
use crate::wire::{
    FrameDecoder, FromAgent, Hello, LockHolder, PROTOCOL, SILENCE_LIMIT_MS, ToAgent,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Exit status after a step that could not be stopped otherwise.
pub const EXIT_STUCK: u8 = 3;
/// Exit status after bytes that are no message of this protocol.
pub const EXIT_PROTOCOL: u8 = 4;

/// How long the last words may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Asks the controller to prove that the host is reachable; true when it did within the deadline.
pub type Prove = Box<dyn FnMut(Duration) -> bool + Send>;

/// Makes what converges the items of one batch.
pub type MakeConverge = Arc<dyn Fn(&HostPaths, &Batch, Prove) -> ConvergeItem + Send + Sync>;

/// Serves one controller until it leaves.
pub fn serve(
    paths: HostPaths,
    make_converge: MakeConverge,
    input: impl Read + AsFd,
    output: impl Write + Send + 'static,
) -> ExitCode {
    match Session::start(paths, make_converge, output) {
        Ok(session) => session.run(input),
        Err(error) => {
            eprintln!("strata-agent: the session could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Session {
    paths: HostPaths,
    writer: FrameWriter,
    programs: Programs,
    relay: Relay,
    prover: Prover,
    batches: mpsc::Sender<(u32, Batch)>,
    stops: Stops,
    batch_thread: JoinHandle<()>,
    lock: Option<HeldLock>,
}

/// Which batches are to stop.
#[derive(Clone, Default)]
struct Stops(Arc<Mutex<(bool, BTreeSet<u32>)>>);

impl Stops {
    fn lock(&self) -> std::sync::MutexGuard<'_, (bool, BTreeSet<u32>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contains(&self, batch: u32) -> bool {
        let state = self.lock();
        state.0 || state.1.contains(&batch)
    }
}

/// Why the reading ended.
enum End {
    Goodbye,
    Silence,
    Protocol(String),
}

impl Session {
    fn start(
        paths: HostPaths,
        make_converge: MakeConverge,
        output: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let facts = facts::gather(&paths);
        let writer = FrameWriter::start(output)?;
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            unix_time_ms: unix_time_ms(),
            uid: rustix::process::geteuid().as_raw(),
            facts,
        };
        writer.report(&FromAgent::Hello(Box::new(hello))).ok();
        let prover = Prover::default();
        let stops = Stops::default();
        let (batches, queue) = mpsc::channel();
        let batch_thread = BatchThread {
            paths: paths.clone(),
            writer: writer.clone(),
            prover: prover.clone(),
            stops: stops.clone(),
            make_converge,
        };
        Ok(Self {
            programs: Programs::new(paths.root(), writer.clone()),
            relay: Relay::start(writer.clone())?,
            batch_thread: std::thread::Builder::new()
                .name("batches".into())
                .spawn(move || batch_thread.run(&queue))?,
            paths,
            writer,
            prover,
            batches,
            stops,
            lock: None,
        })
    }

    fn run(mut self, mut input: impl Read + AsFd) -> ExitCode {
        let end = self.read_all(&mut input);
        self.stops.lock().0 = true;
        self.prover.end();
        self.programs.kill_all();
        drop(self.batches);
        // A step in hand has its own deadline, so this ends.
        self.batch_thread.join().ok();
        self.writer.flush(LAST_WORDS);
        self.writer.end();
        drop(self.lock);
        match end {
            End::Goodbye => ExitCode::SUCCESS,
            End::Silence => {
                eprintln!(
                    "strata-agent: the controller was silent for {} s",
                    SILENCE_LIMIT_MS / 1000
                );
                ExitCode::SUCCESS
            }
            End::Protocol(reason) => {
                eprintln!("strata-agent: {reason}");
                ExitCode::from(EXIT_PROTOCOL)
            }
        }
    }

    fn read_all(&mut self, input: &mut (impl Read + AsFd)) -> End {
        let mut decoder = FrameDecoder::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            loop {
                match decoder.next_message::<ToAgent>() {
                    Ok(Some(ToAgent::Goodbye)) => return End::Goodbye,
                    Ok(Some(message)) => self.serve(message),
                    Ok(None) => break,
                    Err(error) => return End::Protocol(error.to_string()),
                }
            }
            match wait_readable(input) {
                Ok(true) => {}
                Ok(false) => return End::Silence,
                Err(_) => return End::Goodbye,
            }
            match input.read(&mut buffer) {
                Ok(0) => return End::Goodbye,
                Ok(n) => decoder.push(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return End::Goodbye,
            }
        }
    }

    fn serve(&mut self, message: ToAgent) {
        match message {
            ToAgent::Converge { batch, work } => {
                self.batches.send((batch, work)).ok();
            }
            ToAgent::StopBatch { batch } => {
                self.stops.lock().1.insert(batch);
            }
            ToAgent::ConfirmReachable { batch } => self.prover.confirm(batch),
            ToAgent::Exec { id, spec } => self.programs.start(id, spec),
            ToAgent::ExecKill { id } => self.programs.kill(id),
            ToAgent::ExecCredit { id, bytes } => self.programs.credit(id, bytes),
            ToAgent::Open { stream, to, timeout_ms } => {
                let timeout = Duration::from_millis(u64::from(timeout_ms));
                self.relay.request(RelayRequest::Open { stream, to, timeout });
            }
            ToAgent::Data { stream, bytes } => {
                self.relay.request(RelayRequest::Data { stream, bytes });
            }
            ToAgent::Credit { stream, bytes } => {
                self.relay.request(RelayRequest::Credit { stream, bytes });
            }
            ToAgent::Close { stream } => self.relay.request(RelayRequest::Close { stream }),
            ToAgent::Lock { holder } => self.take_lock(&holder),
            ToAgent::Alive | ToAgent::Goodbye => {}
        }
    }

    fn take_lock(&mut self, holder: &LockHolder) {
        let answer = if self.lock.is_some() {
            FromAgent::Locked
        } else {
            match lock::take(&self.paths, holder) {
                Ok(LockAttempt::Taken(held)) => {
                    self.lock = Some(held);
                    FromAgent::Locked
                }
                Ok(LockAttempt::Refused(holder)) => FromAgent::LockRefused { holder },
                Err(error) => FromAgent::LockFailed { reason: error.to_string() },
            }
        };
        self.writer.report(&answer).ok();
    }
}

fn wait_readable(input: &impl AsFd) -> io::Result<bool> {
    let limit = Timespec { tv_sec: i64::from(SILENCE_LIMIT_MS / 1000), tv_nsec: 0 };
    loop {
        let mut fds = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Ok(n) => return Ok(n > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

struct BatchThread {
    paths: HostPaths,
    writer: FrameWriter,
    prover: Prover,
    stops: Stops,
    make_converge: MakeConverge,
}

impl BatchThread {
    fn run(&self, queue: &mpsc::Receiver<(u32, Batch)>) {
        let pending = PendingHandlers::in_directory(self.paths.pending());
        let once = OnceRecords::in_directory(self.paths.once());
        while let Ok((batch, work)) = queue.recv() {
            let runner = BatchRunner {
                pending: &pending,
                once: &once,
                report: &|report| {
                    let may_wait = report.event.may_wait();
                    let message = FromAgent::Item { batch, report };
                    if may_wait {
                        self.writer.report_later(&message)
                    } else {
                        self.writer.report(&message)
                    }
                },
                stopped: &|| self.stops.contains(batch),
            };
            let (prover, writer) = (self.prover.clone(), self.writer.clone());
            let prove: Prove = Box::new(move |deadline| prover.ask(&writer, batch, deadline));
            let converge = (self.make_converge)(&self.paths, &work, prove);
            let work = Arc::new(work);
            let end = runner.run(Arc::clone(&work), converge);
            let complete = end == BatchEnd::Complete;
            let forgotten = runner.forget_unknown(&work, end);
            self.writer.report(&FromAgent::BatchDone { batch, complete, forgotten }).ok();
            if end == BatchEnd::Stuck {
                self.writer.flush(LAST_WORDS);
                processes::kill_descendants();
                std::process::exit(i32::from(EXIT_STUCK));
            }
        }
    }
}
