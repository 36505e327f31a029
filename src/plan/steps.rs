//! Which steps of a host's ordered list a run works on: `--tag`, `--step` and `--start-at`. Pure.
//!
//! The list of a host is what all its roles ask of it together, then the steps of its roles, layer
//! after layer. A place in it depends on the site's files alone, not on what a host is found to be.

use super::resolve::SITE_ROLE;
use super::scope::roles_on;
use super::shared_items;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::site::{Layer, Site, suggest};
use globset::{Glob, GlobMatcher};
use std::collections::{BTreeMap, BTreeSet};

/// A hint that lists more than this many bytes helps nobody.
const LONGEST_HINT: usize = 300;

/// What is asked for, as typed.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepSelection<'a> {
    /// Only steps with one of these tags.
    pub tags: &'a [String],
    /// Only steps with one of these names: a name or a glob.
    pub names: &'a [String],
    /// Only steps from the first one of this name on: a name or a glob.
    pub start_at: Option<&'a str>,
}

/// Which steps a run works on.
#[derive(Debug, Clone, Default)]
pub struct StepFilter {
    tags: Vec<String>,
    names: Vec<Pattern>,
    start: Option<Start>,
}

/// A name or a glob.
#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    glob: Option<GlobMatcher>,
}

/// Where each host begins.
#[derive(Debug, Clone)]
struct Start {
    text: String,
    /// The selected layers, lowest first.
    layers: Vec<String>,
    /// By host: in which of the layers it begins, and at which step of it.
    hosts: BTreeMap<String, (usize, Option<Place>)>,
}

/// A step's place in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    role: String,
    step: usize,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let glob = Glob::new(text).ok().map(|glob| glob.compile_matcher());
        Self { text: text.to_owned(), glob }
    }

    fn matches(&self, name: &str) -> bool {
        self.text == name || self.glob.as_ref().is_some_and(|glob| glob.is_match(name))
    }
}

/// A step as the list has it.
struct Listed<'a> {
    role: &'a str,
    index: usize,
    name: &'a str,
    tags: &'a [String],
}

/// What a layer asks of a host, in order.
fn list<'a>(site: &'a Site, layer: &Layer, host: &str) -> Vec<Listed<'a>> {
    let roles = roles_on(site, layer, host);
    if roles.is_empty() {
        return Vec::new();
    }
    let shared = shared_items::SITE_STEPS.into_iter().enumerate();
    let shared = shared.map(|(index, name)| Listed { role: SITE_ROLE, index, name, tags: &[] });
    let own = roles.into_iter().flat_map(|role| {
        let steps = role.steps.iter().enumerate();
        steps.map(|(index, step)| Listed {
            role: &role.name,
            index,
            name: &step.name,
            tags: &step.tags,
        })
    });
    shared.chain(own).collect()
}

impl StepFilter {
    /// Every step.
    pub const ALL: Self = Self { tags: Vec::new(), names: Vec::new(), start: None };

    /// What is asked for, for these layers and hosts. What would select nothing is reported.
    pub fn new(
        site: &Site,
        layers: &[&Layer],
        hosts: &[String],
        selection: StepSelection<'_>,
        problems: &mut Diagnostics,
    ) -> Self {
        let lists: Vec<(&str, usize, Vec<Listed<'_>>)> = hosts
            .iter()
            .flat_map(|host| {
                let of = |(index, layer): (usize, &&Layer)| {
                    (host.as_str(), index, list(site, layer, host))
                };
                layers.iter().enumerate().map(of).collect::<Vec<_>>()
            })
            .collect();
        let known: BTreeSet<&str> =
            lists.iter().flat_map(|(_, _, list)| list).map(|step| step.name).collect();
        let names: Vec<Pattern> = selection.names.iter().map(|text| Pattern::new(text)).collect();
        let first = selection.start_at.map(Pattern::new);
        let mut sound = !known.is_empty();
        let asked = names.iter().map(|pattern| ("--step", pattern));
        for (flag, pattern) in asked.chain(first.iter().map(|pattern| ("--start-at", pattern))) {
            if !known.is_empty() && !known.iter().any(|name| pattern.matches(name)) {
                sound = false;
                problems.push(
                    Diagnostic::error(
                        Code::SELECTION,
                        format!("{flag}: nothing selected has a step `{}`", pattern.text),
                    )
                    .hint(elsewhere(site, pattern, &known)),
                );
            }
        }
        let start = first.map(|pattern| Start {
            text: pattern.text.clone(),
            layers: layers.iter().map(|layer| layer.name.clone()).collect(),
            hosts: places(&lists, &pattern, layers.len()),
        });
        let filter = Self { tags: selection.tags.to_vec(), names, start };
        let left = || {
            lists.iter().any(|(host, layer, list)| {
                let mut here = filter.on(host, &layers[*layer].name);
                list.iter().any(|step| here.takes(step.role, step.index, step.name, step.tags))
            })
        };
        if filter.is_part() && sound && !problems.has_errors() && !left() {
            problems.push(
                Diagnostic::error(
                    Code::SELECTION,
                    "no step of the selected layers and hosts is left by --tag, --step and --start-at",
                )
                .hint("each of them leaves out what it does not name; `strata plan -v` shows steps by name"),
            );
        }
        filter
    }

    /// True when only some steps of the layers are worked on: nothing is proved then, and clusters
    /// are left alone.
    pub fn is_part(&self) -> bool {
        !self.tags.is_empty() || !self.names.is_empty()
    }

    /// The first step's name, where the run does not begin at the beginning.
    pub fn start_at(&self) -> Option<&str> {
        self.start.as_ref().map(|start| start.text.as_str())
    }

    /// True unless every one of these hosts begins in a later layer.
    pub fn reaches<'a>(&self, layer: &str, hosts: impl IntoIterator<Item = &'a String>) -> bool {
        hosts.into_iter().any(|host| self.on(host, layer).at != At::Later)
    }

