//! Reports of a recorded run: what programs read is read here by real parsers, and what an operator
//! gets wrong is told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "site/copy.rs"]
mod copy;

use copy::copy_site;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use strata::event::{Event, Measurement};
use strata::history::{Baseline, Records};
use strata::report::{Document, Drifting, Figure, Metrics, Proof, junit, prometheus};

const RUN: &str = "20261121-190812-ldtj";
const JOURNAL: &str = include_str!("reports/journal.jsonl");

fn document() -> Document {
    let events: Vec<Event> =
        JOURNAL.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Document::of(RUN, &events)
}

fn metrics() -> Metrics {
    let document = document();
    let mut figures = Vec::new();
    for layer in &document.layers {
        for test in layer.gate.iter().flat_map(|gate| &gate.tests) {
            for measurement in &test.measured {
                let (layer, test) = (layer.name.clone(), test.name.clone());
                figures.push(Figure { layer, test, measurement: measurement.clone() });
            }
        }
    }
    let strange = Measurement::new("a \"b\"\nc\\d", "e", f64::INFINITY, "ms");
    figures.push(Figure { layer: "base".into(), test: "t".into(), measurement: strange });
    Metrics {
        site: "keybuzz".into(),
        runs: vec![document],
        proofs: vec![
            Proof {
                layer: "redis".into(),
                kind: "diag",
                green: false,
                waived: true,
                at_ms: Some(1_795_288_396_584),
            },
            Proof {
                layer: "redis".into(),
                kind: "failover",
                green: false,
                waived: false,
                at_ms: None,
            },
        ],
        drift: vec![Drifting { layer: "base".into(), differences: 2, at_ms: 1_795_288_000_000 }],
        figures,
    }
}

#[test]
fn junit_is_as_expected_and_a_parser_agrees() {
    let text = junit(&document()).unwrap();
    insta::assert_snapshot!(text);
    let xml = roxmltree::Document::parse(&text).unwrap();
    let suites: Vec<_> = xml.root_element().children().filter(|node| node.is_element()).collect();
    let mut red = 0;
    for suite in suites {
        let count = |name| suite.descendants().filter(|node| node.has_tag_name(name)).count();
        let said = |name| suite.attribute(name).unwrap_or("0").parse::<usize>().unwrap();
        assert_eq!(said("tests"), count("testcase"));
        assert_eq!(said("failures"), count("failure"));
        assert_eq!(said("errors"), count("error"));
        red += count("failure") + count("error");
    }
    assert_eq!(red, 5, "the run, a host, a host, a test that failed and one that was not run");
}

/// Prometheus' own parser and linter.
fn promtool(text: &str) -> Output {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    promtool.wait_with_output().unwrap()
}

#[test]
fn metrics_are_as_expected_and_prometheus_reads_them() {
    let text = prometheus(&metrics());
    insta::assert_snapshot!(text);
    let said = promtool(&text);
    assert!(said.status.success(), "{said:?}");
    // It would not read what is wrong.
    let wrong = text.replacen("\\\"", "\"", 1);
    assert!(wrong != text && !promtool(&wrong).status.success());
}

/// A copy of the site at the repository root, with one run.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let copy = tempfile::tempdir().unwrap();
        copy_site(copy.path());
        let runs = copy.path().join(".strata/runs");
        fs::create_dir_all(&runs).unwrap();
        fs::write(runs.join(format!("{RUN}.jsonl")), JOURNAL).unwrap();
        Self(copy)
    }

    fn strata(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_strata"))
            .args(["--site", "."])
            .args(arguments)
            .current_dir(self.0.path())
            .env("NO_COLOR", "1")
            .env("HOME", self.0.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.path().join(file)).unwrap()
    }
}

