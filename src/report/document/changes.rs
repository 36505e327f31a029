//! What a run changed: steps with the hosts on which they did the same. Pure.

use super::model::{Document, StepResult};
use crate::event::ChangeText;
use crate::report::style::plural;
use serde::Serialize;

/// Lines of a difference that are shown.
const LINES: usize = 400;

/// A step that changed something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Changed {
    /// The layer.
    pub layer: String,
    /// `role › step`.
    pub title: String,
    /// True for a handler.
    pub handler: bool,
    /// How many hosts.
    pub hosts: String,
    /// What was done, each with its hosts.
    pub variants: Vec<Variant>,
}

/// The same change on some hosts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Variant {
    /// The hosts.
    pub hosts: String,
    /// The differences.
    pub changes: Vec<Difference>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Difference {
    /// In one line.
    pub what: String,
    /// Lines of file content, each with its class.
    pub lines: Vec<(&'static str, String)>,
    /// Lines that are not shown.
    pub more: usize,
}

/// A step with what it did, and where.
struct Group<'a> {
    layer: &'a str,
    role: &'a str,
    name: &'a str,
    handler: bool,
    variants: Vec<(&'a [ChangeText], Vec<&'a str>)>,
}

/// All changes, in the order in which they were first made.
pub(super) fn changes(document: &Document) -> Vec<Changed> {
    let mut made: Vec<(u64, &str, &super::model::Step, &[ChangeText])> = Vec::new();
    for host in &document.hosts {
        for step in &host.steps {
            if let StepResult::Changed { changes } = &step.result {
                made.push((step.at, &host.name, step, changes));
            }
        }
    }
    made.sort_by_key(|(at, ..)| *at);
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (_, host, step, changes) in made {
        let same = |group: &&mut Group<'_>| {
            group.layer == step.layer
                && group.role == step.role
                && group.name == step.name
                && group.handler == step.handler
        };
        let place = match groups.iter_mut().find(same) {
            Some(group) => group,
            None => {
                groups.push(Group {
                    layer: &step.layer,
                    role: &step.role,
                    name: &step.name,
                    handler: step.handler,
                    variants: Vec::new(),
                });
                let Some(group) = groups.last_mut() else { continue };
                group
            }
        };
        match place.variants.iter_mut().find(|(known, _)| *known == changes) {
            Some((_, hosts)) => hosts.push(host),
            None => place.variants.push((changes, vec![host])),
        }
    }
    groups.into_iter().map(changed).collect()
}

fn changed(group: Group<'_>) -> Changed {
    let hosts: usize = group.variants.iter().map(|(_, hosts)| hosts.len()).sum();
    Changed {
        layer: group.layer.to_owned(),
        title: format!("{} › {}", group.role, group.name),
        handler: group.handler,
        hosts: plural(hosts, "host"),
        variants: group
            .variants
            .into_iter()
            .map(|(changes, mut hosts)| {
                hosts.sort_unstable();
                Variant {
                    hosts: hosts.join(", "),
                    changes: changes.iter().map(difference).collect(),
                }
            })
            .collect(),
    }
}

fn difference(change: &ChangeText) -> Difference {
    let what = match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("{}: {from} → {to}", change.what),
        (None, Some(to)) => format!("{}: {to}", change.what),
        (Some(from), None) => format!("{}: {from} → none", change.what),
        (None, None) => change.what.clone(),
    };
    let all: Vec<&str> = change.diff.iter().flat_map(|diff| diff.lines()).collect();
    let more = all.len().saturating_sub(LINES);
    let class = |line: &str| match line.as_bytes().first() {
        Some(b'+') => "added",
        Some(b'-') => "removed",
        Some(b'@') => "place",
        _ => "same",
    };
    let lines = all.into_iter().take(LINES).map(|line| (class(line), line.to_owned())).collect();
    Difference { what, lines, more }
}
