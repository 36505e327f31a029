//! The `.env` grammar: `NAME=value` lines, comments, optional quotes, and nothing that a shell would
//! execute or expand, so that sourcing the file from a shell gives the same values (KB-H5, X11).
//!
//! The text of a document is secret. Diagnostics point into a copy of it in which every value is
//! replaced by asterisks, so that no excerpt can show one.

use super::codes;
use super::declaration::Declaration;
use super::name::{is_secret_name, is_showable};
use super::rules::Violation;
use super::secret::Secret;
use crate::diag::{Diagnostic, Diagnostics, Source, Span};
use std::ops::Range;
use std::path::Path;

/// One `NAME=value` line.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The value without its quotes; never empty.
    pub value: Secret<String>,
    /// The place of the name, in the masked text.
    pub name_span: Span,
    /// The place of the value, in the masked text.
    pub value_span: Span,
}

/// A parsed `.env` file that can be changed line by line, comments kept.
#[derive(Debug, Clone)]
pub struct EnvDocument {
    text: Secret<String>,
    entries: Vec<Entry>,
}

/// Why a line was refused. Positions are bytes of the line; no part of the value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    NotAssignment,
    Export,
    Name,
    Spaces,
    QuoteOpen,
    AfterQuote,
    Interpreted,
    Unquoted,
    Control,
}

struct Parts {
    name: Range<usize>,
    value: Range<usize>,
    cooked: Range<usize>,
}

