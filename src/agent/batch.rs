//! Works through a batch: steps in order, then the handlers that were notified.
//!
//! Invariants:
//! - A handler's name is on the disk before the change that notifies it is made (see
//!   [`PendingHandlers`]). To keep an unchanged host free of writes, a step that notifies is looked
//!   at first and recorded only when it would change.
//! - The first failure ends the batch; recorded handlers then stay for the next complete batch.
//! - A step that outlives its deadline is reported as failed and ends the batch *and* the agent,
//!   because the thread that is stuck in it cannot be stopped otherwise.

use super::once::{Due, OnceRecords};
use super::pending::PendingHandlers;
use super::writer::LinkBroken;
use crate::resource::{Batch, Failure, Item, ItemEvent, ItemReport, ItemSlot, Mode, Outcome};
use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Converges one item: what to do, whether to change, and where to say what it waits for.
pub type ConvergeItem = Box<dyn FnMut(&Item, Mode, &mut dyn FnMut(String)) -> Outcome + Send>;

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEnd {
    /// Every item was looked at and none failed.
    Complete,
    /// An item failed, the batch was stopped or the controller is gone.
    Incomplete,
    /// A step outlived its deadline and its thread still runs: report, then exit at once.
    Stuck,
}

/// What a batch needs of its surroundings.
pub struct BatchRunner<'a> {
    /// The host's record of notified handlers.
    pub pending: &'a PendingHandlers,
    /// The host's record of steps that run each time.
    pub once: &'a OnceRecords,
    /// Sends a report to the controller.
    pub report: &'a dyn Fn(ItemReport) -> Result<(), LinkBroken>,
    /// True once the batch is to end after the item in hand.
    pub stopped: &'a dyn Fn() -> bool,
}

/// Why a batch goes no further.
enum Halt {
    Failed,
    Stopped,
    Stuck,
}

impl From<LinkBroken> for Halt {
    fn from(_: LinkBroken) -> Self {
        Self::Stopped
    }
}

impl BatchRunner<'_> {
    /// Runs the batch to its end.
    pub fn run(&self, batch: Arc<Batch>, converge: ConvergeItem) -> BatchEnd {
        let Ok(worker) = Worker::start(Arc::clone(&batch), converge) else {
            return BatchEnd::Incomplete;
        };
        match self.all(&batch, &worker) {
            Ok(()) => BatchEnd::Complete,
            Err(Halt::Failed | Halt::Stopped) => BatchEnd::Incomplete,
            Err(Halt::Stuck) => BatchEnd::Stuck,
        }
    }

    /// Forgets the records of handlers that the role does not have any more. Only after a complete
    /// batch that changes: one that ended early may not have come to what records them, and one
    /// without handlers (a member of a cluster, for example) tells nothing about those of its role.
    /// Returns their names; what cannot be forgotten now is tried again by the next batch.
    pub fn forget_unknown(&self, batch: &Batch, end: BatchEnd) -> Vec<String> {
        if end != BatchEnd::Complete || batch.mode == Mode::Check || batch.handlers.is_empty() {
            return Vec::new();
        }
        let known = |name: &str| batch.handlers.iter().any(|handler| handler.name == name);
        self.pending.forget_unknown(&batch.role, known).unwrap_or_default()
    }

    fn all(&self, batch: &Batch, worker: &Worker) -> Result<(), Halt> {
        let mut would_notify = BTreeSet::new();
        for (index, item) in (0_u32..).zip(&batch.items) {
            let outcome = self.one(batch, worker, ItemSlot::Step(index), item)?;
            if matches!(outcome, Outcome::Changed(_)) {
                would_notify.extend(item.notify.iter().map(String::as_str));
            }
        }
        for (index, handler) in (0_u32..).zip(&batch.handlers) {
            let waits = self.pending.contains(&batch.role, &handler.name);
            let wanted = waits
                || (batch.mode == Mode::Check && would_notify.contains(handler.name.as_str()));
            if !wanted {
                continue;
            }
            let outcome = self.one(batch, worker, ItemSlot::Handler(index), handler)?;
            if matches!(outcome, Outcome::Changed(_)) {
                would_notify.extend(handler.notify.iter().map(String::as_str));
            }
        }
        Ok(())
    }

    /// One item with its reports. Everything that can go wrong ends as a `Finished` report.
    fn one(
        &self,
        batch: &Batch,
        worker: &Worker,
        slot: ItemSlot,
        item: &Item,
    ) -> Result<Outcome, Halt> {
        if (self.stopped)() {
            return Err(Halt::Stopped);
        }
        let began = Instant::now();
        let send = |event| (self.report)(ItemReport { slot, event });
        send(ItemEvent::Started)?;
        let step = Step { runner: self, batch, worker, slot, item, began };
        let (outcome, stuck) = match step.converge() {
            Ok(outcome) => (outcome, false),
            Err(Trouble::Failed(failure)) => (Outcome::Failed(failure), false),
            Err(Trouble::LinkBroken) => return Err(Halt::Stopped),
            Err(Trouble::Stuck) => {
                let seconds = f64::from(item.timeout_ms) / 1000.0;
                let failure = Failure::new(format!("it was not done after {seconds} s"))
                    .hint("the step was left where it stood and the agent on this host has ended; look at what it waits for, then run again");
                (Outcome::Failed(failure), true)
            }
        };
        let took_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let failed = matches!(outcome, Outcome::Failed(_));
        let sent = send(ItemEvent::Finished { outcome: outcome.clone(), took_ms });
        if stuck {
            return Err(Halt::Stuck);
        }
        sent?;
        if failed { Err(Halt::Failed) } else { Ok(outcome) }
    }
}

