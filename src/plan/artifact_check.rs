//! Whether the large file that a step names is there, and is the one that it means.

use crate::diag::{Code, Diagnostic};
use crate::resource::Artifact;
use crate::site::Role;
use crate::site::artifacts::Artifacts;
use crate::site::suggest;
use crate::site::tree::Node;

/// What is wrong with the file of a step.
pub(super) fn problem(
    artifacts: &Artifacts,
    wanted: &Artifact,
    body: &Node,
    role: &Role,
) -> Option<Diagnostic> {
    let at = |key: &str| {
        let entries = body.entries().unwrap_or_default();
        let node = entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node);
        role.source.span(node.unwrap_or(body).range.clone())
    };
    let Artifact { source, sha256, .. } = wanted;
    match artifacts.other_digest(source, sha256) {
        Ok(None) => None,
        Ok(Some(digest)) => Some(
            Diagnostic::error(
                Code::ARTIFACT,
                format!("artifacts/{source} has the digest {digest}, wanted {sha256}"),
            )
            .at(at("sha256"), "")
            .hint("put the right file there, or pin the digest of this one"),
        ),
        Err(reason) => {
            let names = artifacts.names();
            let hint = match names.is_empty() {
                true => {
                    format!("put the file there: artifacts/{source} below the site's directory")
                }
                false => suggest::among(source, names.iter().map(String::as_str)),
            };
            let text = format!("artifacts/{source} cannot be read: {reason}");
            Some(Diagnostic::error(Code::ARTIFACT, text).at(at("source"), "").hint(hint))
        }
    }
}