impl EnvDocument {
    /// Reads a document. Every problem is collected; the entries are those lines that are sound.
    pub fn parse(path: &Path, bytes: &[u8]) -> (Self, Diagnostics) {
        let mut problems = Diagnostics::new();
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
                problems.push(
                    Diagnostic::error(
                        codes::ENV_NOT_UTF8,
                        format!("{} is not UTF-8: line {line}", path.display()),
                    )
                    .hint("save the file as UTF-8"),
                );
                let empty = Self::empty();
                return (empty, problems);
            }
        };
        let source = Source::new(path, masked(text));
        let mut entries: Vec<Entry> = Vec::new();
        let mut blank: Vec<(String, Span)> = Vec::new();
        let mut crlf: Option<Range<usize>> = None;
        let mut start = 0;
        if text.starts_with('\u{feff}') {
            start = '\u{feff}'.len_utf8();
            problems.push(
                Diagnostic::warning(codes::ENV_BOM, "the file starts with a byte order mark")
                    .at(source.span(0..start), "these bytes are skipped")
                    .hint("a shell that sources the file takes them for a part of its first word"),
            );
        }
        for line in text[start..].split_inclusive('\n') {
            let content = line.strip_suffix('\n').unwrap_or(line);
            let bare = content.strip_suffix('\r').unwrap_or(content);
            if bare.len() < content.len() && crlf.is_none() {
                crlf = Some(start..start + bare.len());
            }
            let span = |range: Range<usize>| source.span(start + range.start..start + range.end);
            match split_line(bare) {
                Ok(None) => {}
                Ok(Some(parts)) => {
                    let name = bare[parts.name.clone()].to_owned();
                    let name_span = span(parts.name);
                    let earlier = entries
                        .iter()
                        .find(|entry| entry.name == name)
                        .map(|entry| entry.name_span.clone())
                        .or_else(|| blank.iter().find(|(n, _)| *n == name).map(|(_, s)| s.clone()));
                    if let Some(first) = earlier {
                        problems.push(
                            Diagnostic::error(codes::ENV_DUPLICATE, duplicate_message(&name))
                                .at(name_span, "again here")
                                .also(first, "first here")
                                .hint("delete one of the two lines"),
                        );
                    } else if parts.cooked.is_empty() {
                        let message = match is_showable(&name) {
                            true => format!("{name} has no value yet"),
                            false => "a name has no value yet".into(),
                        };
                        problems.push(
                            Diagnostic::warning(codes::ENV_EMPTY, message)
                                .at(name_span.clone(), "counts as missing")
                                .hint("`strata secrets init` fills in what can be generated"),
                        );
                        blank.push((name, name_span));
                    } else {
                        entries.push(Entry {
                            name,
                            value: Secret::new(bare[parts.cooked].to_owned()),
                            name_span,
                            value_span: span(parts.value),
                        });
                    }
                }
                Err((refusal, range)) => problems.push(refusal.diagnostic(span(range))),
            }
            start += line.len();
        }
        if let Some(range) = crlf {
            problems.push(
                Diagnostic::warning(codes::ENV_CRLF, "the file has Windows line ends")
                    .at(source.span(range), "the carriage return at the end is not read as value")
                    .hint("a shell that sources the file reads it as part of the value; save the file with Unix line ends"),
            );
        }
        (Self { text: Secret::new(text.to_owned()), entries }, problems)
    }

    /// A document without a line.
    pub fn empty() -> Self {
        Self { text: Secret::new(String::new()), entries: Vec::new() }
    }

    /// The sound entries in file order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Secret<String>> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }

    /// The clear text of the file.
    pub fn text(&self) -> &Secret<String> {
        &self.text
    }

    /// The text with `name` set: its line is replaced where it stands, or a line is added at the
    /// end. `None` when the value cannot be written in the grammar.
    pub fn with_value(&self, name: &str, value: &Secret<String>) -> Option<Secret<String>> {
        let written = write_value(value.expose())?;
        let text = self.text.expose();
        // The capacity is enough for either case: growing would leave a copy behind.
        let mut changed =
            String::with_capacity(text.len() + name.len() + written.expose().len() + 3);
        let mut found = false;
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end_matches(['\n', '\r']);
            let unmarked = bare.strip_prefix('\u{feff}').unwrap_or(bare);
            let is_it = matches!(
                split_line(unmarked), Ok(Some(parts)) if &unmarked[parts.name.clone()] == name
            );
            if is_it && !found {
                found = true;
                changed.push_str(name);
                changed.push('=');
                changed.push_str(written.expose());
                changed.push('\n');
            } else {
                changed.push_str(line);
            }
        }
        if !found {
            if !changed.is_empty() && !changed.ends_with('\n') {
                changed.push('\n');
            }
            changed.push_str(name);
            changed.push('=');
            changed.push_str(written.expose());
            changed.push('\n');
        }
        Some(Secret::new(changed))
    }

    /// The text without the line of `name`.
    pub fn without(&self, name: &str) -> Secret<String> {
        let text = self.text.expose();
        let mut changed = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end_matches(['\n', '\r']);
            let unmarked = bare.strip_prefix('\u{feff}').unwrap_or(bare);
            let is_it = matches!(
                split_line(unmarked), Ok(Some(parts)) if &unmarked[parts.name.clone()] == name
            );
            if !is_it {
                changed.push_str(line);
            }
        }
        Secret::new(changed)
    }

    /// Checks the values against their declarations.
    pub fn check(&self, declared: &[&Declaration]) -> Diagnostics {
        let mut problems = Diagnostics::new();
        for entry in &self.entries {
            // The value before of a secret that is being rotated.
            let current = super::rotate::current_of(&entry.name);
            if current.is_some_and(|name| declared.iter().any(|d| d.name == name)) {
                continue;
            }
            let Some(declaration) = declared.iter().find(|d| d.name == entry.name) else {
                let shown = is_showable(&entry.name);
                let message = match shown {
                    true => format!("{} is not declared", entry.name),
                    false => "a name is not declared".to_owned(),
                };
                let near = super::name::nearest(
                    &entry.name,
                    declared.iter().map(|declaration| declaration.name.as_str()),
                );
                problems.push(
                    Diagnostic::warning(codes::NAME_UNDECLARED, message)
                        .at(entry.name_span.clone(), "no template can use it")
                        .hint(match near {
                            Some(near) => format!("did you mean {near}?"),
                            None => "declare it in the file of the same name under \
                                     credentials.example, or delete the line"
                                .into(),
                        }),
                );
                continue;
            };
            for violation in declaration.rules.check(entry.value.expose()) {
                problems.push(
                    violation_diagnostic(&declaration.name, &violation)
                        .at(entry.value_span.clone(), "this value")
                        .also(declaration.span.clone(), "declared here"),
                );
            }
        }
        problems
    }
}

/// A broken rule as a diagnostic without a place.
pub fn violation_diagnostic(name: &str, violation: &Violation) -> Diagnostic {
    let code = match violation {
        Violation::Weak => codes::VALUE_WEAK,
        _ => codes::VALUE_RULE,
    };
    Diagnostic::error(code, format!("the value of {name} {violation}"))
        .hint("the `accept` line of its declaration says what its consumers take")
}

fn duplicate_message(name: &str) -> String {
    match is_showable(name) {
        true => format!("{name} stands twice"),
        false => "a name stands twice".into(),
    }
}

