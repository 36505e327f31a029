//! How RabbitMQ is asked while a test breaks something: its part of the frame.

use super::amqp::{Amqp, AmqpError};
use super::judge::{wrong_nodes, wrong_queue};
use super::messages::Ledger;
use super::names::{CALL, Cluster, Reach, SERVER};
use super::seen::{connections, host, look, queue};
use crate::event::Measurement;
use crate::gate::drill::{self, Drill, Host, Limits, Place, Promise, Technology};
use crate::gate::fault::Kind;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::authority::Answer;
use crate::gate::writer::journal::Outcome;
use crate::gate::writer::{Connect, Dial, Put, Watch};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many messages a test sends, and how.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Messages {
    /// Messages that are sent without waiting for the confirmation of the one before.
    pub(super) window: u16,
    /// Confirmed messages after which each is sent by itself.
    pub(super) enough: u32,
    /// Confirmed messages without which the test does not end.
    pub(super) confirmed: u32,
}

impl Default for Messages {
    fn default() -> Self {
        Self { window: 100, enough: 20_000, confirmed: 0 }
    }
}

/// What a consumer needs for one message, at most.
const EACH: Duration = Duration::from_millis(2);

/// How long so many messages may take to be confirmed: fifty a second are few.
fn time_for(messages: u32) -> Duration {
    Duration::from_secs(60 + u64::from(messages) / 50)
}

/// Waits until so many messages of this test are confirmed.
async fn confirmed(cluster: &Cluster<'_>, least: u32) -> Result<(), String> {
    probe::wait_until(time_for(least), || async {
        let confirmed = cluster.ledger.tally().confirmed();
        match confirmed >= least as usize {
            true => Ok(()),
            false => Err(format!("only {confirmed} of {least} messages are confirmed")),
        }
    })
    .await
}

/// Runs `body` inside the frame, between two halves of the messages that have to be confirmed.
pub async fn drill(
    surroundings: &Surroundings<'_>,
    messages: Messages,
    expected: String,
    limits: Limits,
    body: impl AsyncFnOnce(&mut Drill<'_, Cluster<'_>>) -> Result<(), String>,
) -> Finding {
    match Cluster::of(surroundings) {
        Ok(cluster) => {
            let cluster = cluster.with(messages);
            drill::drill(&cluster, expected, limits, async |drill| {
                confirmed(drill.cluster, messages.confirmed / 2).await?;
                body(drill).await?;
                confirmed(drill.cluster, messages.confirmed).await
            })
            .await
        }
        Err(finding) => *finding,
    }
}

/// The fault of a node that dies.
pub fn death() -> Kind {
    Kind::KillContainer(SERVER.to_owned())
}

/// Clients of a test.
pub struct Clients {
    reach: Reach,
    ledger: Ledger,
    window: usize,
    enough: usize,
}

/// A client that publishes.
pub struct Publishing {
    client: Amqp,
    queue: String,
    ledger: Ledger,
    window: usize,
    enough: usize,
}

/// A node that is looked at.
pub struct Node {
    name: String,
    way: Arc<dyn Dial>,
}

impl Connect for Clients {
    type Client = Publishing;

    fn prefix(&self) -> &str {
        &self.reach.queue
    }

    async fn connect(&self, attempt: usize) -> Result<Publishing, String> {
        let connected = self.reach.connect(attempt, "publisher").await;
        let client = connected.map_err(|error| error.to_string())?;
        Ok(Publishing {
            client,
            queue: self.reach.queue.clone(),
            ledger: self.ledger.clone(),
            window: self.window,
            enough: self.enough,
        })
    }
}

impl Put for Publishing {
    /// A write is a window of messages: it is acknowledged when each of them is confirmed.
    async fn put(&self, id: u64) -> (Outcome, Option<String>) {
        let messages = self.ledger.tally().begin(&self.queue, id, self.window, self.enough);
        let confirmed = |place| self.ledger.tally().confirm((id, place));
        match self.client.publish(&self.queue, &messages, confirmed).await {
            Ok(()) => (Outcome::Acked(0), None),
            // A part of the window may have come to the queue, whatever the broker says of the rest.
            Err(error) => (Outcome::Unknown(error.to_string()), Some(error.to_string())),
        }
    }
}

impl Watch for Node {
    type Client = ();

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<(), String> {
        Ok(())
    }

    /// Every node takes messages, and passes them on to the one that leads the queue: what is
    /// looked for is whether it takes clients at all.
    async fn look(&self, (): &()) -> (Instant, Answer) {
        let began = Instant::now();
        match self.way.dial().await {
            Ok(_) => (began, Answer::Follows),
            Err(why) => (began, Answer::Silent(why)),
        }
    }
}

