//! What tests of etcd share: a formed cluster on the hosts of the layer db, looks at it, and a
//! client that writes all the while.

#![allow(dead_code, reason = "each test program uses a part")]

use super::support::cluster;
pub use super::support::cluster::{actions, restarted};
use super::support::{Bench, OPERATOR, SITE, Said, append, install_words, replace, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The members.
pub const HOSTS: [&str; 3] = ["db-01", "db-02", "db-03"];
/// What the operator host remembers of the cluster.
pub const RECORD: &str = "/opt/keybuzz-installer/state/etcd.json";
/// What stands beside each member's data.
pub const MARKER: &str = "/opt/keybuzz/etcd/.strata-cluster";
/// The data of a member.
pub const DATA: &str = "/opt/keybuzz/etcd/data";
/// Where copies of all keys are.
pub const SNAPSHOTS: &str = "/opt/keybuzz/etcd/snapshots";
/// Where the writer keeps its account.
const WRITES: &str = "/root/writes";

/// Puts a layer into a site with etcd alone on it.
pub fn only_etcd(site: &Path) {
    append(
        &site.join("strata.toml"),
        "\n[[layer]]\nname  = \"only-etcd\"\nrequires = [\"base\"]\nplace = [{ role = \"etcd\", on = \"db\" }]\n",
    );
    // What a test breaks stays broken: nobody has to wait for it.
    replace(&site.join("roles/etcd/gate.toml"), "within = 30", "within = 8");
}

/// As [`only_etcd`], from Debian's package under systemd.
pub fn native(site: &Path) {
    only_etcd(site);
    let role = site.join("roles/etcd/role.toml");
    replace(&role, "= \"container\"   #", "= \"native\"   #");
}

/// A member's private address.
pub fn address(host: &str) -> String {
    format!("10.0.0.{}", 119 + host.trim_start_matches("db-0").parse::<u32>().unwrap())
}

/// The words of `install --layer only-etcd` with its diag gate alone, and others.
pub fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut words = install_words(&HOSTS);
    words[2] = "only-etcd";
    words.extend(["--host", OPERATOR]);
    words.extend(more);
    words
}

/// `install --layer only-etcd`.
pub fn install(bench: &Bench) -> Said {
    bench.strata(&words(&[]))
}

/// Hosts whose layer base is green. A lab that is kept has them already.
pub fn base(bench: &Bench) {
    // The hosts' package mirror then has the package too.
    bench.furnished_with(native);
    bench.put_site(SITE, only_etcd);
    let said = bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    if bench.on(OPERATOR, &["test", "-e", RECORD]).code == 0 {
        never_formed(bench);
    }
    println!("figure: base on 4 hosts {:.1} s", said.seconds);
}

/// etcd's answer on a member's own host.
pub fn etcdctl(bench: &Bench, host: &str, command: &[&str]) -> Said {
    let mut argv = vec!["docker", "exec", "etcd", "etcdctl"];
    argv.extend(command);
    bench.on(host, &argv)
}

/// What a member says of itself.
#[track_caller]
pub fn status(bench: &Bench, host: &str) -> serde_json::Value {
    let said = etcdctl(bench, host, &["endpoint", "status", "-w", "json"]).ended(0);
    let all: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    all[0]["Status"].clone()
}

