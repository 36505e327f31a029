//! `inventory/groups.toml`: groups as selectors over the inventory's columns, and balancers.

use super::inventory::Host;
use super::reader::TableReader;
use super::suggest;
use super::tree::{self, NodeValue};
use super::vars::{self, Variables};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use indexmap::IndexMap;
use std::net::Ipv4Addr;

/// A named set of hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// Names of its hosts, in inventory order.
    pub hosts: Vec<String>,
    /// Variables for its hosts.
    pub vars: Variables,
    /// Its place.
    pub span: Span,
}

/// A load balancer outside the fleet: its address belongs to no host (KB-A1, KB-A3, KB-A6, KB-A7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancer {
    /// Its name.
    pub name: String,
    /// Its address; no host has it and nothing binds it.
    pub address: Ipv4Addr,
    /// What it forwards, and to whom.
    pub forwards: Vec<Forward>,
    /// How it checks a target.
    pub check: Check,
    /// Its place.
    pub span: Span,
}

/// Ports that a balancer forwards to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The group.
    pub targets: String,
    /// The ports, the same on both sides.
    pub ports: Vec<u16>,
}

/// A balancer's health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A connection to the forwarded port.
    Tcp,
    /// A GET that must answer 2xx.
    Http {
        /// The port asked.
        port: u16,
        /// The path asked.
        path: String,
    },
}

/// What the file says.
#[derive(Debug, Default)]
pub struct Groups {
    /// Groups in file order.
    pub groups: IndexMap<String, Group>,
    /// Balancers in file order.
    pub balancers: Vec<Balancer>,
}

/// Reads the file against the hosts. With `complete` false some hosts could not be read: what
/// groups expect is then not checked, since the counts could only repeat the news.
pub fn read(
    source: &Source,
    hosts: &IndexMap<String, Host>,
    complete: bool,
    problems: &mut Diagnostics,
) -> Groups {
    let entries = tree::parse(source, problems);
    let mut top = TableReader::new(source, &entries, 0..0, problems);
    let group_node = top.node("group");
    let balancer_nodes = top.tables("balancer");
    top.finish();
    let mut read = Groups::default();
    if let Some(table) = group_node.and_then(|node| TableReader::of(source, node, problems)) {
        for entry in table.all() {
            let span = source.span(entry.key_range.clone());
            let inventory = Inventory { hosts, complete };
            if let Some(group) =
                read_group(source, &entry.key, span, &entry.node, &inventory, problems)
            {
                read.groups.insert(entry.key.clone(), group);
            }
        }
    }
    for node in balancer_nodes {
        if let Some(balancer) = read_balancer(source, node, &read.groups, problems) {
            check_reserved(&balancer, hosts, &read.balancers, problems);
            read.balancers.push(balancer);
        }
    }
    read
}