enum Trouble {
    Failed(Failure),
    LinkBroken,
    Stuck,
}

struct Step<'a> {
    runner: &'a BatchRunner<'a>,
    batch: &'a Batch,
    worker: &'a Worker,
    slot: ItemSlot,
    item: &'a Item,
    began: Instant,
}

impl Step<'_> {
    fn converge(&self) -> Result<Outcome, Trouble> {
        let known = |name: &String| self.batch.handlers.iter().any(|handler| &handler.name == name);
        if let Some(unknown) = self.item.notify.iter().find(|name| !known(name)) {
            let message =
                format!("it notifies the handler \"{unknown}\", which the role does not have");
            return Err(Trouble::Failed(Failure::new(message)));
        }
        if self.batch.mode == Mode::Check {
            return self.work(Mode::Check);
        }
        // What changes nothing never notifies either, and a look at it does not do it.
        let recorded = if self.item.notify.is_empty() || !self.item.resource.changes() {
            Vec::new()
        } else {
            if self.work(Mode::Check)? == Outcome::Unchanged {
                self.forget_own_record(&Outcome::Unchanged)?;
                return Ok(Outcome::Unchanged);
            }
            self.record()?
        };
        let outcome = self.work_once()?;
        if outcome == Outcome::Unchanged {
            for name in recorded {
                self.runner
                    .pending
                    .remove(&self.batch.role, name)
                    .map_err(|e| unrecorded(name, &e))?;
            }
        }
        self.forget_own_record(&outcome)?;
        Ok(outcome)
    }

    /// Applies the item, once in the run and all that it resumes where the item cannot tell by
    /// itself. A handler has a record of its own that it is to run.
    fn work_once(&self) -> Result<Outcome, Trouble> {
        let (batch, item, once) = (self.batch, self.item, self.runner.once);
        let is_step = matches!(self.slot, ItemSlot::Step(_));
        let Some(run) = batch.once.run.as_ref().filter(|_| is_step) else {
            return self.work(Mode::Apply);
        };
        if !item.resource.runs_each_time() {
            return self.work(Mode::Apply);
        }
        let record = once.of(batch, item);
        let kept = |result: std::io::Result<()>| result.map_err(|error| unkept(&error));
        match record.due(&batch.once).map_err(|error| unkept(&error))? {
            Due::Run => {}
            Due::Done => {
                kept(record.done(run))?;
                return Ok(Outcome::Unchanged);
            }
            Due::Unknown => {
                let failure = Failure::new("it was in hand when the run before this one ended, and nothing tells whether it was done")
                    .hint("look at the host, then `strata resume --unknown done`, or `--unknown repeat`; `creates` or `unless` on the step lets strata see for itself");
                return Err(Trouble::Failed(failure));
            }
        }
        kept(record.begun(run))?;
        let outcome = self.work(Mode::Apply)?;
        kept(match outcome {
            Outcome::Failed(_) => record.failed(),
            _ => record.done(run),
        })?;
        Ok(outcome)
    }

    /// Records every handler of the item; the names that were not recorded before.
    fn record(&self) -> Result<Vec<&str>, Trouble> {
        let mut new = Vec::new();
        for name in &self.item.notify {
            let added = self.runner.pending.record(&self.batch.role, name);
            if added.map_err(|error| unrecorded(name, &error))? {
                new.push(name.as_str());
            }
        }
        Ok(new)
    }

    /// A handler that ran is no longer pending.
    fn forget_own_record(&self, outcome: &Outcome) -> Result<(), Trouble> {
        if matches!(self.slot, ItemSlot::Step(_)) || matches!(outcome, Outcome::Failed(_)) {
            return Ok(());
        }
        let name = &self.item.name;
        self.runner.pending.remove(&self.batch.role, name).map_err(|error| unrecorded(name, &error))
    }

    /// Lets the worker do it and waits, within what is left of the item's time.
    fn work(&self, mode: Mode) -> Result<Outcome, Trouble> {
        let gone = || Trouble::Failed(Failure::new("the agent's worker ended unexpectedly"));
        self.worker.jobs.send((self.slot, mode)).map_err(|_| gone())?;
        let limit = Duration::from_millis(u64::from(self.item.timeout_ms));
        loop {
            let news = if limit.is_zero() {
                self.worker.news.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
            } else {
                self.worker.news.recv_timeout(limit.saturating_sub(self.began.elapsed()))
            };
            match news {
                Ok(News::Waiting(text)) => {
                    let report = ItemReport { slot: self.slot, event: ItemEvent::Waiting(text) };
                    // The controller may be gone; the item in hand is finished all the same.
                    (self.runner.report)(report).ok();
                }
                Ok(News::Done(outcome)) => return Ok(outcome),
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(Trouble::Stuck),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
    }
}

impl From<LinkBroken> for Trouble {
    fn from(_: LinkBroken) -> Self {
        Self::LinkBroken
    }
}

fn unrecorded(name: &str, error: &std::io::Error) -> Trouble {
    let failure =
        Failure::new(format!("the record of handler \"{name}\" could not be kept: {error}"))
            .hint("make room or fix /var/lib/strata on the host, then run again");
    Trouble::Failed(failure)
}

fn unkept(error: &std::io::Error) -> Trouble {
    let failure = Failure::new(format!("the record that it runs once could not be kept: {error}"))
        .hint("make room or fix /var/lib/strata on the host, then run again");
    Trouble::Failed(failure)
}

/// The thread in which items run, so that their deadline can be kept.
struct Worker {
    jobs: mpsc::Sender<(ItemSlot, Mode)>,
    news: mpsc::Receiver<News>,
}

enum News {
    Waiting(String),
    Done(Outcome),
}

impl Worker {
    fn start(batch: Arc<Batch>, mut converge: ConvergeItem) -> std::io::Result<Self> {
        let (jobs, jobs_in) = mpsc::channel::<(ItemSlot, Mode)>();
        let (news_out, news) = mpsc::channel();
        std::thread::Builder::new().name("steps".into()).spawn(move || {
            while let Ok((slot, mode)) = jobs_in.recv() {
                let item = match slot {
                    ItemSlot::Step(index) => batch.items.get(index as usize),
                    ItemSlot::Handler(index) => batch.handlers.get(index as usize),
                };
                let Some(item) = item else { return };
                let outcome = converge(item, mode, &mut |text| {
                    news_out.send(News::Waiting(text)).ok();
                });
                if news_out.send(News::Done(outcome)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs, news })
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
