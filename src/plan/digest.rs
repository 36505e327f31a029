//! The digest of what a layer reads. A gate's verdict counts only while it stays the same.

use super::aggregate;
use crate::site::tree::{Node, NodeValue};
use crate::site::{Layer, Site};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Version of the digest's recipe: a new recipe never makes an old verdict look valid.
const RECIPE: u8 = 3;

/// A hex digest over the layer's placements, the roles, gates and templates they reach, the hosts
/// they stand on with what the whole site asks of them, the variables, the versions and the
/// profile. Other layers' hosts, notes and the order of the inventory's rows do not change it.
pub fn layer_digest(site: &Site, layer: &Layer) -> String {
    let mut hasher = Sha256::new();
    let mut feed = |part: &str| {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    feed(&format!("{RECIPE} {} {:?} {}", layer.name, site.profile, site.config.ssh.port));
    let mut hosts: Vec<&str> = Vec::new();
    for placement in &layer.place {
        feed(&placement.role);
        feed(&placement.group);
        if let Some(role) = site.roles.get(&placement.role) {
            feed(role.source.text());
        }
        if let Some(test) = site.gates.get(&placement.role).and_then(|tests| tests.first()) {
            feed(test.source.text());
        }
        let members = site.groups.get(&placement.group).map(|group| group.hosts.as_slice());
        hosts.extend(members.unwrap_or_default().iter().map(String::as_str));
    }
    for (name, text) in templates_of(site, layer) {
        feed(name);
        feed(text);
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
                .for_each(|(name, value)| feed(&format!("{name}={}", plain(&value.node))));
        }
        for port in aggregate::firewall(site, host) {
            feed(&format!("{} {} {:?} {:?}", port.name, port.protocol, port.ports, port.from));
        }
        for role in aggregate::roles_of(site, &host.name) {
            feed(&role.sysctl.as_ref().map(plain).unwrap_or_default());
        }
    }
    for (name, variable) in &site.config.vars {
        feed(&format!("{name}={}", plain(&variable.node)));
    }
    for (name, version) in &site.versions {
        feed(&format!("{name}={}", version.value));
    }
    for exception in &site.exceptions.0 {
        feed(&format!("{:?}", exception.what));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The templates that the layer's roles may reach: those whose names stand in a role or in a
/// template that is reached. A name that is put together while rendering reaches all of them.
fn templates_of<'a>(site: &'a Site, layer: &Layer) -> BTreeMap<&'a str, &'a str> {
    let mut texts: Vec<&str> = layer
        .place
        .iter()
        .filter_map(|placement| site.roles.get(&placement.role))
        .map(|role| role.source.text())
        .collect();
    let dynamic = |text: &str| {
        text.split("src").skip(1).any(|rest| {
            let value = rest.trim_start().strip_prefix('=').map(str::trim_start);
            value.and_then(|value| value.split('"').nth(1)).is_some_and(|name| name.contains("{{"))
        })
    };
    let all = texts.iter().any(|text| dynamic(text));
    let mut reached = BTreeMap::new();
    while let Some(text) = texts.pop() {
        for (name, source) in &site.templates {
            if (all || text.contains(name.as_str())) && !reached.contains_key(name.as_str()) {
                reached.insert(name.as_str(), source.text());
                texts.push(source.text());
            }
        }
    }
    reached
}

/// A value without its place in the file.
fn plain(node: &Node) -> String {
    match &node.value {
        NodeValue::Array(nodes) => {
            format!("[{}]", nodes.iter().map(plain).collect::<Vec<_>>().join(","))
        }
        NodeValue::Table(entries) => {
            let pairs =
                entries.iter().map(|entry| format!("{:?}:{}", entry.key, plain(&entry.node)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Diagnostics, Source};
    use crate::site::tree;

    #[test]
    fn a_layer_reads_its_own_templates_and_no_others() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let site = Site::load(root, crate::site::Profile::Production, &mut Diagnostics::new());
        let site = site.unwrap();
        let reached = |layer| templates_of(&site, site.layer(layer).unwrap());
        assert!(reached("base").contains_key("base/sshd.conf.j2"));
        assert!(!reached("base").contains_key("redis/redis.conf.j2"));
        assert!(reached("redis").contains_key("redis/redis.conf.j2"));
        assert!(!reached("redis").contains_key("base/sshd.conf.j2"));
    }

    #[test]
    fn a_comment_above_a_value_changes_nothing() {
        let text = |toml: &str| {
            let source = Source::new("x.toml", toml);
            let entries = tree::parse(&source, &mut Diagnostics::new());
            plain(&entries[0].node)
        };
        assert_eq!(text("a = [1, { b = \"c\" }]"), text("# why\na = [ 1, { b = \"c\" } ]"));
        assert_ne!(text("a = [1]"), text("a = [2]"));
    }
}