/// The id of the etcd cluster, which all members must agree on.
#[track_caller]
pub fn etcd_cluster(bench: &Bench) -> u64 {
    let ids: BTreeSet<u64> = HOSTS
        .iter()
        .map(|host| status(bench, host)["header"]["cluster_id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    *ids.first().unwrap()
}

/// Each member's id by its name, as one of them knows; learners are left out.
#[track_caller]
pub fn voters(bench: &Bench, host: &str) -> BTreeMap<String, u64> {
    let said = etcdctl(bench, host, &["member", "list", "-w", "json"]).ended(0);
    let all: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let members = all["members"].as_array().unwrap().iter();
    members
        .filter(|member| member["isLearner"] != true)
        .map(|member| (member["name"].as_str().unwrap().to_owned(), member["ID"].as_u64().unwrap()))
        .collect()
}

/// The host that leads.
#[track_caller]
pub fn leader(bench: &Bench) -> &'static str {
    let mut leads = "";
    wait("a leader", 20, || {
        for host in HOSTS {
            let status = status(bench, host);
            if status["leader"] == status["header"]["member_id"] && status["leader"] != 0 {
                leads = host;
                return Ok(());
            }
        }
        Err("nobody says that it leads".to_owned())
    });
    leads
}

/// Keys that must never be lost.
pub fn put_canaries(bench: &Bench) {
    for n in 0..20 {
        let (key, value) = (format!("canary:{n:02}"), format!("alive {n}"));
        etcdctl(bench, "db-01", &["put", &key, &value]).ended(0);
    }
}

/// Every member has every key that must never be lost, in its own data.
#[track_caller]
pub fn canaries_live(bench: &Bench) {
    for host in HOSTS {
        let get = ["get", "--prefix", "canary:", "--consistency", "s", "--print-value-only"];
        let found = etcdctl(bench, host, &get).ended(0).out;
        let wanted: Vec<String> = (0..20).map(|n| format!("alive {n}")).collect();
        let found: Vec<&str> = found.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(found, wanted, "the canaries of {host}");
    }
}

/// When each container was started, by host.
pub fn started(bench: &Bench) -> BTreeMap<String, String> {
    let format = "{{.Id}} {{.State.StartedAt}} {{.State.Running}}";
    HOSTS
        .into_iter()
        .map(|host| {
            let said = bench.on(host, &["docker", "inspect", "-f", format, "etcd"]);
            (host.to_owned(), said.text().trim().to_owned())
        })
        .collect()
}

/// A run after which nothing is left to do changes and restarts nothing.
#[track_caller]
pub fn nothing_more_to_do(bench: &Bench) -> Said {
    let before = started(bench);
    let said = install(bench).ended(0);
    assert!(said.text().contains("3 hosts converged, 0 not; 0 of "), "{}", said.text());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    assert_eq!(actions(bench), Vec::<String>::new());
    said
}

/// One client on the first member's host that writes to whichever member answers.
pub fn start_writer(bench: &Bench, name: &str) {
    let endpoints: Vec<String> =
        HOSTS.iter().map(|host| format!("http://{}:2379", address(host))).collect();
    let script = format!(
        ": > {WRITES}; n=0; while :; do n=$((n + 1)); for to in {}; do \
         answer=$(curl -sf -m 2 -X POST $to/v3/kv/put -d \"{{\\\"key\\\":\\\"$(printf '{name}:%06d' $n | base64 -w0)\\\",\\\"value\\\":\\\"eA==\\\"}}\") \
         && break; answer=nothing; done; \
         case $answer in *revision*) answer=OK;; esac; \
         echo \"$n $(date +%s.%N) $answer\" >> {WRITES}; done",
        endpoints.join(" ")
    );
    bench.on("db-01", &["systemctl", "reset-failed", "writer"]);
    let argv = ["systemd-run", "--quiet", "--unit", "writer", "bash", "-c", &script];
    bench.on("db-01", &argv).ended(0);
    wait("the first write", 10, || {
        let text = bench.on("db-01", &["cat", WRITES]).out;
        if text.contains(" OK") { Ok(()) } else { Err(text) }
    });
}

/// What a writer came to.
#[derive(Debug)]
pub struct Written {
    pub attempted: usize,
    pub acknowledged: usize,
    /// Acknowledged and not readable.
    pub lost: usize,
    /// Seconds between two acknowledged writes at most.
    pub outage: f64,
}

/// Stops the writer and reads everything back.
pub fn stop_writer(bench: &Bench, name: &str) -> Written {
    bench.on("db-01", &["systemctl", "stop", "writer"]);
    let text = bench.output("db-01", &["cat", WRITES]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.splitn(3, ' ').collect())
        .filter(|line: &Vec<_>| line.len() == 3)
        .collect();
    let acked: Vec<&Vec<&str>> = lines.iter().filter(|line| line[2] == "OK").collect();
    let times: Vec<f64> = acked.iter().map(|line| line[1].parse().unwrap()).collect();
    let outage = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let get = ["get", "--prefix", name, "--keys-only"];
    let found = etcdctl(bench, "db-01", &get).ended(0).out;
    let found: BTreeSet<&str> = found.lines().collect();
    let lost = acked
        .iter()
        .filter(|line| {
            let key = format!("{name}:{:06}", line[0].parse::<u32>().unwrap());
            !found.contains(key.as_str())
        })
        .count();
    Written { attempted: lines.len(), acknowledged: acked.len(), lost, outage }
}

/// Takes everything of the cluster off its hosts and off the operator host, as if it had never
/// been.
pub fn never_formed(bench: &Bench) {
    for host in HOSTS {
        let script = "docker rm -f etcd; systemctl disable --now strata-etcd.service; \
                      rm -rf /opt/keybuzz/etcd";
        bench.on(host, &["sh", "-c", script]);
    }
    bench.on(OPERATOR, &["rm", "-rf", RECORD]).ended(0);
}

/// The cluster's id for strata, which markers and record must agree on.
#[track_caller]
pub fn marked_id(bench: &Bench) -> String {
    cluster::agreed_id(bench, RECORD, MARKER, &HOSTS)
}
