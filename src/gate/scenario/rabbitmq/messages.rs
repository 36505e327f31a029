//! What a test published, what of it was confirmed, and what its consumer got.

use super::amqp::{Amqp, AmqpError};
use super::names::Reach;
use crate::event::Measurement;
use crate::gate::writer::journal::{key, value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two attempts to consume.
const AGAIN: Duration = Duration::from_millis(300);

/// How long a consumer waits for a message before it connects anew: a connection to a node that
/// nobody reaches any more looks like one without messages.
const IDLE: Duration = Duration::from_secs(5);

/// One message: the write that it belongs to, and its place in that write's window.
pub type Message = (u64, usize);

/// All messages of one test. Pure.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many messages each write sent.
    windows: BTreeMap<u64, usize>,
    /// How many messages that makes.
    sent: usize,
    /// Those that the broker confirmed.
    confirmed: BTreeSet<Message>,
    /// How often each message was consumed.
    consumed: BTreeMap<Message, u64>,
    /// Messages that nobody sent.
    strange: u64,
}

impl Tally {
    /// The messages of a write: `window` of them until `enough` are confirmed, then one.
    pub fn begin(&mut self, prefix: &str, id: u64, window: usize, enough: usize) -> Vec<Vec<u8>> {
        let size = if self.confirmed.len() >= enough { 1 } else { window.max(1) };
        self.sent += size;
        self.windows.insert(id, size);
        (0..size).map(|place| format!("{} {place}", value(prefix, id)).into_bytes()).collect()
    }

    /// The broker confirmed a message.
    pub fn confirm(&mut self, message: Message) {
        self.confirmed.insert(message);
    }

    /// A consumer got a message.
    pub fn consume(&mut self, prefix: &str, text: &str) {
        let message = text.strip_prefix(prefix).and_then(|rest| {
            let (id, place) = rest.split_once(' ')?;
            Some((id.parse().ok()?, place.parse().ok()?))
        });
        match message {
            Some((id, place)) if self.windows.get(&id).is_some_and(|size| place < *size) => {
                *self.consumed.entry((id, place)).or_default() += 1;
            }
            _ => self.strange += 1,
        }
    }

    /// How many messages are confirmed.
    pub fn confirmed(&self) -> usize {
        self.confirmed.len()
    }

    /// Confirmed messages that nobody consumed.
    pub fn missing(&self) -> Vec<Message> {
        let consumed = |message: &&Message| !self.consumed.contains_key(*message);
        self.confirmed.iter().filter(consumed).copied().collect()
    }

    /// An error unless every confirmed message was consumed, and no other than ours.
    ///
    /// # Errors
    /// What is missing, or strange.
    pub fn whole(&self) -> Result<(), String> {
        let missing = self.missing();
        if let Some((id, place)) = missing.first() {
            return Err(format!(
                "{} of {} confirmed messages were not consumed, the first is {place} of write {id}",
                missing.len(),
                self.confirmed.len()
            ));
        }
        match self.strange {
            0 => Ok(()),
            count => Err(format!("{count} messages in the queue were never sent")),
        }
    }

    /// The writes of which every message was consumed, as keys with their values.
    pub fn complete(&self, prefix: &str) -> BTreeMap<String, String> {
        let got =
            |id: u64, size: usize| (0..size).all(|place| self.consumed.contains_key(&(id, place)));
        let complete = self.windows.iter().filter(|(id, size)| got(**id, **size));
        complete.map(|(id, _)| (key(prefix, *id), value(prefix, *id))).collect()
    }

    /// What it comes to.
    pub fn figures(&self) -> Vec<Measurement> {
        let again: u64 = self.consumed.values().map(|times| times.saturating_sub(1)).sum();
        let counts = [
            ("sent", self.sent),
            ("confirmed", self.confirmed.len()),
            ("consumed", self.consumed.len()),
            ("consumed again", usize::try_from(again).unwrap_or(usize::MAX)),
            ("confirmed and lost", self.missing().len()),
        ];
        // Far fewer than a float counts exactly.
        let figure = |(name, count): (&str, usize)| {
            Measurement::new("messages", name, count as f64, "messages")
        };
        counts.into_iter().map(figure).collect()
    }
}

/// A tally that clients, consumer and test share.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Tally>>);

impl Ledger {
    /// The tally. Nobody holds it while waiting.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        // Whoever panicked left whole entries only.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer at work, through the clients' path. Dropping it ends it, and what it has not
/// acknowledged goes back to the queue.
pub struct Consumer(JoinHandle<()>);

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Consumer {
    /// Begins to consume.
    pub fn start(reach: Reach, ledger: Ledger) -> Self {
        Self(tokio::spawn(async move {
            let mut pace = interval(AGAIN);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for attempt in 0.. {
                pace.tick().await;
                let ended = match reach.connect(attempt, "consumer").await {
                    Ok(client) => consume(&client, &reach.queue, &ledger).await,
                    Err(error) => Err(error),
                };
                if let Err(why) = ended {
                    tracing::debug!(%why, "the consumer connects anew");
                }
            }
        }))
    }
}

/// Consumes until the connection is of no use, or nothing comes for a while.
async fn consume(client: &Amqp, queue: &str, ledger: &Ledger) -> Result<(), AmqpError> {
    let mut deliveries = client.consume(queue).await?;
    while let Ok(next) = timeout(IDLE, deliveries.next()).await {
        let delivered = next?;
        let text = delivered.text.clone();
        // First the work, then the acknowledgement: what is cut off in between comes again.
        ledger.tally().consume(queue, &text);
        delivered.acknowledge().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "strata_gate_r_";

    fn text(message: &[u8]) -> String {
        String::from_utf8_lossy(message).into_owned()
    }

    #[test]
    fn what_is_confirmed_and_not_consumed_is_lost() {
        let mut tally = Tally::default();
        let sent = tally.begin(PREFIX, 7, 3, 100);
        assert_eq!(sent.len(), 3);
        tally.confirm((7, 0));
        tally.confirm((7, 2));
        tally.consume(PREFIX, &text(&sent[0]));
        assert_eq!(tally.missing(), [(7, 2)]);
        assert!(tally.whole().unwrap_err().contains("1 of 2 confirmed"));
        assert!(tally.complete(PREFIX).is_empty());
        tally.consume(PREFIX, &text(&sent[2]));
        tally.consume(PREFIX, &text(&sent[2]));
        assert_eq!(tally.whole(), Ok(()));
        tally.consume(PREFIX, &text(&sent[1]));
        assert_eq!(tally.complete(PREFIX), [(key(PREFIX, 7), value(PREFIX, 7))].into());
        let figures: Vec<f64> = tally.figures().iter().map(|figure| figure.value).collect();
        assert_eq!(figures, [3.0, 2.0, 3.0, 1.0, 0.0]);
    }

    #[test]
    fn what_nobody_sent_is_strange() {
        for text in ["", "strata_gate_r_1 0", "strata_gate_r_0 1", "other0 0", "strata_gate_r_0"] {
            let mut tally = Tally::default();
            tally.begin(PREFIX, 0, 1, 100);
            tally.consume(PREFIX, text);
            assert!(tally.whole().is_err(), "{text}");
        }
    }

    #[test]
    fn after_enough_confirmed_messages_a_write_is_one() {
        let mut tally = Tally::default();
        for id in 0..2 {
            assert_eq!(tally.begin(PREFIX, id, 100, 150).len(), 100);
            (0..75).for_each(|place| tally.confirm((id, place)));
        }
        assert_eq!(tally.begin(PREFIX, 2, 100, 150).len(), 1);
    }
}
