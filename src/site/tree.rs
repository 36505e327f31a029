//! TOML documents as a tree of nodes that know where they stand, in document order.
//!
//! The tree owns its text, so that values rendered later (with a host's variables) keep the place
//! they came from.

use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: NodeValue,
    /// Its place.
    pub range: Range<usize>,
}

/// A TOML value.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeValue {
    /// A string.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// A date or time, as written.
    Datetime(String),
    /// A list.
    Array(Vec<Node>),
    /// A table in document order.
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The key's place.
    pub key_range: Range<usize>,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The kind of value in the words of the TOML specification.
    pub fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::String(_) => "a string",
            NodeValue::Integer(_) => "an integer",
            NodeValue::Float(_) => "a float",
            NodeValue::Boolean(_) => "a boolean",
            NodeValue::Datetime(_) => "a date-time",
            NodeValue::Array(_) => "an array",
            NodeValue::Table(_) => "a table",
        }
    }

    /// The node's place in `source`.
    pub fn span(&self, source: &Source) -> Span {
        source.span(self.range.clone())
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            NodeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entries, if it is a table.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            NodeValue::Table(entries) => Some(entries),
            _ => None,
        }
    }
}

/// Parses a document; all syntax errors are reported at once. The tree holds what could be read.
pub fn parse(source: &Source, problems: &mut Diagnostics) -> Vec<Entry> {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    for error in &errors {
        let diagnostic = Diagnostic::error(Code::TOML_SYNTAX, error.message().to_owned());
        // Where keys or arrays nest without end the parser does not say in which line.
        let (range, note) = error.span().map_or((0..0, "in this file"), |range| (range, ""));
        problems.push(diagnostic.at(source.span(range), note));
    }
    table_entries(table.into_inner())
}

fn table_entries(table: DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_range: key.span(),
            key: key.into_inner().into_owned(),
            node: node(value),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_range.start);
    entries
}

fn node(value: toml::Spanned<DeValue<'_>>) -> Node {
    let range = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => NodeValue::String(text.into_owned()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| NodeValue::String(integer.to_string()), NodeValue::Integer),
        DeValue::Float(float) => float
            .as_str()
            .parse()
            .map_or_else(|_| NodeValue::String(float.to_string()), NodeValue::Float),
        DeValue::Boolean(boolean) => NodeValue::Boolean(boolean),
        DeValue::Datetime(datetime) => NodeValue::Datetime(datetime.to_string()),
        DeValue::Array(array) => NodeValue::Array(array.into_iter().map(node).collect()),
        DeValue::Table(table) => NodeValue::Table(table_entries(table)),
    };
    Node { value, range }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_document_order_and_places() {
        let source = Source::new("a.toml", "b = 1\na = \"x\"\n[t]\nk = [true]\n");
        let mut problems = Diagnostics::new();
        let entries = parse(&source, &mut problems);
        assert!(problems.is_empty());
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "t"]);
        assert_eq!(entries[1].node.span(&source).text(), "\"x\"");
    }

    #[test]
    fn reports_every_syntax_error() {
        let source = Source::new("a.toml", "a = \nb = 2\nc = ]\n");
        let mut problems = Diagnostics::new();
        parse(&source, &mut problems);
        assert!(problems.count(crate::diag::Severity::Error) >= 2, "{problems:?}");
    }
}