#[test]
fn every_format_comes_from_the_command_line() {
    let site = Site::new();
    let (code, out, err) = site.strata(&["report"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "strata-20261121-190812-ldtj.html\n", ""));
    let page = site.read("strata-20261121-190812-ldtj.html");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("redis-kill-master"));
    // Its own report is replaced.
    assert_eq!(site.strata(&["report", "last"]).0, 0);

    let (code, out, _) = site.strata(&["report", "20261121", "--format", "junit"]);
    assert_eq!((code, out.trim_end()), (0, junit(&document()).unwrap().trim_end()));

    let (code, out, _) = site.strata(&["report", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["schema"], &json["run"]), (0, &1.into(), &RUN.into()));

    let (code, _, err) = site.strata(&["report", "--format", "prometheus", "-o", "strata.prom"]);
    assert_eq!(code, 0, "{err}");
    let text = site.read("strata.prom");
    let said = promtool(&text);
    assert!(said.status.success(), "{said:?}");
    for line in [
        "strata_run_exit_code{site=\"keybuzz\",command=\"install\"} 3\n",
        "strata_proof_green{site=\"keybuzz\",layer=\"redis\",kind=\"failover\"} 0\n",
        "figure=\"outage\"} 8.318\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn a_site_gets_its_reports_after_each_run() {
    let site = Site::new();
    let settings = site.0.path().join("strata.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let wanted = "[report]\nprometheus = \"strata.prom\"\njunit = \"last.xml\"\nhtml = \"no/such/place.html\"\n\n[vars]";
    let changed = text.replacen("[vars]", wanted, 1).replacen(
        "connect_timeout = 10 ",
        "connect_timeout = 1 ",
        1,
    );
    assert_eq!(changed.matches("connect_timeout = 1 ").count(), 1);
    fs::write(&settings, changed).unwrap();
    assert_eq!(site.strata(&["secrets", "init"]).0, 0);

    // Nobody is at the host's address, and no key of it is pinned.
    let (code, _, err) = site.strata(&["run", "--host", "db-01", "--", "true"]);
    assert_eq!(code, 5, "{err}");
    assert!(!site.0.path().join("last.xml").exists(), "a program on hosts is no result");
    let text = site.read("strata.prom");
    assert!(promtool(&text).status.success(), "{text}");
    for line in ["command=\"run\"} 5\n", "command=\"install\"} 3\n"] {
        assert!(text.contains(&format!("strata_run_exit_code{{site=\"keybuzz\",{line}")), "{text}");
    }

    let (code, _, err) = site.strata(&["verify", "--layer", "base", "--host", "db-01"]);
    assert!(err.contains("warning: the report ./no/such/place.html was not written"), "{err}");
    let junit = site.read("last.xml");
    let xml = roxmltree::Document::parse(&junit).unwrap();
    let failure = xml.descendants().find(|node| node.has_tag_name("failure")).unwrap();
    assert_eq!(failure.attribute("type"), Some(format!("exit code {code}").as_str()), "{junit}");
    let text = site.read("strata.prom");
    assert!(text.contains(&format!("command=\"verify\"}} {code}\n")), "{text}");

    // Who is absent is a matter of the site, too.
    let out = ["hosts", "out", "db-01", "--reason", "new disks", "--until", "1d"];
    assert_eq!(site.strata(&out).0, 0);
    let text = site.read("strata.prom");
    assert!(text.contains("command=\"hosts\"} 0\n"), "{text}");
}

#[test]
fn what_cannot_be_reported_is_told() {
    let site = Site::new();
    fs::write(site.0.path().join("notes.txt"), "mine\n").unwrap();
    let empty = Site::new();
    fs::remove_dir_all(empty.0.path().join(".strata")).unwrap();
    let mut said = String::new();
    let mut note = |site: &Site, words: &[&str]| {
        let (code, out, err) = site.strata(words);
        said.push_str(&format!("$ strata {}\nexit code: {code}\n{out}{err}---\n", words.join(" ")));
    };
    note(&empty, &["report"]);
    note(&site, &["report", "20251231"]);
    note(&site, &["report", "--format", "pdf"]);
    note(&site, &["report", "-o", "notes.txt"]);
    note(&site, &["report", "-o", "inventory"]);
    note(&site, &["report", "-o", "no/such/directory/report.html"]);
    note(&site, &["report", "--format", "junit", "-o", "strata.toml"]);
    insta::assert_snapshot!(said);
    assert_eq!(site.read("notes.txt"), "mine\n");
}

/// The rows of a test's figures in a page, its head first; the line's description is the last cell.
fn figures_of(page: &str, title: &str) -> Vec<Vec<String>> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let xml = roxmltree::Document::parse_with_options(page, options).unwrap();
    let named = |node: &roxmltree::Node<'_, '_>| {
        node.descendants().any(|one| one.has_tag_name("b") && one.text() == Some(title))
    };
    let mut tables = xml.descendants().filter(|node| node.has_tag_name("details")).filter(named);
    let table = tables.next().unwrap_or_else(|| panic!("no figures of {title}"));
    let cell = |cell: roxmltree::Node<'_, '_>| {
        let picture = cell.descendants().find_map(|node| node.attribute("aria-label"));
        picture.or(cell.text()).unwrap_or_default().trim().to_owned()
    };
    table
        .descendants()
        .filter(|node| node.has_tag_name("tr"))
        .map(|row| row.children().filter(|node| node.is_element()).map(cell).collect())
        .collect()
}

