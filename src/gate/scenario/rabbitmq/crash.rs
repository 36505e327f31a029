//! Nodes that die: one, two of three, and all of them.

use super::drill::{Messages, death, drill};
use super::names::CALL;
use crate::gate::drill::Limits;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::journal::Outcome;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Bounds of the death of the node that leads the queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// `window`: messages that are sent without waiting in between (100); `enough`: how many of them
    /// are confirmed, before they are sent one by one (20000); `confirmed`: how many must be before
    /// the test ends, half of them before anything is broken (0).
    #[serde(default)]
    messages: Messages,
    /// Seconds until another node leads the queue. Default: 15.
    #[serde(default = "default_outage")]
    new_leader_within: u64,
    /// Seconds without a confirmed message. Default: 15.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until the node, back again, has its copy of the queue. Default: 120.
    #[serde(default = "default_restored")]
    back_within: u64,
    /// Seconds until all is as before. Default: 120.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

/// Bounds of a majority that is gone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MajorityDown {
    /// `window`: messages that are sent without waiting in between (100); `enough`: how many of them
    /// are confirmed, before they are sent one by one (20000); `confirmed`: how many must be before
    /// the test ends, half of them before anything is broken (0).
    #[serde(default)]
    messages: Messages,
    /// Seconds for which nothing may be confirmed. Default: 15.
    #[serde(default = "default_watched")]
    watched_for: u64,
    /// Seconds until messages are confirmed again, once the nodes are back. Default: 120.
    #[serde(default = "default_restored")]
    back_within: u64,
    /// Seconds until all is as before. Default: 120.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

fn default_outage() -> u64 {
    15
}

fn default_watched() -> u64 {
    15
}

pub(super) fn default_restored() -> u64 {
    120
}

/// How long the broker may take to list a connection.
const LISTED: Duration = Duration::from_secs(15);

/// How long it may take until the writer notices.
const NOTICED: Duration = Duration::from_secs(15);

/// Kills the node that leads the queue, and once it is back the one that serves the publisher.
pub async fn kill_leader(surroundings: Surroundings<'_>, bounds: Crash) -> Finding {
    let expected = format!(
        "the node that leads the queue dies, then the one that serves the publisher: another leads within {} s, no message unconfirmed for more than {} s, every confirmed message consumed, its copy back within {} s",
        bounds.new_leader_within, bounds.max_outage, bounds.back_within
    );
    let seconds = Duration::from_secs;
    let limits = Limits {
        outage: seconds(bounds.max_outage),
        one_writer_after: Duration::ZERO,
        restored: seconds(bounds.restored_within),
        heals_after: seconds(bounds.new_leader_within + bounds.max_outage + 60),
    };
    drill(&surroundings, bounds.messages, expected, limits, async |drill| {
        let cluster = drill.cluster;
        cluster.consume();
        let victim = cluster.queue_leader(cluster.other_than(&[])?).await?;
        drill.inject(&victim.name, death()).await?;
        let leader = drill.successor(&victim, seconds(bounds.new_leader_within)).await?;
        drill.writes_again(limits.outage).await?;
        drill.heal().await?;
        drill.rejoined(&victim, &leader, seconds(bounds.back_within)).await?;
        // The node that the publisher has its connection to may have been another.
        let served = probe::wait_until(LISTED, || cluster.publisher_at()).await?;
        drill.inject(&served.name, death()).await?;
        drill.writes_again(limits.outage).await?;
        drill.heal().await?;
        let leader = probe::wait_until(limits.outage, || async {
            cluster.queue_leader(cluster.other_than(&[&served.name])?).await
        });
        drill.rejoined(&served, &leader.await?, seconds(bounds.back_within)).await
    })
    .await
}

/// Kills two of three nodes: the third confirms nothing, and all go on by themselves afterwards.
pub async fn majority_down(surroundings: Surroundings<'_>, bounds: MajorityDown) -> Finding {
    let expected = format!(
        "without a majority no message is confirmed for {} s; once the nodes are back messages are confirmed within {} s, and none is lost",
        bounds.watched_for, bounds.back_within
    );
    silent(&surroundings, &bounds, expected, true, |nodes| nodes / 2 + 1).await
}

/// Kills every node at once, and starts them cold: everything is there.
pub async fn cold_start(surroundings: Surroundings<'_>, bounds: MajorityDown) -> Finding {
    let expected = format!(
        "every node dies at once; started again, messages are confirmed within {} s, and every confirmed message is there",
        bounds.back_within
    );
    // Nobody consumes meanwhile: the messages have to live through it.
    silent(&surroundings, &bounds, expected, false, |nodes| nodes).await
}

/// Kills as many of all nodes as `gone` says, so that nothing may be confirmed, and lets them come
/// back.
async fn silent(
    surroundings: &Surroundings<'_>,
    bounds: &MajorityDown,
    expected: String,
    consumes: bool,
    gone: fn(usize) -> usize,
) -> Finding {
    let seconds = Duration::from_secs;
    let limits = Limits {
        outage: seconds(bounds.watched_for + bounds.back_within) + CALL * 4,
        one_writer_after: Duration::ZERO,
        restored: seconds(bounds.restored_within),
        heals_after: seconds(bounds.watched_for + 90),
    };
    drill(surroundings, bounds.messages, expected, limits, async |drill| {
        if consumes {
            drill.cluster.consume();
        }
        // Some messages first: they have to be there afterwards.
        drill.writes_again(seconds(10)).await?;
        let members = &drill.cluster.place.members;
        for member in members.iter().take(gone(members.len())) {
            drill.inject(&member.name, death()).await?;
        }
        // What was on its way may still be confirmed: it counts from the first write that is not.
        let (down, failed) = (drill.writer.now(), drill.writer.journal().failed_connections);
        probe::wait_until(NOTICED, || async {
            let journal = drill.writer.journal();
            let last = journal.writes.last();
            let acked = last.is_none_or(|write| matches!(write.outcome, Outcome::Acked(_)));
            let later = last.is_some_and(|write| write.ended >= down);
            match !acked && (later || journal.failed_connections > failed) {
                true => Ok(()),
                false => Err("the publisher has not noticed yet".to_owned()),
            }
        })
        .await?;
        let (since, before) = (drill.writer.now(), drill.cluster.ledger.tally().confirmed());
        let confirmed = probe::wait_until(seconds(bounds.watched_for), || async {
            let now = drill.cluster.ledger.tally().confirmed();
            if now == before { Err("nothing was confirmed".to_owned()) } else { Ok(now - before) }
        })
        .await;
        if let Ok(count) = confirmed {
            return Err(format!("{count} messages were confirmed without a majority"));
        }
        if drill.writer.acked_since(since).is_ok() {
            return Err("a message was confirmed without a majority".to_owned());
        }
        drill.figure("nothing was confirmed for", bounds.watched_for as f64, "s");
        drill.heal().await?;
        let start = Instant::now();
        drill.writes_again(seconds(bounds.back_within)).await?;
        drill.figure("confirmed again after", start.elapsed().as_secs_f64(), "s");
        Ok(())
    })
    .await
}
