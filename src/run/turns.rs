//! Whose turn it is: hosts of a rolling placement are worked on in batches. Pure.
//!
//! A host may stand in several rolling placements of a layer; it then waits for its turn in each of
//! them, and counts in the batches of all. Hosts in none begin at once.

use crate::site::rolling::Share;
use crate::site::{Layer, Rolling, Site};
use std::collections::{BTreeMap, BTreeSet};

/// A rolling placement and the hosts of the run that stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Roll {
    /// For people: the role and its group.
    name: String,
    rolling: Rolling,
    hosts: BTreeSet<String>,
}

/// In which order the hosts of a layer are worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    rolls: Vec<Roll>,
    /// Who begins at once, then each batch, hosts in the order in which they were given.
    waves: Vec<Vec<String>>,
}

/// What a host may do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Begin.
    Now,
    /// Wait for others.
    Later,
    /// Never begin in this run; the text says which placement has failed too often.
    Never(String),
}

/// How a host ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As wanted.
    Converged,
    /// Otherwise.
    Failed,
    /// Not at all: its turn never came. Hosts of its other placements need not wait for it.
    NotStarted,
}

/// How the hosts that are done ended.
pub type Ended = BTreeMap<String, End>;

impl Turns {
    /// The turns of a layer's hosts, in their given order.
    pub fn new(site: &Site, layer: &Layer, hosts: &[String]) -> Self {
        let rolls = layer.place.iter().filter_map(|placement| {
            let group = site.groups.get(&placement.group)?;
            let here = hosts.iter().filter(|host| group.hosts.contains(host)).cloned().collect();
            Some(Roll {
                name: format!("{} on {}", placement.role, placement.group),
                rolling: placement.rolling.clone()?,
                hosts: here,
            })
        });
        Self::of(rolls.collect(), hosts)
    }

    /// All hosts at once.
    pub fn at_once(hosts: &[String]) -> Self {
        Self::of(Vec::new(), hosts)
    }

    fn of(rolls: Vec<Roll>, hosts: &[String]) -> Self {
        let rolls_of = |host: &String| -> Vec<usize> {
            let standing = rolls.iter().enumerate().filter(|(_, roll)| roll.hosts.contains(host));
            standing.map(|(index, _)| index).collect()
        };
        let (mut left, free): (Vec<&String>, Vec<&String>) =
            hosts.iter().partition(|host| !rolls_of(host).is_empty());
        let mut waves = vec![free.into_iter().cloned().collect::<Vec<String>>()];
        let mut batch = vec![0; rolls.len()];
        while !left.is_empty() {
            let mut room: Vec<usize> = rolls
                .iter()
                .zip(&batch)
                .map(|(roll, index)| roll.rolling.batch(*index, roll.hosts.len()))
                .collect();
            let mut wave: Vec<String> = Vec::new();
            let mut used = vec![false; rolls.len()];
            let mut later = Vec::new();
            for host in left {
                let mine = rolls_of(host);
                if mine.iter().all(|roll| room[*roll] > 0) {
                    for roll in mine {
                        room[roll] -= 1;
                        used[roll] = true;
                    }
                    wave.push(host.clone());
                } else {
                    later.push(host);
                }
            }
            for (index, used) in batch.iter_mut().zip(used) {
                *index += usize::from(used);
            }
            waves.push(wave);
            left = later;
        }
        Self { rolls, waves }
    }

    /// Every host once, in an order in which nobody waits for a later one.
    pub fn order(&self) -> impl Iterator<Item = &String> {
        self.waves.iter().flatten()
    }

    /// The batches, without those who begin at once.
    pub fn batches(&self) -> &[Vec<String>] {
        self.waves.get(1..).unwrap_or_default()
    }

    /// How the placements whose hosts take turns do it, one line each.
    pub fn described(&self) -> Vec<String> {
        let lines = self.rolls.iter().filter_map(|roll| {
            let here = |batch: &Vec<String>| {
                batch.iter().filter(|host| roll.hosts.contains(*host)).count()
            };
            let sizes: Vec<usize> =
                self.batches().iter().map(here).filter(|size| *size > 0).collect();
            let [_, _, ..] = sizes.as_slice() else { return None };
            let text: Vec<String> = sizes.iter().map(usize::to_string).collect();
            Some(format!(
                "{}: {} hosts in batches of {}",
                roll.name,
                roll.hosts.len(),
                text.join(", ")
            ))
        });
        lines.collect()
    }

    /// Whether a host may begin, when these have ended: once every host of an earlier batch of each
    /// of its placements has, and not more of them failed than the placement allows.
    pub fn of_host(&self, host: &str, ended: &Ended) -> Turn {
        let Some(own) = self.waves.iter().position(|wave| wave.iter().any(|name| name == host))
        else {
            return Turn::Now;
        };
        let earlier: BTreeSet<&String> = self.waves.iter().take(own).skip(1).flatten().collect();
        let mut turn = Turn::Now;
        for roll in self.rolls.iter().filter(|roll| roll.hosts.contains(host)) {
            let mut failed = 0;
            let mut open = false;
            for other in roll.hosts.iter().filter(|other| earlier.contains(other)) {
                match ended.get(other) {
                    Some(End::Converged | End::NotStarted) => {}
                    Some(End::Failed) => failed += 1,
                    None => open = true,
                }
            }
            let allowed = roll.rolling.max_failures.of(roll.hosts.len());
            if failed > allowed {
                let limit = match roll.rolling.max_failures {
                    Share::Hosts(_) => String::new(),
                    Share::Percent(percent) => format!(" ({percent}%)"),
                };
                return Turn::Never(format!(
                    "{failed} of {} failed, max_failures is {allowed}{limit}",
                    roll.name
                ));
            }
            if open {
                turn = Turn::Later;
            }
        }
        turn
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
