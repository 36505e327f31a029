//! The main job on real hosts: an empty fleet becomes green, a second run changes and restarts
//! nothing, drift is named and mended, and a file's last-good copy comes back.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Instant;
use support::{Bench, OPERATOR, SITE, Said};

const HOSTS: [&str; 4] = [OPERATOR, "db-01", "redis-01", "k3s-master-01"];

/// What a second run must not restart.
const UNITS: [&str; 5] = [
    "ssh.service",
    "fail2ban.service",
    "docker.service",
    "systemd-journald.service",
    "strata-firewall.service",
];

#[test]
fn an_empty_fleet_becomes_green_and_stays_as_it_is() {
    let bench = Bench::open("t-install", &HOSTS);
    the_rehearsal_is_green(&bench);
    the_run_has_its_reports(&bench);
    the_second_run_changes_and_restarts_nothing(&bench);
    what_it_takes_beside_plain_ssh(&bench, &HOSTS[1..]);
    status_and_verify_are_green(&bench);
    drift_is_named_and_mended(&bench);
    the_last_good_copy_comes_back(&bench);
}

fn the_rehearsal_is_green(bench: &Bench) {
    let mut command = bench.machine_strata(&["rehearse", "--layer", "base", "--lab"]);
    command.arg(bench.lab.name());
    for host in HOSTS {
        command.args(["--host", host]);
    }
    let start = Instant::now();
    let said = Said::from((command.output().unwrap(), start)).ended(0);
    assert!(said.text().contains("gate base  green"), "{}", said.text());
    println!(
        "figure: first rehearsal of {} hosts, gate included: {:.1} s",
        HOSTS.len(),
        said.seconds
    );
}

