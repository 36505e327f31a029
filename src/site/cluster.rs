//! `[cluster]` and `[[member.…]]` of a role: what a driver forms a cluster of.
//!
//! A role describes one member; how members become a cluster, and in which order they change, is
//! the driver's. No handler and no step ever touches what stands here.

use super::reader::{self, TableReader};
use super::role::{self, Step};
use super::tree::{Entry, Node, NodeValue};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};

/// The kinds of parts that a member may have, in the order in which they are brought about.
const PARTS: [&str; 4] = ["package", "file", "unit", "container"];

/// A role's cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterRole {
    /// Its place.
    pub span: Span,
    /// Which driver forms it.
    pub driver: (String, Span),
    /// The group whose hosts are its members.
    pub members: (String, Span),
    /// The directory with what must never be lost; not rendered yet.
    pub data: Node,
    /// What the driver needs to know, typed by the driver; not rendered yet.
    pub settings: Node,
    /// What one member consists of, in order.
    pub parts: Vec<Step>,
}

/// Reads the two tables; `None` for a role without a cluster.
pub fn read(
    source: &Source,
    cluster: Option<&Node>,
    member: Option<&Node>,
    kinds: &[&str],
    problems: &mut Diagnostics,
) -> Option<ClusterRole> {
    let Some(cluster) = cluster else {
        if let Some(member) = member {
            problems.push(
                Diagnostic::error(Code::CLUSTER, "`member` without `[cluster]`")
                    .at(member.span(source), "no driver would bring this about")
                    .hint("[cluster] names the driver and the group of members"),
            );
        }
        return None;
    };
    let mut table = TableReader::of(source, cluster, problems)?;
    let span = table.span();
    let driver = table.required_string("driver").map(|(text, span)| (text.to_owned(), span));
    let members = table.required_string("members").map(|(text, span)| (text.to_owned(), span));
    let data = table.node("data").cloned();
    if data.is_none() {
        table.missing("data");
    }
    let settings = table.node("settings").cloned();
    table.finish();
    let parts = member.map(|node| read_parts(source, node, kinds, problems)).unwrap_or_default();
    if parts.is_empty() {
        problems.push(
            Diagnostic::error(Code::CLUSTER, "a cluster's members consist of nothing")
                .at(span.clone(), "")
                .hint("[[member.file]] and [[member.container]] say what one member has"),
        );
    }
    Some(ClusterRole {
        span,
        driver: driver?,
        members: members?,
        data: data?,
        settings: settings.unwrap_or_else(|| Node {
            value: NodeValue::Table(Vec::new()),
            range: cluster.range.clone(),
        }),
        parts,
    })
}

fn read_parts(
    source: &Source,
    node: &Node,
    kinds: &[&str],
    problems: &mut Diagnostics,
) -> Vec<Step> {
    let Some(mut table) = TableReader::of(source, node, problems) else { return Vec::new() };
    let groups: Vec<(&str, Vec<&Node>)> =
        PARTS.iter().map(|part| (*part, table.tables(part))).collect();
    table.finish();
    let mut parts = Vec::new();
    for (part, nodes) in groups {
        for node in nodes {
            parts.extend(match part {
                "file" => role::read_member_file(source, node, kinds, problems),
                kind => read_body(source, node, kind, problems),
            });
        }
    }
    parts
}

/// A part whose table is the resource itself.
fn read_body(source: &Source, node: &Node, kind: &str, problems: &mut Diagnostics) -> Option<Step> {
    if node.entries().is_none() {
        problems.push(reader::wrong_type(source, node, "a table"));
        return None;
    }
    let (when, rest) = condition(source, node, problems);
    let body = Node { value: NodeValue::Table(rest), range: node.range.clone() };
    let span = node.span(source);
    Some(role::part_of_a_member(kind, span, body, when))
}

/// The part's condition, and what is left without it.
pub(super) fn condition(
    source: &Source,
    node: &Node,
    problems: &mut Diagnostics,
) -> (Option<(String, Span)>, Vec<Entry>) {
    let (mut when, mut rest) = (None, Vec::new());
    for entry in node.entries().unwrap_or_default() {
        if entry.key != "when" {
            rest.push(entry.clone());
            continue;
        }
        match &entry.node.value {
            NodeValue::String(text) => when = Some((text.clone(), entry.node.span(source))),
            _ => problems.push(reader::wrong_type(source, &entry.node, "a string")),
        }
    }
    (when, rest)
}
