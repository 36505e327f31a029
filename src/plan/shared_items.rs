//! The shared things of a host as steps.

use super::aggregate::OpenPort;
use crate::resource::{
    Firewall, FirewallRule, Hosts, HostsEntry, Item, Package, Presence, Protocol, Published,
    Resource, Sysctl,
};
use crate::site::Host;
use crate::wire::Facts;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Seconds until an unproved packet filter is taken back.
const REVERT_AFTER: u32 = 30;

/// Milliseconds that a shared step may take; a package may have to be installed.
const TIMEOUT_MS: u32 = 900_000;

/// The names of the steps that the whole site asks of a host, in their order; a host without kernel
/// settings has no step for them.
pub const SITE_STEPS: [&str; 4] =
    ["Names of all hosts", "Packet filter tools", "Packet filter", "Kernel settings"];

/// The place of a shared step in [`SITE_STEPS`].
pub fn index(name: &str) -> usize {
    SITE_STEPS.iter().position(|known| *known == name).unwrap_or(SITE_STEPS.len())
}

/// What is shared on one host.
pub struct Shared {
    /// Open ports.
    pub firewall: Vec<OpenPort>,
    /// Kernel settings.
    pub sysctl: BTreeMap<String, String>,
    /// True on the operator host: whoever is logged in there must be let in again.
    pub keep_logins: bool,
    /// Kernel settings that are written and not set: the lab's exceptions.
    pub sysctl_file_only: Vec<String>,
}

/// The step for `/etc/hosts`, with the names of all hosts: the same on each of them.
pub fn names(hosts: Vec<(Ipv4Addr, Vec<String>)>) -> Item {
    let entries = hosts
        .into_iter()
        .map(|(address, names)| HostsEntry { address: IpAddr::V4(address), names })
        .collect();
    item(SITE_STEPS[0], Resource::Hosts(Hosts { entries }))
}

/// Steps for the packet filter and the kernel settings, in this order. They stand behind [`names`], and
/// before a role's own: its packages may need names.
pub fn items(host: &Host, facts: &Facts, shared: Shared) -> Vec<Item> {
    let [_, filter_tools, filter, kernel] = SITE_STEPS;
    let tools = Package {
        names: vec!["nftables".to_owned(), "kmod".to_owned()],
        state: Presence::Present,
        hold: None,
        lists_hours: 24,
        lock_timeout: 300,
        timeout: 600,
    };
    let mut items = vec![
        item(filter_tools, Resource::Package(tools)),
        item(
            filter,
            Resource::Firewall(firewall(host, facts, &shared.firewall, shared.keep_logins)),
        ),
    ];
    if !shared.sysctl.is_empty() {
        let sysctl = Sysctl {
            name: "60-strata".to_owned(),
            settings: shared.sysctl,
            file_only: shared.sysctl_file_only,
        };
        items.push(item(kernel, Resource::Sysctl(sysctl)));
    }
    items
}

fn item(name: &str, resource: Resource) -> Item {
    Item {
        name: name.to_owned(),
        resource,
        notify: Vec::new(),
        secret: false,
        timeout_ms: TIMEOUT_MS,
    }
}

/// The packet filter. Ports that containers publish are guarded on the public interface by the
/// same rules as the host's own (X19).
fn firewall(host: &Host, facts: &Facts, open: &[OpenPort], keep_logins: bool) -> Firewall {
    let rules: Vec<FirewallRule> = open
        .iter()
        .map(|port| FirewallRule {
            name: port.name.clone(),
            protocol: if port.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp },
            ports: port.ports.iter().map(u16::to_string).collect(),
            from: port.from.iter().map(source).collect(),
            interface: None,
        })
        .collect();
    let public: Vec<String> = facts
        .interfaces
        .iter()
        .filter(|interface| {
            interface.addresses.iter().any(|(ip, _)| Some(*ip) == host.public.map(IpAddr::V4))
        })
        .map(|interface| interface.name.clone())
        .collect();
    let published = Published {
        rules: if public.is_empty() { Vec::new() } else { rules.clone() },
        interfaces: public,
    };
    Firewall { rules, published, ping: true, keep_logins, revert_after: REVERT_AFTER }
}

fn source(net: &Ipv4Net) -> String {
    match net.prefix_len() {
        0 => "any".to_owned(),
        32 => net.addr().to_string(),
        _ => net.to_string(),
    }
}
