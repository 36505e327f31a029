//! `roles/<role>/role.toml`: what a host of this role must have.
//!
//! A role is data: steps in order, each with one resource; handlers; and what it contributes to
//! the things that roles share on a host (firewall rules and kernel settings), which are computed
//! from the whole site.

use super::cluster::{self, ClusterRole};
use super::groups;
use super::reader::TableReader;
use super::suggest;
use super::tree::{self, Node};
use super::vars::{self, Variables};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use std::collections::BTreeSet;

/// Keys of a step that are not its resource.
const STEP_KEYS: [&str; 5] = ["name", "notify", "when", "tags", "timeout"];

/// One role.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Its name: the folder's.
    pub name: String,
    /// What it is for, one line.
    pub description: String,
    /// Its file.
    pub source: Source,
    /// Defaults of its variables.
    pub vars: Variables,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Handlers in order.
    pub handlers: Vec<Step>,
    /// Ports that its hosts offer.
    pub firewall: Vec<FirewallRule>,
    /// Kernel settings: one table of `key = value`.
    pub sysctl: Option<Node>,
    /// The cluster that hosts of this role are members of.
    pub cluster: Option<ClusterRole>,
}

/// A step or a handler.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it is for.
    pub name: String,
    /// Where it is named.
    pub span: Span,
    /// The resource kind.
    pub kind: String,
    /// Where the kind is named.
    pub kind_span: Span,
    /// The resource's settings, not rendered yet.
    pub body: Node,
    /// Handlers to run when it changed something.
    pub notify: Vec<(String, Span)>,
    /// An expression; the step applies where it is true.
    pub when: Option<(String, Span)>,
    /// Tags for `--tag`.
    pub tags: Vec<String>,
    /// Seconds that it may take.
    pub timeout: Option<u32>,
}

/// A port that hosts of a role offer, and to whom.
#[derive(Debug, Clone, PartialEq)]
pub struct FirewallRule {
    /// What it is for.
    pub name: String,
    /// Its place.
    pub span: Span,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Ports.
    pub ports: Vec<u16>,
    /// Who may connect: a group, `operator`, `private`, `admin`, `any`, or a network.
    pub from: Vec<(String, Span)>,
}

/// Reads a role. `kinds` are the resource kinds that steps may use.
pub fn read(name: &str, source: &Source, kinds: &[&str], problems: &mut Diagnostics) -> Role {
    let entries = tree::parse(source, problems);
    let mut top = TableReader::new(source, &entries, 0..source.text().len().min(1), problems);
    let description = top.required_string("description").map(|(text, _)| text.to_owned());
    let vars_node = top.node("vars");
    let step_nodes = top.tables("step");
    let handler_nodes = top.tables("handler");
    let firewall_nodes = top.tables("firewall");
    let sysctl = top.node("sysctl");
    let cluster_node = top.node("cluster");
    let member_node = top.node("member");
    top.finish();
    let vars = vars_node
        .and_then(|node| TableReader::of(source, node, problems).map(TableReader::all))
        .map(|entries| vars::read(source, entries, problems))
        .unwrap_or_default();
    let steps: Vec<Step> =
        step_nodes.iter().filter_map(|node| read_step(source, node, kinds, problems)).collect();
    let handlers: Vec<Step> =
        handler_nodes.iter().filter_map(|node| read_step(source, node, kinds, problems)).collect();
    let firewall =
        firewall_nodes.iter().filter_map(|node| read_rule(source, node, problems)).collect();
    let cluster = cluster::read(source, cluster_node, member_node, kinds, problems);
    check_names(&steps, "step", problems);
    check_names(&handlers, "handler", problems);
    check_notifications(&steps, &handlers, problems);
    for handler in &handlers {
        if let Some((_, span)) = handler.notify.first() {
            problems.push(
                Diagnostic::error(Code::ROLE_HANDLER, "a handler cannot notify another one")
                    .at(span.clone(), "")
                    .hint("let the step notify both; handlers run in the order of the file"),
            );
        }
    }
    Role {
        name: name.to_owned(),
        description: description.unwrap_or_default(),
        source: source.clone(),
        vars,
        steps,
        handlers,
        firewall,
        sysctl: sysctl.cloned(),
        cluster,
    }
}

/// Reads a file of a cluster's member: a step without a name of its own, since its path says what
/// it is.
pub(super) fn read_member_file(
    source: &Source,
    node: &Node,
    kinds: &[&str],
    problems: &mut Diagnostics,
) -> Option<Step> {
    let (when, entries) = super::cluster::condition(source, node, problems);
    let entry = match entries.as_slice() {
        [entry] if kinds.contains(&entry.key.as_str()) => entry,
        [] => {
            problems.push(super::reader::wrong_type(source, node, "a table with one resource"));
            return None;
        }
        entries => {
            let odd = entries.iter().find(|entry| !kinds.contains(&entry.key.as_str()));
            let place = odd.or(entries.last()).map_or(node.range.clone(), |e| e.key_range.clone());
            problems.push(
                Diagnostic::error(Code::ROLE_STEP, "a member's file has one resource and no more")
                    .at(source.span(place), "")
                    .hint("template = { … }, file = { … } or directory = { … }"),
            );
            return None;
        }
    };
    if entry.node.entries().is_none() {
        problems.push(super::reader::wrong_type(source, &entry.node, "a table"));
        return None;
    }
    let span = source.span(entry.key_range.clone());
    Some(part_of_a_member(&entry.key, span, entry.node.clone(), when))
}

