//! `waivers.toml`: what is red or differs in production and is borne for a while, each with a
//! reason, a last day and a name. A waiver never turns anything into a pass: it is shown wherever
//! it applies, and does nothing after its last day.

use super::reader::TableReader;
use super::tree::{self, NodeValue};
use super::{Site, suggest};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use jiff::civil::Date;

/// The file, below the site's root; a site without waivers has none.
pub const FILE: &str = "waivers.toml";

/// The waivers of a site, in file order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waivers(pub Vec<Waiver>);

/// One waiver. It covers what all of its parts say: at least one of them is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// A test of a gate.
    pub test: Option<String>,
    /// A host.
    pub host: Option<String>,
    /// A step that differs: its role and its name.
    pub step: Option<(String, String)>,
    /// Why it is borne.
    pub reason: String,
    /// The last day on which it is, in UTC.
    pub until: Date,
    /// Who decided it.
    pub by: String,
    /// Its place.
    pub span: Span,
}

impl Waiver {
    /// True when its last day is over.
    pub fn expired(&self, today: Date) -> bool {
        today > self.until
    }
}

/// Reads the file.
pub fn read(source: &Source, problems: &mut Diagnostics) -> Waivers {
    let entries = tree::parse(source, problems);
    let mut top = TableReader::new(source, &entries, 0..source.text().len().min(1), problems);
    let nodes = top.tables("waiver");
    top.finish();
    let mut waivers = Waivers::default();
    for node in nodes {
        let Some(mut table) = TableReader::of(source, node, problems) else { continue };
        let span = table.span();
        let text = |text: Option<(&str, Span)>| text.map(|(text, _)| text.to_owned());
        let test = text(table.string("test"));
        let host = text(table.string("host"));
        let role = text(table.string("role"));
        let step = text(table.string("step"));
        let reason = said(&mut table, "reason");
        let by = said(&mut table, "by");
        let until = last_day(&mut table);
        table.finish();
        let step = match (role, step) {
            (Some(role), Some(step)) if test.is_none() => Some((role, step)),
            (None, None) if test.is_some() || host.is_some() => None,
            _ => {
                problems.push(
                    Diagnostic::error(Code::WAIVER, "a waiver names what it covers")
                        .at(span, "")
                        .hint("`test`, or `role` and `step`, each with or without `host`; or `host` alone"),
                );
                continue;
            }
        };
        if let (Some(reason), Some(by), Some(until)) = (reason, by, until) {
            waivers.0.push(Waiver { test, host, step, reason, until, by, span });
        }
    }
    waivers
}

/// A text that must say something.
fn said(table: &mut TableReader<'_, '_>, key: &'static str) -> Option<String> {
    let (text, span) = table.required_string(key)?;
    if text.trim().is_empty() {
        table
            .problems
            .push(Diagnostic::error(Code::WAIVER, format!("`{key}` is empty")).at(span, ""));
        return None;
    }
    Some(text.to_owned())
}

/// The date under `until`, as a TOML date or as text.
fn last_day(table: &mut TableReader<'_, '_>) -> Option<Date> {
    let Some(node) = table.node("until") else {
        table.missing("until");
        return None;
    };
    let date = match &node.value {
        NodeValue::Datetime(text) | NodeValue::String(text) => text.parse().ok(),
        _ => None,
    };
    if date.is_none() {
        let span = node.span(table.source);
        table.problems.push(
            Diagnostic::error(Code::WAIVER, "`until` is no date")
                .at(span, "")
                .hint("the last day on which it is borne, for example until = 2026-12-31"),
        );
    }
    date
}

/// Reports waivers of hosts that do not exist, and those that have expired. Tests and steps are
/// looked at by the gates, which know them.
pub fn check(site: &Site, today: Date, problems: &mut Diagnostics) {
    for waiver in &site.waivers.0 {
        if let Some(host) = waiver.host.as_ref().filter(|host| !site.hosts.contains_key(*host)) {
            problems.push(
                nothing(waiver, format!("there is no host `{host}`"))
                    .hint(suggest::among(host, site.hosts.keys().map(String::as_str))),
            );
        }
        if waiver.expired(today) {
            problems.push(
                Diagnostic::warning(
                    Code::WAIVER_EXPIRED,
                    format!("a waiver expired on {}: it does nothing", waiver.until),
                )
                .at(waiver.span.clone(), "")
                .hint("remove it, or decide anew until when it is borne"),
            );
        }
    }
}

/// A waiver that would be believed to cover something.
pub fn nothing(waiver: &Waiver, message: String) -> Diagnostic {
    Diagnostic::error(Code::WAIVER, message).at(waiver.span.clone(), "covers nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> (usize, Vec<String>) {
        let mut problems = Diagnostics::new();
        let read = read(&Source::new(FILE, text), &mut problems);
        (read.0.len(), problems.iter().map(|problem| problem.message.clone()).collect())
    }

    #[test]
    fn a_waiver_says_what_why_until_when_and_who() {
        let whole = "[[waiver]]\ntest = \"clock\"\nhost = \"a\"\nreason = \"r\"\nby = \"b\"\nuntil = 2026-12-31\n";
        assert_eq!(problems_of(whole), (1, vec![]));
        assert_eq!(problems_of(&whole.replace("2026-12-31", "\"2026-12-31\"")), (1, vec![]));
        for (from, to, said) in [
            ("until = 2026-12-31\n", "", "missing key `until`"),
            ("2026-12-31", "2026-13-31", ""),
            ("2026-12-31", "\"soon\"", "`until` is no date"),
            ("\"r\"", "\" \"", "`reason` is empty"),
            ("by = \"b\"\n", "", "missing key `by`"),
            ("test = \"clock\"\nhost = \"a\"\n", "", "a waiver names what it covers"),
            ("host = \"a\"", "role = \"a\"", "a waiver names what it covers"),
            ("host = \"a\"", "role = \"a\"\nstep = \"b\"", "a waiver names what it covers"),
            ("host = \"a\"", "hosts = [\"a\"]", "unknown key `hosts`"),
        ] {
            let (count, found) = problems_of(&whole.replace(from, to));
            let whole_but_unknown = said.starts_with("unknown");
            assert_eq!(count, usize::from(whole_but_unknown), "{from} {to}");
            assert!(found.iter().any(|one| one.contains(said)), "{from} {to}: {found:?}");
        }
    }

    #[test]
    fn the_last_day_counts() {
        let text = "[[waiver]]\ntest = \"t\"\nreason = \"r\"\nby = \"b\"\nuntil = 2026-12-31\n";
        let read = read(&Source::new(FILE, text), &mut Diagnostics::new());
        let day = |text: &str| text.parse().unwrap();
        assert!(!read.0[0].expired(day("2026-12-31")));
        assert!(read.0[0].expired(day("2027-01-01")));
    }
}
