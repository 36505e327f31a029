//! The background writer.

use super::journal::{Journal, Write};
use super::{Connect, Put};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two writes: enough of them to see an outage to a fiftieth of a second, and no load.
const EVERY: Duration = Duration::from_millis(20);

/// Between two attempts to connect: the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

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
    /// Begins to write.
    pub fn start<C: Connect>(clients: C) -> Self {
        let start = Instant::now();
        let journal = Arc::new(Mutex::new(Journal::default()));
        let (stop, stopped) = watch::channel(false);
        let work = Work { clients, start, journal: Arc::clone(&journal) };
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

struct Work<C> {
    clients: C,
    start: Instant,
    journal: Arc<Mutex<Journal>>,
}

impl<C: Connect> Work<C> {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut pace = interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut id, mut attempt) = (0, 0);
        let mut client: Option<C::Client> = None;
        let mut backoff = BACKOFF.0;
        while !*stopped.borrow() {
            let Some(connected) = &client else {
                match self.clients.connect(attempt).await {
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

    /// Writes once; false when the connection is of no use any more.
    async fn write(&self, client: &C::Client, id: u64) -> bool {
        let sent = self.start.elapsed();
        let (outcome, problem) = client.put(id).await;
        let write = Write { id, sent, ended: self.start.elapsed(), outcome };
        let mut journal = lock(&self.journal);
        journal.writes.push(write);
        let keep = problem.is_none();
        if let Some(problem) = problem {
            journal.last_problem = problem;
        }
        keep
    }
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    // Whoever panicked left whole writes only.
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}
