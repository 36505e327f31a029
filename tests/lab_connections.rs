//! Connections that break in the middle of a run: cut off without a word, and closed. The run goes on
//! when they are back, and nothing is done twice.
//!
//! Needs root, Debian 12 and (the first time) a package mirror. With ten hosts:
//!
//! ```text
//! cargo test --test lab_connections -- --ignored --nocapture campaign
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use strata::lab::{Direction, Fault};
use support::{Bench, SITE, add_layer, replace, wait};

/// Cut off without a word.
const CUT: &str = "db-01";
/// Its connections are closed.
const CLOSED: &str = "redis-01";
/// Left alone.
const LEFT: &str = "k3s-master-01";

/// Ten hosts for the campaign; the first three are cut off.
const TEN: [&str; 10] = [
    "db-01", "redis-01", "queue-01", "db-02", "db-03", "redis-02", "redis-03", "queue-02",
    "queue-03", "minio-01",
];

/// Steps of the layer, a second each.
const STEPS: usize = 14;

/// How long the cut lasts.
const CUT_SECONDS: u64 = 15;

/// A layer whose steps each take a second and write down that they ran, and one whose only step
/// cannot be looked at.
fn slow_layers(site: &Path) {
    let mut steps = String::new();
    for number in 1..=STEPS {
        let notify = if number == 1 { "notify = \"count\"\n" } else { "" };
        writeln!(
            steps,
            "[[step]]\nname = \"step {number}\"\n{notify}command = {{ argv = [\"sh\", \"-c\", \"sleep 1; echo step-{number} >> /root/ran; touch /root/done-{number}\"], creates = \"/root/done-{number}\" }}\n"
        )
        .unwrap();
    }
    steps += "[[handler]]\nname = \"count\"\ncommand = { argv = [\"sh\", \"-c\", \"echo handler >> /root/ran\"] }\n";
    let once = "[[step]]\nname = \"blind\"\ncommand = { argv = [\"sh\", \"-c\", \"echo begun >> /root/once; sleep 5; echo ended >> /root/once\"] }\n";
    for (role, text) in [("links", steps.as_str()), ("blind", once)] {
        add_layer(site, role, &format!("description = \"On links.\"\n{text}"));
    }
    replace(
        &site.join("strata.toml"),
        "auth_timeout    = 10",
        "auth_timeout    = 10\nkeepalive = 2",
    );
}

fn words<'a>(layer: &'a str, hosts: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["install", "--layer", layer, "--gate", "diag"];
    for host in hosts {
        words.extend(["--host", host]);
    }
    words
}

