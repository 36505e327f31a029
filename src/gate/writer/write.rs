//! The background writer.

use super::Dial;
use super::journal::{Journal, Outcome, Write, key, value};
use crate::redis_client::{Client, Error};
use crate::secrets::Secret;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two writes: enough of them to see an outage to a fiftieth of a second, and no load.
const EVERY: Duration = Duration::from_millis(20);

/// How long a write may take.
const DEADLINE: Duration = Duration::from_secs(1);

/// How long the server may wait for a replica's word (X16).
const REPLICA_WITHIN: Duration = Duration::from_millis(500);

/// Between two attempts to connect: the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// How clients reach the service: one way, or several that are tried in turn.
#[derive(Clone)]
pub struct Route {
    /// Ways to connect.
    pub ways: Vec<Arc<dyn Dial>>,
    /// The server's password.
    pub password: Secret<String>,
}

impl Route {
    /// Connects by the way with this number.
    ///
    /// # Errors
    /// Why not.
    pub async fn connect(&self, number: usize) -> Result<Client, String> {
        let count = self.ways.len().max(1);
        let way = self.ways.get(number % count).ok_or("there is no way to the service")?;
        let stream = way.dial().await?;
        Client::login(stream, self.password.expose(), DEADLINE)
            .await
            .map_err(|error| error.to_string())
    }
}

/// A writer at work. Dropping it ends it.
pub struct Writer {
    start: Instant,
    journal: Arc<Mutex<Journal>>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Writer {
    /// Begins to write keys that begin with `prefix`.
    pub fn start(route: Route, prefix: String) -> Self {
        let start = Instant::now();
        let journal = Arc::new(Mutex::new(Journal::default()));
        let (stop, stopped) = watch::channel(false);
        let work = Work { route, prefix, start, journal: Arc::clone(&journal) };
        let task = Some(tokio::spawn(work.run(stopped)));
        Self { start, journal, stop, task }
    }

    /// Time since its start: the clock of its journal.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// What it did so far.
    pub fn journal(&self) -> Journal {
        lock(&self.journal).clone()
    }

    /// An error until a write that was sent after `moment` is acknowledged.
    ///
    /// # Errors
    /// The last problem.
    pub fn acked_since(&self, moment: Duration) -> Result<Duration, String> {
        let journal = lock(&self.journal);
        journal.first_ack_after(moment).ok_or_else(|| {
            let writes = journal.writes.len();
            format!(
                "no write through the client path is taken ({writes} tried): {}",
                journal.last_problem
            )
        })
    }

    /// Ends it after the write in hand; what it did, and when it ended.
    pub async fn finish(mut self) -> (Journal, Duration) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let abort = task.abort_handle();
            // Every step of it has a deadline that is shorter.
            if timeout(Duration::from_secs(10), task).await.is_err() {
                abort.abort();
            }
        }
        (self.journal(), self.now())
    }
}

struct Work {
    route: Route,
    prefix: String,
    start: Instant,
    journal: Arc<Mutex<Journal>>,
}

impl Work {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut pace = interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut id, mut attempt) = (0, 0);
        let mut client: Option<Client> = None;
        let mut backoff = BACKOFF.0;
        while !*stopped.borrow() {
            let Some(connected) = &client else {
                match self.route.connect(attempt).await {
                    Ok(connected) => {
                        client = Some(connected);
                        backoff = BACKOFF.0;
                    }
                    Err(reason) => {
                        attempt += 1;
                        {
                            let mut journal = lock(&self.journal);
                            journal.failed_connections += 1;
                            journal.last_problem = reason;
                        }
                        // Ends early when the writer is to end.
                        timeout(backoff, stopped.changed()).await.ok();
                        backoff = (backoff * 2).min(BACKOFF.1);
                    }
                }
                continue;
            };
            pace.tick().await;
            let keep = self.write(connected, id).await;
            id += 1;
            if !keep {
                client = None;
                attempt += 1;
            }
        }
    }

    /// Writes once; false when the connection is of no use any more. A refusal ends it too: behind
    /// a proxy the next connection may lead to another server.
    async fn write(&self, client: &Client, id: u64) -> bool {
        let sent = self.start.elapsed();
        let (mut keep, mut problem) = (true, None);
        let set = client.set(&key(&self.prefix, id), &value(&self.prefix, id)).await;
        let outcome = match set {
            Ok(()) => {
                let replicas = client.wait(1, REPLICA_WITHIN).await;
                if let Err(error) = &replicas {
                    keep = false;
                    problem = Some(error.to_string());
                }
                Outcome::Acked(replicas.unwrap_or(0))
            }
            Err(error) => {
                keep = false;
                let reason = error.to_string();
                problem = Some(reason.clone());
                outcome_of(&error, reason)
            }
        };
        let write = Write { id, sent, ended: self.start.elapsed(), outcome };
        let mut journal = lock(&self.journal);
        journal.writes.push(write);
        if let Some(problem) = problem {
            journal.last_problem = problem;
        }
        keep
    }
}

fn outcome_of(error: &Error, reason: String) -> Outcome {
    if error.is_refusal() { Outcome::Refused(reason) } else { Outcome::Unknown(reason) }
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    // Whoever panicked left whole writes only.
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}
