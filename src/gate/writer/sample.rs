//! The background sampler: what every node is, and whether it takes writes.

use super::Dial;
use super::authority::{Answer, Sample};
use crate::redis_client::{Client, Role};
use crate::secrets::Secret;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks at a node.
const EVERY: Duration = Duration::from_millis(250);

/// How long a look may take.
const DEADLINE: Duration = Duration::from_secs(1);

/// A node that is looked at.
pub struct Node {
    /// Its host.
    pub name: String,
    /// The way to this very node, past all proxies.
    pub way: Arc<dyn Dial>,
}

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
    /// Looks at every node; masters are given writes to keys that begin with `prefix`.
    pub fn start(nodes: Vec<Node>, password: &Secret<String>, prefix: &str) -> Self {
        let start = Instant::now();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let tasks = nodes
            .into_iter()
            .map(|node| {
                let (samples, password) = (Arc::clone(&samples), password.clone());
                let key = format!("{prefix}fence:{}", node.name);
                tokio::spawn(watch(node, password, key, start, samples))
            })
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

async fn watch(
    node: Node,
    password: Secret<String>,
    key: String,
    start: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
) {
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client: Option<Client> = None;
    loop {
        pace.tick().await;
        let began = start.elapsed();
        let connected = match client.take() {
            Some(client) => Ok(client),
            None => connect(&node, &password).await,
        };
        let (sent, answer) = match connected {
            Ok(connected) => {
                let (sent, answer) = look(&connected, &key, start).await;
                if !matches!(answer, Answer::Silent(_)) {
                    client = Some(connected);
                }
                (sent, answer)
            }
            Err(reason) => (began, Answer::Silent(reason)),
        };
        let sample = Sample { node: node.name.clone(), sent, ended: start.elapsed(), answer };
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}

async fn connect(node: &Node, password: &Secret<String>) -> Result<Client, String> {
    let stream = node.way.dial().await?;
    Client::login(stream, password.expose(), DEADLINE).await.map_err(|error| error.to_string())
}

/// What the node is; a master is given a write.
async fn look(client: &Client, key: &str, start: Instant) -> (Duration, Answer) {
    let began = start.elapsed();
    match client.role().await {
        Ok(Role::Master { .. }) => {}
        Ok(_) => return (began, Answer::Follows),
        Err(error) => return (began, Answer::Silent(error.to_string())),
    }
    let sent = start.elapsed();
    let answer = match client.set(key, &sent.as_millis().to_string()).await {
        Ok(()) => Answer::Accepted,
        Err(error) if error.is_refusal() => Answer::Fenced(error.to_string()),
        Err(error) => Answer::Silent(error.to_string()),
    };
    (sent, answer)
}
