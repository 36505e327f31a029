//! Variables and where each came from.

use super::tree::{Entry, Node, NodeValue};
use crate::diag::{Code, Diagnostic, Diagnostics, Source};
use indexmap::IndexMap;

/// Names that templates already use for something else.
const RESERVED: [&str; 10] = [
    "host",
    "facts",
    "versions",
    "groups",
    "secrets",
    "site",
    "operator",
    "balancers",
    "hosts",
    "loop",
];

/// A variable with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// The value.
    pub node: Node,
    /// The file it stands in.
    pub source: Source,
}

/// Variables by name.
pub type Variables = IndexMap<String, Variable>;

/// Reads a table of variables.
pub fn read(source: &Source, entries: &[Entry], problems: &mut Diagnostics) -> Variables {
    let mut variables = Variables::new();
    for entry in entries {
        let span = source.span(entry.key_range.clone());
        let identifier = entry.key.starts_with(|c: char| c.is_ascii_lowercase())
            && entry.key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !identifier || RESERVED.contains(&entry.key.as_str()) {
            problems.push(
                Diagnostic::error(
                    Code::VARIABLE,
                    format!("`{}` cannot be the name of a variable", entry.key),
                )
                .at(span, "")
                .hint(format!(
                    "lower-case letters, digits and underscores; taken: {}",
                    RESERVED.join(", ")
                )),
            );
            continue;
        }
        check_literal(source, &entry.node, problems);
        variables.insert(
            entry.key.clone(),
            Variable { node: entry.node.clone(), source: source.clone() },
        );
    }
    variables
}

/// Variables are literal: a template inside one would be rendered at another place than it stands.
fn check_literal(source: &Source, node: &Node, problems: &mut Diagnostics) {
    match &node.value {
        NodeValue::String(text) if text.contains("{{") || text.contains("{%") => problems.push(
            Diagnostic::error(Code::VARIABLE, "a variable's value cannot be a template")
                .at(node.span(source), "")
                .hint("join the parts where the value is used: in the role or its template"),
        ),
        NodeValue::Array(nodes) => {
            nodes.iter().for_each(|node| check_literal(source, node, problems));
        }
        NodeValue::Table(entries) => {
            entries.iter().for_each(|entry| check_literal(source, &entry.node, problems));
        }
        _ => {}
    }
}