/// Closes the connections of a host's sshd, as a restart of a firewall or of a router does.
fn close(bench: &Bench, host: &str) {
    let script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | \
                  grep -q '^sshd: root@notty' && kill -KILL ${p#/proc/} && echo killed; done; true";
    let closed = bench.output(host, &["sh", "-c", script]);
    assert!(closed.contains("killed"), "no connection to {host} was open");
}

fn has_done(bench: &Bench, host: &str, number: usize) {
    wait(&format!("step {number} on {host}"), 60, || {
        match bench.on(host, &["test", "-e", &format!("/root/done-{number}")]).code {
            0 => Ok(()),
            _ => Err("not yet".to_owned()),
        }
    });
}

#[test]
fn a_run_goes_on_when_its_connections_are_back() {
    let bench = Bench::open("t-connections", &[CUT, CLOSED, LEFT]);
    bench.fresh_with(slow_layers);
    links_break_and_nothing_is_repeated(&bench, &[CUT], &[CLOSED], &[LEFT]);
    what_cannot_be_looked_at_is_not_repeated(&bench);
}

/// Some links break while every host is in the middle of the layer; each step is done once, in order.
fn links_break_and_nothing_is_repeated(
    bench: &Bench,
    cut: &[&str],
    closed: &[&str],
    left: &[&str],
) {
    let hosts = [cut, closed, left].concat();
    let all = words("links", &hosts);
    let running = bench.start(SITE, &all);
    for host in cut {
        has_done(bench, host, 3);
    }
    let fault = Fault::CutNetwork {
        between: cut.iter().map(|host| (*host).to_owned()).collect(),
        and: Vec::new(),
        direction: Direction::Both,
        keep_ssh_from: None,
    };
    bench.lab.fault(&fault, Duration::from_secs(CUT_SECONDS)).unwrap();
    for host in closed {
        has_done(bench, host, 5);
        close(bench, host);
    }
    let said = running.finish().ended(0);
    let text = said.text();
    for host in cut.iter().chain(closed) {
        let back: Vec<&str> = text
            .lines()
            .filter(|line| line.contains(host) && line.contains("reconnected"))
            .collect();
        assert_eq!(back.len(), 1, "{host}:\n{text}");
        println!("figure: {}", back[0].trim());
        let lost = text.lines().find(|line| line.contains(host) && line.contains("link lost"));
        assert!(lost.is_some_and(|line| line.contains("links › step")), "{host}:\n{text}");
    }
    for host in left {
        assert!(!text.contains(&format!("{host}  link lost")), "{text}");
    }
    println!(
        "figure: {STEPS} steps of 1 s on {} hosts, {} cut off for {CUT_SECONDS} s and {} closed: {:.1} s",
        hosts.len(),
        cut.len(),
        closed.len(),
        said.seconds
    );
    let mut wanted: Vec<String> = (1..=STEPS).map(|number| format!("step-{number}")).collect();
    wanted.push("handler".to_owned());
    for host in &hosts {
        let ran = bench.output(host, &["cat", "/root/ran"]);
        let ran: Vec<&str> = ran.lines().collect();
        assert_eq!(ran, wanted, "what ran on {host}, in order and once each");
        bench.nothing_half_done(host);
    }
    println!("figure: {} steps and handlers, each ran once", wanted.len() * hosts.len());
    let again = bench.strata(&all).ended(0);
    let unchanged = format!("{} hosts converged, 0 not; 0 of ", hosts.len());
    assert!(again.text().contains(&unchanged), "{}", again.text());
    let history = bench.strata(&["show"]).ended(0);
    println!("figure: the run after it: {:.2} s, {}", again.seconds, history.out.lines().count());
}

/// `cargo test --test lab_connections -- --ignored --nocapture campaign`
#[test]
#[ignore = "campaign: ten hosts, some minutes"]
fn campaign_of_three_links_of_ten() {
    let bench = Bench::open("t-ten-links", &TEN);
    bench.fresh_with(slow_layers);
    links_break_and_nothing_is_repeated(&bench, &TEN[..3], &[], &TEN[3..]);
}

fn what_cannot_be_looked_at_is_not_repeated(bench: &Bench) {
    let running = bench.start(SITE, &words("blind", &[CLOSED]));
    wait("the blind step", 30, || match bench.on(CLOSED, &["test", "-e", "/root/once"]).code {
        0 => Ok(()),
        _ => Err("not begun".to_owned()),
    });
    close(bench, CLOSED);
    // Its agent finishes the step and writes that down; the new one finds it done.
    let said = running.finish().ended(0);
    let text = said.text();
    assert!(text.contains("link lost in blind › blind"), "{text}");
    assert_eq!(bench.output(CLOSED, &["cat", "/root/once"]), "begun\nended", "{text}");
    // Killed with its agent, nobody knows: it is not begun again.
    bench.on(CLOSED, &["rm", "/root/once"]).ended(0);
    let running = bench.start(SITE, &words("blind", &[CLOSED]));
    wait("the blind step", 30, || match bench.on(CLOSED, &["test", "-e", "/root/once"]).code {
        0 => Ok(()),
        _ => Err("not begun".to_owned()),
    });
    assert_eq!(bench.kill_agents(CLOSED), 1);
    let text = running.finish().ended(1).text();
    assert!(text.contains("nothing tells whether it was done"), "{text}");
    let begun = bench.output(CLOSED, &["grep", "-c", "begun", "/root/once"]);
    assert_eq!(begun, "1", "{text}");
}
