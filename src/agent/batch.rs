//! Works through a batch: steps in order, then the handlers that were notified.
//!
//! Invariants:
//! - A handler's name is on the disk before the change that notifies it is made (see
//!   [`PendingHandlers`]). To keep an unchanged host free of writes, a step that notifies is looked
//!   at first and recorded only when it would change.
//! - Files in a row are prepared ahead and share a sync (see [`Row`]). What they report waits for that
//!   sync, and so does every step and handler behind the row.
//! - The first failure ends the batch; recorded handlers then stay for the next complete batch.
//! - A step that outlives its deadline is reported as failed and ends the batch *and* the agent,
//!   because the thread that is stuck in it cannot be stopped otherwise.

use super::once::{Due, OnceRecords};
use super::pending::PendingHandlers;
use super::row::{Held, Row};
use super::system::RELOAD;
use super::worker::{Job, Limit, News, Trouble, Worker};
use super::writer::LinkBroken;
use crate::resource::{Batch, Failure, Item, ItemEvent, ItemReport, ItemSlot, Mode, Outcome};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// What works on the host that a batch is for.
pub trait Hands: Send {
    /// Converges one item: what to do, whether to change, and where to say what it waits for.
    fn converge(&mut self, item: &Item, mode: Mode, progress: &mut dyn FnMut(String)) -> Outcome;

    /// Prepares what the item is about to write. Its own turn decides, and reports.
    fn prepare(&mut self, item: &Item);

    /// Does once what the units of a row left to be done for all of them. Behind each other step
    /// nothing is left.
    ///
    /// # Errors
    /// When it cannot be done.
    fn end_row_of_units(&mut self) -> Result<(), Failure>;

    /// Waits until everything that was done will outlast a power cut.
    ///
    /// # Errors
    /// When that is not certain.
    fn settle(&mut self, at: Settle) -> Result<(), Failure>;
}

/// Where in a batch everything that was done is made to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Between two files of a row: what is prepared is still needed.
    Within,
    /// Behind a row: what was prepared and not used goes.
    Behind,
    /// At the batch's end: nothing is prepared any more.
    End,
}

/// What works on the items of one batch.
pub type ConvergeItem = Box<dyn Hands>;

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
        let course = Course {
            runner: self,
            batch: &batch,
            worker: &worker,
            held: RefCell::default(),
            prepared: Cell::new(None),
            units: Cell::new(false),
            limit_ms: Cell::new(0),
        };
        match course.run() {
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
}

/// A batch on its way.
struct Course<'a> {
    runner: &'a BatchRunner<'a>,
    batch: &'a Batch,
    worker: &'a Worker,
    held: RefCell<Held>,
    /// The last point up to which what was prepared was cleared away; `None` when nothing was
    /// prepared.
    prepared: Cell<Option<Settle>>,
    /// True once a unit was changed: its row may have been cut short.
    units: Cell<bool>,
    /// Milliseconds that the item before might take: a sync may take as long.
    limit_ms: Cell<u32>,
}

