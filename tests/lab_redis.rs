//! Redis and its Sentinels on real hosts, behind real HAProxies: formed once, kept as they are,
//! mended from the live master, refused where something does not fit, and rolled member by member.
//!
//! One lab for all of it, one step after the other, since a formed cluster is what most of them
//! need. Campaigns are in `lab_redis_campaigns.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/redis.rs"]
mod redis;
#[path = "lab/support.rs"]
mod support;

use redis::{
    BALANCERS, DATA, FRAGMENT, MARKER, RECORD, REDIS, actions, address, base, canaries_live,
    cluster_id, elected, followed, install, master, nothing_more_to_do, put_canaries, restarted,
    role, start_samplers, start_writer, started, started_but, stop_samplers, stop_writer, words,
    workers,
};
use std::path::Path;
use std::time::{Duration, Instant};
use strata::lab::Fault;
use support::cluster::Timed;
use support::{Bench, OPERATOR, SITE, Said, replace, wait};

/// The updater's timer.
const TIMER: &str = "redis-update-master.timer";

#[test]
fn a_cluster_is_formed_once_and_kept() {
    let bench = Bench::open("t-redis", &redis::HOSTS);
    base(&bench);
    let mut timed = Timed(Instant::now());
    timed.step("a host is off: no formation", || no_formation_without_a_host(&bench));
    timed.step("formation", || formed(&bench));
    timed.step("second run", || the_second_run_does_nothing(&bench));
    let id = cluster_id(&bench);
    put_canaries(&bench);
    timed.step("diag red", || diag_names_what_does_not_follow(&bench));
    timed.step("elected master", || the_elected_master_is_kept(&bench));
    timed.step("election", || a_run_waits_for_an_election(&bench));
    timed.step("data gone", || lost_data_comes_back_from_the_master(&bench));
    timed.step("all stopped", || a_stopped_cluster_is_started(&bench));
    timed.step("wrong password", || a_wrong_password_changes_nothing(&bench));
    timed.step("record", || a_lost_record_is_restored_and_a_foreign_marker_refused(&bench));
    timed.step("host off", || a_host_that_is_off_stops_the_run(&bench));
    timed.step("live setting", || a_live_setting_changes_without_a_restart(&bench));
    timed.step("rolling", || a_changed_container_goes_member_by_member(&bench));
    timed.step("error", || an_error_of_a_member_tells_no_secret(&bench));
    assert_eq!(cluster_id(&bench), id);
    canaries_live(&bench);
}

/// The last lines of a run that say why it was refused: what operators read.
fn why(said: &Said) -> String {
    let text = said.text();
    let lines = text.lines().filter(|line| {
        ["cluster `", "cluster redis", "hint: "].iter().any(|part| line.contains(part))
    });
    let untimed = |line: &str| line.split("; its gate").next().unwrap_or_default().to_owned();
    lines.map(|line| untimed(line.trim())).collect::<Vec<_>>().join("\n")
}

fn no_formation_without_a_host(bench: &Bench) {
    let off = Fault::StopHost { host: "redis-03".to_owned() };
    let fault = bench.lab.fault(&off, Duration::from_secs(300)).unwrap();
    let said = install(bench).ended(7);
    assert!(why(&said).contains("not every member could be looked at: redis-03"), "{said:?}");
    assert_ne!(bench.on(OPERATOR, &["test", "-e", RECORD]).code, 0, "a formation was written down");
    for host in ["redis-01", "redis-02"] {
        assert_ne!(bench.on(host, &["test", "-e", "/opt/keybuzz/redis"]).code, 0, "{host}");
        assert_eq!(bench.output(host, &["docker", "ps", "-aq"]), "", "{host}");
    }
    bench.lab.heal(&fault).unwrap();
}

