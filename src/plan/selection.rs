//! Which layers and hosts a command works on.

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::site::{Layer, Site, suggest};
use globset::Glob;
use std::collections::BTreeSet;

/// One `--host` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSelector(pub String);

/// The selected layers in the site's order.
pub fn select_layers<'a>(
    site: &'a Site,
    names: &[String],
    problems: &mut Diagnostics,
) -> Vec<&'a Layer> {
    for name in names {
        if site.layer(name).is_none() {
            let known = site.config.layers.iter().map(|layer| layer.name.as_str());
            problems.push(
                Diagnostic::error(Code::SELECTION, format!("no layer is named `{name}`"))
                    .hint(suggest::among(name, known)),
            );
        }
    }
    site.config
        .layers
        .iter()
        .filter(|layer| names.is_empty() || names.contains(&layer.name))
        .collect()
}

/// The named layers and all that they require, themselves included, in the site's order.
pub fn with_required(site: &Site, names: &[String]) -> Vec<String> {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = names.to_vec();
    while let Some(name) = open.pop() {
        let required = site.layer(&name).into_iter().flat_map(|layer| &layer.requires);
        open.extend(required.map(|(name, _)| name.clone()).filter(|name| !wanted.contains(name)));
        wanted.insert(name);
    }
    let layers = site.config.layers.iter().map(|layer| layer.name.clone());
    layers.filter(|name| wanted.contains(name)).collect()
}

/// Reports tags that no step of the site has: with such a tag a run would do nothing and call it
/// done.
pub fn check_tags(site: &Site, tags: &[String], problems: &mut Diagnostics) {
    let known: BTreeSet<&str> = site
        .roles
        .values()
        .flat_map(|role| &role.steps)
        .flat_map(|step| step.tags.iter().map(String::as_str))
        .collect();
    for tag in tags.iter().filter(|tag| !known.contains(tag.as_str())) {
        problems.push(
            Diagnostic::error(Code::SELECTION, format!("no step has the tag `{tag}`"))
                .hint(suggest::among(tag, known.iter().copied())),
        );
    }
}

/// The selected hosts in inventory order.
pub fn select_hosts(
    site: &Site,
    selectors: &[HostSelector],
    problems: &mut Diagnostics,
) -> Vec<String> {
    let (excluded, included): (Vec<&str>, Vec<&str>) =
        selectors.iter().map(|s| s.0.as_str()).partition(|text| text.starts_with('!'));
    let mut wanted = if included.is_empty() {
        site.hosts.keys().cloned().collect()
    } else {
        included.iter().flat_map(|text| matching(site, text, problems)).collect::<Vec<String>>()
    };
    for text in excluded {
        let out = matching(site, text.trim_start_matches('!'), problems);
        wanted.retain(|host| !out.contains(host));
    }
    let selected: Vec<String> =
        site.hosts.keys().filter(|host| wanted.contains(host)).cloned().collect();
    if selected.is_empty() && !problems.has_errors() {
        problems.push(
            Diagnostic::error(Code::SELECTION, "the selection holds no host")
                .hint("`strata hosts list` shows hosts and groups"),
        );
    }
    selected
}

fn matching(site: &Site, text: &str, problems: &mut Diagnostics) -> Vec<String> {
    if let Some(group) = site.groups.get(text) {
        return group.hosts.clone();
    }
    let matches: Vec<String> = match Glob::new(text) {
        Ok(glob) => {
            let matcher = glob.compile_matcher();
            site.hosts.keys().filter(|host| matcher.is_match(host)).cloned().collect()
        }
        Err(_) => Vec::new(),
    };
    if matches.is_empty() {
        let known = site.hosts.keys().chain(site.groups.keys()).map(String::as_str);
        problems.push(
            Diagnostic::error(Code::SELECTION, format!("`{text}` is no host, glob or group"))
                .hint(suggest::among(text, known)),
        );
    }
    matches
}
