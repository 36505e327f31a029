//! The frame itself.

use super::verdict::{Limits, SUBJECT, judge};
use super::{Host, Technology};
use crate::event::Measurement;
use crate::gate::fault::{Fault, Kind, heal_all};
use crate::gate::probe;
use crate::gate::scenario::Finding;
use crate::gate::writer::authority::two_writers;
use crate::gate::writer::{Connect, Sampler, Writer};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long the service may take to be healthy before a test.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// How long the first write through the clients' path may take.
const FIRST_WRITE: Duration = Duration::from_secs(15);

/// How long a last look has, when the time for all of them is over.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// A test with a fault, while it runs.
pub struct Drill<'a, T> {
    /// The service.
    pub cluster: &'a T,
    /// Who leads when it begins.
    pub leader: Host,
    /// Writes through the clients' path.
    pub writer: Writer,
    /// Looks at every node.
    pub sampler: Sampler,
    limits: Limits,
    faults: Vec<Fault<'a>>,
    /// The moment of the first fault, on the writer's and on the sampler's clock.
    broken: Option<(Instant, Duration, Duration)>,
    figures: Vec<Measurement>,
}

impl<T: Technology> Drill<'_, T> {
    /// Breaks something.
    ///
    /// # Errors
    /// When it could not be broken.
    pub async fn inject(&mut self, host: &str, kind: Kind) -> Result<(), String> {
        let before = (Instant::now(), self.writer.now(), self.sampler.now());
        let surroundings = self.cluster.place().surroundings;
        let fault = Fault::inject(surroundings, host, kind, self.limits.heals_after).await?;
        self.broken.get_or_insert(before);
        self.faults.push(fault);
        Ok(())
    }

    /// Heals everything, the last fault first.
    ///
    /// # Errors
    /// What could not be healed.
    pub async fn heal(&mut self) -> Result<(), String> {
        let wrong = heal_all(std::mem::take(&mut self.faults)).await;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// Heals the last fault only.
    ///
    /// # Errors
    /// When it could not be healed.
    pub async fn heal_last(&mut self) -> Result<(), String> {
        match self.faults.pop() {
            Some(fault) => fault.heal().await,
            None => Ok(()),
        }
    }

    /// When it was broken.
    pub fn broken_at(&self) -> Instant {
        self.broken.map_or_else(Instant::now, |broken| broken.0)
    }

    /// When it was broken, on the sampler's clock.
    pub fn broken_for_sampler(&self) -> Duration {
        self.broken.map_or(Duration::ZERO, |broken| broken.2)
    }

    /// Keeps a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Measurement::new(SUBJECT, name, value, unit));
    }

    /// Waits until all members but `old` agree on another one that leads.
    ///
    /// # Errors
    /// What there was instead.
    pub async fn successor(&mut self, old: &Host, within: Duration) -> Result<Host, String> {
        let left = within.saturating_sub(self.broken_at().elapsed());
        let cluster = self.cluster;
        let new = probe::wait_until(left, || cluster.successor(old)).await?;
        let took = self.broken_at().elapsed().as_secs_f64();
        self.figure(format!("new {} after", T::LEADER), took, "s");
        Ok(new)
    }

    /// Waits until every HAProxy (but `except`) and the balancer lead to this member.
    ///
    /// # Errors
    /// Where else one leads.
    pub async fn followed(
        &mut self,
        leader: &Host,
        within: Duration,
        except: Option<&str>,
    ) -> Result<(), String> {
        let left = within.saturating_sub(self.broken_at().elapsed());
        let cluster = self.cluster;
        probe::wait_until(left, || cluster.lead_to(leader, except)).await?;
        let took = self.broken_at().elapsed().as_secs_f64();
        self.figure("followed by every HAProxy after", took, "s");
        Ok(())
    }

    /// Waits until a write that was sent from now on is acknowledged.
    ///
    /// # Errors
    /// The last problem.
    pub async fn writes_again(&self, within: Duration) -> Result<(), String> {
        acknowledged(&self.writer, within).await
    }

    /// Waits until a member follows `leader` in step.
    ///
    /// # Errors
    /// What it does instead.
    pub async fn rejoined(
        &mut self,
        member: &Host,
        leader: &Host,
        within: Duration,
    ) -> Result<(), String> {
        let start = Instant::now();
        let cluster = self.cluster;
        probe::wait_until(within, || cluster.follows(member, leader)).await?;
        let name = format!("{} a replica again after", member.name);
        self.figure(name, start.elapsed().as_secs_f64(), "s");
        Ok(())
    }
}

