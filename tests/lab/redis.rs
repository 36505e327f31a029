//! What tests of the layer redis share: a formed cluster behind its HAProxies, looks at it, a
//! client that writes all the while, and a look at who takes writes.

#![allow(dead_code, reason = "each test program uses a part")]

use super::support::cluster;
#[allow(unused_imports, reason = "each test program uses a part")]
pub use super::support::cluster::{actions, restarted};
use super::support::{Bench, OPERATOR, SITE, Said, install_words, wait};
use std::collections::BTreeMap;

/// Every host but the operator's.
pub const HOSTS: [&str; 5] = ["haproxy-01", "haproxy-02", "redis-01", "redis-02", "redis-03"];
/// The HAProxies.
pub const BALANCERS: [&str; 2] = ["haproxy-01", "haproxy-02"];
/// The members.
pub const REDIS: [&str; 3] = ["redis-01", "redis-02", "redis-03"];
/// What the operator host remembers of the cluster.
pub const RECORD: &str = "/opt/keybuzz-installer/state/redis.json";
/// What stands beside each member's data.
pub const MARKER: &str = "/opt/keybuzz/redis/.strata-cluster";
/// The data of a member.
pub const DATA: &str = "/opt/keybuzz/redis/data";
/// HAProxy's fragment.
pub const FRAGMENT: &str = "/opt/keybuzz/haproxy/30-redis.cfg";

/// Prints the password that the member's own file has.
const PASSWORD: &str = "sed -n 's/^requirepass \"\\{0,1\\}\\([^\"]*\\)\"\\{0,1\\}$/\\1/p' /opt/keybuzz/redis/conf/redis.conf";

/// Where the writer keeps its account.
const WRITES: &str = "/root/writes";
/// Where a member's sampler keeps its account.
const SAMPLES: &str = "/root/samples";

/// A member's private address.
pub fn address(host: &str) -> String {
    format!("10.0.0.{}", 122 + host.trim_start_matches("redis-0").parse::<u32>().unwrap())
}

/// The words of `install --layer redis` with its diag gate alone, and others.
pub fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut words = install_words(&HOSTS);
    words[2] = "redis";
    words.extend(["--host", OPERATOR]);
    words.extend(more);
    words
}

/// `install --layer redis`.
pub fn install(bench: &Bench) -> Said {
    bench.strata(&words(&[]))
}

/// Hosts whose layer base is green. A lab that is kept has them already.
pub fn base(bench: &Bench) {
    bench.furnished();
    let said = bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    if bench.on(OPERATOR, &["test", "-e", RECORD]).code == 0 {
        never_formed(bench);
    }
    println!("figure: base on 6 hosts {:.1} s", said.seconds);
}

/// Redis' answer on a member's own host.
pub fn redis(bench: &Bench, host: &str, command: &[&str]) -> String {
    let script = format!(
        "REDISCLI_AUTH=$({PASSWORD}) exec docker exec -e REDISCLI_AUTH redis redis-cli \"$@\""
    );
    let mut argv = vec!["sh", "-c", &script, "sh"];
    argv.extend(command);
    bench.on(host, &argv).text().trim().to_owned()
}

/// Sentinel's answer on a member's own host.
pub fn sentinel(bench: &Bench, host: &str, command: &[&str]) -> String {
    let mut argv = vec!["docker", "exec", "sentinel", "redis-cli", "-p", "26379", "sentinel"];
    argv.extend(command);
    bench.on(host, &argv).text().trim().to_owned()
}

/// The first line of a member's ROLE.
pub fn role(bench: &Bench, host: &str) -> String {
    redis(bench, host, &["ROLE"]).lines().next().unwrap_or_default().to_owned()
}

/// The one master; fails where there is none or more than one.
#[track_caller]
pub fn master(bench: &Bench) -> &'static str {
    let masters: Vec<&str> =
        REDIS.into_iter().filter(|host| role(bench, host) == "master").collect();
    assert_eq!(masters.len(), 1, "{masters:?}");
    masters[0]
}

