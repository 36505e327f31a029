//! The rules that the compiler does not check: which folder may use which, who prints, who reads
//! the environment, which crates and licences are inside, what the files may say.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "structure/crates.rs"]
mod crates;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folder, and the folders that its code (tests aside) uses. Both directions are checked: what is
/// used and not listed, and what is listed and not used.
const USES: &[(&str, &[&str])] = &[
    ("resource", &[]),
    ("wire", &["resource"]),
    ("agent", &["resource", "wire"]),
    ("diag", &[]),
    ("postgres_client", &[]),
    ("redis_client", &[]),
    ("http_client", &[]),
    ("event", &[]),
    ("secrets", &["diag", "http_client"]),
    ("backup", &["diag", "secrets"]),
    ("site", &["diag", "resource"]),
    ("plan", &["diag", "resource", "secrets", "site", "wire"]),
    ("ssh", &["resource", "secrets", "wire"]),
    ("image", &["http_client", "resource", "ssh", "wire"]),
    ("lab", &[]),
    ("report", &["event"]),
    ("history", &["event"]),
    ("fleet", &["event", "site", "ssh", "wire"]),
    (
        "gate",
        &[
            "cluster",
            "diag",
            "event",
            "fleet",
            "history",
            "http_client",
            "plan",
            "postgres_client",
            "redis_client",
            "resource",
            "secrets",
            "site",
            "ssh",
            "wire",
        ],
    ),
    (
        "cluster",
        &[
            "diag",
            "event",
            "fleet",
            "http_client",
            "plan",
            "postgres_client",
            "redis_client",
            "resource",
            "secrets",
            "site",
            "ssh",
            "wire",
        ],
    ),
    (
        "run",
        &[
            "cluster", "diag", "event", "fleet", "gate", "history", "image", "plan", "resource",
            "site", "ssh", "wire",
        ],
    ),
    (
        "cli",
        &[
            "backup", "cluster", "diag", "event", "fleet", "gate", "history", "image", "lab",
            "plan", "report", "resource", "run", "secrets", "site", "ssh", "wire",
        ],
    ),
];

/// Files beside `cli` and `report` that print, with the reason.
const PRINTS: &[(&str, &str)] = &[
    ("src/agent/blobs.rs", "its standard output says that its socket is there"),
    ("src/agent/serve.rs", "the agent's standard error is the only place left when a session ends"),
    ("src/agent/command_line.rs", "the agent's own verbs, for a person on the host"),
    ("src/lab/supervise.rs", "a detached process whose standard error is its log file"),
    ("src/lab/enter.rs", "flushes before another program takes the terminal over"),
];

/// Files that sleep, with the reason: always a look again before a deadline, never a hope.
const SLEEPS: &[(&str, &str)] = &[
    ("src/agent/probe.rs", "a figure over a span of time: the span is what is measured"),
    ("src/agent/system/mod.rs", "System::pause, for resources that wait on a condition"),
    ("src/cli/notify.rs", "the deadline of a notification"),
    ("src/cluster/drive.rs", "looks again until the deadline of what is waited for"),
    ("src/cluster/until.rs", "looks again until a deadline, and keeps the last reason"),
    ("src/fleet/reboot.rs", "tries to connect again until a deadline"),
    ("src/fleet/renew.rs", "tries to connect again until a deadline"),
    ("src/fleet/sessions.rs", "tries a lock again until a deadline"),
    ("src/gate/scenario/etcd/writes.rs", "the pace at which a client writes"),
    ("src/gate/probe.rs", "looks again until a deadline, and keeps the last reason"),
    ("src/lab/command.rs", "looks again until a deadline, and keeps the last reason"),
    ("src/lab/fault/delay.rs", "a delayed frame is due at a moment"),
    ("src/lab/fault/hold.rs", "a fault lasts until its deadline"),
    ("src/lab/state.rs", "tries a lock again until a deadline"),
    ("src/secrets/files.rs", "tries a lock again until a deadline"),
    ("src/ssh/dial.rs", "connects again until the connection's deadline"),
    ("src/ssh/launch.rs", "a channel that is refused is asked for again until a deadline"),
    ("src/ssh/reachability.rs", "connects again until the guard's deadline"),
    ("tests/agent_pipes.rs", "looks again until a deadline"),
    ("tests/lab/support.rs", "looks again until a deadline"),
    ("tests/lab_hosts.rs", "looks again until a deadline"),
    ("tests/lab_interrupted.rs", "kills at a random moment: the moment is the subject"),
    ("tests/lab_redis_campaigns.rs", "kills at a random moment: the moment is the subject"),
    ("tests/postgres_client.rs", "looks again until a deadline"),
    ("tests/redis_client.rs", "looks again until a deadline"),
    ("tests/transport/main.rs", "looks again until a deadline"),
    ("tests/transport/sshd.rs", "looks again until a deadline"),
    ("tests/vault/double.rs", "a slow server is what is tested"),
    ("tests/vault/rusty.rs", "looks again until a deadline"),
];

