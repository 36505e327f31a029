//! A secret's way through a run: it is looked for in everything that strata and the hosts keep or
//! show, raw, as base64 and percent-encoded, and in the command line and environment of every
//! process, sampled during all runs.
//!
//! It may stand in the file that the role asks for, in that file's last-good copies (both for root
//! only), and encrypted in `credentials/`.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use base64::Engine as _;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::{Bench, OPERATOR, SITE, append};

const HOLDER: &str = "redis-01";
const OTHER: &str = "k3s-master-01";
const BYSTANDER: &str = "db-01";
const HOSTS: [&str; 3] = [HOLDER, OTHER, BYSTANDER];

/// Characters that encodings change, none that the declaration refuses.
const FIRST: &str = "kanarie&1%A/+=q~first-7Zr0";
const SECOND: &str = "kanarie&2%B/+=q~second-9Yx3";

/// What the sampler must find, so that finding nothing else means something.
const DECOY: &str = "kanarie-decoy-4Kd";

const TARGET: &str = "/etc/canary.conf";

/// Steps that use the secret: a file, a program that fails and prints it, a check that fails and
/// prints it.
const STEPS: &str = r#"
[[step]]
name     = "Secret file"
when     = "host.name == 'redis-01'"
tags     = ["file"]
template = { src = "base/canary.conf.j2", dest = "/etc/canary.conf", mode = "0600" }

[[step]]
name    = "Program that tells"
when    = "host.name == 'redis-01'"
tags    = ["tells"]
command = { argv = ["sh", "-c", "cat >&2; exit 3"], stdin = "password {{ secrets.REDIS_PASSWORD }}\n" }

[[step]]
name     = "Check that tells"
when     = "host.name == 'k3s-master-01'"
tags     = ["tells"]
template = { src = "base/canary.conf.j2", dest = "/etc/refused.conf", mode = "0600", validate = ["sh", "-c", "cat \"$1\" >&2; exit 1", "check", "{{ file }}"] }
"#;

fn site(folder: &Path) {
    append(&folder.join("roles/base/role.toml"), STEPS);
    fs::write(
        folder.join("templates/base/canary.conf.j2"),
        "# managed\nrequirepass {{ secrets.REDIS_PASSWORD }}\n",
    )
    .unwrap();
}

/// A template that fails right behind the secret.
fn broken(folder: &Path) {
    site(folder);
    fs::write(
        folder.join("templates/base/canary.conf.j2"),
        "requirepass {{ secrets.REDIS_PASSWORD }}{{ secrets.REDIS_PASSWORD | int + nothing }}\n",
    )
    .unwrap();
}

#[test]
fn a_secret_stands_only_where_it_belongs() {
    let bench = Bench::open("t-canary", &HOSTS);
    bench.fresh();
    bench.put_site(SITE, site);
    let sampler = Sampler::start();
    let mut shown = Vec::new();
    let mut run = |words: &[&str], code: i32| {
        let mut all = vec!["--verbose"];
        all.extend_from_slice(words);
        all.extend(["--host", HOLDER, "--host", OTHER, "--host", BYSTANDER]);
        let said = bench.strata(&all).ended(code);
        shown.push(said.text());
        said
    };

    set(&bench, FIRST);
    run(&["install", "--layer", "base", "--tag", "file"], 0);
    set(&bench, SECOND);
    run(&["install", "--layer", "base", "--tag", "file", "--check"], 8);
    run(&["install", "--layer", "base", "--tag", "file"], 0);
    let tells = run(&["install", "--layer", "base", "--tag", "tells"], 1).text();
    assert!(tells.contains("Program that tells  FAILED"), "{tells}");
    assert!(tells.contains("Check that tells  FAILED"), "{tells}");
    run(&["--json", "install", "--layer", "base", "--tag", "tells"], 1);
    bench.put_site(SITE, broken);
    run(&["install", "--layer", "base", "--tag", "file"], 2);
    shown.push(bench.strata(&["check"]).text());
    shown.push(bench.strata(&["secrets", "names"]).text());
    bench.put_site(SITE, site);
    for words in [&["history"][..], &["status"], &["undo", HOLDER, TARGET]] {
        shown.push(bench.strata(words).text());
    }
    for run in bench.output(OPERATOR, &["ls", &format!("{SITE}/.strata/runs")]).lines() {
        let run = run.trim_end_matches(".jsonl");
        shown.push(bench.strata(&["show", run]).text());
        shown.push(bench.strata(&["--json", "--verbose", "show", run]).text());
    }
    let decoy = format!("sleep 1; : {DECOY}");
    bench.output(BYSTANDER, &["sh", "-c", &decoy]);
    let (mut samples, processes) = sampler.stop();

    assert!(bench.output(HOLDER, &["cat", TARGET]).contains(FIRST), "undo brought the first back");
    let patterns = patterns();
    for text in &shown {
        for pattern in &patterns {
            assert!(!text.contains(pattern), "{pattern} is shown in: {text}");
        }
    }
    let sampled = samples.len();
    samples.retain(|sample| !sample.contains(DECOY));
    assert!(samples.len() < sampled, "the sampler does not see what is there");
    assert!(samples.is_empty(), "in command lines or environments: {samples:?}");
    in_files(&bench, &patterns);
    in_journals(&bench, &patterns);
    println!(
        "figure: {} texts shown by strata and {processes} command lines with environments sampled: nothing found",
        shown.len()
    );
}

