//! What tests of clusters share, whatever the technology: what was started, what a run did, and
//! whose data it is.

use super::{Bench, OPERATOR, SITE};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

/// What was started between two looks, by name.
pub fn restarted(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let differing = after.iter().filter(|(name, at)| before.get(*name) != Some(at));
    differing.map(|(name, _)| name.clone()).collect()
}

/// The process ids of the HAProxies' workers: a reload changes them.
pub fn workers<const COUNT: usize>(bench: &Bench, hosts: [&str; COUNT]) -> [String; COUNT] {
    let ask =
        "echo show info | socat - UNIX-CONNECT:/run/haproxy/admin.sock | sed -n 's/^Pid: //p'";
    hosts.map(|host| bench.output(host, &["sh", "-c", ask]))
}

/// The cluster's id, which its record on the operator host and every member's marker agree on.
#[track_caller]
pub fn agreed_id(bench: &Bench, record: &str, marker: &str, members: &[&str]) -> String {
    let id = |host: &str, path: &str| {
        let text = bench.output(host, &["cat", path]);
        let json: Value = serde_json::from_str(&text).unwrap();
        json["id"].as_str().unwrap().to_owned()
    };
    let recorded = id(OPERATOR, record);
    for host in members {
        assert_eq!(id(host, marker), recorded, "the marker of {host}");
    }
    recorded
}

/// The events of the last run.
pub fn events(bench: &Bench) -> Vec<Value> {
    let script = format!("cat \"$(ls -t {SITE}/.strata/runs/*.jsonl | head -n 1)\"");
    let text = bench.output(OPERATOR, &["sh", "-c", &script]);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The actions of the last run, as its journal has them.
pub fn actions(bench: &Bench) -> Vec<String> {
    let done = events(bench).into_iter().filter(|event| event["took_ms"].is_u64());
    done.filter_map(|event| event["action"].as_str().map(str::to_owned)).collect()
}

/// How long each part of a test takes.
pub struct Timed(pub Instant);

impl Timed {
    /// Runs one part and prints its time.
    pub fn step(&mut self, what: &str, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        println!(
            "figure: {what}: {:.1} s, {:.0} s since base",
            start.elapsed().as_secs_f64(),
            self.0.elapsed().as_secs_f64()
        );
    }
}
