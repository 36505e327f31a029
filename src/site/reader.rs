//! Reads the keys of one table: each key once, every problem reported, nothing ignored.

use super::suggest;
use super::tree::{Entry, Node, NodeValue};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use std::ops::Range;

/// A table being read. Keys that were never asked for are reported by [`TableReader::finish`].
pub struct TableReader<'a, 'p> {
    /// The file.
    pub source: &'a Source,
    /// Where problems go.
    pub problems: &'p mut Diagnostics,
    entries: &'a [Entry],
    range: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'a, 'p> TableReader<'a, 'p> {
    /// Reads `entries`, which stand at `range` in `source`.
    pub fn new(
        source: &'a Source,
        entries: &'a [Entry],
        range: Range<usize>,
        problems: &'p mut Diagnostics,
    ) -> Self {
        Self { source, problems, entries, range, asked: Vec::new() }
    }

    /// Reads a node that must be a table; `None` (and a report) when it is not.
    pub fn of(source: &'a Source, node: &'a Node, problems: &'p mut Diagnostics) -> Option<Self> {
        if let Some(entries) = node.entries() {
            return Some(Self::new(source, entries, node.range.clone(), problems));
        }
        problems.push(wrong_type(source, node, "a table"));
        None
    }

    /// The place of the whole table.
    pub fn span(&self) -> Span {
        self.source.span(self.range.clone())
    }

    /// The node under a key, if the key is there.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entry under a key, if the key is there.
    pub fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.asked.push(key);
        let entries: &'a [Entry] = self.entries;
        entries.iter().find(|entry| entry.key == key)
    }

    /// All entries, whatever their keys; none is reported as unknown afterwards.
    pub fn all(self) -> &'a [Entry] {
        self.entries
    }

    /// Reports that a key is missing.
    pub fn missing(&mut self, key: &str) {
        let span = self.span();
        self.problems.push(
            Diagnostic::error(Code::TOML_MISSING_KEY, format!("missing key `{key}`"))
                .at(span, "in this table"),
        );
    }

    /// An optional string with its place.
    pub fn string(&mut self, key: &'static str) -> Option<(&'a str, Span)> {
        let node = self.node(key)?;
        let Some(text) = node.as_str() else {
            self.problems.push(wrong_type(self.source, node, "a string"));
            return None;
        };
        Some((text, node.span(self.source)))
    }

    /// A string that must be there.
    pub fn required_string(&mut self, key: &'static str) -> Option<(&'a str, Span)> {
        if self.node(key).is_none() {
            self.missing(key);
        }
        self.string(key)
    }

    /// An optional whole number within bounds.
    pub fn integer(
        &mut self,
        key: &'static str,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let node = self.node(key)?;
        match node.value {
            NodeValue::Integer(value) if bounds.contains(&value) => Some(value),
            NodeValue::Integer(value) => {
                self.problems.push(
                    Diagnostic::error(
                        Code::TOML_TYPE,
                        format!(
                            "`{key}` is {value}, outside {} to {}",
                            bounds.start(),
                            bounds.end()
                        ),
                    )
                    .at(node.span(self.source), "out of range"),
                );
                None
            }
            _ => {
                self.problems.push(wrong_type(self.source, node, "an integer"));
                None
            }
        }
    }

    /// An optional boolean.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        if let NodeValue::Boolean(value) = node.value {
            return Some(value);
        }
        self.problems.push(wrong_type(self.source, node, "a boolean"));
        None
    }

    /// An optional string or array of strings, each with its place.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<(&'a str, Span)>> {
        let node = self.node(key)?;
        let nodes: &[Node] = match &node.value {
            NodeValue::Array(nodes) => nodes,
            _ => std::slice::from_ref(node),
        };
        let mut strings = Vec::new();
        for node in nodes {
            match node.as_str() {
                Some(text) => strings.push((text, node.span(self.source))),
                None => self.problems.push(wrong_type(self.source, node, "a string")),
            }
        }
        Some(strings)
    }

    /// The tables of an optional array of tables.
    pub fn tables(&mut self, key: &'static str) -> Vec<&'a Node> {
        let Some(node) = self.node(key) else { return Vec::new() };
        if let NodeValue::Array(nodes) = &node.value {
            return nodes.iter().collect();
        }
        self.problems.push(
            wrong_type(self.source, node, "an array of tables")
                .hint(format!("write `[[{key}]]` above each one")),
        );
        Vec::new()
    }

    /// Reports every key that was never asked for.
    pub fn finish(self) {
        for entry in self.entries {
            if !self.asked.contains(&entry.key.as_str()) {
                self.problems.push(
                    Diagnostic::error(
                        Code::TOML_UNKNOWN_KEY,
                        format!("unknown key `{}`", entry.key),
                    )
                    .at(self.source.span(entry.key_range.clone()), "not known here")
                    .hint(suggest::among(&entry.key, self.asked.iter().copied())),
                );
            }
        }
    }
}

/// A value of the wrong type.
pub fn wrong_type(source: &Source, node: &Node, wanted: &str) -> Diagnostic {
    Diagnostic::error(Code::TOML_TYPE, format!("expected {wanted}, found {}", node.kind()))
        .at(node.span(source), "")
}
