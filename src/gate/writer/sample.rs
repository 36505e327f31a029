//! The background sampler: what every node is, and whether it takes writes.

use super::Watch;
use super::authority::{Answer, Sample};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks at a node.
const EVERY: Duration = Duration::from_millis(250);

/// A sampler at work. Dropping it ends it.
pub struct Sampler {
    start: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Sampler {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Sampler {
    /// Looks at every node.
    pub fn start<N: Watch>(nodes: Vec<N>) -> Self {
        let start = Instant::now();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let tasks = nodes
            .into_iter()
            .map(|node| tokio::spawn(watch(node, start, Arc::clone(&samples))))
            .collect();
        Self { start, samples, tasks }
    }

    /// Time since its start: the clock of its samples.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// What it saw so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn watch<N: Watch>(node: N, start: Instant, samples: Arc<Mutex<Vec<Sample>>>) {
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client: Option<N::Client> = None;
    loop {
        pace.tick().await;
        let began = Instant::now();
        let connected = match client.take() {
            Some(client) => Ok(client),
            None => node.connect().await,
        };
        let (sent, answer) = match connected {
            Ok(connected) => {
                let (sent, answer) = node.look(&connected).await;
                if !matches!(answer, Answer::Silent(_)) {
                    client = Some(connected);
                }
                (sent, answer)
            }
            Err(reason) => (began, Answer::Silent(reason)),
        };
        let sent = sent.saturating_duration_since(start);
        let sample = Sample { node: node.name().to_owned(), sent, ended: start.elapsed(), answer };
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}