fn formed(bench: &Bench) {
    let said = install(bench).ended(0);
    let text = said.text();
    for part in ["cluster redis  absent", "cluster redis  healthy: redis-01 is master: kept"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(master(bench), "redis-01");
    println!("figure: formation, diag gate included: {:.1} s", said.seconds);
}

fn the_second_run_does_nothing(bench: &Bench) {
    let said = nothing_more_to_do(bench);
    println!("figure: second run, diag gate included: {:.2} s", said.seconds);
    let check = bench.strata(&words(&["--check"])).ended(0);
    println!("figure: install --check: {:.2} s", check.seconds);
}

/// One timer is dead; the other HAProxy leads to a replica, by hand.
fn diag_names_what_does_not_follow(bench: &Bench) {
    let (replica, live) = (address("redis-02"), address("redis-01"));
    for host in BALANCERS {
        bench.on(host, &["systemctl", "stop", TIMER]).ended(0);
    }
    let script = format!("sed -i 's/{live}:6379 check/{replica}:6379 check/' {FRAGMENT}");
    bench.on("haproxy-02", &["sh", "-c", &script]).ended(0);
    bench.on("haproxy-02", &["systemctl", "reload", "haproxy"]).ended(0);
    // What is wrong here stays wrong: nobody has to wait for it.
    bench.put_site(SITE, |site| {
        let gate = site.join("roles/haproxy-redis/gate.toml");
        replace(&gate, "max_age = 60", "max_age = 600, within = 4");
        replace(&gate, "\"redis-path\"\n", "\"redis-path\"\nbounds = { within = 4 }\n");
    });
    let red = bench.strata(&["verify", "--layer", "redis"]).ended(3).text();
    let mut found: Vec<&str> = red
        .lines()
        .skip_while(|line| *line != "problems")
        .filter_map(|line| line.trim().strip_prefix("found "))
        // The balancer takes turns: which HAProxy it asked last is chance.
        .filter(|line| !line.contains("through balancer"))
        .filter_map(|line| line.trim().split(" (after").next())
        .collect();
    found.sort_unstable();
    insta::assert_debug_snapshot!("diag_names_what_does_not_follow", found);
    bench.put_site(SITE, |_| {});
    install(bench).ended(0);
    followed(bench, "redis-01");
}

fn kill(bench: &Bench, host: &str) {
    bench.on(host, &["docker", "kill", "--signal", "KILL", "redis"]).ended(0);
}

fn the_elected_master_is_kept(bench: &Bench) {
    kill(bench, "redis-01");
    let start = Instant::now();
    let new = elected(bench, "redis-01");
    println!("figure: {new} leads {:.1} s after the master's death", start.elapsed().as_secs_f64());
    let before = started(bench);
    let said = install(bench).ended(0);
    assert!(said.text().contains(&format!("healthy: {new} is master: kept")), "{}", said.text());
    assert_eq!(actions(bench), ["redis-01: start Redis as it was"]);
    assert_eq!(restarted(&before, &started(bench)), ["redis-01 redis"]);
    assert_eq!(master(bench), new);
    canaries_live(bench);
    nothing_more_to_do(bench);
}

fn a_run_waits_for_an_election(bench: &Bench) {
    start_samplers(bench);
    let old = master(bench);
    let before = started(bench);
    kill(bench, old);
    let said = install(bench).ended(0);
    println!("figure: a run that began with the master's death: {:.1} s", said.seconds);
    assert_eq!(restarted(&before, &started(bench)), [format!("{old} redis")]);
    let new = master(bench);
    let reigns = stop_samplers(bench);
    assert!(reigns.len() <= 2 && reigns.last().unwrap() == new, "{reigns:?}, {new} leads");
    canaries_live(bench);
}

/// Empties the data directory, whatever its owner does meanwhile.
fn empty(bench: &Bench, host: &str) {
    let script = format!("cd {DATA} && find . -mindepth 1 -delete; ls -A {DATA}");
    assert_eq!(bench.output(host, &["sh", "-c", &script]), "");
}

fn lost_data_comes_back_from_the_master(bench: &Bench) {
    let leader = master(bench);
    let replica = *REDIS.iter().rev().find(|host| **host != leader).unwrap();
    empty(bench, replica);
    let said = install(bench).ended(0);
    println!("figure: a replica's data gone while it ran: {:.1} s", said.seconds);
    assert_eq!(
        actions(bench),
        [
            format!("{replica}: set the old configuration aside"),
            format!("{replica}: make Redis, led by {}", address(leader))
        ]
    );
    canaries_live(bench);
    bench.on(replica, &["docker", "stop", "redis"]).ended(0);
    empty(bench, replica);
    let said = install(bench).ended(0);
    println!("figure: a replica's data gone while it was stopped: {:.1} s", said.seconds);
    canaries_live(bench);
    // The master itself loses everything: another leads, and the old one must not begin with
    // nothing, although its own file says that it leads.
    start_samplers(bench);
    bench.on(leader, &["docker", "kill", "redis"]).ended(0);
    empty(bench, leader);
    let said = install(bench).ended(0);
    println!("figure: the master's data gone: {:.1} s", said.seconds);
    assert_ne!(master(bench), leader);
    assert!(actions(bench).contains(&format!("{leader}: set the old configuration aside")));
    let reigns = stop_samplers(bench);
    assert!(reigns.len() <= 2, "{reigns:?}");
    canaries_live(bench);
    for host in REDIS {
        let kept = bench.output(host, &["sh", "-c", &format!("ls {DATA} | sort | head -n 1")]);
        assert_eq!(kept, "appendonlydir", "{host}");
    }
    nothing_more_to_do(bench);
}

fn a_stopped_cluster_is_started(bench: &Bench) {
    let leader = master(bench);
    let id = cluster_id(bench);
    start_samplers(bench);
    for host in REDIS {
        bench.on(host, &["docker", "stop", "redis", "sentinel"]).ended(0);
    }
    let said = install(bench).ended(0);
    println!("figure: everything was stopped: {:.1} s", said.seconds);
    println!("actions: {:?}", actions(bench));
    let reigns = stop_samplers(bench);
    assert!(reigns.len() <= 2 && reigns.last().unwrap() == master(bench), "{reigns:?}");
    println!("figure: {leader} led before, {} after", master(bench));
    assert_eq!(cluster_id(bench), id);
    canaries_live(bench);
    // The same once more, and the master's disk did not survive it: the others stand for election
    // only when both are there.
    let leader = master(bench);
    for host in REDIS {
        bench.on(host, &["docker", "stop", "redis", "sentinel"]).ended(0);
    }
    empty(bench, leader);
    let said = install(bench).ended(0);
    println!("figure: everything was stopped, the master's data gone: {:.1} s", said.seconds);
    let done = actions(bench);
    let place = |what: &str| done.iter().rposition(|action| action.ends_with(what)).unwrap();
    let (held, free) = (place("elects nobody for now"), place("may elect again"));
    assert!(held < place("start Redis as it was") && place("start Redis as it was") < free);
    assert_ne!(master(bench), leader);
    canaries_live(bench);
    nothing_more_to_do(bench);
}

fn a_wrong_password_changes_nothing(bench: &Bench) {
    let set = |host: &str, script: &str| bench.on(host, &["sh", "-c", script]).ended(0);
    // Its own file keeps the right one; a clients' program that knows the wrong one sets it back.
    redis::redis(bench, "redis-02", &["CONFIG", "SET", "requirepass", "set by hand"]);
    // Something that every other run would mend.
    let drifted = "/usr/local/bin/redis-update-master.sh";
    bench.on("haproxy-01", &["chmod", "0700", drifted]).ended(0);
    let before = started(bench);
    let said = install(bench).ended(7);
    insta::assert_snapshot!("a_wrong_password_changes_nothing", why(&said));
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    assert_eq!(bench.output("haproxy-01", &["stat", "-c", "%a", drifted]), "700");
    let back = "wanted=$(sed -n 's/^requirepass \"\\{0,1\\}\\([^\"]*\\)\"\\{0,1\\}$/\\1/p' /opt/keybuzz/redis/conf/redis.conf); \
                printf 'CONFIG SET requirepass %s\\n' \"$wanted\" | \
                REDISCLI_AUTH='set by hand' docker exec -i -e REDISCLI_AUTH redis redis-cli";
    set("redis-02", back);
    install(bench).ended(0);
    assert_eq!(bench.output("haproxy-01", &["stat", "-c", "%a", drifted]), "755");
}

fn a_lost_record_is_restored_and_a_foreign_marker_refused(bench: &Bench) {
    let id = cluster_id(bench);
    bench.on(OPERATOR, &["rm", RECORD]).ended(0);
    let before = started(bench);
    install(bench).ended(0);
    assert_eq!(actions(bench), ["write down that the cluster is formed"]);
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    assert_eq!(cluster_id(bench), id);
    let marker = bench.output("redis-02", &["cat", MARKER]);
    bench.put_text("redis-02", MARKER, &marker.replace(&id, "0123456789abcdef0123456789abcdef"));
    let said = install(bench).ended(7);
    insta::assert_snapshot!("a_foreign_marker_is_refused", why(&said).replace(&id, "[id]"));
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    bench.put_text("redis-02", MARKER, &format!("{marker}\n"));
}

fn a_host_that_is_off_stops_the_run(bench: &Bench) {
    let leader = master(bench);
    let replica = *REDIS.iter().find(|host| **host != leader).unwrap();
    let before = started_but(bench, replica);
    let off = Fault::StopHost { host: replica.to_owned() };
    let fault = bench.lab.fault(&off, Duration::from_secs(300)).unwrap();
    let said = install(bench).ended(7);
    assert!(why(&said).contains(&format!("could be looked at: {replica}: ")), "{said:?}");
    assert_eq!(restarted(&before, &started_but(bench, replica)), Vec::<String>::new());
    // Taken out on purpose, it is no reason to stop any more; a change of the rest still is.
    let out = ["hosts", "out", replica, "--reason", "its memory is replaced", "--until", "1d"];
    bench.strata(&out).ended(0);
    let said = install(bench).ended(0);
    println!("figure: a run with a member out of service: {:.1} s", said.seconds);
    let degraded = format!("{replica} is out of service and was not looked at");
    assert!(said.text().contains(&degraded), "{said:?}");
    let kill = ["verify", "--layer", "redis", "--test", "redis-kill-master"];
    let needs_all = bench.strata(&[&kill[..], &["--confirm", "keybuzz"]].concat()).ended(3);
    assert!(needs_all.text().contains("it needs the whole cluster"), "{needs_all:?}");
    bench.put_site(SITE, more_memory);
    let said = install(bench).ended(7);
    let refused = format!("with {replica} out of service this is not done");
    assert!(why(&said).contains(&refused), "{said:?}");
    assert_eq!(restarted(&before, &started_but(bench, replica)), Vec::<String>::new());
    bench.put_site(SITE, |_| {});
    bench.lab.heal(&fault).unwrap();
    bench.strata(&["hosts", "in", replica]).ended(0);
    let said = install(bench).ended(0);
    println!("figure: the run after a host came back: {:.1} s", said.seconds);
    canaries_live(bench);
}

fn a_live_setting_changes_without_a_restart(bench: &Bench) {
    let before = started(bench);
    bench.put_site(SITE, more_memory);
    install(bench).ended(0);
    for host in REDIS {
        let found = redis::redis(bench, host, &["CONFIG", "GET", "maxmemory"]);
        assert_eq!(found.lines().last(), Some("629145600"), "{host}");
    }
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    println!("actions: {:?}", actions(bench));
}

fn more_memory(site: &Path) {
    replace(&site.join("roles/redis/role.toml"), "\"512mb\"", "\"600mb\"");
}

fn another_container(site: &Path) {
    more_memory(site);
    let command = "[\"sh\", \"/conf/start.sh\"";
    let more = format!("{command}, \"an argument that it does not read\"");
    replace(&site.join("roles/redis/role.toml"), command, &more);
}

fn a_changed_container_goes_member_by_member(bench: &Bench) {
    let leader = master(bench);
    bench.put_site(SITE, another_container);
    start_writer(bench, "rolled");
    start_samplers(bench);
    let said = install(bench).ended(0);
    let reigns = stop_samplers(bench);
    let written = stop_writer(bench, "rolled");
    println!("figure: rolling renewal of three members: {:.1} s, {written:?}", said.seconds);
    let replicas: Vec<&str> = REDIS.into_iter().filter(|host| *host != leader).collect();
    assert_eq!(
        actions(bench),
        [
            format!("{}: renew Redis", replicas[0]),
            format!("{}: renew Redis", replicas[1]),
            format!("{leader}: hand leadership over"),
            format!("{leader}: renew Redis"),
        ]
    );
    let new = master(bench);
    assert_ne!(new, leader);
    assert_eq!(reigns, [leader, new]);
    assert_eq!(written.lost, 0, "{written:?}");
    // A stall, not a busy machine's seconds.
    assert!(written.outage < 30.0, "{written:?}");
    for host in REDIS {
        assert_ne!(role(bench, host), "");
    }
    wait("that HAProxy follows", 40, || {
        let now = workers(bench);
        if now.iter().all(|pid| !pid.is_empty()) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    nothing_more_to_do(bench);
}

/// The new container prints the password and ends: what the engine kept of its output is shown to
/// the operator, and the password in it is masked everywhere.
fn an_error_of_a_member_tells_no_secret(bench: &Bench) {
    let file = "/opt/keybuzz/redis/conf/redis.conf";
    let script =
        format!("sed -n 's/^requirepass \"\\{{0,1\\}}\\([^\"]*\\)\"\\{{0,1\\}}$/\\1/p' {file}");
    let password = bench.output("redis-02", &["sh", "-c", &script]).trim().to_owned();
    assert!(password.len() > 8, "the password is known");
    bench.put_site(SITE, |site| {
        more_memory(site);
        let command = "[\"sh\", \"/conf/start.sh\"";
        let telling = "[\"sh\", \"-c\", \"grep ^requirepass /conf/redis.conf >&2; exit 1\"";
        replace(&site.join("roles/redis/role.toml"), command, telling);
    });
    let said = bench.strata(&[&["-v"][..], &words(&[])].concat()).ended(1);
    assert!(said.text().contains("requirepass"), "its output is shown: {said:?}");
    let journals = format!("cat {SITE}/.strata/runs/*");
    for text in [
        said.text(),
        bench.strata(&["show", "-v"]).text(),
        bench.output(OPERATOR, &["sh", "-c", &journals]),
    ] {
        assert!(!text.contains(&password), "the password is told: {text}");
    }
    bench.put_site(SITE, another_container);
    install(bench).ended(0);
    nothing_more_to_do(bench);
}
