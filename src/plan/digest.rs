//! The digest of what a layer reads. A gate's verdict counts only while it stays the same.

use super::aggregate;
use crate::site::tree::{Node, NodeValue};
use crate::site::{Layer, Site};
use sha2::{Digest, Sha256};

/// Version of the digest's recipe: a new recipe never makes an old verdict look valid.
const RECIPE: u8 = 2;

/// A hex digest over the layer's placements, the roles, gates and templates they use, the hosts
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
    // Which templates a role reaches through includes is not known without rendering.
    for (name, source) in &site.templates {
        feed(name);
        feed(source.text());
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
    use super::plain;
    use crate::diag::{Diagnostics, Source};
    use crate::site::tree;

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
