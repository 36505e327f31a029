//! Files in a row: which of them are prepared ahead of their turn, and which reports wait until the
//! names that they tell of are on the disk. Pure decisions.
//!
//! A report of a change that a power cut could still take back would be a lie, so reports wait for
//! the sync that several files share; everything that may depend on these files waits as well.

use crate::resource::{Batch, ItemEvent, ItemReport, ItemSlot, Mode, Outcome};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How many steps are looked at ahead of the one in hand, at most.
const AHEAD: usize = 256;

/// How many files have to be left in a row for it to be worth while: that something is prepared has
/// to be on record, which costs as much as one file.
const WORTH_WHILE: usize = 4;

/// How many changes share a sync, at most.
const SHARED: usize = 256;

/// How many bytes of old content changes that share a sync may tell of, at most.
const SHARED_BYTES: usize = 4 * 1024 * 1024;

/// How long a report waits for others, when there is a next step to do.
const PATIENCE: Duration = Duration::from_millis(250);

/// What may be done ahead in a batch.
#[derive(Debug)]
pub struct Row {
    plain: Vec<bool>,
    looked: usize,
    width: usize,
}

impl Row {
    /// Rows of a batch: plain files that follow one another. A look prepares nothing.
    pub fn of(batch: &Batch) -> Self {
        let plain = |item: &crate::resource::Item| {
            batch.mode == Mode::Apply && item.resource.is_plain_file()
        };
        Self { plain: batch.items.iter().map(|item| plain(item)).collect(), looked: 0, width: 0 }
    }

    /// True when the step and the one behind it, or the one before it, are in one row.
    pub fn has(&self, index: usize) -> bool {
        let plain = |index: usize| self.plain.get(index).copied().unwrap_or(false);
        plain(index) && (plain(index + 1) || index.checked_sub(1).is_some_and(plain))
    }

    /// The steps to prepare now, after the step of this index has ended. One change makes it
    /// worth looking at a few, each further one at twice as many.
    pub fn ahead(&mut self, index: usize, changed: bool) -> Range<usize> {
        if !self.plain.get(index).copied().unwrap_or(false) {
            self.width = 0;
            return index..index;
        }
        if changed {
            self.width = (self.width * 2).clamp(2, AHEAD);
        }
        let first = self.looked.max(index + 1);
        // Half of them are on their way to the disk while the other half is looked at.
        if !changed || first > index + 1 + self.width / 2 {
            return index..index;
        }
        let wanted = (index + 1 + self.width).min(self.plain.len());
        let row = self.plain.iter().skip(index + 1).take_while(|plain| **plain).count();
        let end = wanted.min(index + 1 + row);
        let begun = self.looked > index;
        if first >= end || (!begun && row < WORTH_WHILE) {
            return index..index;
        }
        self.looked = end;
        first..end
    }
}

/// Reports that wait for a sync, in their order.
#[derive(Debug, Default)]
pub struct Held {
    reports: Vec<ItemReport>,
    changes: usize,
    /// Bytes of old content in the reports.
    bytes: usize,
    since: Option<Instant>,
}

impl Held {
    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// True when the report has to wait: it tells of a change of a row, or comes behind one.
    pub fn waits(&self, report: &ItemReport, in_row: bool) -> bool {
        !self.is_empty() || (in_row && is_change(report))
    }

    /// Lets a report wait.
    pub fn push(&mut self, report: ItemReport, now: Instant) {
        self.since.get_or_insert(now);
        self.changes += usize::from(is_change(&report));
        self.bytes += bytes_of(&report);
        self.reports.push(report);
    }

    /// True when the waiting reports have waited for long enough, or are enough.
    pub fn due(&self, now: Instant) -> bool {
        self.changes >= SHARED
            || self.bytes >= SHARED_BYTES
            || self.since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
    }

    /// The reports, all that they tell of being on the disk.
    pub fn settled(&mut self) -> Vec<ItemReport> {
        std::mem::take(self).reports
    }

    /// The reports when the sync failed: the first change is reported as failed, and nothing of
    /// what came behind it. The next run finds what is there.
    pub fn unsettled(&mut self, failed: Outcome) -> Vec<ItemReport> {
        let mut reports = std::mem::take(self).reports;
        if let Some(first) = reports.iter().position(is_change) {
            reports.truncate(first + 1);
        }
        if let Some(ItemReport { event: ItemEvent::Finished { outcome, .. }, .. }) =
            reports.last_mut()
        {
            *outcome = failed;
        }
        reports
    }

    /// The reports of one step alone, when nothing is known of the others.
    pub fn only(&mut self, slot: ItemSlot) -> Vec<ItemReport> {
        let mut reports = std::mem::take(self).reports;
        reports.retain(|report| report.slot == slot);
        reports
    }
}

fn is_change(report: &ItemReport) -> bool {
    matches!(report.event, ItemEvent::Finished { outcome: Outcome::Changed(_), .. })
}

fn bytes_of(report: &ItemReport) -> usize {
    let ItemEvent::Finished { outcome: Outcome::Changed(changes), .. } = &report.event else {
        return 0;
    };
    changes.iter().filter_map(|change| change.before.as_ref()).map(Vec::len).sum()
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