#[test]
fn figures_stand_beside_the_site_s_baseline_and_the_runs_before() {
    let site = Site::new();
    let state = site.0.path().join(".strata");
    let first = "20261119-080000-aaaa";
    // What was measured then: the baseline. A later run lies between.
    for (run, throughput, p99, network) in [
        (first, "57076.384", "4.752", "4245.5"),
        ("20261120-080000-bbbb", "30000.0", "8.0", "9000.0"),
    ] {
        let journal = JOURNAL
            .replace(RUN, run)
            .replace("28538.192", throughput)
            .replace("9.504", p99)
            .replace("8491.0", network);
        assert!(!journal.contains("28538.192") && journal.contains(p99));
        fs::write(state.join(format!("runs/{run}.jsonl")), journal).unwrap();
    }
    let page = |run: &str| {
        let (code, page, err) = site.strata(&["report", run, "-o", "-"]);
        assert_eq!((code, err.as_str()), (0, ""));
        page
    };
    let row = |cells: &[&str]| -> Vec<String> { cells.iter().map(|one| (*one).into()).collect() };
    let load = "redis › redis-load";

    // Without a baseline the run before is what counts.
    let without = [
        row(&["of", "figure", "this run", "change", "so far"]),
        row(&[
            "direct",
            "SET throughput",
            "28538.192/s",
            "-5 %",
            "oldest first: 57076.384/s, 30000/s, 28538.192/s",
        ]),
        row(&["direct", "SET p99", "9.504 ms", "+19 %", "oldest first: 4.752 ms, 8 ms, 9.504 ms"]),
        row(&[
            "redis-01 → redis-02 \"x\\y\"",
            "throughput",
            "8491 Mbit/s",
            "-6 %",
            "oldest first: 4245.5 Mbit/s, 9000 Mbit/s, 8491 Mbit/s",
        ]),
    ];
    assert_eq!(figures_of(&page(RUN), load), without);

    // The gate's records hold the baseline, as its first green run writes it. It has no third figure.
    let recorded = |name: &str, value: f64, unit: &str| Baseline {
        test: "redis-load".into(),
        measurement: Measurement::new("direct", name, value, unit),
        conditions: "500 × 4096 bytes".into(),
        at_ms: 1_795_075_200_000,
        run: first.into(),
    };
    let baselines =
        vec![recorded("SET throughput", 57076.384, "/s"), recorded("SET p99", 4.752, "ms")];
    Records::open(&state).unwrap().add_baselines("redis", baselines).unwrap();
    let with = figures_of(&page(RUN), load);
    assert_eq!(with[0], row(&["of", "figure", "this run", "baseline", "change", "so far"]));
    let seen: Vec<&[String]> = with[1..].iter().map(|cells| &cells[2..5]).collect();
    let wanted = [
        row(&["28538.192/s", "57076.384/s", "-50 %"]),
        row(&["9.504 ms", "4.752 ms", "+100 %"]),
        row(&["8491 Mbit/s", "", "-6 %"]),
    ];
    assert_eq!(seen, wanted);
    // The run that the baseline comes from is the baseline, and had nothing before it.
    let of_first = figures_of(&page(first), load);
    assert_eq!(of_first[1][2..], row(&["57076.384/s", "57076.384/s", "+0 %", ""]));
    // A test of the layer without a baseline has no such column.
    let steal = figures_of(&page(RUN), "redis › steal");
    assert_eq!(steal[0], row(&["of", "figure", "this run", "change", "so far"]));

    // An edited baseline does not count.
    let file = state.join("gates/redis.baseline.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("4.752", "9.504")).unwrap();
    assert_eq!(figures_of(&page(RUN), load), without);
}

#[test]
fn a_rehearsal_has_a_report_and_no_metrics() {
    let site = Site::new();
    let rehearsal = site.0.path().join(".strata/rehearsal");
    fs::create_dir_all(&rehearsal).unwrap();
    fs::rename(site.0.path().join(".strata/runs"), rehearsal.join("runs")).unwrap();
    let (code, out, err) = site.strata(&["report", "2026", "-o", "-"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("<!DOCTYPE html>"));
    let (code, _, err) = site.strata(&["report", "2026", "--format", "prometheus"]);
    assert_eq!(code, 2);
    assert!(err.contains("is a rehearsal"), "{err}");
    let (code, out, _) = site.strata(&["show", "2026"]);
    assert!(code == 0 && out.contains("gate redis"), "{out}");
}