/// Waits until the Sentinels of all members but `old` follow another master, which says so itself.
#[track_caller]
pub fn elected(bench: &Bench, old: &str) -> &'static str {
    let mut new = "";
    wait("the election of another master", 40, || {
        let named: Vec<String> = REDIS
            .iter()
            .filter(|host| **host != old)
            .map(|host| sentinel(bench, host, &["get-master-addr-by-name", "keybuzz-master"]))
            .collect();
        let found = REDIS.into_iter().find(|host| {
            *host != old && named.iter().all(|named| named.lines().next() == Some(&address(host)))
        });
        match found {
            Some(found) if role(bench, found) == "master" => {
                new = found;
                Ok(())
            }
            _ => Err(format!("the Sentinels name {named:?}")),
        }
    });
    new
}

/// Keys that must never be lost.
pub fn put_canaries(bench: &Bench) {
    let leader = master(bench);
    let words: Vec<String> =
        (0..100).flat_map(|n| [format!("canary:{n}"), format!("alive {n}")]).collect();
    let mut command = vec!["MSET"];
    command.extend(words.iter().map(String::as_str));
    assert_eq!(redis(bench, leader, &command), "OK");
    assert_eq!(redis(bench, leader, &["WAIT", "2", "5000"]), "2");
}

/// Every member has every key that must never be lost.
#[track_caller]
pub fn canaries_live(bench: &Bench) {
    let keys: Vec<String> = (0..100).map(|n| format!("canary:{n}")).collect();
    let wanted: Vec<String> = (0..100).map(|n| format!("alive {n}")).collect();
    let mut command = vec!["MGET"];
    command.extend(keys.iter().map(String::as_str));
    for host in REDIS {
        let found: Vec<String> = redis(bench, host, &command).lines().map(str::to_owned).collect();
        assert_eq!(found, wanted, "the canaries of {host}");
    }
}

/// When each container was started, by host and name.
pub fn started(bench: &Bench) -> BTreeMap<String, String> {
    started_but(bench, "")
}

/// As [`started`], without a host that is off.
pub fn started_but(bench: &Bench, off: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for host in HOSTS.into_iter().filter(|host| *host != off) {
        let names: &[&str] =
            if host.starts_with("redis") { &["redis", "sentinel"] } else { &["haproxy"] };
        for name in names {
            let format = "{{.Id}} {{.State.StartedAt}} {{.State.Running}}";
            let said = bench.on(host, &["docker", "inspect", "-f", format, name]);
            all.insert(format!("{host} {name}"), said.text().trim().to_owned());
        }
    }
    all
}

/// Waits until both HAProxies have a member in their text, so that none reloads any more.
#[track_caller]
pub fn followed(bench: &Bench, leader: &str) {
    wait("that HAProxy follows the master", 40, || {
        for host in BALANCERS {
            let text = bench.output(host, &["cat", FRAGMENT]);
            if !text.contains(&format!("server redis-master {}:6379 check", address(leader))) {
                return Err(format!("{host} has\n{text}"));
            }
        }
        Ok(())
    });
}

/// A run after which nothing is left to do changes and restarts nothing.
#[track_caller]
pub fn nothing_more_to_do(bench: &Bench) -> Said {
    followed(bench, master(bench));
    let (before, pids) = (started(bench), workers(bench));
    let said = install(bench).ended(0);
    assert!(said.text().contains("5 hosts converged, 0 not; 0 of "), "{}", said.text());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    assert_eq!(workers(bench), pids, "HAProxy was reloaded");
    said
}

/// One client that writes through the balancer until it is stopped.
pub fn start_writer(bench: &Bench, name: &str) {
    let secret = bench.output("redis-01", &["sh", "-c", PASSWORD]);
    bench.put_text(OPERATOR, "/root/redis-password", &secret);
    let script = format!(
        "exec 2>/dev/null; : > {WRITES}; n=0; while :; do n=$((n + 1)); \
         answer=$(timeout 3 bash -c 'exec 3<>/dev/tcp/10.0.0.10/6379; \
         printf \"AUTH %s\\r\\nSET {name}:%s %s\\r\\n\" \"$(cat /root/redis-password)\" \"$1\" \"$1\" >&3; \
         read -r a <&3; read -r b <&3; echo \"$b\"' writer $n | tr -d '\\r'); \
         echo \"$n $(date +%s.%N) ${{answer:-nothing}}\" >> {WRITES}; done"
    );
    bench.on(OPERATOR, &["systemctl", "reset-failed", "writer"]);
    let argv = ["systemd-run", "--quiet", "--unit", "writer", "bash", "-c", &script];
    bench.on(OPERATOR, &argv).ended(0);
    wait("the first write", 10, || {
        let text = bench.on(OPERATOR, &["cat", WRITES]).out;
        if text.contains("+OK") { Ok(()) } else { Err(text) }
    });
}