fn read_group(
    source: &Source,
    name: &str,
    span: Span,
    node: &tree::Node,
    inventory: &Inventory<'_>,
    problems: &mut Diagnostics,
) -> Option<Group> {
    let hosts = inventory.hosts;
    let before = problems.count(crate::diag::Severity::Error);
    let mut table = TableReader::of(source, node, problems)?;
    let select = table.node("select");
    let named = table.strings("hosts");
    let expect = table.integer("expect", 0..=100_000);
    let expect_span = table.node("expect").map_or_else(|| span.clone(), |n| n.span(source));
    let addresses = table.strings("addresses");
    let never = table.strings("never").unwrap_or_default();
    let vars_node = table.node("vars");
    if select.is_some() == named.is_some() {
        table.problems.push(
            Diagnostic::error(
                Code::GROUP_SELECTOR,
                format!("group `{name}` needs either `select` or `hosts`"),
            )
            .at(span.clone(), "this group")
            .hint("select = { DOCKER_STACK = \"redis-ha-docker\" } or hosts = [\"install-01\"]"),
        );
    }
    table.finish();
    let vars = vars_node
        .and_then(|node| TableReader::of(source, node, problems).map(TableReader::all))
        .map(|entries| vars::read(source, entries, problems))
        .unwrap_or_default();
    let selector = select.map(|node| selector(source, node, hosts, problems)).unwrap_or_default();
    let mut members: Vec<String> = Vec::new();
    if let Some(named) = named {
        for (host, place) in named {
            if hosts.contains_key(host) {
                members.push(host.to_owned());
            } else if !hosts.is_empty() {
                problems.push(
                    Diagnostic::error(Code::GROUP_SELECTOR, format!("no host is named `{host}`"))
                        .at(place, "")
                        .hint(suggest::among(host, hosts.keys().map(String::as_str))),
                );
            }
        }
    } else if let Some(selector) = selector {
        members
            .extend(hosts.values().filter(|host| matches(host, &selector)).map(|h| h.name.clone()));
    }
    if !inventory.complete || problems.count(crate::diag::Severity::Error) > before {
        return Some(Group { name: name.to_owned(), hosts: members, vars, span });
    }
    match expect {
        Some(expect) if usize::try_from(expect).is_ok_and(|wanted| wanted == members.len()) => {}
        Some(expect) => problems.push(
            Diagnostic::error(
                Code::GROUP_EXPECTATION,
                format!("group `{name}` expects {expect} and holds {}", members.len()),
            )
            .at(expect_span, listed(&members))
            .hint("mend the inventory, the selector or the expected count"),
        ),
        None => problems.push(
            Diagnostic::error(
                Code::GROUP_EXPECTATION,
                format!("group `{name}` does not say how many hosts it expects"),
            )
            .at(span.clone(), format!("it holds {}", members.len()))
            .hint(format!("expect = {}", members.len())),
        ),
    }
    for (address, place) in addresses.into_iter().flatten() {
        if !members.iter().any(|host| hosts[host].address.to_string() == address) {
            problems.push(
                Diagnostic::error(
                    Code::GROUP_EXPECTATION,
                    format!("no host of group `{name}` has the address {address}"),
                )
                .at(place, "this address is fixed"),
            );
        }
    }
    for (host, place) in never {
        if members.iter().any(|member| member == host) {
            problems.push(
                Diagnostic::error(
                    Code::GROUP_EXPECTATION,
                    format!("`{host}` must never be in group `{name}`"),
                )
                .at(place, "excluded here")
                .also(hosts[host].span.clone(), "selected by this row"),
            );
        }
    }
    Some(Group { name: name.to_owned(), hosts: members, vars, span })
}

/// The hosts as far as they could be read.
struct Inventory<'a> {
    hosts: &'a IndexMap<String, Host>,
    complete: bool,
}

fn listed(members: &[String]) -> String {
    const SHOWN: usize = 6;
    match members {
        [] => "none".to_owned(),
        _ if members.len() > SHOWN => {
            format!("{} and {} more", members[..SHOWN].join(", "), members.len() - SHOWN)
        }
        _ => members.join(", "),
    }
}

type Selector = Vec<(String, Vec<String>)>;

fn selector(
    source: &Source,
    node: &tree::Node,
    hosts: &IndexMap<String, Host>,
    problems: &mut Diagnostics,
) -> Option<Selector> {
    let table = TableReader::of(source, node, problems)?;
    let mut selector = Selector::new();
    for entry in table.all() {
        let column = &entry.key;
        let Some(first) = hosts.values().next() else { continue };
        if !first.columns.contains_key(column) {
            problems.push(
                Diagnostic::error(
                    Code::GROUP_SELECTOR,
                    format!("the inventory has no column `{column}`"),
                )
                .at(source.span(entry.key_range.clone()), "")
                .hint(suggest::among(column, first.columns.keys().map(String::as_str))),
            );
            continue;
        }
        let nodes: &[tree::Node] = match &entry.node.value {
            NodeValue::Array(nodes) => nodes,
            _ => std::slice::from_ref(&entry.node),
        };
        let mut wanted = Vec::new();
        for node in nodes {
            let Some(value) = node.as_str() else {
                problems.push(super::reader::wrong_type(source, node, "a string"));
                continue;
            };
            if !hosts.values().any(|host| host.columns[column] == value) {
                let mut seen: Vec<&str> =
                    hosts.values().map(|host| host.columns[column].as_str()).collect();
                seen.sort_unstable();
                seen.dedup();
                problems.push(
                    Diagnostic::error(
                        Code::GROUP_SELECTOR,
                        format!("no host has `{value}` in column `{column}`"),
                    )
                    .at(node.span(source), "selects nothing")
                    .hint(suggest::among(value, seen)),
                );
            }
            wanted.push(value.to_owned());
        }
        selector.push((column.clone(), wanted));
    }
    Some(selector)
}

