//! `[notify]` in `strata.toml`: a program of the operator that is told of what a run came to.

use super::reader::TableReader;
use super::suggest;
use super::tree::Node;
use crate::diag::{Code, Diagnostic, Diagnostics, Source};
use std::path::Path;

/// What a run can come to that somebody wants to be told of.
pub const OCCASIONS: [&str; 4] = ["drift", "red-gate", "failed-run", "unhealed"];

/// Who is told of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// The program and its arguments, as they are: no shell reads them.
    pub command: Vec<String>,
    /// Of what: some of [`OCCASIONS`].
    pub on: Vec<String>,
    /// Seconds that it may take.
    pub timeout: u32,
}

/// Reads the table.
pub fn read(source: &Source, node: &Node, problems: &mut Diagnostics) -> Option<NotifySettings> {
    let mut table = TableReader::of(source, node, problems)?;
    let span = table.span();
    let command = table.strings("command");
    if table.node("command").is_none() {
        table.missing("command");
    }
    let on = table.strings("on");
    let timeout = table.integer("timeout", 1..=600).unwrap_or(30);
    table.finish();
    let command = command?;
    let mut settings = NotifySettings {
        command: command.iter().map(|(word, _)| (*word).to_owned()).collect(),
        on: OCCASIONS.map(str::to_owned).to_vec(),
        timeout: u32::try_from(timeout).unwrap_or(30),
    };
    match command.first() {
        Some((program, span)) if !program.starts_with('/') => problems.push(
            Diagnostic::error(Code::SETTING, format!("`{program}` is no absolute path"))
                .at(span.clone(), "")
                .hint("a notification must not depend on where strata is started, for example /usr/local/bin/strata-notify"),
        ),
        Some((program, span)) if !Path::new(program).is_file() => problems.push(
            Diagnostic::warning(Code::SETTING, format!("there is no program {program} on this host"))
                .at(span.clone(), "nobody would be told"),
        ),
        Some(_) => {}
        None => problems.push(
            Diagnostic::error(Code::SETTING, "`command` is empty").at(span, "nobody would be told"),
        ),
    }
    if let Some(on) = on {
        for (word, span) in &on {
            if !OCCASIONS.contains(word) {
                problems.push(
                    Diagnostic::error(Code::SETTING, format!("nothing is told on `{word}`"))
                        .at(span.clone(), "")
                        .hint(suggest::among(word, OCCASIONS)),
                );
            }
        }
        settings.on = on.into_iter().map(|(word, _)| word.to_owned()).collect();
    }
    Some(settings)
}