impl Cluster<'_> {
    /// The node that leads the queue of this test, as `from` sees it.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn queue_leader(&self, from: &Host) -> Result<Host, String> {
        let queue = queue(self, from).await?;
        let leader = host(&queue.leader);
        let member = self.place.member(leader).cloned();
        member.ok_or_else(|| format!("{} sees nobody lead the queue", from.name))
    }

    /// The node that the publisher of this test is connected to, as the others list it.
    ///
    /// # Errors
    /// When it is connected to none.
    pub async fn publisher_at(&self) -> Result<Host, String> {
        let name = format!("{} publisher", self.reach.queue);
        let at = connections(self, &name).await?.pop();
        let member = at.and_then(|at| self.place.member(&at).cloned());
        member.ok_or_else(|| "no node lists the connection of the publisher".to_owned())
    }

    /// A member that is none of these.
    ///
    /// # Errors
    /// When there is none.
    pub fn other_than(&self, names: &[&str]) -> Result<&Host, String> {
        let other = |member: &&Host| !names.contains(&member.name.as_str());
        self.place.members.iter().find(other).ok_or_else(|| "there is no other node".to_owned())
    }
}

impl Technology for Cluster<'_> {
    type Clients = Clients;
    type Node = Node;

    const LEADER: &'static str = "queue leader";
    const PROMISE: Promise = Promise::Acknowledged;

    fn place(&self) -> &Place<'_> {
        &self.place
    }

    fn clients(&self) -> Clients {
        Clients {
            reach: self.reach.clone(),
            ledger: self.ledger.clone(),
            window: self.window,
            enough: self.enough,
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let node = |member: &Host| Node { name: member.name.clone(), way: member.local(self.port) };
        self.place.members.iter().map(node).collect()
    }

    async fn prepare(&self) -> Result<(), String> {
        let client = self.reach.connect(0, "test").await.map_err(|error| error.to_string())?;
        let declared = client.declare(&self.reach.queue).await;
        client.close().await;
        declared.map_err(|error| error.to_string())?;
        let first = self.other_than(&[])?;
        let queue = queue(self, first).await?;
        wrong_queue(&queue, self.place.members.len()).map_or(Ok(()), Err)
    }

    /// Queues have leaders and the cluster has none: the first node stands for it. Tests look for
    /// the leader of their own queue.
    async fn healthy(&self) -> Result<Host, String> {
        let wrong = wrong_nodes(&look(self).await);
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        self.other_than(&[]).cloned()
    }

    async fn successor(&self, old: &Host) -> Result<Host, String> {
        let new = self.queue_leader(self.other_than(&[&old.name])?).await?;
        if new.name == old.name {
            return Err(format!("{} is still taken for the leader of the queue", old.name));
        }
        Ok(new)
    }

    async fn follows(&self, member: &Host, leader: &Host) -> Result<(), String> {
        let queue = queue(self, leader).await?;
        if !queue.online.iter().any(|node| host(node) == member.name) {
            return Err(format!("the copy of the queue on {} is not there", member.name));
        }
        let wrong = wrong_nodes(&look(self).await);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// Any node is a right one: every way must lead to one that knows the queue.
    async fn lead_to(&self, _: &Host, except: Option<&str>) -> Result<(), String> {
        let ways = self.place.ways(self.port).into_iter();
        let ways = ways.filter(|(name, _)| Some(name.as_str()) != except);
        let looks = ways.map(|(name, way)| async move {
            let client = self.reach.by(&*way, "path").await;
            let declared = async {
                let client = client?;
                client.declare(&self.reach.queue).await?;
                client.close().await;
                Ok::<_, AmqpError>(())
            };
            declared.await.map_err(|error| format!("through {name}: {error}"))
        });
        join_all(looks).await.into_iter().collect()
    }

    /// What the consumer got: it is begun anew, so that what the one before held comes again.
    async fn readable(&self, prefix: &str) -> Result<BTreeMap<String, String>, String> {
        if !self.consumes() || self.ledger.tally().whole().is_err() {
            self.consume();
            // It needs a moment to connect, and its time for what waits in the queue: begun anew too
            // early it would be given the same messages twice.
            let waiting = u32::try_from(self.ledger.tally().missing().len()).unwrap_or(u32::MAX);
            let patience = CALL * 2 + EACH * waiting;
            probe::wait_until(patience, || async { self.ledger.tally().whole() }).await?;
        }
        let tally = self.ledger.tally();
        tally.whole()?;
        Ok(tally.complete(prefix))
    }

    /// Nothing is to be handed over: see [`Self::healthy`].
    async fn hand_over(&self, _: &Host) -> Result<(), String> {
        Ok(())
    }

    fn figures(&self) -> Vec<Measurement> {
        self.ledger.tally().figures()
    }

    async fn clean(&self) -> Result<(), String> {
        self.stop_consuming();
        let client = self.reach.connect(0, "test").await.map_err(|error| error.to_string())?;
        let deleted = client.delete(&self.reach.queue).await;
        client.close().await;
        deleted.map_err(|error| error.to_string())
    }
}
