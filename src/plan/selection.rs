//! Which layers and hosts a command works on.

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::site::{Layer, Site, suggest};
use globset::Glob;
use std::collections::BTreeSet;

/// One `--host` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSelector(pub String);

/// Which layers are asked for, as typed: by name, or a range of the site's order.
#[derive(Debug, Clone, Copy, Default)]
pub struct LayerSelection<'a> {
    /// These layers.
    pub names: &'a [String],
    /// From this layer on.
    pub from: Option<&'a str>,
    /// Up to this layer, itself included.
    pub to: Option<&'a str>,
}

impl LayerSelection<'_> {
    /// True when not simply every layer is asked for.
    pub const fn restricts(&self) -> bool {
        !self.names.is_empty() || self.from.is_some() || self.to.is_some()
    }
}

/// The selected layers in the site's order.
pub fn select_layers<'a>(
    site: &'a Site,
    selection: LayerSelection<'_>,
    problems: &mut Diagnostics,
) -> Vec<&'a Layer> {
    let LayerSelection { names, from, to } = selection;
    if !names.is_empty() && (from.is_some() || to.is_some()) {
        problems.push(
            Diagnostic::error(
                Code::SELECTION,
                "--layer does not go with --from and --to: both say which layers",
            )
            .hint("name layers one by one with --layer, or a range of the site's order with --from and --to"),
        );
    }
    for name in names {
        position(site, name, problems);
    }
    let first = from.map(|name| position(site, name, problems));
    let last = to.map(|name| position(site, name, problems));
    if let (Some(Some(first)), Some(Some(last))) = (first, last)
        && first > last
    {
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        problems.push(
            Diagnostic::error(
                Code::SELECTION,
                format!("layer `{to}` comes before `{from}`: nothing is between them"),
            )
            .hint(format!("the other way round: --from {to} --to {from}")),
        );
    }
    let first = first.flatten().unwrap_or(0);
    let last = last.flatten().unwrap_or(usize::MAX);
    site.config
        .layers
        .iter()
        .enumerate()
        .filter(|(index, _)| (first..=last).contains(index))
        .map(|(_, layer)| layer)
        .filter(|layer| names.is_empty() || names.contains(&layer.name))
        .collect()
}

/// A layer's place in the site's order; an unknown name is reported.
fn position(site: &Site, name: &str, problems: &mut Diagnostics) -> Option<usize> {
    let layers = &site.config.layers;
    let found = layers.iter().position(|layer| layer.name == name);
    if found.is_none() {
        let known = layers.iter().map(|layer| layer.name.as_str());
        problems.push(
            Diagnostic::error(Code::SELECTION, format!("no layer is named `{name}`"))
                .hint(suggest::among(name, known)),
        );
    }
    found
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

/// The hosts that one selector names: those of a group, which `@` says for certain, else the hosts
/// whose names match.
fn matching(site: &Site, text: &str, problems: &mut Diagnostics) -> Vec<String> {
    if let Some(name) = text.strip_prefix('@') {
        if let Some(group) = site.groups.get(name) {
            return group.hosts.clone();
        }
        problems.push(
            Diagnostic::error(Code::SELECTION, format!("no group is named `{name}`"))
                .hint(suggest::among(name, site.groups.keys().map(String::as_str))),
        );
        return Vec::new();
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Profile;
    use proptest::prelude::*;
    use std::path::Path;

    /// The repository's site with six layers.
    fn site() -> Site {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut site = Site::load(root, Profile::Production, &mut Diagnostics::new()).unwrap();
        let base = site.config.layers[0].clone();
        site.config.layers =
            (0..6).map(|index| Layer { name: format!("l{index}"), ..base.clone() }).collect();
        site
    }

    fn selected(site: &Site, selection: LayerSelection<'_>) -> Result<Vec<String>, usize> {
        let mut problems = Diagnostics::new();
        let layers = select_layers(site, selection, &mut problems);
        if problems.has_errors() {
            return Err(problems.iter().count());
        }
        Ok(layers.into_iter().map(|layer| layer.name.clone()).collect())
    }

    #[test]
    fn mistakes_are_reported_together() {
        let site = site();
        let names = ["l1".to_owned(), "lx".to_owned()];
        let all = LayerSelection { names: &names, from: Some("nope"), to: Some("l0") };
        assert_eq!(selected(&site, all), Err(3));
        let turned = LayerSelection { from: Some("l3"), to: Some("l1"), ..Default::default() };
        assert_eq!(selected(&site, turned), Err(1));
    }

    #[test]
    fn an_at_sign_is_for_groups_alone() {
        let site = site();
        let hosts = |text: &str| {
            let mut problems = Diagnostics::new();
            let hosts = select_hosts(&site, &[HostSelector(text.to_owned())], &mut problems);
            (hosts.len(), problems.has_errors())
        };
        assert_eq!(hosts("@db"), (3, false));
        assert_eq!(hosts("!@db"), (25, false));
        assert_eq!(hosts("@db-01"), (0, true));
        assert_eq!(hosts("@"), (0, true));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// A range is what stands between its ends in the site's order, both included.
        #[test]
        fn a_range_is_whole(from in prop::option::of(0_usize..6), to in prop::option::of(0_usize..6)) {
            let site = site();
            let name = |index: usize| site.config.layers[index].name.as_str();
            let selection =
                LayerSelection { names: &[], from: from.map(name), to: to.map(name) };
            let (first, last) = (from.unwrap_or(0), to.unwrap_or(5));
            let wanted: Vec<String> = (first..=last).map(|index| name(index).to_owned()).collect();
            let wanted = if first > last { Err(1) } else { Ok(wanted) };
            prop_assert_eq!(selected(&site, selection), wanted);
        }
    }
}
