//! The thread in which the items of a batch run, so that their deadline can be kept.

use super::batch::{ConvergeItem, Settle};
use super::writer::LinkBroken;
use crate::resource::{Batch, Failure, Item, ItemSlot, Mode, Outcome};
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Why there is no outcome.
pub(super) enum Trouble {
    Failed(Failure),
    LinkBroken,
    Stuck,
}

impl From<LinkBroken> for Trouble {
    fn from(_: LinkBroken) -> Self {
        Self::LinkBroken
    }
}

/// The thread and the two ways to it.
pub(super) struct Worker {
    pub(super) jobs: mpsc::Sender<Job>,
    news: mpsc::Receiver<News>,
}

/// What it is given to do.
pub(super) enum Job {
    Item(ItemSlot, Mode),
    /// Steps to prepare. Nothing is answered.
    Prepare(Range<usize>),
    Settle(Settle),
}

/// What it says.
pub(super) enum News {
    Waiting(String),
    Done(Outcome),
    Settled(Result<(), Failure>),
}

/// How long something may take; 0 is without end.
pub(super) struct Limit {
    pub(super) ms: u32,
    pub(super) began: Instant,
}

impl Worker {
    pub(super) fn start(batch: Arc<Batch>, mut hands: ConvergeItem) -> std::io::Result<Self> {
        let (jobs, jobs_in) = mpsc::channel::<Job>();
        let (news_out, news) = mpsc::channel();
        std::thread::Builder::new().name("steps".into()).spawn(move || {
            while let Ok(job) = jobs_in.recv() {
                let done = match job {
                    Job::Prepare(steps) => {
                        let items = batch.items.get(steps).unwrap_or_default();
                        items.iter().for_each(|item| hands.prepare(item));
                        continue;
                    }
                    Job::Settle(at) => News::Settled(hands.settle(at)),
                    Job::Item(slot, mode) => {
                        let item = match slot {
                            ItemSlot::Step(index) => batch.items.get(index as usize),
                            ItemSlot::Handler(index) => batch.handlers.get(index as usize),
                        };
                        let Some(item) = item else { return };
                        let apply = batch.mode == Mode::Apply;
                        // The last of the row may have been looked at only, or left out.
                        let ended = match apply && !in_row(item, slot) {
                            true => hands.end_row_of_units(),
                            false => Ok(()),
                        };
                        let mut outcome = match ended {
                            Err(failure) => Outcome::Failed(failure),
                            Ok(()) => hands.converge(item, mode, &mut |text| {
                                news_out.send(News::Waiting(text)).ok();
                            }),
                        };
                        let failed = matches!(outcome, Outcome::Failed(_));
                        if mode == Mode::Apply
                            && (failed || !unit_behind(&batch, slot))
                            && let Err(failure) = hands.end_row_of_units()
                            && !failed
                        {
                            outcome = Outcome::Failed(failure);
                        }
                        News::Done(outcome)
                    }
                };
                if news_out.send(done).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs, news })
    }

    pub(super) fn send(&self, job: Job) -> Result<(), Trouble> {
        self.jobs.send(job).map_err(|_| gone())
    }

    pub(super) fn news(&self, limit: &Limit) -> Result<News, Trouble> {
        let time = Duration::from_millis(u64::from(limit.ms));
        let news = if time.is_zero() {
            self.news.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            self.news.recv_timeout(time.saturating_sub(limit.began.elapsed()))
        };
        news.map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => Trouble::Stuck,
            mpsc::RecvTimeoutError::Disconnected => gone(),
        })
    }

    pub(super) fn settle(&self, at: Settle, limit_ms: u32) -> Result<(), Trouble> {
        self.send(Job::Settle(at))?;
        let limit = Limit { ms: limit_ms, began: Instant::now() };
        loop {
            if let News::Settled(result) = self.news(&limit)? {
                return result.map_err(Trouble::Failed);
            }
        }
    }
}

fn gone() -> Trouble {
    Trouble::Failed(Failure::new("the agent's worker ended unexpectedly"))
}

/// True for a step of a unit. Handlers restart what steps changed: nothing is left for later then.
fn in_row(item: &Item, slot: ItemSlot) -> bool {
    item.resource.is_unit() && matches!(slot, ItemSlot::Step(_))
}

/// True when the step behind this one is a unit's, too.
fn unit_behind(batch: &Batch, slot: ItemSlot) -> bool {
    let ItemSlot::Step(index) = slot else { return false };
    batch.items.get(index as usize + 1).is_some_and(|item| item.resource.is_unit())
}
