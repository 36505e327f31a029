//! A program on several hosts at once, and hosts that are not who they were: another key, another
//! machine with the same key, a boot that no run made.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use serde_json::Value;
use std::time::Duration;
use strata::lab::Fault;
use support::{Bench, OPERATOR, SITE, Said, wait};

const ONE: &str = "db-01";
const OTHER: &str = "redis-01";
const KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

#[test]
fn a_program_runs_everywhere_and_hosts_are_who_they_were() {
    let bench = Bench::open("t-flow-run", &[ONE, OTHER]);
    bench.fresh();
    output_comes_with_the_hosts_names(&bench);
    json_has_one_object_a_line(&bench);
    standard_input_reaches_the_program(&bench);
    a_limit_of_time_and_an_interrupt_kill_it(&bench);
    another_key_is_an_alarm_until_it_is_pinned(&bench);
    another_machine_with_the_same_key_is_warned_of(&bench);
    a_boot_that_no_run_made_is_noted(&bench);
}

fn run(bench: &Bench, words: &[&str]) -> Said {
    bench.strata(&[&["run", "--host", ONE, "--host", OTHER], words].concat())
}

#[track_caller]
fn holds(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in:\n{text}");
}

fn output_comes_with_the_hosts_names(bench: &Bench) {
    let script = format!("echo out; echo err >&2; test \"$(hostname)\" = {ONE}");
    let said = run(bench, &["--", "sh", "-c", &script]).ended(1);
    println!("figure: a program on 2 hosts: {:.2} s", said.seconds);
    let mut lines: Vec<&str> = said.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["db-01    | out", "redis-01 | out"]);
    holds(&said.err, "redis-01 | err");
    holds(&said.err, "exit 0  1 host: db-01\nexit 1  1 host: redis-01");
    holds(&bench.strata(&["history"]).ended(0).out, "run --host db-01 --host redis-01 -- sh -c");
    holds(&bench.strata(&["show", "-v"]).ended(0).out, "      | out");
}

fn json_has_one_object_a_line(bench: &Bench) {
    let said = run(bench, &["--json", "--", "seq", "500"]).ended(0);
    let events: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for host in [ONE, OTHER] {
        let of_host: Vec<&Value> = events.iter().filter(|event| event["host"] == host).collect();
        let lines: Vec<&str> = of_host.iter().filter_map(|event| event["line"].as_str()).collect();
        let wanted: Vec<String> = (1..=500).map(|number| number.to_string()).collect();
        assert_eq!(lines, wanted);
        assert_eq!(of_host.last().unwrap()["event"], "program_finished");
    }
    assert_eq!(events.last().unwrap()["event"], "run_finished");
}

fn standard_input_reaches_the_program(bench: &Bench) {
    let words = [
        "strata",
        "--site",
        SITE,
        "--rehearsal",
        "run",
        "--host",
        ONE,
        "--stdin",
        "-",
        "--",
        "cat",
    ];
    let said = bench.with_input(OPERATOR, &words, "first\nno end").ended(0);
    assert_eq!(said.out, "db-01 | first\ndb-01 | no end\n");
}

fn a_limit_of_time_and_an_interrupt_kill_it(bench: &Bench) {
    let said = run(bench, &["--timeout", "1", "--", "sleep", "1000"]).ended(1);
    holds(&said.err, "killed: not done after 1 s  2 hosts: db-01, redis-01");

    let words = ["run", "--host", ONE, "--host", OTHER, "--lock", "--", "sleep", "1000"];
    let running = bench.start(SITE, &words);
    for host in [ONE, OTHER] {
        wait("the program", 20, || {
            let said = bench.on(host, &["pgrep", "-x", "sleep"]);
            if said.code == 0 { Ok(()) } else { Err(running.so_far()) }
        });
    }
    assert!(bench.signal("INT"));
    let said = running.finish().ended(130);
    holds(&said.err, "the program is being killed on the hosts");
    holds(&said.err, "killed: the run was stopped  2 hosts: db-01, redis-01");
    for host in [ONE, OTHER] {
        assert_eq!(bench.on(host, &["pgrep", "-x", "sleep"]).code, 1, "it still runs on {host}");
    }
}

