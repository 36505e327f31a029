//! Redis and its Sentinels, many times over: the master killed, strata killed while it forms the
//! cluster, a member's host made anew, and a fault that cannot be healed. Figures are printed.
//!
//! Run by hand, each a quarter of an hour and more:
//!
//! ```text
//! cargo test --test lab_redis_campaigns -- --ignored --nocapture campaign_of_killed_masters
//! ```
//!
//! `STRATA_LAB_ROUNDS` is the number of rounds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/redis.rs"]
mod redis;
#[path = "lab/support.rs"]
mod support;

use redis::{
    HOSTS, MARKER, RECORD, REDIS, base, canaries_live, cluster_id, install, master, never_formed,
    nothing_more_to_do, put_canaries, sentinel, start_samplers, stop_samplers, words,
};
use serde_json::Value;
use std::time::{Duration, Instant};
use strata::lab::Fault;
use support::{Bench, OPERATOR, SITE, Seeded, wait};

/// Rounds of a campaign.
fn rounds() -> usize {
    std::env::var("STRATA_LAB_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn formed() -> Bench {
    let bench = Bench::open("t-redis", &HOSTS);
    base(&bench);
    install(&bench).ended(0);
    put_canaries(&bench);
    bench
}

/// The figures of one test in the last run's journal, by name.
fn figures(bench: &Bench, test: &str) -> Vec<(String, f64)> {
    let script = format!("cat \"$(ls -t {SITE}/.strata/runs/*.jsonl | head -n 1)\"");
    let text = bench.output(OPERATOR, &["sh", "-c", &script]);
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut finished = events.filter(|event| event["test"] == test && event["measured"].is_array());
    let measured = finished.next_back().unwrap()["measured"].as_array().unwrap().clone();
    measured
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].as_f64().unwrap()))
        .collect()
}

#[test]
#[ignore = "campaign: 20 kills, about 15 minutes"]
fn campaign_of_killed_masters() {
    let bench = formed();
    let mut wrong = 0;
    for round in 1..=rounds() {
        let verify = ["verify", "--layer", "redis", "--test", "redis-kill-master"];
        let said = bench.strata(&verify);
        let found = figures(&bench, "redis-kill-master");
        let value = |part: &str| {
            let found = found.iter().find(|(name, _)| name.contains(part));
            found.map_or("-".to_owned(), |(_, value)| format!("{value:.1}"))
        };
        println!(
            "figure: | {round} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            said.code,
            value("outage"),
            value("new master"),
            value("followed"),
            value("replica again"),
            value("attempted"),
            found.iter().find(|(name, _)| name == "acknowledged").map_or(-1.0, |(_, v)| *v),
            found
                .iter()
                .find(|(name, _)| name == "confirmed by a replica")
                .map_or(-1.0, |(_, v)| *v),
            value("acknowledged and lost"),
            value("confirmed and lost"),
            said.seconds
        );
        if said.code != 0 {
            wrong += 1;
            println!("{}", said.text());
        }
    }
    canaries_live(&bench);
    assert_eq!(wrong, 0, "rounds that were not green");
    // A part of the tests proves no layer.
    assert!(bench.strata(&["status"]).text().contains("redis"));
    nothing_more_to_do(&bench);
}