/// What a writer came to.
#[derive(Debug)]
pub struct Written {
    pub attempted: usize,
    pub acknowledged: usize,
    /// Acknowledged and not readable on the master.
    pub lost: usize,
    /// Seconds between two acknowledged writes at most.
    pub outage: f64,
    /// The answers other than OK, each once.
    pub refusals: Vec<String>,
}

/// Stops the writer and reads everything back from the master.
pub fn stop_writer(bench: &Bench, name: &str) -> Written {
    bench.on(OPERATOR, &["systemctl", "stop", "writer"]);
    let text = bench.output(OPERATOR, &["cat", WRITES]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.splitn(3, ' ').collect())
        .filter(|l: &Vec<_>| l.len() == 3)
        .collect();
    let acked: Vec<&Vec<&str>> = lines.iter().filter(|line| line[2] == "+OK").collect();
    let times: Vec<f64> = acked.iter().map(|line| line[1].parse().unwrap()).collect();
    let outage = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let script = format!(
        "REDISCLI_AUTH=$({PASSWORD}) docker exec -e REDISCLI_AUTH redis redis-cli --scan --pattern '{name}:*'"
    );
    let found = bench.output(master(bench), &["sh", "-c", &script]);
    let found: std::collections::BTreeSet<&str> = found.lines().collect();
    let lost =
        acked.iter().filter(|line| !found.contains(format!("{name}:{}", line[0]).as_str())).count();
    let mut refusals: Vec<String> =
        lines.iter().filter(|line| line[2] != "+OK").map(|line| line[2].to_owned()).collect();
    refusals.sort();
    refusals.dedup();
    Written { attempted: lines.len(), acknowledged: acked.len(), lost, outage, refusals }
}

/// On every member, tries a write five times a second until it is stopped.
pub fn start_samplers(bench: &Bench) {
    for host in REDIS {
        let script = format!(
            "while :; do REDISCLI_AUTH=$({PASSWORD}); export REDISCLI_AUTH; \
             echo \"$(date +%s.%N) $(timeout 1 docker exec -e REDISCLI_AUTH redis redis-cli SET sampled:$(hostname) x 2>&1 | head -n 1)\" \
             >> {SAMPLES}; sleep 0.2; done"
        );
        bench.on(host, &["sh", "-c", &format!("rm -f {SAMPLES}; systemctl reset-failed sampler")]);
        let argv = ["systemd-run", "--quiet", "--unit", "sampler", "sh", "-c", &script];
        bench.on(host, &argv).ended(0);
    }
}

/// Stops the samplers; who took writes, one after the other. A host that comes twice without a
/// restart of another's reign took writes beside another master.
pub fn stop_samplers(bench: &Bench) -> Vec<String> {
    let mut taken: Vec<(f64, &str)> = Vec::new();
    for host in REDIS {
        bench.on(host, &["systemctl", "stop", "sampler"]);
        let text = bench.on(host, &["cat", SAMPLES]).out;
        taken.extend(text.lines().filter_map(|line| {
            let (time, answer) = line.split_once(' ')?;
            (answer == "OK").then(|| (time.parse().unwrap(), host))
        }));
    }
    taken.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut reigns: Vec<String> = taken.into_iter().map(|(_, host)| host.to_owned()).collect();
    reigns.dedup();
    reigns
}

/// Takes everything of the cluster off its hosts and off the operator host, as if it had never
/// been.
pub fn never_formed(bench: &Bench) {
    for host in REDIS {
        let script = "docker rm -f redis sentinel; rm -rf /opt/keybuzz/redis /opt/keybuzz/sentinel";
        bench.on(host, &["sh", "-c", script]);
    }
    bench.on(OPERATOR, &["rm", "-rf", RECORD]).ended(0);
}

/// The process ids of HAProxy's workers: a reload changes them.
pub fn workers(bench: &Bench) -> [String; 2] {
    cluster::workers(bench, BALANCERS)
}

/// The cluster's id, which markers and record must agree on.
#[track_caller]
pub fn cluster_id(bench: &Bench) -> String {
    cluster::agreed_id(bench, RECORD, MARKER, &REDIS)
}
