//! The digest of what a layer reads. A gate's verdict counts only while it stays the same.

use crate::site::{Layer, Site};
use sha2::{Digest, Sha256};

/// Version of the digest's recipe: a new recipe never makes an old verdict look valid.
const RECIPE: u8 = 1;

/// A hex digest over the layer's placements, the roles and templates they use, the hosts they
/// stand on, the variables and the versions. Other layers, other hosts' notes and the order of the
/// inventory's rows do not change it.
pub fn layer_digest(site: &Site, layer: &Layer) -> String {
    let mut hasher = Sha256::new();
    let mut feed = |part: &str| {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    feed(&format!("{RECIPE} {}", layer.name));
    let mut hosts: Vec<&str> = Vec::new();
    for placement in &layer.place {
        feed(&placement.role);
        feed(&placement.group);
        if let Some(role) = site.roles.get(&placement.role) {
            feed(role.source.text());
        }
        for (name, source) in &site.templates {
            if name.starts_with(&format!("{}/", placement.role)) {
                feed(name);
                feed(source.text());
            }
        }
        let members = site.groups.get(&placement.group).map(|group| group.hosts.as_slice());
        hosts.extend(members.unwrap_or_default().iter().map(String::as_str));
    }
    hosts.sort_unstable();
    hosts.dedup();
    for host in hosts.iter().filter_map(|name| site.hosts.get(*name)) {
        feed(&format!("{} {} {} {:?}", host.name, host.fqdn, host.address, host.public));
        for group in site.groups_of(&host.name) {
            feed(&group.name);
            group
                .vars
                .iter()
                .for_each(|(name, value)| feed(&format!("{name}={:?}", value.node.value)));
        }
    }
    for (name, variable) in &site.config.vars {
        feed(&format!("{name}={:?}", variable.node.value));
    }
    for (name, version) in &site.versions {
        feed(&format!("{name}={}", version.value));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
