//! Where secret material may stand in a step: only in what is sent as content. Arguments and
//! environments are readable for every process of a host; paths, names and settings end up in
//! logs and reports.
//!
//! What counts is that a setting *asked* for a secret while it was rendered, not what came of it: a
//! hash, a part or the length of a secret is no less a secret.

use super::context::SecretsObject;
use super::render::Templates;
use crate::diag::{Code, Diagnostic, Source, Span};
use crate::site::tree::Node;
use minijinja::Value;

/// Kind and key of everything that may carry a secret. What a template's file holds is content too.
const ALLOWED: [(&str, &str); 5] = [
    ("file", "content"),
    ("unit", "content"),
    ("block", "content"),
    ("command", "stdin"),
    ("container", "env"),
];

/// The settings of a step, or of another table of this `kind`, that ask for a secret where none may
/// stand.
pub fn misplaced(
    kind: &str,
    body: &Node,
    source: &Source,
    templates: &Templates<'_>,
    secrets: &SecretsObject,
    context: &Value,
) -> Vec<Diagnostic> {
    let asks = |node: &Node| {
        secrets.take_asked();
        // What cannot be rendered is reported where the step is made; it may have asked before.
        let _ = templates.node(source, node, context);
        secrets.take_asked()
    };
    body.entries()
        .unwrap_or_default()
        .iter()
        .filter(|entry| !ALLOWED.contains(&(kind, entry.key.as_str())) && asks(&entry.node))
        .map(|entry| diagnostic(&entry.key, entry.node.span(source)))
        .collect()
}

fn diagnostic(setting: &str, place: Span) -> Diagnostic {
    Diagnostic::error(Code::SECRET_PLACE, format!("a secret may not stand in `{setting}`"))
        .at(place, "readable for others")
        .hint("write it into a `file`, `unit` or `block` (content or template), or give it to a command's `stdin`; what is made of a secret counts as one")
}