impl Refusal {
    fn diagnostic(self, span: Span) -> Diagnostic {
        let quotes = "put the value between single quotes (nothing is special inside them)";
        let (code, message, note, hint) = match self {
            Self::NotAssignment => (
                codes::ENV_LINE,
                "the line is not NAME=value",
                "neither an assignment nor a comment",
                "a value cannot go on in a second line; comments start with `#`",
            ),
            Self::Export => (
                codes::ENV_LINE,
                "`export` is not part of the grammar",
                "only NAME=value is read",
                "delete the word `export`",
            ),
            Self::Name => (
                codes::ENV_NAME,
                "what stands before `=` is not a name",
                "names are A-Z, then A-Z, 0-9 and `_`",
                "write the name as its declaration has it",
            ),
            Self::Spaces => (
                codes::ENV_LINE,
                "there is a space around `=`, before the name or after the value",
                "a shell would not read this as an assignment",
                "delete the space, or quote a value that needs it",
            ),
            Self::QuoteOpen => {
                (codes::ENV_QUOTE, "the quote is not closed", "opened here, never closed", quotes)
            }
            Self::AfterQuote => (
                codes::ENV_QUOTE,
                "something follows the closing quote",
                "the line must end after the quote",
                "comments stand on a line of their own",
            ),
            Self::Interpreted => (
                codes::ENV_UNQUOTED,
                "a double-quoted value holds a character that a shell would interpret",
                "nothing is expanded here, a shell would expand it",
                quotes,
            ),
            Self::Unquoted => (
                codes::ENV_UNQUOTED,
                "an unquoted value holds a character that a shell would interpret",
                "not taken without quotes",
                quotes,
            ),
            Self::Control => (
                codes::ENV_CONTROL,
                "the line holds a control character",
                "a tab, NUL or the like",
                "delete it; no consumer takes such a value",
            ),
        };
        Diagnostic::error(code, message).at(span, note).hint(hint)
    }
}

/// Splits one line without its end. Ranges are bytes of the line.
fn split_line(line: &str) -> Result<Option<Parts>, (Refusal, Range<usize>)> {
    let all = 0..line.len();
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.chars().any(char::is_control) {
        return Err((Refusal::Control, all));
    }
    if line.starts_with("export ") {
        return Err((Refusal::Export, 0..6));
    }
    let Some(equals) = line.find('=') else {
        return Err((Refusal::NotAssignment, all));
    };
    let name = &line[..equals];
    if !is_secret_name(name) {
        let refusal = match is_secret_name(name.trim()) {
            true => Refusal::Spaces,
            false => Refusal::Name,
        };
        return Err((refusal, 0..equals));
    }
    let at = equals + 1;
    let value = &line[at..];
    let parts = |cooked: Range<usize>| Parts { name: 0..equals, value: at..line.len(), cooked };
    let quote = match value.chars().next() {
        Some(quote @ ('\'' | '"')) => quote,
        Some(' ') => return Err((Refusal::Spaces, equals..equals + 1)),
        _ => {
            if value.ends_with(' ') {
                return Err((Refusal::Spaces, at..line.len()));
            }
            return match value.bytes().all(is_plain) {
                true => Ok(Some(parts(at..line.len()))),
                false => Err((Refusal::Unquoted, at..line.len())),
            };
        }
    };
    let inner = at + 1;
    let Some(length) = line[inner..].find(quote) else {
        return Err((Refusal::QuoteOpen, at..line.len()));
    };
    let close = inner + length;
    if close + 1 != line.len() {
        return Err((Refusal::AfterQuote, at..line.len()));
    }
    if quote == '"' && line[inner..close].contains(['$', '`', '\\']) {
        return Err((Refusal::Interpreted, at..line.len()));
    }
    Ok(Some(parts(inner..close)))
}

/// True for bytes that mean themselves in an unquoted shell assignment.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_./:@%+,=^-".contains(&byte)
}

/// The value as it is written after `NAME=`, or `None` if no form of the grammar can hold it.
fn write_value(value: &str) -> Option<Secret<String>> {
    if value.is_empty() || value.chars().any(char::is_control) {
        return None;
    }
    if value.bytes().all(is_plain) {
        return Some(Secret::new(value.to_owned()));
    }
    if !value.contains('\'') {
        return Some(Secret::new(format!("'{value}'")));
    }
    (!value.contains(['"', '$', '`', '\\'])).then(|| Secret::new(format!("\"{value}\"")))
}

/// The text with everything that may be secret replaced by asterisks, byte for byte: all but line
/// ends, and names that look like names.
fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let text_after_mark = match text.strip_prefix('\u{feff}') {
        Some(rest) => {
            shown.push('\u{feff}');
            rest
        }
        None => text,
    };
    for line in text_after_mark.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        let kept = match bare.find('=') {
            Some(equals) if is_showable(&bare[..equals]) => equals + 1,
            _ if bare.starts_with("export ") => 7,
            _ if bare.starts_with('#') => 1,
            _ => 0,
        };
        shown.push_str(&bare[..kept]);
        shown.extend(std::iter::repeat_n('*', bare.len() - kept));
        shown.push_str(&line[bare.len()..]);
    }
    shown
}

#[cfg(test)]
mod tests;
