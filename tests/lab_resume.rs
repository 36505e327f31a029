//! Runs that are killed between any two of their events, and `strata resume`: nothing that was done
//! is done again, not even steps that cannot tell by themselves whether they were done.
//!
//! Needs root, Debian 12 and (the first time) a package mirror. After every single event:
//!
//! ```text
//! cargo test --test lab_resume -- --ignored --nocapture campaign
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use support::{Bench, OPERATOR, SITE, Said, Seeded, add_layer};

const HOSTS: [&str; 2] = ["redis-01", "k3s-master-01"];

/// Steps that see for themselves whether they were done, steps that cannot, and a handler.
const ROLE: &str = r#"description = "Steps of every sort."
[[step]]
name    = "First file"
file    = { path = "/etc/trial-first", content = "first\n" }
notify  = "tell"

[[step]]
name    = "Count one"
command = { argv = ["sh", "-c", "sleep 0.1; echo one >> /root/trial.log"] }

[[step]]
name    = "Second file"
file    = { path = "/etc/trial-second", content = "second\n" }

[[step]]
name    = "Count two"
command = { argv = ["sh", "-c", "echo two >> /root/trial.log"] }
notify  = "tell"

[[step]]
name      = "Folder"
directory = { path = "/etc/trial.d" }

[[handler]]
name    = "tell"
command = { argv = ["sh", "-c", "echo told >> /root/trial.log"] }
"#;

fn with_trial(site: &Path) {
    add_layer(site, "trial", ROLE);
}

const WORDS: [&str; 7] = ["install", "--layer", "trial", "--host", HOSTS[0], "--host", HOSTS[1]];

/// An install that kills itself after so many events.
fn dies_after(bench: &Bench, events: usize) -> Said {
    let variable = format!("STRATA_TEST_DIES_AFTER={events}");
    let mut words = vec!["env", &variable, "strata", "--site", SITE, "--rehearsal"];
    words.push("--no-progress");
    words.extend(WORDS);
    bench.on(OPERATOR, &words)
}

/// The hosts as they were before the first run.
fn clean(bench: &Bench) {
    for host in HOSTS {
        bench
            .on(
                host,
                &[
                    "sh",
                    "-c",
                    "rm -rf /root/trial.log /etc/trial* /var/lib/strata/once /var/lib/strata/pending",
                ],
            )
            .ended(0);
    }
    bench.on(OPERATOR, &["sh", "-c", &format!("rm -rf {SITE}/.strata/runs/*")]).ended(0);
}

/// How often each line stands in the log of a host.
fn counts(bench: &Bench, host: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in bench.on(host, &["cat", "/root/trial.log"]).out.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// Steps that more than one run has changed, from their journals; handlers may run once more than
/// needed.
fn changed_twice(bench: &Bench) -> Vec<String> {
    let script = format!("cat {SITE}/.strata/runs/*.jsonl");
    let mut seen = BTreeSet::new();
    let mut twice = Vec::new();
    for line in bench.output(OPERATOR, &["sh", "-c", &script]).lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let changed = event["event"] == "step_finished"
            && event["outcome"]["result"] == "changed"
            && event["handler"] == false;
        if changed && !seen.insert(format!("{} {} {}", event["host"], event["role"], event["step"]))
        {
            twice.push(line.to_owned());
        }
    }
    twice
}

/// What became of one moment: true when the run had ended before it.
fn killed_and_resumed(bench: &Bench, events: usize, unknown: &mut usize) -> bool {
    clean(bench);
    let killed = dies_after(bench, events);
    if killed.code == 0 {
        return true;
    }
    // An agent may be in the middle of a step: the lock is waited for.
    let mut resumed = bench.strata(&["resume"]);
    if resumed.code == 1 && resumed.text().contains("nothing tells whether it was done") {
        *unknown += 1;
        resumed = bench.strata(&["resume", "--unknown", "done"]);
    }
    let resumed = resumed.ended(0);
    for host in HOSTS {
        let counts = counts(bench, host);
        for line in ["one", "two"] {
            assert_eq!(
                counts.get(line),
                Some(&1),
                "after event {events} on {host}: {counts:?}\n{}",
                resumed.text()
            );
        }
        assert!((1..=2).contains(&counts.get("told").copied().unwrap_or(0)), "{counts:?}");
    }
    assert_eq!(changed_twice(bench), Vec::<String>::new(), "killed after event {events}");
    false
}

fn at_events(moments: impl Iterator<Item = usize>) {
    let bench = Bench::open("t-resume", &HOSTS);
    bench.fresh_with(with_trial);
    // Once to the end: what the whole site asks of a host is there then.
    bench.strata(&WORDS).ended(0);
    let (mut tried, mut unknown) = (0, 0);
    for events in moments {
        if killed_and_resumed(&bench, events, &mut unknown) {
            println!("figure: the run has fewer than {events} events");
            break;
        }
        tried += 1;
    }
    println!(
        "figure: {tried} runs killed after an event and resumed: 0 steps done twice, {unknown} in hand of which nothing told"
    );
    assert!(tried > 5);
    nothing_is_left(&bench);
    failed_hosts_are_retried_alone(&bench);
}

/// A run that ended well is not resumed, and neither is what was no install.
fn nothing_is_left(bench: &Bench) {
    clean(bench);
    bench.strata(&WORDS).ended(0);
    let said = bench.strata(&["resume"]).ended(0);
    assert!(said.text().contains("nothing to resume"), "{}", said.text());
    bench.strata(&["verify", "--layer", "trial", "--host", HOSTS[0]]).ended(0);
    let verify = bench.output(
        OPERATOR,
        &["sh", "-c", &format!("cd {SITE}/.strata/runs && ls | tail -1 | cut -d. -f1")],
    );
    let said = bench.strata(&["resume", &verify]).ended(0);
    assert!(said.text().contains("nothing to resume"), "{}", said.text());
    bench.strata(&["resume", "no-such-run"]).ended(2);
}

/// One host fails; after the repair only it is worked on, and the gate is run for both.
fn failed_hosts_are_retried_alone(bench: &Bench) {
    clean(bench);
    bench.output(HOSTS[1], &["mkdir", "/etc/trial-second"]);
    bench.strata(&WORDS).ended(1);
    bench.output(HOSTS[1], &["rmdir", "/etc/trial-second"]);
    let said = bench.strata(&["resume", "--retry-failed"]).ended(0);
    let text = said.text();
    assert!(text.contains("1 of 2 hosts converged before: left as they are"), "{text}");
    assert!(text.contains("gate trial  green"), "{text}");
    println!("figure: one of two hosts retried in {:.1} s", said.seconds);
    for host in HOSTS {
        let counts = counts(bench, host);
        assert_eq!((counts["one"], counts["two"]), (1, 1), "{host}: {counts:?}");
    }
}

#[test]
fn a_run_killed_between_two_events_is_resumed() {
    let start = 1 + (Seeded::new().fraction() * 4.0) as usize;
    at_events((0..).map(|number| start + 5 * number));
}

/// `cargo test --test lab_resume -- --ignored --nocapture campaign`
#[test]
#[ignore = "campaign: after each event, some minutes"]
fn campaign_of_every_event() {
    at_events(1..);
}