    /// True when tags are asked for: what roles share has none.
    pub(super) fn leaves_out_shared(&self) -> bool {
        !self.tags.is_empty()
    }

    /// The filter on one host in one layer, whose steps are then asked for in order.
    pub(super) fn on(&self, host: &str, layer: &str) -> Here<'_> {
        let at = self.start.as_ref().map_or(At::Begun, |start| {
            let begins = start.hosts.get(host);
            let layer = start.layers.iter().position(|name| name == layer);
            match (begins, layer) {
                (Some((first, place)), Some(layer)) if layer == *first => {
                    place.as_ref().map_or(At::Begun, At::Step)
                }
                (Some((first, _)), Some(layer)) if layer < *first => At::Later,
                _ => At::Begun,
            }
        });
        Here { filter: self, at }
    }
}

/// A filter on its way through the steps of one host in one layer.
pub(super) struct Here<'a> {
    filter: &'a StepFilter,
    at: At<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At<'a> {
    /// Every further step counts.
    Begun,
    /// From this one on.
    Step(&'a Place),
    /// The host begins in a later layer.
    Later,
}

impl Here<'_> {
    /// True when the step is worked on.
    pub(super) fn takes(&mut self, role: &str, index: usize, name: &str, tags: &[String]) -> bool {
        if let At::Step(place) = self.at
            && place.role == role
            && index >= place.step
        {
            self.at = At::Begun;
        }
        let StepFilter { tags: wanted, names, .. } = self.filter;
        self.at == At::Begun
            && (wanted.is_empty() || tags.iter().any(|tag| wanted.contains(tag)))
            && (names.is_empty() || names.iter().any(|pattern| pattern.matches(name)))
    }
}

/// Where each host begins: at the first step of that name in its own list. A host without one
/// begins with the layer after the one in which the first host begins.
fn places(
    lists: &[(&str, usize, Vec<Listed<'_>>)],
    pattern: &Pattern,
    layers: usize,
) -> BTreeMap<String, (usize, Option<Place>)> {
    let mut found: BTreeMap<String, (usize, Option<Place>)> = BTreeMap::new();
    for (host, layer, list) in lists {
        if found.contains_key(*host) {
            continue;
        }
        if let Some(step) = list.iter().find(|step| pattern.matches(step.name)) {
            let place = Place { role: step.role.to_owned(), step: step.index };
            found.insert((*host).to_owned(), (*layer, Some(place)));
        }
    }
    let first = found.values().map(|(layer, _)| *layer).min().unwrap_or(layers);
    for (host, _, _) in lists {
        found.entry((*host).to_owned()).or_insert((first + 1, None));
    }
    found
}

/// Where a name is that the selection does not have, or the nearest one that it has.
fn elsewhere(site: &Site, pattern: &Pattern, known: &BTreeSet<&str>) -> String {
    let has = |layer: &&Layer| {
        let roles = layer.place.iter().filter_map(|placement| site.roles.get(&placement.role));
        roles.flat_map(|role| &role.steps).any(|step| pattern.matches(&step.name))
    };
    if let Some(layer) = site.config.layers.iter().find(has) {
        return format!(
            "layer `{}` has it: it is not selected, or not on the selected hosts",
            layer.name
        );
    }
    let hint = suggest::among(&pattern.text, known.iter().copied());
    if hint.len() <= LONGEST_HINT {
        return hint;
    }
    "`strata plan -v` shows the steps by name; they stand in roles/ROLE/role.toml".to_owned()
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
