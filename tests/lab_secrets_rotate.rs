//! A new password of Redis under load, on real hosts: servers take both, everybody gives the new
//! one, servers forget the old one. Clients are let in at every moment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/redis.rs"]
mod redis;
#[path = "lab/support.rs"]
mod support;

use redis::{
    HOSTS, REDIS, actions, base, canaries_live, elected, install, master, nothing_more_to_do,
    put_canaries, restarted, sentinel, started,
};
use std::collections::BTreeSet;
use support::{Bench, OPERATOR, wait};

/// Where the client keeps its account.
const WRITES: &str = "/root/rotate-writes";
/// The password that the client gives.
const CLIENTS: &str = "/root/rotate-password";

/// A client that connects anew for every write and waits until a replica has it.
fn start_client(bench: &Bench, password: &str) {
    give(bench, password);
    // The account begins with the first connection that is let in: HAProxy and balancer find the
    // new master first.
    let script = format!(
        "exec 2>/dev/null; : > {WRITES}; n=0; while :; do n=$((n + 1)); \
         answer=$(timeout 4 bash -c 'exec 3<>/dev/tcp/10.0.0.10/6379; \
         printf \"AUTH %s\\r\\nSET rotate:%s %s\\r\\nWAIT 1 2000\\r\\n\" \"$(cat {CLIENTS})\" \"$1\" \"$1\" >&3; \
         read -r a <&3; read -r b <&3; read -r c <&3; echo \"$a|$b|$c\"' client $n | tr -d '\\r'); \
         echo \"$n ${{answer:-nothing}}\" >> {WRITES}; done"
    );
    bench.on(OPERATOR, &["systemctl", "reset-failed", "client"]);
    let argv = ["systemd-run", "--quiet", "--unit", "client", "bash", "-c", &script];
    bench.on(OPERATOR, &argv).ended(0);
    wait("the first write", 20, || {
        let text = bench.on(OPERATOR, &["cat", WRITES]).out;
        if text.contains("+OK|+OK|:") { Ok(()) } else { Err(text) }
    });
}

/// The client gives this password from now on: the file is replaced whole.
fn give(bench: &Bench, password: &str) {
    let next = format!("{CLIENTS}.next");
    bench.put_text(OPERATOR, &next, password);
    bench.on(OPERATOR, &["mv", "-T", &next, CLIENTS]).ended(0);
}

/// Stops it: connections, those that were not let in, acknowledged writes, those that are lost.
fn stop_client(bench: &Bench) -> (usize, Vec<String>, usize, usize) {
    bench.on(OPERATOR, &["systemctl", "stop", "client"]);
    let text = bench.output(OPERATOR, &["cat", WRITES]);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let lines: Vec<(&str, &str)> =
        lines.skip_while(|(_, answer)| !answer.starts_with("+OK|+OK|")).collect();
    let kept = |answer: &str| answer.starts_with("+OK|+OK|:") && !answer.ends_with(":0");
    let refused = lines.iter().filter(|(_, answer)| !answer.starts_with("+OK|"));
    let refused = refused.map(|(n, answer)| format!("{n} {answer}")).collect();
    let found = redis::redis(bench, master(bench), &["--scan", "--pattern", "rotate:*"]);
    let found: BTreeSet<&str> = found.lines().collect();
    let acknowledged: Vec<&str> =
        lines.iter().filter(|(_, answer)| kept(answer)).map(|(n, _)| *n).collect();
    let lost = acknowledged.iter().filter(|n| !found.contains(format!("rotate:{n}").as_str()));
    (lines.len(), refused, acknowledged.len(), lost.count())
}

/// What Redis on a host says to a password.
fn answer(bench: &Bench, host: &str, password: &str) -> String {
    let script = "REDISCLI_AUTH=$(cat) exec docker exec -e REDISCLI_AUTH redis redis-cli PING 2>&1";
    bench.with_input(host, &["sh", "-c", script], password).text()
}

/// The password that Sentinel on a host gives.
fn sentinels(bench: &Bench, host: &str) -> String {
    let script = "sed -n 's/^sentinel auth-pass keybuzz-master //p' /opt/keybuzz/sentinel/conf/sentinel.conf";
    bench.output(host, &["sh", "-c", script]).trim().to_owned()
}

#[test]
fn a_password_is_rotated_under_load_and_nobody_is_refused() {
    let bench = Bench::open("t-rotate", &HOSTS);
    base(&bench);
    install(&bench).ended(0);
    put_canaries(&bench);
    let before = started(&bench);
    let old = sentinels(&bench, "redis-01");
    assert!(old.len() >= 16);
    start_client(&bench, &old);

    let rotate = |more: &[&str]| {
        let mut words = vec!["secrets", "rotate", "redis"];
        words.extend(more);
        for host in HOSTS.iter().chain([&OPERATOR]) {
            words.extend(["--host", host]);
        }
        bench.strata(&words)
    };
    let said = rotate(&[]).ended(0);
    println!("figure: rotate, install and diag gate included: {:.1} s", said.seconds);
    println!("actions: {:?}", actions(&bench));
    let new: BTreeSet<String> = REDIS.iter().map(|host| sentinels(&bench, host)).collect();
    let new = new.into_iter().next().unwrap();
    assert!(new != old && new.len() >= 16);
    for host in REDIS {
        assert_eq!(sentinels(&bench, host), new, "{host}");
        for password in [&old, &new] {
            assert!(answer(&bench, host, password).contains("PONG"), "{host}");
        }
    }
    // A second one on top would drop what still counts; a second install finds nothing.
    assert!(rotate(&[]).ended(2).text().contains("being rotated already"));
    nothing_more_to_do(&bench);

    // The client outside the site follows, then the old one goes.
    give(&bench, &new);
    let said = rotate(&["--finish"]).ended(0);
    println!(
        "figure: rotate --finish, look, install and diag gate included: {:.1} s",
        said.seconds
    );
    println!("actions: {:?}", actions(&bench));
    for host in REDIS {
        assert!(answer(&bench, host, &new).contains("PONG"), "{host}");
        assert!(answer(&bench, host, &old).contains("WRONGPASS"), "{host}");
    }
    let (connections, refused, acknowledged, lost) = stop_client(&bench);
    println!(
        "figure: {connections} connections, {} refused, {acknowledged} writes acknowledged by a replica, {lost} lost",
        refused.len()
    );
    assert_eq!((lost, refused), (0, Vec::new()));
    assert!(acknowledged > 20, "{acknowledged}");
    assert_eq!(restarted(&before, &started(&bench)), Vec::<String>::new());
    nothing_more_to_do(&bench);

    // The new one is in the daemons' own files: it survives their starts, and an election.
    let leader = master(&bench);
    bench.on(leader, &["docker", "restart", "redis"]).ended(0);
    let next = match redis::role(&bench, leader).as_str() {
        "master" => leader,
        _ => elected(&bench, leader),
    };
    wait("that all follow", 60, || {
        let links = REDIS.iter().filter(|host| **host != next);
        let up = |host: &&str| {
            redis::redis(&bench, host, &["INFO", "replication"]).contains("master_link_status:up")
        };
        let down: Vec<&&str> = links.filter(|host| !up(host)).collect();
        if down.is_empty() { Ok(()) } else { Err(format!("{down:?}")) }
    });
    for host in REDIS {
        let quorum = sentinel(&bench, host, &["ckquorum", "keybuzz-master"]);
        assert!(quorum.starts_with("OK 3"), "{host}: {quorum}");
    }
    canaries_live(&bench);
}
