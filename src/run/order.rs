//! Which layers of a run are in hand, which may be begun beside them, and which are not begun at
//! all. Pure.
//!
//! One after the other, in the site's order, unless the site allows more (`run.parallel_layers`).
//! What always holds: two layers that are in hand have no host in common; a layer is begun when
//! all that it requires is green; a host has its layers in the site's order; and a gate that
//! injects faults or measures runs while nothing else is in hand.

use crate::plan::with_required;
use crate::site::{Layer, Site};
use std::collections::BTreeSet;

/// The layers of a run, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<'a> {
    layers: Vec<Standing<'a>>,
    /// Layers in hand at the same time.
    most: usize,
}

/// One layer among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing<'a> {
    name: &'a str,
    /// Those of the run that it requires, directly or not.
    below: Vec<usize>,
    /// Its hosts, selected or not: a cluster is looked at whole.
    hosts: BTreeSet<&'a str>,
    /// True for what stands on the operator host: every gate looks from there.
    by_itself: bool,
}

/// Where a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    Waiting,
    /// It converges, or its gate only looks.
    Working,
    /// It is converged, and the rest of its gate waits until nothing else is in hand.
    Ready,
    /// Its gate runs and nothing else.
    Alone,
    /// Green, or nothing of it was to be done.
    Done,
    /// Not green, or not begun because of one that is not.
    Failed,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This layer is begun.
    Begin(usize),
    /// This one is left out, because of the other, which it requires.
    Skip(usize, usize),
}

impl State {
    const fn in_hand(self) -> bool {
        matches!(self, Self::Working | Self::Ready | Self::Alone)
    }
}

impl<'a> Order<'a> {
    /// The order of some layers of a site; at most so many are in hand at the same time.
    pub fn new(site: &'a Site, layers: &[&'a Layer], most: usize) -> Self {
        let standing = layers.iter().map(|layer| {
            let below = with_required(site, std::slice::from_ref(&layer.name));
            let hosts = hosts_of(site, layer);
            Standing {
                name: &layer.name,
                below: (0..layers.len())
                    .filter(|other| {
                        let other = &layers[*other].name;
                        *other != layer.name && below.contains(other)
                    })
                    .collect(),
                by_itself: hosts.contains(site.config.operator.0.as_str()),
                hosts,
            }
        });
        Self { layers: standing.collect(), most: most.max(1) }
    }

    /// What may happen now; `None` while something in hand has to end first, or when every layer has
    /// been begun or left out.
    pub fn next(&self, states: &[State]) -> Option<Next> {
        let in_hand: Vec<usize> =
            (0..states.len()).filter(|index| states[*index].in_hand()).collect();
        if in_hand.len() >= self.most {
            return None;
        }
        // A gate that waits for the others comes first: what is proved early is known early.
        let closed = states.iter().any(|state| matches!(state, State::Ready | State::Alone));
        let mut before = in_hand;
        for (index, layer) in self.layers.iter().enumerate() {
            if states[index] != State::Waiting {
                continue;
            }
            // The nearest to it in the site's order.
            let failed = layer.below.iter().rev().find(|below| states[**below] == State::Failed);
            if let Some(below) = failed {
                return Some(Next::Skip(index, *below));
            }
            let green = layer.below.iter().all(|below| states[*below] == State::Done);
            if green && !closed && !before.iter().any(|other| self.clash(index, *other)) {
                return Some(Next::Begin(index));
            }
            // Those after it do not overtake it on a host.
            before.push(index);
        }
        None
    }

    /// Whether a layer whose gate waits may have it run: nothing else works, and none that stands
    /// before it waits for the same.
    pub fn may_be_alone(&self, index: usize, states: &[State]) -> bool {
        states.iter().enumerate().all(|(other, state)| match state {
            State::Working | State::Alone => other == index,
            State::Ready => other >= index,
            State::Waiting | State::Done | State::Failed => true,
        })
    }

    /// The name of a layer.
    pub fn name(&self, index: usize) -> &'a str {
        self.layers[index].name
    }

    /// Which layers would be in hand together if each took as long as any other.
    pub fn together(&self) -> Vec<Vec<&'a str>> {
        let mut states = vec![State::Waiting; self.layers.len()];
        let mut all = Vec::new();
        loop {
            let mut now = Vec::new();
            while let Some(Next::Begin(index)) = self.next(&states) {
                states[index] = State::Working;
                now.push(index);
            }
            if now.is_empty() {
                return all;
            }
            all.push(now.iter().map(|index| self.name(*index)).collect());
            now.into_iter().for_each(|index| states[index] = State::Done);
        }
    }

    fn clash(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.layers[one], &self.layers[other]);
        one.by_itself || other.by_itself || !one.hosts.is_disjoint(&other.hosts)
    }
}

/// Every host on which a layer may have something done or looked at.
fn hosts_of<'a>(site: &'a Site, layer: &Layer) -> BTreeSet<&'a str> {
    let clusters = crate::cluster::clusters_of(site, layer).into_iter();
    let members = clusters.map(|(_, cluster)| cluster.members.0.as_str());
    let places = layer.place.iter().map(|place| place.group.as_str());
    places
        .chain(members)
        .filter_map(|group| site.groups.get(group))
        .flat_map(|group| group.hosts.iter().map(String::as_str))
        .collect()
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