fn set(bench: &Bench, value: &str) {
    let words =
        ["strata", "--site", SITE, "--rehearsal", "secrets", "set", "redis", "REDIS_PASSWORD"];
    bench.with_input(OPERATOR, &words, value).ended(0);
}

/// The canaries as they are and as encodings show them. Their heads suffice for base64, whose end
/// depends on what follows.
fn patterns() -> Vec<String> {
    let mut patterns = Vec::new();
    for value in [FIRST, SECOND] {
        patterns.push(value.to_owned());
        let percent: String = value
            .chars()
            .map(|c| match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '~' => c.to_string(),
                _ => format!("%{:02X}", u32::from(c)),
            })
            .collect();
        patterns.push(percent.to_lowercase());
        patterns.push(percent);
        // Whatever stands before it, one of three alignments.
        for skip in 0..3 {
            let aligned = &value[skip..];
            let whole = aligned.len() / 3 * 3;
            for engine in [
                base64::engine::general_purpose::STANDARD,
                base64::engine::general_purpose::URL_SAFE,
            ] {
                patterns.push(engine.encode(&aligned[..whole]));
            }
        }
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        patterns.push(hex);
    }
    patterns.sort();
    patterns.dedup();
    patterns
}

/// Looks through every file that a host has of its own.
fn in_files(bench: &Bench, patterns: &[String]) {
    let mut found = BTreeSet::new();
    for host in [HOLDER, OTHER, BYSTANDER, OPERATOR] {
        let mut words = vec![
            "grep",
            "--recursive",
            "--files-with-matches",
            "--text",
            "--fixed-strings",
            "--file=-",
        ];
        words.extend([
            "--devices=skip",
            "--exclude-dir=proc",
            "--exclude-dir=sys",
            "--exclude-dir=dev",
        ]);
        words.extend([
            "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr",
            "/var",
        ]);
        let said = bench.with_input(host, &words, &(patterns.join("\n") + "\n"));
        assert!(said.code < 2 || said.err.lines().all(|line| line.contains("No such")), "{said:?}");
        found.extend(said.out.lines().map(|path| format!("{host}:{path}")));
    }
    println!("figure: files that hold the secret: {found:?}");
    let mut expected = BTreeSet::from([format!("{HOLDER}:{TARGET}")]);
    let copies = "/var/lib/strata/backup/etc-canary.conf";
    let listing =
        bench.output(HOLDER, &["find", copies, "-type", "f", "-printf", "%p %m %U %G\\n"]);
    for line in listing.lines() {
        let (path, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "600 0 0", "{path}");
        expected.insert(format!("{HOLDER}:{path}"));
    }
    assert!(expected.len() >= 3, "both values have been replaced once: {expected:?}");
    assert_eq!(found, expected);
    for directory in ["/var/lib/strata", "/var/lib/strata/backup", copies] {
        assert_eq!(
            bench.output(HOLDER, &["stat", "-c", "%a %u", directory]),
            "700 0",
            "{directory}"
        );
    }
    assert_eq!(bench.output(HOLDER, &["stat", "-c", "%a %u", TARGET]), "600 0");
    assert_eq!(bench.on(OTHER, &["test", "-e", "/etc/refused.conf"]).code, 1);
}

/// Logs are compressed on disk, so they are read with their own program.
fn in_journals(bench: &Bench, patterns: &[String]) {
    for host in [HOLDER, OTHER, BYSTANDER, OPERATOR] {
        let log = bench.output(host, &["journalctl", "--all", "--output=export", "--no-pager"]);
        assert!(log.contains("systemd"), "{host} keeps a log");
        for pattern in patterns {
            assert!(!log.contains(pattern), "{pattern} in the journal of {host}");
        }
    }
}

/// Reads the command line and the environment of every process of the machine, hosts included,
/// again and again.
struct Sampler {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Sampler {
    fn start() -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let mut patterns = patterns();
        patterns.push(DECOY.to_owned());
        let thread = std::thread::spawn(move || {
            let mut found = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").unwrap().flatten() {
                    if !process.file_name().as_encoded_bytes()[0].is_ascii_digit() {
                        continue;
                    }
                    for file in ["cmdline", "environ"] {
                        let Ok(bytes) = fs::read(process.path().join(file)) else { continue };
                        counted.fetch_add(1, Ordering::Relaxed);
                        let text = String::from_utf8_lossy(&bytes);
                        if patterns.iter().any(|pattern| text.contains(pattern)) {
                            found.insert(format!("{file}: {}", text.replace('\0', " ")));
                        }
                    }
                }
            }
            found
        });
        Self { stop, count, thread }
    }

    fn stop(self) -> (BTreeSet<String>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.thread.join().unwrap();
        (found, self.count.load(Ordering::Relaxed))
    }
}
