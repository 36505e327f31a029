//! `inventory/servers.tsv`: the hosts (KB-G1).
//!
//! Tab-separated, read by header name. There is no quoting and no comment syntax: `"` and `#` are
//! text. Blank lines, a byte-order mark, CRLF, accents, any row and column order and spaces around
//! cells are fine; anything that could mean two things is refused with its line.

use super::suggest;
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The columns of the format, in the order of the original file.
pub const COLUMNS: [&str; 12] = [
    "ENV",
    "IP_PUBLIQUE",
    "HOSTNAME",
    "IP_PRIVEE",
    "FQDN",
    "USER_SSH",
    "POOL",
    "ROLE",
    "SUBROLE",
    "DOCKER_STACK",
    "CORE",
    "NOTES",
];

/// Columns whose cells may be empty.
const MAY_BE_EMPTY: [&str; 2] = ["IP_PUBLIQUE", "NOTES"];

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// `HOSTNAME`.
    pub name: String,
    /// `FQDN`.
    pub fqdn: String,
    /// `IP_PRIVEE`.
    pub address: Ipv4Addr,
    /// `IP_PUBLIQUE`, if the host has one.
    pub public: Option<Ipv4Addr>,
    /// `USER_SSH`.
    pub user: String,
    /// Every column by its name, extra ones included; this is what groups select on.
    pub columns: BTreeMap<String, String>,
    /// The host's name in the file.
    pub span: Span,
}

/// Reads the inventory; `extra_columns` are allowed beside [`COLUMNS`].
pub fn read(
    source: &Source,
    extra_columns: &[String],
    problems: &mut Diagnostics,
) -> IndexMap<String, Host> {
    let mut hosts = IndexMap::new();
    let mut lines = lines(source).filter(|line| !line.text.trim().is_empty());
    let Some(header) = lines.next() else {
        problems.push(
            Diagnostic::error(Code::INVENTORY_HEADER, "the inventory is empty")
                .at(source.line_span(1), "a header row is expected here")
                .hint(format!("the first line names the columns: {}", COLUMNS.join(" "))),
        );
        return hosts;
    };
    let Some(columns) = read_header(source, &header, extra_columns, problems) else {
        return hosts;
    };
    for line in lines {
        if let Some(host) = read_row(source, &line, &columns, problems) {
            check_unique(&host, &hosts, problems);
            hosts.entry(host.name.clone()).or_insert(host);
        }
    }
    if hosts.is_empty() && !problems.has_errors() {
        problems.push(
            Diagnostic::error(Code::INVENTORY_NO_HOSTS, "the inventory has no host")
                .at(header.span(source), "only a header row"),
        );
    }
    hosts
}

struct Line<'a> {
    start: usize,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn span(&self, source: &Source) -> Span {
        source.span(self.start..self.start + self.text.len())
    }

    /// The cells, trimmed, each with its place.
    fn cells(&self, source: &Source) -> Vec<(&'a str, Span)> {
        let mut at = self.start;
        self.text
            .split('\t')
            .map(|cell| {
                let trimmed = cell.trim();
                let start = at + (cell.len() - cell.trim_start().len());
                at += cell.len() + 1;
                (trimmed, source.span(start..start + trimmed.len()))
            })
            .collect()
    }
}

fn lines(source: &Source) -> impl Iterator<Item = Line<'_>> {
    let text = source.text();
    let bom = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut start = bom;
    text[bom..].split('\n').map(move |line| {
        let this = Line { start, text: line.trim_end_matches('\r') };
        start += line.len() + 1;
        this
    })
}

fn read_header<'a>(
    source: &Source,
    header: &Line<'a>,
    extra_columns: &[String],
    problems: &mut Diagnostics,
) -> Option<Vec<&'a str>> {
    let before = problems.count(crate::diag::Severity::Error);
    let cells = header.cells(source);
    let mut seen: Vec<&str> = Vec::new();
    for (name, span) in &cells {
        let known = COLUMNS.contains(name) || extra_columns.iter().any(|extra| extra == name);
        if seen.contains(name) {
            problems.push(
                Diagnostic::error(Code::INVENTORY_HEADER, format!("column `{name}` appears twice"))
                    .at(span.clone(), "second time here"),
            );
        } else if !known {
            problems.push(
                Diagnostic::error(Code::INVENTORY_HEADER, format!("unknown column `{name}`"))
                    .at(span.clone(), "not a column of this format")
                    .hint(format!(
                        "{}; other columns are listed in `extra_columns` of strata.toml",
                        suggest::among(name, COLUMNS)
                    )),
            );
        }
        seen.push(name);
    }
    let missing: Vec<&str> = COLUMNS.into_iter().filter(|name| !seen.contains(name)).collect();
    if !missing.is_empty() {
        problems.push(
            Diagnostic::error(
                Code::INVENTORY_HEADER,
                format!(
                    "missing column{} {}",
                    if missing.len() == 1 { "" } else { "s" },
                    missing.join(", ")
                ),
            )
            .at(first_cell(&cells, header, source), "in this header row")
            .hint("columns are separated by tabs and named in the first line"),
        );
    }
    (problems.count(crate::diag::Severity::Error) == before).then_some(seen)
}