/// The fingerprint as the host's own console shows it.
fn fingerprint(bench: &Bench, host: &str) -> String {
    let shown = bench.output(host, &["ssh-keygen", "-lf", &format!("{KEY}.pub")]);
    shown.split(' ').nth(1).unwrap().to_owned()
}

fn another_key_is_an_alarm_until_it_is_pinned(bench: &Bench) {
    let old = fingerprint(bench, OTHER);
    let script = format!(
        "rm {KEY} {KEY}.pub; ssh-keygen -q -t ed25519 -N '' -f {KEY}; systemctl restart ssh"
    );
    bench.output(OTHER, &["sh", "-c", &script]);
    let new = fingerprint(bench, OTHER);
    let said = run(bench, &["--", "true"]).ended(5);
    holds(&said.err, &format!("\n      pinned   ssh-ed25519 {old}"));
    holds(&said.err, &format!("\n      offered  ssh-ed25519 {new}"));
    holds(&said.err, "Nothing was sent to the host.");
    holds(&said.err, "`strata hosts rebuild redis-01`");
    holds(&said.err, "exit 0  1 host: db-01\nnot the pinned host  1 host: redis-01");

    let rebuild =
        |fingerprint| bench.strata(&["hosts", "rebuild", OTHER, "--fingerprint", fingerprint]);
    holds(&rebuild(&old).ended(5).err, "redis-01 does not offer the key");
    let said = rebuild(&new).ended(0);
    holds(&said.out, &format!("redis-01  now      ssh-ed25519 {new}"));
    holds(&said.err, "next: strata install --layer base --host redis-01 --host install-01");
    run(bench, &["--", "true"]).ended(0);
    holds(&bench.strata(&["hosts", "show", OTHER]).ended(0).out, &new);
    holds(&bench.strata(&["show"]).ended(0).out, "run --host");
}

const ANOTHER: &str = "another machine answers with the same key";

fn another_machine_with_the_same_key_is_warned_of(bench: &Bench) {
    let script = "tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id";
    bench.output(ONE, &["sh", "-c", script]);
    // Once is not enough: nobody has answered it.
    for _ in 0..2 {
        holds(&run(bench, &["--", "true"]).ended(0).err, ANOTHER);
    }
    // The index is only an index.
    bench.output(OPERATOR, &["rm", &format!("{SITE}/.strata/index.sqlite")]);
    holds(&run(bench, &["--", "true"]).ended(0).err, ANOTHER);
    let fingerprint = fingerprint(bench, ONE);
    bench.strata(&["hosts", "rebuild", ONE, "--fingerprint", &fingerprint]).ended(0);
    bench.output(OPERATOR, &["rm", &format!("{SITE}/.strata/index.sqlite")]);
    let said = run(bench, &["--", "true"]).ended(0);
    assert!(!said.err.contains(ANOTHER), "{}", said.err);
}

fn a_boot_that_no_run_made_is_noted(bench: &Bench) {
    const NOTE: &str = "db-01  rebooted since the last run (";
    let stop = Fault::StopHost { host: ONE.into() };
    let id = bench.lab.fault(&stop, Duration::from_secs(600)).unwrap();
    bench.lab.heal(&id).unwrap();
    let mut first = None;
    wait("the host's SSH server", 30, || {
        let said = bench.strata(&["run", "--host", ONE, "--", "true"]);
        if said.code != 0 {
            return Err(said.err);
        }
        first = Some(said);
        Ok(())
    });
    holds(&first.unwrap().err, NOTE);
    let said = run(bench, &["--", "true"]).ended(0);
    assert!(!said.err.contains(NOTE), "{}", said.err);
}