async fn acknowledged(writer: &Writer, within: Duration) -> Result<(), String> {
    let now = writer.now();
    probe::wait_until(within, || async { writer.acked_since(now).map(drop) }).await
}

/// Runs `body` inside the frame.
pub async fn drill<T: Technology>(
    cluster: &T,
    expected: String,
    limits: Limits,
    body: impl AsyncFnOnce(&mut Drill<'_, T>) -> Result<(), String>,
) -> Finding {
    let leader = match probe::wait_until(HEALTHY_WITHIN, || cluster.healthy()).await {
        Ok(leader) => leader,
        Err(why) => {
            return Finding::not_run(format!("the cluster is not healthy before it: {why}"));
        }
    };
    let listening = match cluster.place().listeners().await {
        Ok(listening) => listening,
        Err(why) => return Finding::not_run(why),
    };
    if let Err(why) = cluster.prepare().await {
        return Finding::not_run(format!("its writes cannot begin: {why}"));
    }
    let clients = cluster.clients();
    let prefix = clients.prefix().to_owned();
    let sampler = Sampler::start(cluster.nodes());
    let writer = Writer::start(clients);
    let mut drill = Drill {
        cluster,
        leader: leader.clone(),
        writer,
        sampler,
        limits,
        faults: Vec::new(),
        broken: None,
        figures: Vec::new(),
    };
    let mut wrong = Vec::new();
    if let Err(why) = drill.writes_again(FIRST_WRITE).await {
        wrong.push(format!("before any fault: {why}"));
    } else {
        wrong.extend(body(&mut drill).await.err());
        wrong.extend(drill.heal().await.err());
    }
    let Drill { writer, sampler, broken, mut figures, .. } = drill;
    // The path works again, whoever leads now: only then the longest gap is known.
    wrong.extend(acknowledged(&writer, limits.restored).await.err());
    let (journal, end) = writer.finish().await;
    let since = broken.map_or(Duration::ZERO, |broken| broken.2) + limits.one_writer_after;
    for both in two_writers(&sampler.samples(), since) {
        wrong.push(format!(
            "{} and {} both took writes, {:.1} s after the start",
            both.one,
            both.other,
            both.at.as_secs_f64()
        ));
        if wrong.len() > 10 {
            break;
        }
    }
    drop(sampler);
    match probe::wait_until(limits.restored, || cluster.readable(&prefix)).await {
        Ok(read) => {
            let account = journal.account(&prefix, &read, end);
            let broken = broken.map(|broken| broken.1);
            judge(&account, T::PROMISE, limits, broken, &mut wrong, &mut figures);
        }
        Err(why) => wrong.push(format!("what was written could not be read back: {why}")),
    }
    figures.extend(cluster.figures());
    wrong.extend(restore(cluster, &leader, &listening, limits.restored).await.err());
    if let Err(why) = cluster.clean().await {
        wrong.push(format!("what the test wrote is left: {why}"));
    }
    Finding { measured: figures, ..Finding::of(expected, wrong) }
}

/// Brings the old order back: the old leader leads, everybody is healthy, and listens where it did.
async fn restore<T: Technology>(
    cluster: &T,
    leader: &Host,
    listening: &BTreeSet<String>,
    within: Duration,
) -> Result<(), String> {
    let start = Instant::now();
    let left = || within.saturating_sub(start.elapsed()).max(LAST_LOOK);
    let leads = probe::wait_until(left(), || cluster.healthy())
        .await
        .map_err(|why| format!("not healthy afterwards: {why}"))?;
    if leads.name != leader.name {
        cluster
            .hand_over(leader)
            .await
            .map_err(|why| format!("{} did not get leadership back: {why}", leader.name))?;
    }
    probe::wait_until(left(), || async {
        let now = cluster.healthy().await?;
        if now.name != leader.name {
            return Err(format!("{} leads, it was {}", now.name, leader.name));
        }
        let found = cluster.place().listeners().await?;
        let differing: Vec<&str> =
            found.symmetric_difference(listening).map(String::as_str).collect();
        if !differing.is_empty() {
            return Err(format!("listeners differ: {}", differing.join(", ")));
        }
        cluster.lead_to(leader, None).await
    })
    .await
    .map_err(|why| format!("not as it was before: {why}"))
}