/// Hosts that addresses in the project's texts may name.
const WEB_HOSTS: &[&str] = &[
    "age-encryption.org",
    "deb.debian.org",
    "github.com",
    "keepachangelog.com",
    "semver.org",
    "www.apache.org",
    // The namespace of SVG.
    "www.w3.org",
    // Of the systems that the requirements are about.
    "api.flotteq.com",
    "fsn1.your-objectstorage.com",
    "s3.keybuzz.io",
    "minio-01.keybuzz.io",
    "minio-02.keybuzz.io",
    "minio-03.keybuzz.io",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` with this ending, by their path from the root.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending)
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push((relative(&path), text));
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// The source without comments and without what only tests compile.
fn code(path: &str, text: &str) -> String {
    let name = path.rsplit('/').next().unwrap();
    if name.ends_with("tests.rs") || name == "test_host.rs" {
        return String::new();
    }
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        if trimmed == "#[cfg(test)]" {
            let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
            let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
            if item.is_some_and(|item| !item.ends_with(';')) {
                lines.by_ref().find(|line| *line == end);
            }
        } else if !trimmed.starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The sources of the library, by path.
fn sources() -> Vec<(String, String)> {
    files("src", ".rs")
        .into_iter()
        .map(|(path, text)| {
            let code = code(&path, &text);
            (path, code)
        })
        .collect()
}

/// The folder (or single file) below `src` that a path belongs to.
fn part(path: &str) -> &str {
    let below = path.strip_prefix("src/").unwrap();
    below.split('/').next().unwrap().trim_end_matches(".rs")
}

/// What follows each occurrence of `word`, as far as it is an identifier.
fn after<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(word).filter_map(move |(at, _)| {
        let alone = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &text[at + word.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        alone.then_some(&rest[..end])
    })
}

fn used() -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, code) in sources() {
        let from = part(&path).to_owned();
        if matches!(from.as_str(), "main" | "lib" | "bin") {
            continue;
        }
        let to = uses.entry(from.clone()).or_default();
        for name in after(&code, "crate::") {
            assert!(!name.is_empty(), "{path}: write one `use crate::folder::…` a folder");
            if name != from {
                to.insert(name.to_owned());
            }
        }
    }
    uses
}

#[test]
fn folders_use_only_what_the_design_lets_them() {
    let uses = used();
    let mut wrong = Vec::new();
    let listed: BTreeSet<&str> = USES.iter().map(|(folder, _)| *folder).collect();
    for (folder, to) in &uses {
        let allowed = USES.iter().find(|(name, _)| name == folder).map_or(&[][..], |(_, to)| to);
        if !listed.contains(folder.as_str()) {
            wrong.push(format!("{folder} is not in the list"));
        }
        for name in to.iter().filter(|name| !allowed.contains(&name.as_str())) {
            wrong.push(format!("{folder} uses {name}"));
        }
        for name in allowed.iter().filter(|name| !to.contains(**name)) {
            wrong.push(format!("{folder} does not use {name} any more: shorten the list"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_arrows_between_folders_make_no_circle() {
    let mut left: BTreeMap<&str, BTreeSet<&str>> =
        USES.iter().map(|(folder, to)| (*folder, to.iter().copied().collect())).collect();
    while !left.is_empty() {
        let free: Vec<&str> =
            left.iter().filter(|(_, to)| to.is_empty()).map(|(name, _)| *name).collect();
        assert!(!free.is_empty(), "a circle among {:?}", left.keys());
        left.retain(|name, _| !free.contains(name));
        left.values_mut().for_each(|to| to.retain(|name| !free.contains(name)));
    }
}

/// `super` beyond the own folder would be a use that the list does not see.
#[test]
fn relative_paths_stay_inside_their_folder() {
    for (path, code) in sources() {
        let below = path.strip_prefix("src/").unwrap();
        // `a/b.rs` is module a::b: one `super` is still inside `a`.
        let depth = below.matches('/').count() - usize::from(below.ends_with("/mod.rs"));
        let beyond = "super::".repeat(depth + 1);
        assert!(!code.contains(&beyond), "{path}: {beyond} leaves the folder; write crate::");
    }
}

#[test]
fn only_cli_and_report_print() {
    let printing = ["print!(", "println!(", "stdout()", "stderr()"];
    let mut found = BTreeSet::new();
    for (path, code) in sources() {
        if matches!(part(&path), "cli" | "report") {
            continue;
        }
        if printing.iter().any(|word| code.contains(word)) {
            found.insert(path);
        }
    }
    assert_same(&found, PRINTS);
}

#[test]
fn only_the_settings_read_the_environment() {
    let reading = ["env::var", "env::set_var", "env::remove_var", "env::temp_dir", "env::home_dir"];
    for (path, code) in sources() {
        for word in reading {
            assert!(
                path == "src/cli/settings.rs" || !code.contains(word),
                "{path} uses {word}: settings come from src/cli/settings.rs"
            );
        }
    }
}

#[test]
fn nothing_is_left_to_be_done_and_nothing_waits_in_hope() {
    let mut sleeping = BTreeSet::new();
    for (path, text) in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        if path == "tests/structure.rs" {
            continue;
        }
        for word in ["todo!", "unimplemented!", "dbg!("] {
            assert!(!text.contains(word), "{path} holds {word}");
        }
        if text.contains("sleep(") {
            sleeping.insert(path);
        }
    }
    assert_same(&sleeping, SLEEPS);
}

fn assert_same(found: &BTreeSet<String>, listed: &[(&str, &str)]) {
    let listed: BTreeSet<String> = listed.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(*found, listed, "left: found, right: listed with a reason");
}

#[test]
fn nothing_that_moves_is_installed() {
    let mut texts = Vec::new();
    for folder in ["roles", "templates", "inventory"] {
        texts.extend(files(folder, ""));
    }
    texts.push(("versions.yaml".to_owned(), read("versions.yaml")));
    for (path, text) in texts {
        assert!(!text.contains(":latest"), "{path} holds :latest");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every text of the project: what git would take, without asking git.
fn project_texts() -> Vec<(String, String)> {
    let folders =
        ["src", "tests", "docs", "roles", "templates", "inventory", "credentials.example", ".ci"];
    let mut texts: Vec<(String, String)> =
        folders.iter().flat_map(|folder| files(folder, "")).collect();
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            texts.push((relative(&path), text));
        }
    }
    texts
}

#[test]
fn no_text_names_the_machine_it_was_written_on() {
    let machine = concat!("/wo", "rk/");
    for (path, text) in project_texts() {
        assert!(!text.contains(machine), "{path} names {machine}");
        if path == "Cargo.lock" {
            continue;
        }
        for scheme in ["http://", "https://"] {
            for (at, _) in text.match_indices(scheme) {
                let rest = &text[at + scheme.len()..];
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !".-".contains(c));
                let host = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
                let example = !host.contains('.')
                    || host.starts_with("10.0.0.")
                    || host.starts_with("127.0.0.1")
                    || host.ends_with(".test")
                    || host.ends_with("example.org");
                assert!(example || WEB_HOSTS.contains(&host), "{path} names the host {host}");
            }
        }
    }
}

#[test]
fn sources_are_small_files_with_a_purpose() {
    for (path, text) in files("src", ".rs") {
        let lines = text.lines().count();
        assert!(lines <= 500, "{path} has {lines} lines");
        let name: PathBuf = path.clone().into();
        let stem = name.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!matches!(stem.as_str(), "utils" | "util" | "helpers" | "misc"), "{path}");
        let test = stem.ends_with("tests");
        assert!(test || text.starts_with("//!"), "{path} does not say what it is for");
    }
}