/// A part of a cluster's member: a step without a name of its own, since what it is says it.
pub(super) fn part_of_a_member(
    kind: &str,
    span: Span,
    body: Node,
    when: Option<(String, Span)>,
) -> Step {
    Step {
        name: String::new(),
        span: span.clone(),
        kind: kind.to_owned(),
        kind_span: span,
        body,
        notify: Vec::new(),
        when,
        tags: Vec::new(),
        timeout: None,
    }
}

fn read_step(
    source: &Source,
    node: &Node,
    kinds: &[&str],
    problems: &mut Diagnostics,
) -> Option<Step> {
    let mut table = TableReader::of(source, node, problems)?;
    let table_span = table.span();
    let name = table.required_string("name");
    let notify = table.strings("notify").unwrap_or_default();
    let when = table.string("when");
    let tags = table.strings("tags").unwrap_or_default();
    let timeout = table.integer("timeout", 1..=86_400);
    let resources: Vec<&tree::Entry> = node
        .entries()
        .unwrap_or_default()
        .iter()
        .filter(|entry| !STEP_KEYS.contains(&entry.key.as_str()))
        .collect();
    let (name, span) = name.map_or_else(
        || (String::new(), table_span.clone()),
        |(text, span)| (text.to_owned(), span),
    );
    let known: Vec<&&tree::Entry> =
        resources.iter().filter(|entry| kinds.contains(&entry.key.as_str())).collect();
    for entry in &resources {
        if !kinds.contains(&entry.key.as_str()) {
            problems.push(
                Diagnostic::error(
                    Code::ROLE_STEP,
                    format!("`{}` is neither a resource nor a setting of a step", entry.key),
                )
                .at(source.span(entry.key_range.clone()), "")
                .hint(suggest::among(&entry.key, kinds.iter().copied().chain(STEP_KEYS))),
            );
        }
    }
    let [entry] = known.as_slice() else {
        if known.len() > 1 {
            problems.push(
                Diagnostic::error(Code::ROLE_STEP, "a step has one resource, this one has several")
                    .at(source.span(known[1].key_range.clone()), "second resource")
                    .also(source.span(known[0].key_range.clone()), "first resource")
                    .hint("make a step of each"),
            );
        } else if resources.is_empty() {
            problems.push(
                Diagnostic::error(Code::ROLE_STEP, "this step has no resource")
                    .at(span, "")
                    .hint(format!("one of: {}", kinds.join(", "))),
            );
        }
        return None;
    };
    if entry.node.entries().is_none() {
        problems.push(super::reader::wrong_type(source, &entry.node, "a table"));
        return None;
    }
    Some(Step {
        name,
        span,
        kind: entry.key.clone(),
        kind_span: source.span(entry.key_range.clone()),
        body: entry.node.clone(),
        notify: notify.into_iter().map(|(text, span)| (text.to_owned(), span)).collect(),
        when: when.map(|(text, span)| (text.to_owned(), span)),
        tags: tags.into_iter().map(|(text, _)| text.to_owned()).collect(),
        timeout: timeout.and_then(|seconds| u32::try_from(seconds).ok()),
    })
}

fn read_rule(source: &Source, node: &Node, problems: &mut Diagnostics) -> Option<FirewallRule> {
    let mut table = TableReader::of(source, node, problems)?;
    let span = table.span();
    let name = table.required_string("name");
    let protocol = table.string("protocol");
    let ports_node = table.node("ports");
    if ports_node.is_none() {
        table.missing("ports");
    }
    let from = table.strings("from");
    if from.is_none() {
        table.missing("from");
    }
    table.finish();
    let ports = ports_node.map(|node| groups::read_ports(source, node, problems))?;
    let protocol = match protocol {
        None => "tcp".to_owned(),
        Some((text @ ("tcp" | "udp"), _)) => text.to_owned(),
        Some((text, span)) => {
            problems.push(
                Diagnostic::error(Code::FIREWALL_RULE, format!("`{text}` is not a protocol"))
                    .at(span, "")
                    .hint("tcp or udp"),
            );
            return None;
        }
    };
    Some(FirewallRule {
        name: name?.0.to_owned(),
        span,
        protocol,
        ports,
        from: from?.into_iter().map(|(text, span)| (text.to_owned(), span)).collect(),
    })
}

fn check_names(steps: &[Step], what: &str, problems: &mut Diagnostics) {
    for (index, step) in steps.iter().enumerate() {
        if let Some(first) = steps[..index].iter().find(|other| other.name == step.name) {
            let code = if what == "step" { Code::ROLE_STEP } else { Code::ROLE_HANDLER };
            problems.push(
                Diagnostic::error(code, format!("two {what}s are named `{}`", step.name))
                    .at(step.span.clone(), "second here")
                    .also(first.span.clone(), "first here"),
            );
        }
    }
}

fn check_notifications(steps: &[Step], handlers: &[Step], problems: &mut Diagnostics) {
    let names: BTreeSet<&str> = handlers.iter().map(|handler| handler.name.as_str()).collect();
    for (handler, span) in steps.iter().flat_map(|step| &step.notify) {
        if !names.contains(handler.as_str()) {
            problems.push(
                Diagnostic::error(Code::ROLE_HANDLER, format!("no handler is named `{handler}`"))
                    .at(span.clone(), "")
                    .hint(suggest::among(handler, names.iter().copied())),
            );
        }
    }
    for handler in handlers {
        let notified =
            steps.iter().flat_map(|step| &step.notify).any(|(name, _)| *name == handler.name);
        if !notified {
            problems.push(
                Diagnostic::error(
                    Code::ROLE_HANDLER,
                    format!("no step notifies the handler `{}`", handler.name),
                )
                .at(handler.span.clone(), "never runs"),
            );
        }
    }
}