/// The ids that markers and record have now, each once.
fn ids(bench: &Bench) -> Vec<String> {
    let mut found: Vec<String> = REDIS
        .iter()
        .map(|host| (*host, MARKER))
        .chain([(OPERATOR, RECORD)])
        .filter_map(|(host, path)| {
            let text = bench.on(host, &["cat", path]).out;
            Some(serde_json::from_str::<Value>(&text).ok()?["id"].as_str()?.to_owned())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
#[ignore = "campaign: 20 moments, about 25 minutes"]
fn campaign_of_killed_formations() {
    let bench = Bench::open("t-redis", &HOSTS);
    let mut seeded = Seeded::new();
    base(&bench);
    never_formed(&bench);
    let undisturbed = install(&bench).ended(0).seconds;
    println!("figure: an undisturbed formation, diag gate included: {undisturbed:.1} s");
    for round in 1..=rounds() {
        never_formed(&bench);
        start_samplers(&bench);
        let after = seeded.fraction() * undisturbed;
        let mut running = bench.start(SITE, &words(&[]));
        let moment = Instant::now() + Duration::from_secs_f64(after);
        while Instant::now() < moment && !running.ended() {
            std::thread::sleep(Duration::from_millis(5));
        }
        bench.signal("KILL");
        let killed = running.finish();
        let last = killed.text().lines().last().unwrap_or_default().trim().to_owned();
        let before = ids(&bench);
        assert!(before.len() <= 1, "{before:?}");
        let (said, tries) = {
            let mut tries = 1;
            let mut said = install(&bench);
            while said.code == 6 && tries < 60 {
                tries += 1;
                said = install(&bench);
            }
            (said, tries)
        };
        let said = said.ended(0);
        let id = cluster_id(&bench);
        assert!(before.is_empty() || before == [id], "a second cluster: {before:?}");
        let reigns = stop_samplers(&bench);
        assert_eq!(reigns, ["redis-01"], "who took writes");
        nothing_more_to_do(&bench);
        println!(
            "figure: moment {round}, killed after {after:.1} s at `{last}`: the next run took {:.1} s, tries {tries}",
            said.seconds
        );
    }
}

#[test]
#[ignore = "campaign: a host is made anew, about 3 minutes"]
fn campaign_of_a_new_host() {
    let bench = formed();
    let off = Fault::StopHost { host: "redis-01".to_owned() };
    let fault = bench.lab.fault(&off, Duration::from_secs(600)).unwrap();
    bench.lab.wipe("redis-01").unwrap();
    bench.lab.heal(&fault).unwrap();
    let said = install(&bench);
    println!("figure: a new host under an old name: exit code {}\n{}", said.code, said.text());
    let said = said.ended(7);
    assert!(said.text().contains("redis-01  IDENTITY: THE HOST KEY OF"), "{}", said.text());
    // What the hint says.
    let pinned = format!("{SITE}/.strata/known_hosts");
    bench.on(OPERATOR, &["sed", "-i", "/10\\.0\\.0\\.123/d", &pinned]).ended(0);
    let keys = bench.lab.hostkeys().unwrap().join("\n") + "\n";
    bench.put_text(OPERATOR, "/root/lab-host-keys", &keys);
    let trust = ["hosts", "trust", "--from", "/root/lab-host-keys"];
    bench.strata(&trust).ended(0);
    bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    let said = install(&bench).ended(0);
    println!("figure: a new host joined: {:.1} s\n{}", said.seconds, said.text());
    assert_ne!(master(&bench), "redis-01");
    canaries_live(&bench);
    for host in REDIS {
        let others = sentinel(&bench, host, &["sentinels", "keybuzz-master"]);
        let names = others.lines().filter(|line| *line == "runid").count();
        assert_eq!(names, 2, "Sentinel of {host} knows {names} others");
    }
    nothing_more_to_do(&bench);
}

#[test]
#[ignore = "campaign: a gate that cannot heal, about 3 minutes"]
fn campaign_of_a_fault_that_stays() {
    let bench = formed();
    bench.put_site(SITE, |site| {
        let gate = site.join("roles/redis/gate.toml");
        let text = std::fs::read_to_string(&gate).unwrap();
        std::fs::write(&gate, text.replace("restored_within = 120", "restored_within = 10"))
            .unwrap();
    });
    let victim = master(&bench);
    let running = bench.start(SITE, &["verify", "--layer", "redis", "--test", "redis-kill-master"]);
    wait("the fault", 60, || {
        let state = bench.on(victim, &["docker", "inspect", "-f", "{{.State.Running}}", "redis"]);
        if state.out.trim() == "false" { Ok(()) } else { Err(running.so_far()) }
    });
    bench.on(victim, &["docker", "rm", "redis"]).ended(0);
    let said = running.finish().ended(4);
    let lines: Vec<&str> = said.out.lines().chain(said.err.lines()).collect();
    println!("{}", lines.join("\n"));
    assert!(said.text().contains(&format!("not healed: {victim}: container redis killed")));
    bench.put_site(SITE, |_| {});
    let mended = install(&bench).ended(0);
    println!("figure: the run after it: {:.1} s", mended.seconds);
    canaries_live(&bench);
    nothing_more_to_do(&bench);
}
