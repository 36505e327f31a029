//! `[report]` in `strata.toml`: files that are written after each run.

use super::reader::TableReader;
use super::tree::Node;
use crate::diag::{Code, Diagnostic, Diagnostics, Source};
use std::path::{Path, PathBuf};

/// Files that are written after each run; each takes the place of the last one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportSettings {
    /// The page of the last run.
    pub html: Option<PathBuf>,
    /// The last run as JUnit.
    pub junit: Option<PathBuf>,
    /// The site's state as Prometheus' text format.
    pub prometheus: Option<PathBuf>,
}

/// Reads the table.
pub fn read(source: &Source, node: &Node, problems: &mut Diagnostics) -> ReportSettings {
    let Some(mut table) = TableReader::of(source, node, problems) else {
        return ReportSettings::default();
    };
    let mut path = |key: &'static str, ending: Option<&str>| {
        let (text, span) = table.string(key)?;
        let wrong = if text.is_empty() {
            Some(("names no file".to_owned(), "leave the key out to write none".to_owned()))
        } else {
            // Its collector reads files of this ending and no others.
            ending.filter(|ending| !text.ends_with(ending)).map(|ending| {
                let example = "/var/lib/prometheus/node-exporter/strata.prom";
                (
                    format!("does not end in {ending}"),
                    format!("node_exporter reads no other files, for example {example}"),
                )
            })
        };
        if let Some((wrong, hint)) = wrong {
            table.problems.push(
                Diagnostic::error(Code::SETTING, format!("`{key}` {wrong}"))
                    .at(span, "")
                    .hint(hint),
            );
            return None;
        }
        let folder = Path::new(text).parent().filter(|folder| folder.is_absolute());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            table.problems.push(
                Diagnostic::warning(
                    Code::SETTING,
                    format!("the directory of `{key}` is not on this host"),
                )
                .at(span, "nothing could be written there"),
            );
        }
        Some(PathBuf::from(text))
    };
    let settings = ReportSettings {
        html: path("html", None),
        junit: path("junit", None),
        prometheus: path("prometheus", Some(".prom")),
    };
    table.finish();
    settings
}
