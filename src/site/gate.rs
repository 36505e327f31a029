//! `roles/<role>/gate.toml`: which tests of a role run, by kind, and their bounds. The scenarios
//! themselves are code.

use super::reader::TableReader;
use super::tree::{self, Node};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};

/// One test of a role's gate.
#[derive(Debug, Clone, PartialEq)]
pub struct GateTest {
    /// The scenario's name.
    pub name: String,
    /// Where it is named.
    pub span: Span,
    /// Its bounds, typed by the scenario.
    pub bounds: Option<Node>,
    /// The file.
    pub source: Source,
}

/// Reads a gate file.
pub fn read(source: &Source, problems: &mut Diagnostics) -> Vec<GateTest> {
    let entries = tree::parse(source, problems);
    let mut top = TableReader::new(source, &entries, 0..source.text().len().min(1), problems);
    let nodes = top.tables("test");
    top.finish();
    let mut tests: Vec<GateTest> = Vec::new();
    for node in nodes {
        let Some(mut table) = TableReader::of(source, node, problems) else { continue };
        let name = table.required_string("name");
        let bounds = table.node("bounds");
        table.finish();
        let Some((name, span)) = name else { continue };
        if let Some(first) = tests.iter().find(|other| other.name == name) {
            problems.push(
                Diagnostic::error(Code::GATE, format!("test `{name}` appears twice"))
                    .at(span, "second time here")
                    .also(first.span.clone(), "first here"),
            );
            continue;
        }
        tests.push(GateTest {
            name: name.to_owned(),
            span,
            bounds: bounds.cloned(),
            source: source.clone(),
        });
    }
    tests
}
