//! The documents against the program: tables that are generated from the types, error codes,
//! commands, links, and the example site, which has to load.
//!
//! `UPDATE_DOCS=1 cargo test --test documentation` rewrites what is generated.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "documentation/reference.rs"]
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use strata::diag::Code;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares what stands between the markers of `name` with `wanted`, or rewrites it.
fn generated(path: &str, name: &str, wanted: &str) {
    let text = read(path);
    let (start, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end of generated -->");
    let from = text.find(&start).unwrap_or_else(|| panic!("{path} has no `{start}`")) + start.len();
    let to = from + text[from..].find(end).unwrap_or_else(|| panic!("{path} has no `{end}`"));
    let found = text[from..to].trim();
    if found == wanted.trim() {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "{path} is not what the program says (`{name}`): UPDATE_DOCS=1 cargo test --test documentation"
    );
    let text = format!("{}\n{}\n\n{}", &text[..from], wanted.trim(), &text[to..]);
    fs::write(root().join(path), text).unwrap();
}

#[test]
fn resources() {
    generated("docs/resources.md", "kinds", &reference::resources(root()));
}

#[test]
fn tests_of_gates() {
    generated("docs/gates.md", "tests", &reference::scenarios(root()));
}

#[test]
fn exceptions_and_versions_of_the_lab() {
    let file: toml::Table = read("inventory/lab/exceptions.toml").parse().unwrap();
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for exception in file["exception"].as_array().unwrap() {
        let word = |key: &str| exception.get(key).and_then(toml::Value::as_str);
        let what = match (word("sysctl"), word("role"), word("step"), word("test"), word("bound")) {
            (Some(key), ..) => format!("live value of `{key}`"),
            (_, Some(role), Some(step), ..) => format!("{role} › {step}"),
            (.., Some(test), Some(bound)) => format!("bound `{bound}` of gate test `{test}`"),
            (.., Some(test), None) => format!("gate test `{test}`"),
            _ => panic!("an exception of an unknown kind: {exception}"),
        };
        reasons.entry(word("reason").unwrap()).or_default().push(what);
    }
    let mut text = String::from("| left out | why |\n|---|---|\n");
    for (reason, what) in reasons {
        writeln!(text, "| {} | {reason} |", what.join("<br>")).unwrap();
    }
    generated("docs/lab.md", "exceptions", &text);

    let pins = |path: &str| -> Vec<(String, String)> {
        let pin = |line: &str| {
            let (key, value) = line.split_once(": \"")?;
            Some((key.to_owned(), value.split_once('"')?.0.to_owned()))
        };
        read(path).lines().filter_map(pin).collect()
    };
    let real: BTreeMap<_, _> = pins("inventory/lab/versions.yaml").into_iter().collect();
    let mut text = String::from("| pin | production | rehearsal |\n|---|---|---|\n");
    for (key, value) in pins("versions.yaml") {
        let lab = real.get(&key).unwrap_or_else(|| panic!("the lab has no {key}"));
        writeln!(text, "| `{key}` | `{value}` | `{lab}` |").unwrap();
    }
    generated("docs/lab.md", "versions", &text);
}

/// Every code with the program's own words, a cure, and nothing else.
#[test]
fn error_codes() {
    let text = read("docs/errors.md");
    let mut rows: BTreeMap<&str, Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| E") && line[3..].starts_with('0'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            (cells[0], cells)
        })
        .collect();
    for (code, title) in Code::SITE.iter().chain(strata::secrets::codes::ALL) {
        let title = title.trim().trim_end_matches('.');
        let cells = rows.remove(code.as_str());
        let cells = cells.unwrap_or_else(|| panic!("add: | {} | {title} | … |", code.as_str()));
        assert_eq!(cells.len(), 3, "{}: code, meaning, cure", code.as_str());
        assert_eq!(cells[1], title, "the meaning of {}", code.as_str());
        assert!(cells[2].len() > 10, "{} has no cure", code.as_str());
    }
    assert!(rows.is_empty(), "codes that do not exist: {:?}", rows.keys());
}

#[test]
fn every_folder_and_exit_code_is_in_the_architecture() {
    let text = read("docs/architecture.md");
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            let name = format!("`{}/`", entry.file_name().to_string_lossy());
            assert!(text.contains(&name), "docs/architecture.md does not name {name}");
        }
    }
    use strata::run::Exit;
    let exits = [
        Exit::Done,
        Exit::StepFailed,
        Exit::InvalidInput,
        Exit::GateRed,
        Exit::NotHealed,
        Exit::Unreachable,
        Exit::Locked,
        Exit::Refused,
        Exit::Differences,
        Exit::Internal,
        Exit::Interrupted,
    ];
    for exit in exits {
        let row = format!("| {} |", exit.code());
        assert!(text.contains(&row), "docs/architecture.md has no row for exit code {exit:?}");
    }
}

fn documents() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            Some((name, fs::read_to_string(path).ok()?))
        })
        .collect()
}

fn strata(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strata")).args(arguments).current_dir(root()).output().unwrap()
}