impl Course<'_> {
    fn run(&self) -> Result<(), Halt> {
        let end = self.all();
        if matches!(end, Err(Halt::Stuck)) {
            return end;
        }
        // Whatever ended the batch: what was done is made to last, and told.
        match self.settle(Settle::End) {
            Err(Halt::Stuck) => Err(Halt::Stuck),
            settled => end.and(settled),
        }
    }

    fn all(&self) -> Result<(), Halt> {
        let batch = self.batch;
        let mut row = Row::of(batch);
        let mut would_notify = BTreeSet::new();
        for (at, (index, item)) in (0_u32..).zip(&batch.items).enumerate() {
            let in_row = row.has(at);
            if !in_row {
                self.settle(Settle::Behind)?;
            }
            let outcome = self.one(ItemSlot::Step(index), item, in_row)?;
            let changed = matches!(outcome, Outcome::Changed(_));
            if changed {
                would_notify.extend(item.notify.iter().map(String::as_str));
            }
            let ahead = row.ahead(at, changed);
            if !ahead.is_empty() && self.worker.jobs.send(Job::Prepare(ahead)).is_ok() {
                self.prepared.set(Some(Settle::Within));
            }
            if self.held.borrow().due(Instant::now()) {
                self.settle(Settle::Within)?;
            }
        }
        self.settle(Settle::Behind)?;
        for (index, handler) in (0_u32..).zip(&batch.handlers) {
            let waits = self.runner.pending.contains(&batch.role, &handler.name);
            let wanted = waits
                || (batch.mode == Mode::Check && would_notify.contains(handler.name.as_str()));
            if !wanted {
                continue;
            }
            let outcome = self.one(ItemSlot::Handler(index), handler, false)?;
            if matches!(outcome, Outcome::Changed(_)) {
                would_notify.extend(handler.notify.iter().map(String::as_str));
            }
        }
        Ok(())
    }

    /// Reports, at once or when what is told of will last.
    fn say(&self, report: ItemReport, in_row: bool) -> Result<(), LinkBroken> {
        let mut held = self.held.borrow_mut();
        if held.waits(&report, in_row) {
            held.push(report, Instant::now());
            return Ok(());
        }
        drop(held);
        (self.runner.report)(report)
    }

    /// Makes what was done last, then reports it.
    fn settle(&self, at: Settle) -> Result<(), Halt> {
        let clear =
            self.prepared.get().is_some_and(|cleared| at != Settle::Within && at != cleared);
        let cut_short = at == Settle::End && self.units.get();
        if self.held.borrow().is_empty() && !clear && !cut_short {
            return Ok(());
        }
        if clear {
            self.prepared.set(Some(at));
        }
        let limit_ms = match (cut_short, self.limit_ms.get()) {
            // systemd may take its time, whatever the last step was allowed.
            (true, limit) if limit > 0 => {
                limit.max(u32::try_from(RELOAD.as_millis()).unwrap_or(u32::MAX))
            }
            (_, limit) => limit,
        };
        let settled = self.worker.settle(at, limit_ms);
        let mut held = self.held.borrow_mut();
        let (reports, end) = match settled {
            Ok(()) => (held.settled(), Ok(())),
            Err(Trouble::Stuck) => {
                let failure = Failure::new("the disk did not take it in time").hint(
                    "the agent on this host has ended; look at the host's disk, then run again",
                );
                (held.unsettled(Outcome::Failed(failure)), Err(Halt::Stuck))
            }
            Err(Trouble::LinkBroken) => (Vec::new(), Err(Halt::Stopped)),
            Err(Trouble::Failed(failure)) => {
                (held.unsettled(Outcome::Failed(failure)), Err(Halt::Failed))
            }
        };
        let sent = reports.into_iter().try_for_each(|report| (self.runner.report)(report));
        match end {
            Err(Halt::Stuck) => end,
            end => sent.map_err(Halt::from).and(end),
        }
    }

    /// One item with its reports. Everything that can go wrong ends as a `Finished` report.
    fn one(&self, slot: ItemSlot, item: &Item, in_row: bool) -> Result<Outcome, Halt> {
        if (self.runner.stopped)() {
            return Err(Halt::Stopped);
        }
        let began = Instant::now();
        self.limit_ms.set(item.timeout_ms);
        let send = |event| self.say(ItemReport { slot, event }, in_row);
        send(ItemEvent::Started)?;
        let (runner, batch, worker) = (self.runner, self.batch, self.worker);
        let step = Step { runner, batch, worker, slot, item, began };
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
        if item.resource.is_unit() && matches!(outcome, Outcome::Changed(_)) {
            self.units.set(true);
        }
        let sent = send(ItemEvent::Finished { outcome: outcome.clone(), took_ms });
        if stuck {
            // Whether the others will last cannot be known any more; the next run looks at them.
            for report in self.held.borrow_mut().only(slot) {
                (self.runner.report)(report).ok();
            }
            return Err(Halt::Stuck);
        }
        sent?;
        if failed { Err(Halt::Failed) } else { Ok(outcome) }
    }
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
        self.worker.send(Job::Item(self.slot, mode))?;
        let limit = Limit { ms: self.item.timeout_ms, began: self.began };
        loop {
            match self.worker.news(&limit)? {
                News::Waiting(text) => {
                    let report = ItemReport { slot: self.slot, event: ItemEvent::Waiting(text) };
                    // The controller may be gone; the item in hand is finished all the same.
                    (self.runner.report)(report).ok();
                }
                News::Done(outcome) => return Ok(outcome),
                News::Settled(_) => {}
            }
        }
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

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "batch_row_tests.rs"]
mod row_tests;