fn matches(host: &Host, selector: &Selector) -> bool {
    selector.iter().all(|(column, wanted)| {
        host.columns.get(column).is_some_and(|value| wanted.contains(value))
    })
}

fn read_balancer(
    source: &Source,
    node: &tree::Node,
    groups: &IndexMap<String, Group>,
    problems: &mut Diagnostics,
) -> Option<Balancer> {
    let mut table = TableReader::of(source, node, problems)?;
    let span = table.span();
    let name = table.required_string("name");
    let address = table.required_string("address");
    let forward_nodes = table.tables("forward");
    if forward_nodes.is_empty() {
        table.missing("forward");
    }
    let check_node = table.node("check");
    table.finish();
    let forwards = forward_nodes
        .into_iter()
        .filter_map(|node| read_forward(source, node, groups, problems))
        .collect();
    let check = match check_node {
        None => Check::Tcp,
        Some(node) => {
            let mut table = TableReader::of(source, node, problems)?;
            let port = table.integer("port", 1..=65_535);
            let path = table.required_string("http");
            table.finish();
            match (port.and_then(|port| u16::try_from(port).ok()), path) {
                (Some(port), Some((path, _))) => Check::Http { port, path: path.to_owned() },
                _ => Check::Tcp,
            }
        }
    };
    let (name, (address, address_span)) = (name?.0, address?);
    let Ok(address) = address.parse::<Ipv4Addr>() else {
        problems.push(
            Diagnostic::error(Code::BALANCER, format!("`{address}` is not an IPv4 address"))
                .at(address_span, ""),
        );
        return None;
    };
    Some(Balancer { name: name.to_owned(), address, forwards, check, span })
}

fn read_forward(
    source: &Source,
    node: &tree::Node,
    groups: &IndexMap<String, Group>,
    problems: &mut Diagnostics,
) -> Option<Forward> {
    let mut table = TableReader::of(source, node, problems)?;
    let targets = table.required_string("targets");
    let ports = table.node("ports");
    if ports.is_none() {
        table.missing("ports");
    }
    table.finish();
    let (targets, span) = targets?;
    if !groups.contains_key(targets) {
        problems.push(unknown_group(targets, span, groups));
    }
    let ports = ports.map(|node| read_ports(source, node, problems)).unwrap_or_default();
    Some(Forward { targets: targets.to_owned(), ports })
}

/// Ports of a list; each problem reported.
pub fn read_ports(source: &Source, node: &tree::Node, problems: &mut Diagnostics) -> Vec<u16> {
    let nodes: &[tree::Node] = match &node.value {
        NodeValue::Array(nodes) => nodes,
        _ => std::slice::from_ref(node),
    };
    let mut ports = Vec::new();
    for node in nodes {
        match node.value {
            NodeValue::Integer(port) => match u16::try_from(port) {
                Ok(port) if port > 0 => ports.push(port),
                _ => problems.push(
                    Diagnostic::error(Code::TOML_TYPE, format!("{port} is not a port"))
                        .at(node.span(source), "1 to 65535"),
                ),
            },
            _ => problems.push(super::reader::wrong_type(source, node, "a port")),
        }
    }
    ports
}

/// A group that is not defined.
pub fn unknown_group(name: &str, span: Span, groups: &IndexMap<String, Group>) -> Diagnostic {
    Diagnostic::error(Code::GROUP_UNKNOWN, format!("no group is named `{name}`"))
        .at(span, "")
        .hint(suggest::among(name, groups.keys().map(String::as_str)))
}

fn check_reserved(
    balancer: &Balancer,
    hosts: &IndexMap<String, Host>,
    earlier: &[Balancer],
    problems: &mut Diagnostics,
) {
    for host in hosts.values() {
        if host.address == balancer.address || host.public == Some(balancer.address) {
            problems.push(
                Diagnostic::error(
                    Code::BALANCER,
                    format!("{} is the balancer `{}`, not a host", balancer.address, balancer.name),
                )
                .at(host.span.clone(), "this host has the balancer's address")
                .also(balancer.span.clone(), "reserved here"),
            );
        }
    }
    for other in earlier {
        if other.address == balancer.address || other.name == balancer.name {
            problems.push(
                Diagnostic::error(Code::BALANCER, "two balancers share a name or an address")
                    .at(balancer.span.clone(), "second here")
                    .also(other.span.clone(), "first here"),
            );
        }
    }
}