/// Command lines of strata in a document: lines of code and inline code that begin with it.
fn command_lines(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        let code = fenced || line.starts_with("    ");
        if code {
            let line = line.trim().trim_start_matches("$ ");
            if let Some(at) = line.find("strata ").filter(|at| {
                *at == 0 || line[..*at].ends_with(" -- ") || line[..*at].ends_with("| ")
            }) {
                found.push(line[at..].to_owned());
            }
        } else {
            found.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|code| code.starts_with("strata "))
                    .map(ToOwned::to_owned),
            );
        }
    }
    found
}

/// The words of a command line, up to a comment, a pipe or an ellipsis.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace()
        .take_while(|word| !word.starts_with(['#', '|', '>', '(', '…', '&', ';']) && *word != "--")
        .map(|word| word.trim_matches(['\'', '"']).trim_end_matches([',', ';']).to_owned())
        .collect()
}

/// Commands and flags in documents exist. What a document calls not built is not a command line.
#[test]
fn command_lines_are_understood() {
    let mut seen = BTreeSet::new();
    for (path, text) in documents() {
        for line in command_lines(&text) {
            let words = words(&line);
            // `strata 0.1.0 …` is the first line of a run's output.
            if words.len() < 2 || words[1].starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let mut arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            arguments.push("--help");
            if seen.insert(arguments.join(" ")) {
                let output = strata(&arguments);
                assert!(
                    output.status.success(),
                    "{path}: `{line}`\n{}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }
    assert!(seen.len() > 20, "only {} command lines found", seen.len());
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in documents() {
        let folder = root().join(&path).parent().unwrap().to_owned();
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap();
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            if target.contains("://") {
                continue;
            }
            let file = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            assert!(file.exists(), "{path} links to {target}");
            if !heading.is_empty() {
                let headings = fs::read_to_string(&file).unwrap();
                let found = headings.lines().filter(|line| line.starts_with('#')).any(|line| {
                    let text = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = text.replace(' ', "-");
                    kept.chars()
                        .filter(|c| c.is_alphanumeric() || "-_".contains(*c))
                        .eq(heading.chars())
                });
                assert!(found, "{path} links to {target}, a heading that is not there");
            }
        }
    }
}

/// Writes the example site of docs/roles.md: each block of code that follows a line with nothing
/// but a path.
fn example_site() -> tempfile::TempDir {
    let site = tempfile::tempdir().unwrap();
    let text = read("docs/roles.md");
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let path = line.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:"));
        let Some(path) = path else { continue };
        let code: Vec<&str> = lines
            .by_ref()
            .skip_while(|line| !line.starts_with("```"))
            .skip(1)
            .take_while(|line| !line.starts_with("```"))
            .collect();
        let file = site.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, code.join("\n") + "\n").unwrap();
    }
    site
}

#[test]
fn the_example_site_is_without_a_mistake() {
    let site = example_site();
    let folder = site.path().to_str().unwrap();
    let output = strata(&["check", "--strict", "--site", folder]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("site example: 3 hosts, 1 layer, 1 role"), "{said}");

    // What the page says about a mistake, too: it shows the output of this one.
    let template = site.path().join("templates/cache/redis.conf.j2");
    let text = fs::read_to_string(&template).unwrap();
    fs::write(&template, text.replace("{{ cache_port }}", "{{ cach_port }}")).unwrap();
    let output = strata(&["check", "--site", folder]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = read("docs/roles.md");
    let first = said.split("\n\n").next().unwrap();
    let shown_there = first.lines().all(|line| shown.contains(line.trim_end()));
    assert!(shown_there, "docs/roles.md shows another text than\n{first}");
}

/// A feature without its test would be a promise only.
#[test]
fn every_feature_names_a_test_that_exists() {
    let text = read("docs/features.md");
    let mut named = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        for proof in row.split('`').filter(|word| word.starts_with("tests/")) {
            let (file, function) = proof.split_once("::").unwrap();
            let tests = read(file);
            let there = tests.contains(&format!("fn {function}("))
                || tests.contains(&format!("    {function}"));
            assert!(there, "docs/features.md: {proof} is no test");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}

/// The comparison says of strata what the table with the proofs says.
#[test]
fn every_compared_feature_stands_above_with_the_same_answer() {
    let text = read("docs/features.md");
    let (own, compared) = text.split_once("## Beside other tools").unwrap();
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = |text: &str| -> Vec<Vec<String>> {
        text.lines().filter(|line| line.starts_with("| ")).map(cells).collect()
    };
    let (own, compared) = (rows(own), rows(compared));
    // The heading, and what the peers were asked for.
    assert_eq!(compared.len(), 1 + 39);
    for row in &compared[1..] {
        assert_eq!(row.len(), compared[0].len(), "docs/features.md: {row:?}");
        let above = own.iter().find(|above| above[1] == row[1]);
        let above = above.unwrap_or_else(|| panic!("docs/features.md: `{}` only below", row[1]));
        assert_eq!(above[2], row[2], "docs/features.md: two answers for `{}`", row[1]);
    }
}
