//! A node that nobody reaches any more, and one that is taken out of service in good order.

use super::crash::default_restored;
use super::drill::{Messages, drill};
use super::names::Cluster;
use crate::gate::drill::{Drill, Host, Limits};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::authority::Answer;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Bounds of a partition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// `window`: messages that are sent without waiting in between (100); `enough`: how many of them
    /// are confirmed, before they are sent one by one (20000); `confirmed`: how many must be before
    /// the test ends, half of them before anything is broken (0).
    #[serde(default)]
    messages: Messages,
    /// Seconds until the node that nobody reaches takes no clients: it pauses. Without it 15 more than
    /// nodes may take to notice: the role's `rabbitmq_net_ticktime`, and a quarter of it.
    paused_within: Option<u64>,
    /// Seconds without a confirmed message. Without it 10 more than nodes may take to notice: clients
    /// have to connect anew.
    max_outage: Option<u64>,
    /// Seconds until the node is one of all again, once it is reached. Default: 120.
    #[serde(default = "default_restored")]
    back_within: u64,
    /// Seconds until all is as before. Default: 120.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

/// Bounds of a drain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// `window`: messages that are sent without waiting in between (100); `enough`: how many of them
    /// are confirmed, before they are sent one by one (20000); `confirmed`: how many must be before
    /// the test ends, half of them before anything is broken (0).
    #[serde(default)]
    messages: Messages,
    /// Seconds without a confirmed message. Default: 5.
    #[serde(default = "default_planned")]
    max_outage: u64,
    /// Seconds until all is as before. Default: 120.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

/// Seconds until nodes notice that another is gone, at most: Erlang looks four times in its tick
/// time, and takes the node for lost at the next look after it.
const fn noticed_within(ticktime: u64) -> u64 {
    ticktime + ticktime.div_ceil(4)
}

fn default_planned() -> u64 {
    5
}

/// How long HAProxy and the others may take to go on without a drained node.
const SEEN_DOWN: Duration = Duration::from_secs(10);

/// Cuts the node that leads the queue off from everybody; the operator host keeps SSH.
pub async fn partition(surroundings: Surroundings<'_>, bounds: Partition) -> Finding {
    let ticktime = match Cluster::of(&surroundings) {
        Ok(cluster) => cluster.place.number("rabbitmq_net_ticktime", 60),
        Err(finding) => return *finding,
    };
    let noticed = noticed_within(ticktime.into());
    let paused_within = bounds.paused_within.unwrap_or(noticed + 15);
    let max_outage = bounds.max_outage.unwrap_or(noticed + 10);
    let expected = format!(
        "a node that nobody reaches takes no clients within {} s; the majority goes on, no message unconfirmed for more than {} s, none lost; all heals by itself within {} s",
        paused_within, max_outage, bounds.back_within
    );
    let seconds = Duration::from_secs;
    let limits = Limits {
        outage: seconds(max_outage),
        one_writer_after: Duration::ZERO,
        restored: seconds(bounds.restored_within),
        heals_after: seconds(paused_within + max_outage + 60),
    };
    drill(&surroundings, bounds.messages, expected, limits, async |drill| {
        let cluster = drill.cluster;
        cluster.consume();
        let alone = cluster.queue_leader(cluster.other_than(&[])?).await?;
        drill.inject(&alone.name, cluster.place.cut_off(&alone)).await?;
        let new = drill.successor(&alone, limits.outage).await?;
        drill.writes_again(limits.outage).await?;
        let left = seconds(paused_within).saturating_sub(drill.broken_at().elapsed());
        let (name, sampler) = (&alone.name, &drill.sampler);
        probe::wait_until(left, || async {
            let samples = sampler.samples();
            match samples.iter().rev().find(|sample| sample.node == *name) {
                Some(sample) if matches!(sample.answer, Answer::Silent(_)) => Ok(()),
                _ => Err(format!("{name} takes clients still, though nobody else reaches it")),
            }
        })
        .await?;
        let took = drill.broken_at().elapsed().as_secs_f64();
        drill.figure(format!("{} paused after", alone.name), took, "s");
        drill.heal().await?;
        drill.rejoined(&alone, &new, seconds(bounds.back_within)).await
    })
    .await
}

/// Drains every node in turn and lets it take clients again, as a rolling change does.
pub async fn drain(surroundings: Surroundings<'_>, bounds: Drain) -> Finding {
    let expected = format!(
        "every node is drained and revived in turn: no message unconfirmed for more than {} s, none lost",
        bounds.max_outage
    );
    let limits = Limits {
        outage: Duration::from_secs(bounds.max_outage),
        one_writer_after: Duration::ZERO,
        restored: Duration::from_secs(bounds.restored_within),
        heals_after: Duration::from_secs(bounds.restored_within),
    };
    drill(&surroundings, bounds.messages, expected, limits, async |drill| {
        let cluster = drill.cluster;
        cluster.consume();
        for member in &cluster.place.members {
            let start = Instant::now();
            let drained = cluster.program(member, &["rabbitmq-upgrade", "drain"]).await;
            drill.figure(format!("{} drained in", member.name), start.elapsed().as_secs_f64(), "s");
            let went_on = match drained {
                Ok(_) => without(drill, member).await,
                Err(why) => Err(why),
            };
            // Whatever became of it: the node must take clients again.
            cluster.program(member, &["rabbitmq-upgrade", "revive"]).await?;
            drill.rejoined(member, &went_on?, limits.restored).await?;
        }
        Ok(())
    })
    .await
}

/// What goes on without a drained node; who leads the queue then.
async fn without(drill: &Drill<'_, Cluster<'_>>, drained: &Host) -> Result<Host, String> {
    let cluster = drill.cluster;
    let leader = probe::wait_until(SEEN_DOWN, || async {
        let leader = cluster.queue_leader(cluster.other_than(&[&drained.name])?).await?;
        match leader.name == drained.name {
            true => Err(format!("{} leads the queue still", drained.name)),
            false => Ok(leader),
        }
    })
    .await?;
    drill.writes_again(SEEN_DOWN).await?;
    Ok(leader)
}

#[cfg(test)]
mod tests {
    use super::noticed_within;

    #[test]
    fn a_lost_node_is_noticed_a_quarter_late_at_most() {
        assert_eq!([20, 60, 7].map(noticed_within), [25, 75, 9]);
    }
}