fn read_row(
    source: &Source,
    line: &Line<'_>,
    columns: &[&str],
    problems: &mut Diagnostics,
) -> Option<Host> {
    let cells = line.cells(source);
    if cells.len() != columns.len() {
        problems.push(
            Diagnostic::error(
                Code::INVENTORY_CELLS,
                format!(
                    "{} cells in this row, {} columns in the header",
                    cells.len(),
                    columns.len()
                ),
            )
            .at(first_cell(&cells, line, source), "in this row")
            .hint("cells are separated by single tabs; an empty cell keeps its tab"),
        );
        return None;
    }
    let before = problems.count(crate::diag::Severity::Error);
    let row: BTreeMap<&str, (&str, Span)> =
        columns.iter().copied().zip(cells.iter().cloned()).collect();
    for (column, (cell, span)) in &row {
        if cell.is_empty() && !MAY_BE_EMPTY.contains(column) && COLUMNS.contains(column) {
            problems.push(
                Diagnostic::error(Code::INVENTORY_EMPTY, format!("`{column}` is empty"))
                    .at(span.clone(), "in this row"),
            );
        }
        if looks_like_secret(cell) {
            problems.push(
                Diagnostic::error(
                    Code::INVENTORY_SECRET,
                    format!("`{column}` looks like a secret"),
                )
                // The row is not quoted: the value must not reach a terminal or a log (KB-H2).
                .hint(format!(
                    "{}: move it to credentials/ with `strata secrets set`; the inventory holds none",
                    span
                )),
            );
        }
    }
    let cell = |name: &str| row.get(name).map_or(("", line.span(source)), |(c, s)| (*c, s.clone()));
    check_name(cell("HOSTNAME"), "HOSTNAME", false, problems);
    check_name(cell("FQDN"), "FQDN", true, problems);
    let address = check_address(cell("IP_PRIVEE"), "IP_PRIVEE", problems);
    let public = check_address(cell("IP_PUBLIQUE"), "IP_PUBLIQUE", problems);
    let (user, user_span) = cell("USER_SSH");
    if user.contains(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c)) {
        problems.push(
            Diagnostic::error(Code::INVENTORY_VALUE, format!("`{user}` is not a user name"))
                .at(user_span, "USER_SSH"),
        );
    }
    let (core, core_span) = cell("CORE");
    if !core.is_empty() && core != "yes" && core != "no" {
        problems.push(
            Diagnostic::error(Code::INVENTORY_VALUE, format!("`{core}` is neither yes nor no"))
                .at(core_span, "CORE"),
        );
    }
    if problems.count(crate::diag::Severity::Error) != before {
        return None;
    }
    Some(Host {
        name: cell("HOSTNAME").0.to_owned(),
        fqdn: cell("FQDN").0.to_owned(),
        address: address?,
        public,
        user: user.to_owned(),
        columns: row.iter().map(|(k, (v, _))| ((*k).to_owned(), (*v).to_owned())).collect(),
        span: cell("HOSTNAME").1,
    })
}

/// A short place for a whole row.
fn first_cell(cells: &[(&str, Span)], line: &Line<'_>, source: &Source) -> Span {
    cells.first().map_or_else(|| line.span(source), |(_, span)| span.clone())
}

/// Names are what RFC 1123 allows; they go into `/etc/hosts`, unit names and file names.
fn check_name((name, span): (&str, Span), column: &str, dots: bool, problems: &mut Diagnostics) {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let fine = if dots { name.split('.').all(label) && name.len() <= 253 } else { label(name) };
    if !name.is_empty() && !fine {
        problems.push(
            Diagnostic::error(Code::INVENTORY_VALUE, format!("`{name}` is not a host name"))
                .at(span, column)
                .hint("lower-case letters, digits and hyphens; 63 characters a label at most"),
        );
    }
}

