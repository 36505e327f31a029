//! Runs that end too early: strata killed, agents killed, Ctrl-C. The next run goes on, and
//! nothing half-written is left.
//!
//! Needs root, Debian 12 and (the first time) a package mirror. The campaign of many moments:
//!
//! ```text
//! cargo test --test lab_interrupted -- --ignored --nocapture campaign
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;
use support::{Bench, SITE, Seeded, install_words};

/// One with containers, one without.
const HOSTS: [&str; 2] = ["redis-01", "k3s-master-01"];

type Files = BTreeMap<String, BTreeMap<String, String>>;

fn files(bench: &Bench) -> Files {
    HOSTS.iter().map(|host| ((*host).to_owned(), bench.files(host))).collect()
}

/// What an undisturbed first install leaves, and how many seconds its changes take.
fn undisturbed(bench: &Bench) -> (Files, f64) {
    bench.fresh();
    let said = bench.install(SITE, &HOSTS).ended(0);
    println!("figure: an undisturbed first install of 2 hosts: {:.1} s", said.seconds);
    // The last seconds are the gate's.
    (files(bench), said.seconds - 3.0)
}

/// The next run converges, the one after it changes nothing, and every file is as after an
/// undisturbed install.
#[track_caller]
fn the_next_run_mends(bench: &Bench, undisturbed: &Files, what: &str) {
    let (said, tries) = bench.install_when_free(SITE, &HOSTS);
    let said = said.ended(0);
    let again = bench.install(SITE, &HOSTS).ended(0);
    assert!(again.text().contains("2 hosts converged, 0 not; 0 of "), "{}", again.text());
    for host in HOSTS {
        bench.nothing_half_done(host);
        let jail = bench.output(host, &["fail2ban-client", "get", "sshd", "maxretry"]);
        let ours = bench.output(
            host,
            &["sh", "-c", "sed -n 's/^maxretry *= *//p' /etc/fail2ban/jail.d/keybuzz.local"],
        );
        assert_eq!(jail, ours, "fail2ban on {host} runs with the jail of strata");
    }
    let files = files(bench);
    for (host, wanted) in undisturbed {
        let differing: Vec<String> = wanted
            .iter()
            .filter(|(path, digest)| files[host].get(*path) != Some(digest))
            .map(|(path, digest)| format!("{path}: {digest}, now {:?}", files[host].get(path)))
            .chain(files[host].keys().filter(|path| !wanted.contains_key(*path)).cloned())
            .collect();
        assert!(differing.is_empty(), "{what}: files of {host} differ: {differing:#?}");
    }
    println!("figure: {what}: the next run took {:.1} s, tries {tries}", said.seconds);
}

fn kill_strata_at(moments: usize) {
    let bench = Bench::open("t-killed", &HOSTS);
    let mut seeded = Seeded::new();
    let (wanted, seconds) = undisturbed(&bench);
    for number in 1..=moments {
        bench.fresh();
        let after = seeded.fraction() * seconds;
        let mut running = bench.start(SITE, &install_words(&HOSTS));
        // The moment is the condition here; a run that is quicker than that has ended.
        let moment = std::time::Instant::now() + Duration::from_secs_f64(after);
        while std::time::Instant::now() < moment && !running.ended() {
            std::thread::sleep(Duration::from_millis(5));
        }
        bench.signal("KILL");
        let killed = running.finish();
        let last = killed.text().lines().last().unwrap_or_default().trim().to_owned();
        the_next_run_mends(
            &bench,
            &wanted,
            &format!("moment {number}, strata killed after {after:.2} s at `{last}`"),
        );
    }
}

#[test]
fn a_killed_strata_leaves_nothing_half_done() {
    kill_strata_at(1);
}

/// `cargo test --test lab_interrupted -- --ignored --nocapture campaign_of_killed_stratas`
#[test]
#[ignore = "campaign: 20 moments, about 12 minutes"]
fn campaign_of_killed_stratas() {
    kill_strata_at(20);
}

fn kill_agents(rounds: usize) {
    const THREE: [&str; 3] = ["redis-01", "k3s-master-01", "k3s-worker-01"];
    let bench = Bench::open("t-agents", &THREE);
    let mut seeded = Seeded::new();
    for round in 1..=rounds {
        bench.fresh();
        let running = bench.start(SITE, &install_words(&THREE));
        running.wait_for("site › Packet filter tools  changed", 120);
        let after = seeded.fraction() * 12.0;
        std::thread::sleep(Duration::from_secs_f64(after));
        let killed: usize = THREE.iter().map(|host| bench.kill_agents(host)).sum();
        let said = running.finish();
        println!(
            "figure: round {round}: {killed} agents killed {after:.2} s after the packet filter, exit code {}",
            said.code
        );
        if killed > 0 {
            // The run itself goes on with new agents.
            let text = said.clone().ended(0).text();
            assert!(text.contains("link lost") && text.contains("reconnected"), "{text}");
        }
        let (next, tries) = bench.install_when_free(SITE, &THREE);
        let next = next.ended(0);
        let again = bench.install(SITE, &THREE).ended(0);
        assert!(again.text().contains("3 hosts converged, 0 not; 0 of "), "{}", again.text());
        for host in THREE {
            bench.nothing_half_done(host);
            assert_eq!(bench.output(host, &["dpkg", "--audit"]), "");
        }
        println!("figure: the next run took {:.1} s, tries {tries}", next.seconds);
    }
}

#[test]
fn killed_agents_leave_nothing_half_done() {
    kill_agents(1);
}

/// `cargo test --test lab_interrupted -- --ignored --nocapture campaign_of_killed_agents`
#[test]
#[ignore = "campaign: 10 rounds on 3 hosts, about 8 minutes"]
fn campaign_of_killed_agents() {
    kill_agents(10);
}

#[test]
fn an_interrupt_finishes_what_is_in_hand() {
    let bench = Bench::open("t-stop", &["k3s-master-01"]);
    let hosts = ["k3s-master-01"];
    bench.fresh();
    let running = bench.start(SITE, &install_words(&hosts));
    running.wait_for("Packages  waiting: installing", 60);
    assert!(bench.signal("INT"));
    let said = running.finish().ended(130);
    let text = said.text();
    for part in [
        "stopping after the resources in hand",
        "`strata resume` goes on",
        "exit code 130",
        // What was in hand was finished, and what is left is said.
        "base › Packages  changed",
        "k3s-master-01  stopped",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let audit = bench.output("k3s-master-01", &["dpkg", "--audit"]);
    assert_eq!(audit, "", "no package is half installed");
    bench.nothing_half_done("k3s-master-01");
    let next = bench.install(SITE, &hosts).ended(0);
    assert!(!next.text().contains("Packages  changed"), "{}", next.text());
    println!(
        "figure: stopped after {:.1} s, the next run took {:.1} s",
        said.seconds, next.seconds
    );
}
