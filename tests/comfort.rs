//! What makes strata pleasant beside its work: documents, codes, completions, manual pages, the
//! beginning of a role.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "site/copy.rs"]
mod copy;

use copy::copy_site;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// `strata`, somewhere without a site.
fn strata(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strata"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("HOME", folder)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}exit code {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status.code().unwrap()
    )
}

/// The project's own site, with the files that a role needs.
fn site() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_site(copy.path());
    copy
}

#[test]
fn documents_and_codes_are_at_hand_anywhere() {
    let nowhere = tempfile::tempdir().unwrap();
    let told = |arguments: &[&str]| said(&strata(nowhere.path(), arguments));
    insta::assert_snapshot!("docs_of_a_kind", told(&["docs", "link"]));
    insta::assert_snapshot!("docs_of_a_test", told(&["docs", "disk-sync"]));
    insta::assert_snapshot!("docs_of_nothing", told(&["docs", "fil"]));
    insta::assert_snapshot!("explain_a_code", told(&["explain", "e0302"]));
    insta::assert_snapshot!("explain_an_exit_code", told(&["explain", "4"]));
    insta::assert_snapshot!("explain_nothing", told(&["explain", "E9999"]));
    let list = told(&["docs"]);
    assert!(list.contains("file") && list.contains("redis-path"), "{list}");
    // An exit code's line in `--help` and what `explain` says are of one document.
    for exit in ["0", "1", "2", "3", "5", "6", "7", "8", "70", "130"] {
        assert!(told(&["explain", exit]).ends_with("exit code 0"), "{exit}");
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let output = strata(folder.path(), &["man", pages.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "a folder that is not there: {}", said(&output));
    fs::create_dir(&pages).unwrap();
    let output = strata(folder.path(), &["man", pages.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    for page in ["strata.1", "strata-install.1", "strata-hosts-show.1"] {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains("NAME"), "{page}");
    }
    let first = strata(folder.path(), &["man"]);
    assert!(String::from_utf8_lossy(&first.stdout).contains(".SH SYNOPSIS"));
}

/// What bash would be offered for the last word.
fn completed(folder: &Path, words: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_strata"))
        .arg("--")
        .args(words)
        .current_dir(folder)
        .env("STRATA_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "false")
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn shells_complete_commands_and_the_names_of_the_site() {
    let site = site();
    let at = site.path();
    assert!(completed(at, &["strata", "ins"]).contains(&"install".to_owned()));
    assert_eq!(
        completed(at, &["strata", "install", "--layer", ""]),
        ["base", "db", "rabbitmq", "redis"]
    );
    assert_eq!(
        completed(at, &["strata", "hosts", "show", "redis-"]),
        ["redis-01", "redis-02", "redis-03"]
    );
    assert!(completed(at, &["strata", "verify", "--host", "@re"]).contains(&"@redis".to_owned()));
    assert_eq!(completed(at, &["strata", "docs", "swa"]), ["swap"]);
    assert_eq!(completed(at, &["strata", "explain", "E020"]).len(), 7);
    // Without a site, and with one that is broken, a shell hears nothing but what is certain.
    let nowhere = tempfile::tempdir().unwrap();
    assert_eq!(completed(nowhere.path(), &["strata", "install", "--layer", ""]), [""; 0]);
    fs::write(at.join("strata.toml"), "site = ").unwrap();
    assert_eq!(completed(at, &["strata", "install", "--layer", ""]), [""; 0]);
    for shell in ["bash", "zsh", "fish"] {
        let output = strata(nowhere.path(), &["completions", shell]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("STRATA_COMPLETE"), "{shell}");
    }
}

/// The script is one that bash itself takes.
#[test]
fn bash_takes_the_script() {
    let site = site();
    let strata_folder = Path::new(env!("CARGO_BIN_EXE_strata")).parent().unwrap();
    let path = format!("{}:{}", strata_folder.display(), std::env::var("PATH").unwrap());
    let script = "source <(strata completions bash); complete -p strata; \
                  COMP_WORDS=(strata install --layer re) COMP_CWORD=3 COMP_TYPE=9; \
                  _clap_complete_strata; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", script])
        .current_dir(site.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let said = said(&output);
    assert!(said.contains("complete -o") && said.contains("\nredis"), "{said}");
}

#[test]
fn a_new_role_is_whole_and_takes_nothing_that_is_there() {
    let site = site();
    let told = |arguments: &[&str]| said(&strata(site.path(), arguments));
    insta::assert_snapshot!("new_role", told(&["new", "role", "web-app"]));
    insta::assert_snapshot!("new_role_again", told(&["new", "role", "web-app"]));
    insta::assert_snapshot!("new_role_of_a_bad_name", told(&["new", "role", "../web"]));
    // Placed as the text says, the site has no new problem.
    let before = told(&["check"]);
    let path = site.path().join("strata.toml");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str(
        "\n[[layer]]\nname = \"web\"\nrequires = [\"base\"]\nplace = [{ role = \"web-app\", on = \"operator\" }]\n",
    );
    fs::write(&path, text).unwrap();
    let after = told(&["check"]);
    let problems = |text: &str| text.matches("-->").count();
    assert_eq!(problems(&after), problems(&before), "{after}");
    assert!(after.contains("5 layers"), "{after}");
}

#[test]
fn gc_removes_the_oldest_journals_and_no_more() {
    let site = site();
    let runs = site.path().join(".strata/runs");
    fs::create_dir_all(&runs).unwrap();
    for hour in 10..16 {
        fs::write(runs.join(format!("20261121-{hour}0000-aaaa.jsonl")), "").unwrap();
    }
    let told = |arguments: &[&str]| said(&strata(site.path(), arguments));
    let left = || {
        let mut names: Vec<String> = fs::read_dir(&runs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert!(told(&["gc", "--keep", "2", "--dry-run"]).contains("would go: 4 journals"));
    assert_eq!(left().len(), 6);
    assert!(told(&["gc", "--keep", "2"]).contains("removed: 4 journals"));
    assert_eq!(left(), ["20261121-140000-aaaa.jsonl", "20261121-150000-aaaa.jsonl"]);
    assert!(told(&["gc"]).contains("removed: 0 journals"));
}
