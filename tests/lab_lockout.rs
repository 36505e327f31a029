//! Changes that would lock the operator out take themselves back: by the agent when the host
//! cannot be reached over a new connection, by the host's own timer when nobody is left to ask.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::path::Path;
use std::time::Instant;
use support::{Bench, OPERATOR, SITE, append, install_words, replace, wait};

const HOST: &str = "k3s-master-01";
const ADDRESS: &str = "10.0.0.100";

#[test]
fn a_lock_out_takes_itself_back() {
    let bench = Bench::open("t-lockout", &[HOST]);
    bench.furnished();
    bench.install(SITE, &[HOST]).ended(0);
    let before = bench.files(HOST);
    let rules = live_rules(&bench);

    a_firewall_that_shuts_the_operator_out(&bench);
    as_before(&bench, &before, &rules);
    an_sshd_that_admits_nobody(&bench);
    as_before(&bench, &before, &rules);
    nobody_left_to_ask(&bench, closed, "Packet filter", false);
    as_before(&bench, &before, &rules);
    nobody_left_to_ask(&bench, nobody_may_log_in, "SSH hardening", true);
    as_before(&bench, &before, &rules);

    bench.put_site(SITE, |_| {});
    let said = bench.install(SITE, &[HOST]).ended(0);
    assert!(said.text().contains("1 host converged, 0 not; 0 of "), "{}", said.text());
}

/// `cargo test --test lab_lockout -- --ignored --nocapture campaign`
#[test]
#[ignore = "campaign: the timer of a firewall, five times, about 5 minutes"]
fn campaign_of_firewalls_that_nobody_proves() {
    let bench = Bench::open("t-lockout", &[HOST]);
    bench.furnished();
    bench.install(SITE, &[HOST]).ended(0);
    let (before, rules) = (bench.files(HOST), live_rules(&bench));
    for _ in 0..5 {
        nobody_left_to_ask(&bench, closed, "Packet filter", true);
        as_before(&bench, &before, &rules);
    }
}

/// A site whose firewall lets other hosts in, but not the operator's.
fn closed(site: &Path) {
    replace(&site.join("roles/base/role.toml"), "from  = [\"operator\"]", "from  = [\"db\"]");
}

/// A site whose sshd answers and lets nobody in.
fn nobody_may_log_in(site: &Path) {
    append(&site.join("templates/base/sshd.conf.j2"), "AllowUsers nobody\n");
    replace(&site.join("roles/base/role.toml"), "revert_after = 60", "revert_after = 8");
}

fn a_firewall_that_shuts_the_operator_out(bench: &Bench) {
    bench.put_site(SITE, closed);
    let said = bench.install(SITE, &[HOST]).ended(1);
    insta::with_settings!({ filters => vec![(r"\d+(\.\d+)? (ms|s)\b", "[time]")] }, {
        insta::assert_snapshot!("firewall", problems(&said.text()));
    });
    println!("figure: a closing firewall was taken back and reported in {:.1} s", said.seconds);
}

fn an_sshd_that_admits_nobody(bench: &Bench) {
    bench.put_site(SITE, nobody_may_log_in);
    let said = bench.install(SITE, &[HOST]).ended(1);
    insta::with_settings!({ filters => vec![(r"\d+(\.\d+)? (ms|s)\b", "[time]")] }, {
        insta::assert_snapshot!("sshd", problems(&said.text()));
    });
    println!(
        "figure: an sshd that admits nobody was taken back and reported in {:.1} s",
        said.seconds
    );
}

/// strata (and, with `agent_too`, its agent) is killed when the change is live.
fn nobody_left_to_ask(bench: &Bench, edit: fn(&Path), step: &str, agent_too: bool) {
    bench.put_site(SITE, |site| {
        edit(site);
        if agent_too {
            // It would start another agent, which takes back what it finds.
            replace(&site.join("strata.toml"), "[run]", "reconnect = 0\n\n[run]");
        }
    });
    let running = bench.start(SITE, &install_words(&[HOST]));
    wait(&format!("the lock-out by {step}"), 30, || {
        if reachable(bench) { Err("a new connection is made".to_owned()) } else { Ok(()) }
    });
    // The agent first: it takes the change back as soon as strata is gone. And strata ends as soon
    // as its only agent is gone.
    if agent_too {
        assert_eq!(bench.kill_agents(HOST), 1);
    }
    assert!(bench.signal("KILL") || agent_too);
    let killed = Instant::now();
    running.finish();
    wait("the way back", 90, || {
        if reachable(bench) { Ok(()) } else { Err("no new connection yet".to_owned()) }
    });
    println!(
        "figure: {step}: strata{} killed while the change was live; reachable again after {:.1} s",
        if agent_too { " and agent" } else { "" },
        killed.elapsed().as_secs_f64()
    );
}

/// Whether the operator host opens a new session.
fn reachable(bench: &Bench) -> bool {
    let words = [
        "ssh",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=1",
        "-o",
        "UserKnownHostsFile=/root/lab-host-keys",
        ADDRESS,
        "true",
    ];
    bench.on(OPERATOR, &words).code == 0
}

fn live_rules(bench: &Bench) -> String {
    let rules = bench.output(HOST, &["nft", "-s", "list", "table", "inet", "strata"]);
    // The connections that are older than the filter are remembered for a while.
    let mut kept = Vec::new();
    let mut skipping = false;
    for line in rules.lines() {
        skipping |= line.trim().starts_with("elements = {");
        if !skipping {
            kept.push(line);
        }
        skipping &= !line.contains('}');
    }
    kept.join("\n")
}

#[track_caller]
fn as_before(bench: &Bench, files: &std::collections::BTreeMap<String, String>, rules: &str) {
    assert!(reachable(bench));
    assert_eq!(live_rules(bench), rules);
    wait("the end of the guard", 30, || {
        let now = bench.files(HOST);
        if now == *files {
            return Ok(());
        }
        let differing = now.iter().filter(|(path, digest)| files.get(*path) != Some(digest));
        Err(format!("{:?}", differing.collect::<Vec<_>>()))
    });
    bench.nothing_half_done(HOST);
    let timers = bench.output(
        HOST,
        &["systemctl", "list-units", "--all", "--plain", "--no-legend", "strata-guard-*"],
    );
    assert_eq!(timers, "", "no timer is left");
}

fn problems(text: &str) -> String {
    text.split("\nproblems\n").nth(1).unwrap_or(text).to_owned()
}
