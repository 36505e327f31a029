//! A client that writes keys with unique ids all the while, and reads them back.

use super::members::{Cluster, ask, ask_within};
use crate::cluster::etcd::gateway::{self, call};
use crate::gate::writer::journal::{Journal, Outcome, Write, key, value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a write may take until its outcome is unknown and another member is asked.
const WRITE: Duration = Duration::from_secs(1);

/// Between two writes.
const PACE: Duration = Duration::from_millis(20);

/// Keys that are read at once.
const PAGE: u64 = 2_000;

/// A client that writes to whichever member answers.
pub struct Writer<'a> {
    cluster: &'a Cluster,
    prefix: &'a str,
    start: Instant,
    stopped: Cell<bool>,
    journal: RefCell<Journal>,
}

impl<'a> Writer<'a> {
    /// A client that has not begun.
    pub fn new(cluster: &'a Cluster, prefix: &'a str) -> Self {
        Self {
            cluster,
            prefix,
            start: Instant::now(),
            stopped: Cell::new(false),
            journal: RefCell::default(),
        }
    }

    /// Writes until it is stopped.
    pub async fn run(&self) {
        let mut turn = 0;
        for id in 1.. {
            if self.stopped.get() {
                return;
            }
            let sent = self.now();
            let members = &self.cluster.members;
            let Some(member) = members.get(turn % members.len().max(1)) else { return };
            let body = json!({
                "key": STANDARD.encode(key(self.prefix, id)),
                "value": STANDARD.encode(value(self.prefix, id)),
            });
            let put = call(gateway::PUT, &body);
            let outcome = match ask_within::<Value>(member, put, WRITE).await {
                Ok(_) => Outcome::Acked(0),
                Err(error) => {
                    turn += 1;
                    self.journal.borrow_mut().last_problem = format!("{}: {error}", member.name);
                    Outcome::Unknown(error)
                }
            };
            let write = Write { id, sent, ended: self.now(), outcome };
            self.journal.borrow_mut().writes.push(write);
            tokio::time::sleep(PACE).await;
        }
    }

    /// Time since its start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends it after the write in hand.
    pub fn stop(&self) {
        self.stopped.set(true);
    }

    /// Whether a write that was sent since then was acknowledged.
    ///
    /// # Errors
    /// The last problem.
    pub fn acknowledged_since(&self, moment: Duration) -> Result<(), String> {
        let journal = self.journal.borrow();
        match journal.first_ack_after(moment) {
            Some(_) => Ok(()),
            None => Err(format!("no write is acknowledged: {}", journal.last_problem)),
        }
    }

    /// What it did, and when it ended.
    pub fn finish(self) -> (Journal, Duration) {
        let end = self.now();
        (self.journal.into_inner(), end)
    }
}

/// A page of keys.
#[derive(Debug, Default, Deserialize)]
struct Page {
    #[serde(default)]
    kvs: Vec<Pair>,
    #[serde(default)]
    more: bool,
}

/// A key with its value, in base64.
#[derive(Debug, Default, Deserialize)]
struct Pair {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
}

/// All keys of a prefix with their values, as a majority has them.
///
/// # Errors
/// Why they cannot be read.
pub async fn read_back(
    cluster: &Cluster,
    prefix: &str,
) -> Result<BTreeMap<String, String>, String> {
    let member = cluster.members.first().ok_or("there is no member")?;
    let end = STANDARD.encode(after(prefix));
    let (mut from, mut found) = (STANDARD.encode(prefix), BTreeMap::new());
    loop {
        let body = json!({ "key": from, "range_end": end, "limit": PAGE });
        let page: Page = ask(member, call(gateway::RANGE, &body)).await?;
        let mut last = Vec::new();
        for pair in page.kvs {
            let text = |base64: &str| {
                let bytes = STANDARD.decode(base64).map_err(|error| error.to_string())?;
                Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned())
            };
            let key = text(&pair.key)?;
            last = key.clone().into_bytes();
            found.insert(key, text(&pair.value)?);
        }
        if !page.more || last.is_empty() {
            return Ok(found);
        }
        // The key right behind the last one.
        last.push(0);
        from = STANDARD.encode(last);
    }
}

/// Deletes all keys of a prefix.
///
/// # Errors
/// Why they are still there.
pub async fn clean(cluster: &Cluster, prefix: &str) -> Result<(), String> {
    let member = cluster.members.first().ok_or("there is no member")?;
    let body =
        json!({ "key": STANDARD.encode(prefix), "range_end": STANDARD.encode(after(prefix)) });
    ask::<Value>(member, call(gateway::DELETE, &body)).await.map(drop)
}

/// The end of a prefix: the first text behind all that begin with it. Prefixes end with `/`.
fn after(prefix: &str) -> String {
    let mut end = prefix.trim_end_matches('/').to_owned();
    end.push('0');
    end
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn the_end_of_a_prefix_is_behind_all_its_keys_and_nothing_else() {
        let (prefix, end) = ("strata_gate/r1/t/", after("strata_gate/r1/t/"));
        for key in ["strata_gate/r1/t/1", "strata_gate/r1/t/\u{10ffff}"] {
            assert!(key >= prefix && key < end.as_str(), "{key}");
        }
        for key in ["strata_gate/r1/t0", "strata_gate/r1/ta", "strata_gate/r2/t/1"] {
            assert!(key < prefix || key >= end.as_str(), "{key}");
        }
    }
}
