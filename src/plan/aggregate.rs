//! What several roles share on a host: firewall rules, names in `/etc/hosts`, kernel settings.
//!
//! They are computed from the whole site, whatever `--layer` says and whatever ran before, so
//! that installing one layer never takes away what another one needs.

use super::render::Templates;
use crate::diag::{Code, Diagnostic, Diagnostics, Span};
use crate::site::groups::Check;
use crate::site::tree::NodeValue;
use crate::site::{Host, Role, Site};
use ipnet::Ipv4Net;
use minijinja::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// An open port: what for, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPort {
    /// What it is for.
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Ports, sorted.
    pub ports: Vec<u16>,
    /// Sources, sorted; `0.0.0.0/0` for everyone.
    pub from: Vec<Ipv4Net>,
}

/// All roles that the site places on this host, in layer order, each once.
pub fn roles_of<'a>(site: &'a Site, host: &str) -> Vec<&'a Role> {
    let mut roles: Vec<&Role> = Vec::new();
    for placement in site.config.layers.iter().flat_map(|layer| &layer.place) {
        let here = site
            .groups
            .get(&placement.group)
            .is_some_and(|group| group.hosts.iter().any(|name| name == host));
        if let Some(role) = site.roles.get(&placement.role)
            && here
            && !roles.iter().any(|other| other.name == role.name)
        {
            roles.push(role);
        }
    }
    roles
}

/// The ports that the roles of this host offer, and the balancers that forward to it.
pub fn firewall(site: &Site, host: &Host) -> Vec<OpenPort> {
    let mut open: Vec<OpenPort> = roles_of(site, &host.name)
        .into_iter()
        .flat_map(|role| &role.firewall)
        .map(|rule| {
            let mut from: Vec<Ipv4Net> =
                rule.from.iter().flat_map(|(from, _)| sources(site, from)).collect();
            from.sort_unstable();
            from.dedup();
            let mut ports = rule.ports.clone();
            ports.sort_unstable();
            OpenPort { name: rule.name.clone(), protocol: rule.protocol.clone(), ports, from }
        })
        .collect();
    for balancer in &site.balancers {
        let mut ports: Vec<u16> = balancer
            .forwards
            .iter()
            .filter(|forward| {
                site.groups
                    .get(&forward.targets)
                    .is_some_and(|group| group.hosts.contains(&host.name))
            })
            .flat_map(|forward| forward.ports.iter().copied())
            .collect();
        if ports.is_empty() {
            continue;
        }
        if let Check::Http { port, .. } = balancer.check {
            ports.push(port);
        }
        ports.sort_unstable();
        ports.dedup();
        open.push(OpenPort {
            name: format!("balancer {}", balancer.name),
            protocol: "tcp".to_owned(),
            ports,
            from: vec![Ipv4Net::from(balancer.address)],
        });
    }
    open
}

/// The addresses behind one `from` entry.
pub fn sources(site: &Site, from: &str) -> Vec<Ipv4Net> {
    match from {
        "any" => vec![Ipv4Net::default()],
        "private" => site.config.private.clone(),
        "admin" => site.config.admin.clone(),
        "operator" => site.operator().map(|host| Ipv4Net::from(host.address)).into_iter().collect(),
        name => match (site.groups.get(name), name.parse::<Ipv4Net>()) {
            (Some(group), _) => group
                .hosts
                .iter()
                .filter_map(|host| site.hosts.get(host))
                .map(|host| Ipv4Net::from(host.address))
                .collect(),
            (None, Ok(net)) => vec![net],
            (None, Err(_)) => Vec::new(),
        },
    }
}

/// Every host of the site with its names; the same on every host (KB-B7, incident class: peers
/// that do not resolve alike).
pub fn hosts_entries(site: &Site) -> Vec<(Ipv4Addr, Vec<String>)> {
    let mut entries: Vec<(Ipv4Addr, Vec<String>)> = site
        .hosts
        .values()
        .map(|host| {
            let mut names = vec![host.fqdn.clone(), host.name.clone()];
            names.dedup();
            (host.address, names)
        })
        .collect();
    entries.sort();
    entries
}

/// The kernel settings of this host's roles; two roles that disagree are an error.
pub fn sysctl(
    site: &Site,
    host: &Host,
    templates: &Templates<'_>,
    context: impl Fn(&Role) -> Value,
    problems: &mut Diagnostics,
) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, (String, Span)> = BTreeMap::new();
    for role in roles_of(site, &host.name) {
        let Some(table) = &role.sysctl else { continue };
        let rendered = match templates.node(&role.source, table, &context(role)) {
            Ok(node) => node,
            Err(problem) => {
                problems.push(*problem);
                continue;
            }
        };
        for entry in rendered.entries().unwrap_or_default() {
            let span = role.source.span(entry.key_range.clone());
            let value = match &entry.node.value {
                NodeValue::String(text) => text.clone(),
                NodeValue::Integer(integer) => integer.to_string(),
                _ => {
                    problems.push(
                        Diagnostic::error(
                            Code::TOML_TYPE,
                            "a kernel setting is a number or a string",
                        )
                        .at(entry.node.span(&role.source), "")
                        .hint("quote keys with dots: \"net.core.somaxconn\" = 4096"),
                    );
                    continue;
                }
            };
            match settings.get(&entry.key) {
                Some((other, first)) if *other != value => problems.push(
                    Diagnostic::error(
                        Code::RESOURCE_OWNER,
                        format!("two roles of one host disagree on `{}`", entry.key),
                    )
                    .at(span, format!("{value} here"))
                    .also(first.clone(), format!("{other} here")),
                ),
                _ => {
                    settings.insert(entry.key.clone(), (value, span));
                }
            }
        }
    }
    settings.into_iter().map(|(key, (value, _))| (key, value)).collect()
}
