//! `versions.yaml`: the only place for versions (KB-F2, KB-F3, X2, X3).
//!
//! A flat list of `key: "value"` lines. This is a strict subset of YAML on purpose: no nesting, no
//! anchors, no types to guess; a value is always quoted.

use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use indexmap::IndexMap;

/// A pin with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The value.
    pub value: String,
    /// The line.
    pub span: Span,
}

/// Pins whose exact reference upstream no longer serves (X1), with what is known of it.
const GONE: [(&str, &str); 3] = [
    (
        "minio/minio:RELEASE.2024-10-02T10-00Z",
        "this tag never existed and the repository was removed from the hub; the release of that day is RELEASE.2024-10-02T17-50-41Z",
    ),
    (
        "zalando/patroni:3.3.0",
        "this image was never published; it has to be built from the pinned PostgreSQL image and Patroni 3.3.0",
    ),
    (
        "bitnami/mariadb-galera:10.11.6",
        "this image left its repository; a copy remains in the vendor's legacy repository",
    ),
];

/// Reads the file.
pub fn read(source: &Source, problems: &mut Diagnostics) -> IndexMap<String, Version> {
    let mut versions: IndexMap<String, Version> = IndexMap::new();
    for (index, line) in source.text().lines().enumerate() {
        let line = line.trim_end_matches('\r');
        let span = source.line_span(index + 1);
        if line.trim().is_empty() || line.trim_start().starts_with('#') || line == "---" {
            continue;
        }
        let Some((key, value)) = entry(line) else {
            problems.push(
                Diagnostic::error(Code::VERSIONS_SYNTAX, "this line is not `key: \"value\"`")
                    .at(span, "")
                    .hint("keys are lower case with underscores; values stand in double quotes"),
            );
            continue;
        };
        if let Some(reason) = unpinned(value) {
            problems.push(
                Diagnostic::error(
                    Code::VERSION_UNPINNED,
                    format!("`{key}` is not pinned: {reason}"),
                )
                .at(span.clone(), "")
                .hint("name an exact version; nothing that can move is installed (KB-F1)"),
            );
        }
        if let Some((_, known)) = GONE.iter().find(|(reference, _)| *reference == value) {
            problems.push(
                Diagnostic::warning(
                    Code::VERSION_GONE,
                    format!("`{value}` is no longer served upstream"),
                )
                .at(span.clone(), "")
                .hint(*known),
            );
        }
        if let Some(first) = versions.get(key) {
            problems.push(
                Diagnostic::error(Code::VERSIONS_SYNTAX, format!("`{key}` appears twice"))
                    .at(span, "second time here")
                    .also(first.span.clone(), "first here"),
            );
            continue;
        }
        versions.insert(key.to_owned(), Version { value: value.to_owned(), span });
    }
    versions
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = line.split_once(':')?;
    let rest = rest.trim().strip_prefix('"')?;
    let (value, after) = rest.split_once('"')?;
    let after = after.trim();
    let key_fine = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let value_fine = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    (key_fine && value_fine && (after.is_empty() || after.starts_with('#'))).then_some((key, value))
}

/// Why a pin is none, if so.
pub(super) fn unpinned(value: &str) -> Option<&'static str> {
    let tag = value.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    if value == "latest" || tag.is_some_and(|tag| tag == "latest" || tag.starts_with("latest-")) {
        return Some("`latest` moves");
    }
    if value.contains('/') && tag.is_none() && !value.contains("@sha256:") {
        return Some("an image without a tag means `latest`");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pins_and_refuses_the_rest() {
        let mut problems = Diagnostics::new();
        let source = Source::new(
            "versions.yaml",
            "# pins\nredis_image: \"redis:7.2.5-alpine\" # cache\nbad: x\na_image: \"x/y\"\nb_image: \"redis:latest\"\nredis_image: \"redis:7.2.5\"\n",
        );
        let versions = read(&source, &mut problems);
        assert_eq!(versions["redis_image"].value, "redis:7.2.5-alpine");
        let codes: Vec<&str> = problems.iter().map(|d| d.code.as_str()).collect();
        assert_eq!(codes, ["E0601", "E0602", "E0602", "E0601"]);
    }
}
