//! What follows when the connection to a host breaks in the middle of a batch: a pure decision.
//!
//! The agent finishes the step in hand and may have gone on for as long as it did not notice; what
//! it reported meanwhile was not heard. Everything from the first step without a confirmed end is
//! looked at again: what was done is then found done. What cannot be looked at has a record on the
//! host, programs without a condition like handlers: they run once in a run.

use crate::resource::{Batch, ItemEvent, ItemReport, ItemSlot, Mode};
use std::collections::BTreeSet;

/// How often the connection may break in one step, before it is taken for the step's doing.
const LOSSES_IN_ONE_STEP: u32 = 2;

/// What was heard of a batch so far, over all its connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    finished: BTreeSet<Slot>,
    in_hand: Option<Slot>,
    /// Where the connection broke before, and how often.
    losses: Option<(Place, u32)>,
}

/// The item in hand, and how many were done before it.
type Place = (Option<Slot>, usize);

/// An item's place; steps come before handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Step(u32),
    Handler(u32),
}

impl From<ItemSlot> for Slot {
    fn from(slot: ItemSlot) -> Self {
        match slot {
            ItemSlot::Step(index) => Self::Step(index),
            ItemSlot::Handler(index) => Self::Handler(index),
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Go on with the step of this index; the number of steps when only handlers are left.
    From(u32),
    /// The connection breaks again and again in the same place.
    GiveUp,
}

impl Heard {
    /// Takes a report, its place counted in the whole batch. False when it was heard before.
    pub fn report(&mut self, report: &ItemReport) -> bool {
        let slot = Slot::from(report.slot);
        let new = !self.finished.contains(&slot);
        match report.event {
            ItemEvent::Started | ItemEvent::Waiting(_) if new => self.in_hand = Some(slot),
            ItemEvent::Started | ItemEvent::Waiting(_) => {}
            ItemEvent::Finished { .. } => {
                self.finished.insert(slot);
                self.in_hand = None;
            }
        }
        new
    }

    /// The step or handler in hand, by its name and the milliseconds that it may take.
    pub fn in_hand<'a>(&self, batch: &'a Batch) -> Option<(&'a str, u32)> {
        let item = match self.in_hand? {
            Slot::Step(index) => batch.items.get(index as usize)?,
            Slot::Handler(index) => batch.handlers.get(index as usize)?,
        };
        Some((item.name.as_str(), item.timeout_ms))
    }

    /// Decides after the connection broke.
    pub fn lost(&mut self, batch: &Batch) -> Resume {
        let here: Place = (self.in_hand, self.finished.len());
        let before = self.losses.filter(|(at, _)| *at == here).map_or(0, |(_, times)| times);
        self.losses = Some((here, before + 1));
        self.in_hand = None;
        if before + 1 >= LOSSES_IN_ONE_STEP {
            return Resume::GiveUp;
        }
        // A look needs the whole batch: which handlers would run depends on every step before.
        if batch.mode == Mode::Check {
            return Resume::From(0);
        }
        let count = u32::try_from(batch.items.len()).unwrap_or(u32::MAX);
        let first = (0..count).find(|index| !self.finished.contains(&Slot::Step(*index)));
        Resume::From(first.unwrap_or(count))
    }
}

/// What is left of a batch.
pub fn rest(batch: &Batch, first: u32) -> Batch {
    Batch {
        role: batch.role.clone(),
        mode: batch.mode,
        items: batch.items.iter().skip(first as usize).cloned().collect(),
        handlers: batch.handlers.clone(),
        once: batch.once.clone(),
    }
}

/// A report of what was left, with its place counted in the whole batch.
pub fn whole(mut report: ItemReport, first: u32) -> ItemReport {
    if let ItemSlot::Step(index) = &mut report.slot {
        *index = index.saturating_add(first);
    }
    report
}

#[cfg(test)]
#[path = "reconnect_tests.rs"]
mod tests;