fn check_address(
    (text, span): (&str, Span),
    column: &str,
    problems: &mut Diagnostics,
) -> Option<Ipv4Addr> {
    if text.is_empty() {
        return None;
    }
    match text.parse::<Ipv4Addr>() {
        Ok(address)
            if !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast()) =>
        {
            Some(address)
        }
        Ok(address) => {
            problems.push(
                Diagnostic::error(
                    Code::INVENTORY_VALUE,
                    format!("{address} cannot be a host's address"),
                )
                .at(span, column),
            );
            None
        }
        Err(_) => {
            problems.push(
                Diagnostic::error(
                    Code::INVENTORY_VALUE,
                    format!("`{text}` is not an IPv4 address"),
                )
                .at(span, column),
            );
            None
        }
    }
}

fn check_unique(host: &Host, hosts: &IndexMap<String, Host>, problems: &mut Diagnostics) {
    for other in hosts.values() {
        let shared = [
            (host.name == other.name).then(|| format!("host name `{}`", host.name)),
            (host.fqdn == other.fqdn).then(|| format!("FQDN `{}`", host.fqdn)),
            (host.address == other.address).then(|| format!("private address {}", host.address)),
            host.public
                .filter(|address| other.public == Some(*address))
                .map(|address| format!("public address {address}")),
        ];
        for what in shared.into_iter().flatten() {
            problems.push(
                Diagnostic::error(Code::INVENTORY_DUPLICATE, format!("two hosts have the {what}"))
                    .at(host.span.clone(), "second here")
                    .also(other.span.clone(), "first here"),
            );
        }
    }
}

/// A conservative guess (KB-H2): key material, tokens with a known shape, or `password=…` text.
fn looks_like_secret(cell: &str) -> bool {
    let lower = cell.to_ascii_lowercase();
    let assignment = ["password", "passwd", "secret", "token", "api_key", "apikey", "mot de passe"]
        .iter()
        .any(|word| {
            lower.find(word).is_some_and(|at| {
                lower[at + word.len()..]
                    .trim_start()
                    .strip_prefix(['=', ':'])
                    .is_some_and(|value| value.trim().len() >= 4)
            })
        });
    let shaped = ["-----begin", "age-secret-key-", "ghp_", "sk_live_", "xoxb-", "akia"]
        .iter()
        .any(|prefix| lower.contains(prefix));
    assignment || shaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "ENV\tIP_PUBLIQUE\tHOSTNAME\tIP_PRIVEE\tFQDN\tUSER_SSH\tPOOL\tROLE\tSUBROLE\tDOCKER_STACK\tCORE\tNOTES";

    fn hosts(text: &str) -> (IndexMap<String, Host>, Diagnostics) {
        let mut problems = Diagnostics::new();
        let hosts = read(&Source::new("servers.tsv", text), &[], &mut problems);
        (hosts, problems)
    }

    #[test]
    fn tolerates_what_real_files_contain() {
        let text = format!(
            "\u{feff}{HEADER}\r\n\r\nprod\t192.0.2.1\tdb-01\t10.0.0.120\tdb-01.k.io\troot\tp\tdb\tpg\tpatroni\tyes\tnœud \"maître\" #1 \r\nprod\t\tdb-02\t10.0.0.121\tdb-02.k.io \troot\tp\tdb\tpg\tpatroni\tno\t\r\n\n\n"
        );
        let (hosts, problems) = hosts(&text);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(hosts.len(), 2);
        assert_eq!(hosts["db-01"].columns["NOTES"], "nœud \"maître\" #1");
        assert_eq!(hosts["db-02"].public, None);
    }

    #[test]
    fn any_column_order_is_the_same_inventory() {
        let row = "prod\t192.0.2.1\tdb-01\t10.0.0.120\tdb-01.k.io\troot\tp\tdb\tpg\ts\tyes\tn";
        let reversed = |line: &str| line.split('\t').rev().collect::<Vec<_>>().join("\t");
        let (forward, _) = hosts(&format!("{HEADER}\n{row}\n"));
        let (backward, problems) = hosts(&format!("{}\n{}\n", reversed(HEADER), reversed(row)));
        assert!(problems.is_empty());
        assert_eq!(forward["db-01"].columns, backward["db-01"].columns);
    }

    #[test]
    fn secrets_are_found_and_ordinary_notes_are_not() {
        for secret in ["password=hunter22", "Mot de passe : azerty", "ghp_abcdef", "TOKEN=abcd1234"]
        {
            assert!(looks_like_secret(secret), "{secret}");
        }
        for fine in ["password rotation is due", "token ring", "", "rack 4: left"] {
            assert!(!looks_like_secret(fine), "{fine}");
        }
    }
}
