//! Which pins the roles of a selection use.

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::site::{Role, Site};
use std::collections::BTreeSet;

/// How the keys of images end.
const IMAGE_PIN: &str = "_image";

/// The keys of `versions.yaml` that roles of these layers (all, if none is named) on these hosts
/// speak of, in a step or in a template, sorted. It is a look at the text: a pin in a branch that
/// no host takes counts too.
pub fn pins_of(site: &Site, layers: &[String], hosts: &[String]) -> BTreeSet<String> {
    let placements = site
        .config
        .layers
        .iter()
        .filter(|layer| layers.is_empty() || layers.contains(&layer.name))
        .flat_map(|layer| &layer.place);
    let roles: BTreeSet<&str> = placements
        .filter(|placement| {
            let group = site.groups.get(&placement.group);
            group.is_some_and(|group| group.hosts.iter().any(|host| hosts.contains(host)))
        })
        .map(|placement| placement.role.as_str())
        .collect();
    let texts: Vec<&str> = roles
        .into_iter()
        .filter_map(|role| site.roles.get(role))
        .flat_map(|role| texts_of(site, role))
        .collect();
    let used = |pin: &&String| texts.iter().any(|text| speaks_of(text, pin));
    site.versions.keys().filter(used).cloned().collect()
}

/// The pins of images that hosts of the site use, in the order of the versions file.
pub fn image_pins(site: &Site, layers: &[String], hosts: &[String]) -> Vec<(String, String)> {
    let used = pins_of(site, layers, hosts);
    let images = site.versions.iter().filter(|(pin, _)| pin.ends_with(IMAGE_PIN));
    images
        .filter(|(pin, _)| used.contains(*pin))
        .map(|(pin, version)| (pin.clone(), version.value.clone()))
        .collect()
}

/// Once a site has a lock file, an image that it leaves out is worth a word.
pub fn check_image_locks(site: &Site, problems: &mut Diagnostics) {
    let Some(locks) = &site.image_locks else { return };
    // An entry that cannot be read is an error of its own, and does not count as left out.
    if problems.iter().any(|problem| problem.code == Code::IMAGE_LOCK) {
        return;
    }
    let hosts: Vec<String> = site.hosts.keys().cloned().collect();
    for (pin, image) in image_pins(site, &[], &hosts) {
        if locks.contains_key(&pin) {
            continue;
        }
        let warning = Diagnostic::warning(
            Code::IMAGE_UNLOCKED,
            format!("`{pin}` is not locked: `{image}` may be another image tomorrow"),
        );
        let span = site.versions.get(&pin).map(|version| version.span.clone());
        let warning = span.map_or(warning.clone(), |span| warning.at(span, ""));
        problems.push(warning.hint(format!("`strata images lock --pin {pin}`")));
    }
}

/// A role's own text, and the templates that it names.
fn texts_of<'a>(site: &'a Site, role: &'a Role) -> Vec<&'a str> {
    let own = role.source.text();
    let templates = site.templates.iter().filter(|(path, _)| own.contains(path.as_str()));
    [own].into_iter().chain(templates.map(|(_, source)| source.text())).collect()
}

fn speaks_of(text: &str, pin: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("versions").any(|(at, name)| {
        let rest = text.get(at + name.len()..).unwrap_or_default();
        let rest = rest.trim_start_matches(['.', '[', '"', '\'']);
        rest.strip_prefix(pin).is_some_and(|after| !after.starts_with(word))
    })
}

#[cfg(test)]
mod tests {
    use super::speaks_of;

    #[test]
    fn a_pin_is_found_by_its_whole_name() {
        assert!(speaks_of("image = \"{{ versions.redis_image }}\"", "redis_image"));
        assert!(speaks_of("{{ versions[\"redis_image\"] }}", "redis_image"));
        assert!(!speaks_of("{{ versions.redis_image_tag }}", "redis_image"));
        assert!(!speaks_of("{{ redis_image }}", "redis_image"));
        assert!(!speaks_of("versions", "redis_image"));
    }
}
