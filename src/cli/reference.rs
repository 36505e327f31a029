//! `strata docs` and `strata explain`: the documents that strata carries, cut to what is asked for.

use super::output::{out, tell};
use crate::gate::SCENARIOS;
use crate::resource::KINDS;
use crate::run::Exit;
use crate::site::suggest::among;
use clap::Args;

const RESOURCES: &str = include_str!("../../docs/resources.md");
const GATES: &str = include_str!("../../docs/gates.md");
const ERRORS: &str = include_str!("../../docs/errors.md");
const ARCHITECTURE: &str = include_str!("../../docs/architecture.md");

/// Arguments of `strata docs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata docs                what there is\n  strata docs file           a kind of resource: its keys, their defaults, an example\n  strata docs ssh-service    a test of gates"
)]
pub struct DocsArguments {
    /// A kind of resource, or a test of gates
    #[arg(add = super::complete::subjects())]
    pub name: Option<String>,
}

/// Arguments of `strata explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata explain E0302    a mistake in the site's files\n  strata explain 3        an exit code"
)]
pub struct ExplainArguments {
    /// A code of a diagnostic, or an exit code
    #[arg(add = super::complete::codes())]
    pub code: String,
}

/// Runs `strata docs`.
pub fn docs(arguments: &DocsArguments) -> Exit {
    let Some(name) = &arguments.name else {
        out!("Kinds of resources:");
        for kind in KINDS {
            out!("  {:16} {}", kind.name, kind.summary);
        }
        out!("\nTests of gates:");
        for row in rows(GATES).filter(|row| is_test(&row[0])) {
            out!("  {:22} {}", row[0], row[2]);
        }
        out!("\n`strata docs NAME` shows one of them.");
        return Exit::Done;
    };
    if let Some(section) = section(RESOURCES, name) {
        in_plain_text(name, section).iter().for_each(|line| out!("{line}"));
        return Exit::Done;
    }
    if let Some(row) = rows(GATES).find(|row| is_test(&row[0]) && row[0] == *name) {
        out!("{name}, a {} test: {}\n", row[1], row[2]);
        row[3].split("<br>").for_each(|key| out!("  {key}"));
        return Exit::Done;
    }
    let known = subjects();
    tell!("error: nothing here is called `{name}`: {}", among(name, known.iter().copied()));
    Exit::InvalidInput
}

/// Runs `strata explain`.
pub fn explain(arguments: &ExplainArguments) -> Exit {
    let code = arguments.code.trim_start_matches("exit").trim_matches(['[', ']', ' ']);
    let upper = code.to_ascii_uppercase();
    if let Some(row) = rows(ERRORS).find(|row| row[0] == upper && row.len() == 3) {
        out!("{}: {}\n\n  {}", row[0], row[1], row[2]);
        return Exit::Done;
    }
    let exit = |row: &Vec<String>| row[0] == code && code.parse::<u8>().is_ok();
    if let Some(row) = rows(ARCHITECTURE).find(exit) {
        out!("exit code {}: {}", row[0], row[1..].join("; "));
        return Exit::Done;
    }
    tell!(
        "error: there is no code `{code}`\nhint: codes look like E0302; docs/errors.md lists them"
    );
    Exit::InvalidInput
}

/// What `strata docs` knows.
pub fn subjects() -> Vec<&'static str> {
    let kinds = KINDS.iter().map(|kind| kind.name);
    kinds.chain(SCENARIOS.iter().map(|scenario| scenario.name)).collect()
}

/// Codes of diagnostics that `strata explain` knows.
pub fn codes() -> Vec<String> {
    rows(ERRORS)
        .map(|row| row[0].clone())
        .filter(|code| code.starts_with("E0") && !code.ends_with('x'))
        .collect()
}

fn is_test(name: &str) -> bool {
    SCENARIOS.iter().any(|scenario| scenario.name == name)
}

/// The cells of every table row, without the marks of code and links.
fn rows(document: &str) -> impl Iterator<Item = Vec<String>> + '_ {
    document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(|cell| unmarked(cell.trim())).collect())
}

/// The lines below a heading of the second level.
fn section<'a>(document: &'a str, title: &str) -> Option<Vec<&'a str>> {
    let mut lines = document.lines().skip_while(|line| line.strip_prefix("## ") != Some(title));
    lines.next()?;
    Some(lines.take_while(|line| !line.starts_with("## ")).collect())
}

/// A section for a terminal: tables as lists, no marks.
fn in_plain_text(title: &str, section: Vec<&str>) -> Vec<String> {
    let mut lines = vec![title.to_owned()];
    let mut code = false;
    for line in section {
        if line.starts_with("```") {
            code = !code;
        } else if code {
            lines.push(format!("    {line}"));
        } else if let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) {
            let cells: Vec<String> = row.split(" | ").map(|cell| unmarked(cell.trim())).collect();
            match cells.as_slice() {
                [key, ..] if key == "key" => {}
                [key, value, default, meaning] => {
                    let default = if default == "required" {
                        default.clone()
                    } else {
                        format!("default {default}")
                    };
                    lines.push(format!("  {key}: {value} ({default})"));
                    lines.push(format!("      {meaning}"));
                }
                cells => lines.push(format!("  {}", cells.join("  "))),
            }
        } else if !line.starts_with("|---") && !line.starts_with("<!--") {
            lines.push(unmarked(line));
        }
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Text without the marks of code, and links as their words.
fn unmarked(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let Some((words, target)) = rest[at + 1..].split_once("](") else { break };
        let Some((_, after)) = target.split_once(')') else { break };
        if words.contains('[') {
            break;
        }
        plain.push_str(&rest[..at]);
        plain.push_str(words);
        rest = after;
    }
    plain.push_str(rest);
    plain.replace('`', "").replace("\\|", "|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_test_and_code_is_found_in_the_documents() {
        for name in subjects() {
            let kind = section(RESOURCES, name).is_some();
            let test = rows(GATES).any(|row| row[0] == name && row.len() == 4);
            assert!(kind || test, "{name}");
        }
        assert!(codes().len() > 40);
        for exit in [0, 1, 2, 3, 4, 5, 6, 7, 8, 70, 130] {
            assert!(rows(ARCHITECTURE).any(|row| row[0] == exit.to_string()), "{exit}");
        }
    }

    #[test]
    fn marks_and_links_become_words() {
        assert_eq!(unmarked("see `a` in [roles](roles.md#steps), [b]"), "see a in roles, [b]");
        assert_eq!(unmarked("[a](b) and [c](d)"), "a and c");
        assert_eq!(unmarked("list[0]"), "list[0]");
    }
}