fn the_run_has_its_reports(bench: &Bench) {
    let page = bench.strata(&["report", "-o", "-"]).ended(0).out;
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    for said in HOSTS.iter().chain(&["docker-restart", "Faults and outages", "chrony.conf"]) {
        assert!(page.contains(said), "{said}");
    }
    let junit = bench.strata(&["report", "--format", "junit"]).ended(0).out;
    let xml = roxmltree::Document::parse(&junit).unwrap();
    let suite = xml.descendants().find(|node| node.attribute("name") == Some("base gate")).unwrap();
    for none in ["failures", "errors"] {
        assert_eq!(suite.attribute(none), Some("0"), "{junit}");
    }
    let cases = suite.children().filter(|node| node.has_tag_name("testcase")).count();
    assert!(cases > 10, "{junit}");
    let metrics = bench.strata(&["report", "--format", "prometheus"]).ended(0).out;
    for line in [
        "strata_run_exit_code{site=\"keybuzz\",command=\"install\"} 0\n",
        "strata_proof_timestamp_seconds{site=\"keybuzz\",layer=\"base\",kind=\"failover\"} ",
        "strata_gate_figure_seconds{site=\"keybuzz\",layer=\"base\",test=\"disk-sync\"",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

fn install(bench: &Bench) -> Said {
    bench.install(SITE, &HOSTS)
}

/// Main process and time of activation of every unit, on every host.
fn activations(bench: &Bench) -> BTreeMap<String, String> {
    HOSTS
        .iter()
        .map(|host| {
            let mut words = vec![
                "systemctl",
                "show",
                "--property=Id,ActiveState,MainPID,ActiveEnterTimestampMonotonic,NRestarts",
            ];
            words.extend(UNITS);
            ((*host).to_owned(), bench.output(host, &words))
        })
        .collect()
}

fn the_second_run_changes_and_restarts_nothing(bench: &Bench) {
    let files = |bench: &Bench| HOSTS.map(|host| bench.files(host));
    let (before, files_before) = (activations(bench), files(bench));
    let said = install(bench).ended(0);
    assert!(said.text().contains("4 hosts converged, 0 not; 0 of "), "{}", said.text());
    assert_eq!(activations(bench), before);
    assert_eq!(files(bench), files_before);
    for host in HOSTS {
        bench.nothing_half_done(host);
    }
    println!(
        "figure: second run of {} hosts, diag gate included: {:.2} s",
        HOSTS.len(),
        said.seconds
    );
}

/// Seconds of a run that changes nothing, beside a parallel `ssh true` to the same hosts. Figures
/// only: a machine that is busy with something else must not fail a test.
fn what_it_takes_beside_plain_ssh(bench: &Bench, hosts: &[&str]) {
    let known = bench.lab.spec().unwrap();
    let addresses: Vec<String> =
        hosts.iter().map(|host| known.host(host).unwrap().private.to_string()).collect();
    let ssh = |options: &str| {
        let script = format!(
            "for h in {}; do ssh -o BatchMode=yes -o UserKnownHostsFile=/root/lab-host-keys \
             {options} $h true & done; wait",
            addresses.join(" ")
        );
        let said = bench.on(OPERATOR, &["sh", "-c", &script]).ended(0);
        assert_eq!(said.err, "", "ssh {options}");
        said.seconds
    };
    let mut look = vec!["install", "--layer", "base", "--check"];
    for host in hosts {
        look.extend(["--host", host]);
    }
    // They alternate, so that all see the same machine.
    for round in 1..=3 {
        println!(
            "figure: round {round}, {} hosts: strata install --check {:.2} s, parallel ssh true {:.2} s, with curve25519 {:.2} s",
            hosts.len(),
            bench.strata(&look).ended(0).seconds,
            ssh(""),
            ssh("-o KexAlgorithms=curve25519-sha256"),
        );
    }
}

/// `cargo test --release --test lab_install -- --ignored --nocapture measure`
#[test]
#[ignore = "measurement: ten hosts, about 3 minutes"]
fn measure_ten_hosts() {
    const TEN: [&str; 10] = [
        "haproxy-01",
        "db-01",
        "redis-01",
        "queue-01",
        "minio-01",
        "maria-01",
        "proxysql-01",
        "k3s-master-01",
        "k3s-worker-01",
        "k3s-worker-02",
    ];
    let bench = Bench::open("t-ten", &TEN);
    bench.fresh();
    let first = bench.install(SITE, &TEN).ended(0);
    println!("figure: first install of 10 hosts, diag gate included: {:.1} s", first.seconds);
    let second = bench.install(SITE, &TEN).ended(0);
    assert!(second.text().contains("10 hosts converged, 0 not; 0 of "), "{}", second.text());
    let layer = second
        .text()
        .lines()
        .find(|line| line.starts_with("layer base  converged"))
        .map(str::to_owned);
    println!(
        "figure: second install of 10 hosts, diag gate included: {:.2} s; {layer:?}",
        second.seconds
    );
    what_it_takes_beside_plain_ssh(&bench, &TEN);
}

fn status_and_verify_are_green(bench: &Bench) {
    // The record is green, and of the hosts that were here only: a part is not the layer.
    let status = bench.strata(&["status"]).ended(8).text();
    for kind in ["diag      ", "failover  ", "perf      "] {
        assert!(status.contains(&format!("{kind}stale: 24 of 28 hosts")), "{status}");
    }
    let verify = verify(bench).ended(0);
    assert!(verify.text().contains("gate base  green"), "{}", verify.text());
}

fn verify(bench: &Bench) -> Said {
    let mut words = vec!["verify", "--layer", "base"];
    for host in HOSTS {
        words.extend(["--host", host]);
    }
    bench.strata(&words)
}

fn drift_is_named_and_mended(bench: &Bench) {
    let chrony = "/etc/chrony/chrony.conf";
    let before = bench.files("db-01");
    bench.output("db-01", &["sh", "-c", "echo '# by hand' >> /etc/chrony/chrony.conf"]);
    bench.output("db-01", &["systemctl", "stop", "fail2ban"]);
    bench.output(
        "db-01",
        &["nft", "add", "rule", "inet", "strata", "input", "tcp", "dport", "9999", "accept"],
    );
    bench.output("db-01", &["sysctl", "-qw", "net.core.somaxconn=128"]);
    let red = verify(bench).ended(3);
    let red_text = red.text();
    let named: Vec<&str> = red_text
        .lines()
        .skip_while(|line| *line != "problems")
        .filter_map(|line| line.trim().strip_prefix("found "))
        .map(str::trim)
        .collect();
    insta::assert_debug_snapshot!(named, @r#"
    [
        "db-01: base › chrony.conf: content",
        "db-01: base › fail2ban service: state",
        "db-01: site › Kernel settings: net.core.somaxconn",
        "db-01: site › Packet filter: rule changed by others",
        "db-01: fail2ban is inactive (after 5 s)",
    ]
    "#);
    let status = bench.strata(&["status"]).text();
    assert!(status.contains("red"), "{status}");
    let mended = install(bench).ended(0);
    assert!(mended.text().contains("; 4 of "), "{}", mended.text());
    assert_eq!(bench.files("db-01"), before, "{chrony} and all others are as before");
    assert_eq!(bench.output("db-01", &["sysctl", "-n", "net.core.somaxconn"]), "4096");
    assert_eq!(bench.output("db-01", &["systemctl", "is-active", "fail2ban"]), "active");
    let rules = bench.output("db-01", &["nft", "list", "table", "inet", "strata"]);
    assert!(!rules.contains("9999"), "{rules}");
}

fn the_last_good_copy_comes_back(bench: &Bench) {
    let path = "/etc/chrony/chrony.conf";
    let ours = bench.output("redis-01", &["cat", path]);
    let undone = bench.strata(&["undo", "redis-01", path]).ended(0);
    assert!(undone.out.contains("restored /etc/chrony/chrony.conf"), "{undone:?}");
    let packaged = bench.output("redis-01", &["cat", path]);
    assert!(packaged.starts_with("# Welcome to the chrony configuration file"), "{packaged}");
    install(bench).ended(0);
    assert_eq!(bench.output("redis-01", &["cat", path]), ours);
    bench.strata(&["undo", "redis-01", "/etc/no-such-file"]).ended(1);
    bench.strata(&["undo", "no-such-host", path]).ended(2);
}
