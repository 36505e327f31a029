//! What of a site's steps holds for a host whatever its facts are. The check of a site finds it out,
//! and a run of the same site need not make it again.

use super::constants::StepId;
use crate::resource::{Item, Resource};
use crate::site::{Host, Step};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of files that are kept of a check at most. A file that names all hosts grows with the square
/// of the fleet, taken over all of them.
const ROOM: usize = 128 << 20;

/// Steps of one host that were made without a look at its facts: with other facts they are the same.
#[derive(Debug, Default)]
pub struct Lasting(BTreeMap<StepId, Kept>);

/// A step that was made.
#[derive(Debug)]
struct Kept {
    /// `None` where it does not apply.
    item: Option<Arc<Item>>,
    /// True when it was made, or left out, after a question about secrets.
    secret: bool,
}

impl Lasting {
    /// The step, where it is known to be the same; `Some(None)` where it does not apply.
    pub(super) fn step(&self, step: &Step) -> Option<Option<Arc<Item>>> {
        Some(self.0.get(&StepId::of(step))?.item.clone())
    }

    /// Keeps a step; `secret` where anything about secrets was asked for it.
    pub(super) fn keep(&mut self, step: &Step, item: Option<&Arc<Item>>, secret: bool) {
        self.0.insert(StepId::of(step), Kept { item: item.cloned(), secret });
    }

    /// Bytes of what is made of templates.
    fn size(&self) -> usize {
        let files = self.0.values().filter_map(|kept| match &kept.item.as_ref()?.resource {
            Resource::File(file) => Some(file.content.as_bytes().len()),
            _ => None,
        });
        files.sum()
    }
}

/// What the check of a site has found, as long as the site stands as it was checked: steps that are the
/// same whatever the facts of their hosts *and* the secrets are. A check sees neither.
#[derive(Debug, Default)]
pub struct Found<'site> {
    steps: BTreeMap<&'site str, Lasting>,
    /// Bytes of what is made of templates.
    size: usize,
}

impl<'site> Found<'site> {
    /// Keeps what was found for a host, while there is room: what is not kept is made again.
    pub(super) fn add(&mut self, host: &'site Host, mut lasting: Lasting) {
        lasting.0.retain(|_, kept| !kept.secret);
        let size = self.size.saturating_add(lasting.size());
        if size <= ROOM {
            self.size = size;
            self.steps.insert(&host.name, lasting);
        }
    }

    /// The step on a host, as [`Lasting::step`].
    pub(super) fn step(&self, host: &str, step: &Step) -> Option<Option<Arc<Item>>> {
        self.steps.get(host)?.step(step)
    }
}

#[cfg(test)]
#[path = "lasting_tests.rs"]
mod tests;
