//! HAProxy follows the Redis master: real Redis and Sentinel on three hosts, real HAProxy on two.
//!
//! Redis is started by hand here, so that what is tested is the load balancer's side alone. The
//! first host asked is frozen, Sentinels disagree with the inventory, say nothing and say nonsense;
//! the Docker daemon restarts.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "lab/support.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use strata::lab::Fault;
use support::{Bench, OPERATOR, SITE, Said, append, install_words, wait};

const HOSTS: [&str; 5] = ["haproxy-01", "haproxy-02", "redis-01", "redis-02", "redis-03"];
const BALANCERS: [&str; 2] = ["haproxy-01", "haproxy-02"];
const REDIS: [&str; 3] = ["redis-01", "redis-02", "redis-03"];
const LAYER: &str = "redis-through-haproxy";
const FRAGMENT: &str = "/opt/keybuzz/haproxy/30-redis.cfg";
const UPDATER: &str = "redis-update-master.service";

/// A layer of the roles under test, beside a Redis whose ports are open and nothing more.
fn edit(site: &Path) {
    append(
        &site.join("strata.toml"),
        &format!(
            "\n[[layer]]\nname = \"{LAYER}\"\nplace = [{{ role = \"redis-by-hand\", on = \"redis\" }}, \
             {{ role = \"haproxy\", on = \"haproxy\" }}, {{ role = \"haproxy-redis\", on = \"haproxy\" }}]\n"
        ),
    );
    let role = site.join("roles/redis-by-hand");
    std::fs::create_dir(&role).unwrap();
    std::fs::write(
        role.join("role.toml"),
        "description = \"A Redis that the test starts: its image and its ports\"\n\
         [[firewall]]\nname = \"redis\"\nports = [6379, 26379]\nfrom = [\"private\"]\n\
         [[step]]\nname = \"Image\"\ncommand = { argv = [\"docker\", \"image\", \"inspect\", \"{{ versions.redis_image }}\"], unless = [\"true\"] }\n",
    )
    .unwrap();
}

fn address(host: &str) -> String {
    format!("10.0.0.{}", 122 + host.trim_start_matches("redis-0").parse::<u32>().unwrap())
}

/// The address and port in the live line.
fn line(bench: &Bench, host: &str) -> String {
    let text = bench.output(host, &["cat", FRAGMENT]);
    let mut lines = text.lines().filter_map(|line| {
        line.trim().strip_prefix("server redis-master ")?.strip_suffix(" check")
    });
    let line = lines.next().unwrap().to_owned();
    assert_eq!(lines.next(), None, "{text}");
    line
}

/// A field of HAProxy's own account of itself.
fn info(bench: &Bench, host: &str, field: &str) -> String {
    let ask = "echo show info | socat - UNIX-CONNECT:/run/haproxy/admin.sock";
    let text = bench.output(host, &["sh", "-c", ask]);
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{field}: ")));
    found.unwrap_or_else(|| panic!("no {field} in {text}")).to_owned()
}

/// Redis' answer through a balancer, asked on the operator host's side of the network.
fn through(bench: &Bench, balancer: &str, command: &str) -> String {
    let ask = format!(
        "exec 3<>/dev/tcp/{balancer}/6379; printf '{command}\\r\\n' >&3; timeout 2 head -n 3 <&3"
    );
    bench.on("redis-02", &["timeout", "4", "bash", "-c", &ask]).out
}

fn follows(bench: &Bench, within: u64, wanted: impl Fn(&str) -> bool) -> f64 {
    let start = Instant::now();
    wait("that both balancers follow the master", within, || {
        for balancer in BALANCERS {
            let line = line(bench, balancer);
            if !wanted(&line) {
                return Err(format!("{balancer} has {line}"));
            }
            let role = through(bench, balancer, "ROLE");
            if !role.contains("master") {
                return Err(format!("{balancer} with {line} leads to {role:?}"));
            }
        }
        Ok(())
    });
    start.elapsed().as_secs_f64()
}

fn update(bench: &Bench, host: &str) -> Said {
    bench.on(host, &["systemctl", "start", UPDATER])
}

#[test]
fn both_balancers_follow_the_master_and_nothing_else() {
    let bench = Bench::open("t-haproxy-redis", &HOSTS);
    bench.fresh_with(edit);
    bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    images_are_loaded(&bench);
    install(&bench).ended(0);
    without_a_master_clients_are_refused(&bench);
    redis_is_started(&bench);
    let seconds = follows(&bench, 35, |line| line == "10.0.0.123:6379");
    println!("figure: first master on both balancers after {seconds:.1} s");
    at_rest_nothing_reloads(&bench);
    the_first_host_asked_freezes_and_a_session_is_cut(&bench);
    a_second_run_keeps_the_line(&bench);
    a_restart_of_docker_leaves_haproxy_alone(&bench);
    one_sentinel_is_enough_and_none_changes_nothing(&bench);
}

fn install(bench: &Bench) -> Said {
    let mut words = install_words(&HOSTS);
    words[2] = LAYER;
    bench.strata_in(SITE, &words)
}

fn images_are_loaded(bench: &Bench) {
    for host in HOSTS {
        let script = format!(
            "for archive in {SITE}/images/*.tar.gz; do \
             ssh -oStrictHostKeyChecking=accept-new {host} docker load < \"$archive\"; done"
        );
        bench.on(OPERATOR, &["sh", "-c", &script]).ended(0);
    }
}

fn without_a_master_clients_are_refused(bench: &Bench) {
    let health = |path: &str| {
        let url = format!("http://10.0.0.11:8404/{path}");
        bench.output(OPERATOR, &["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", &url])
    };
    for balancer in BALANCERS {
        assert_eq!(line(bench, balancer), "127.0.0.1:6380");
        assert_eq!(through(bench, balancer, "PING"), "");
        assert_ne!(update(bench, balancer).code, 0);
        assert_eq!(line(bench, balancer), "127.0.0.1:6380");
    }
    assert_eq!(["health", "health/redis", "health/other"].map(health), ["200", "503", "404"]);
}

/// Replicas of redis-01, and a Sentinel on each of the three.
fn redis_is_started(bench: &Bench) {
    for host in REDIS {
        let own = address(host);
        bench.on(host, &["mkdir", "-p", "/srv/redis", "/srv/sentinel"]).ended(0);
        let replica = if host == "redis-01" { "" } else { "--replicaof 10.0.0.123 6379" };
        start(
            bench,
            host,
            "redis",
            &format!("redis-server --protected-mode no --replica-announce-ip {own} {replica}"),
        );
        sentinel(bench, host, "10.0.0.123");
    }
}

fn sentinel(bench: &Bench, host: &str, master: &str) {
    let own = address(host);
    let text = format!(
        "port 26379\nprotected-mode no\ndir /tmp\nsentinel announce-ip {own}\n\
         sentinel monitor keybuzz-master {master} 6379 2\n\
         sentinel down-after-milliseconds keybuzz-master 2000\n\
         sentinel failover-timeout keybuzz-master 10000\n"
    );
    bench.put_text(host, "/srv/sentinel/sentinel.conf", &text);
    bench.on(host, &["chown", "-R", "999:1000", "/srv/sentinel"]).ended(0);
    start(bench, host, "sentinel", "redis-sentinel /data/sentinel.conf");
}

fn start(bench: &Bench, host: &str, name: &str, command: &str) {
    let script = format!(
        "docker run --detach --name {name} --network host --volume /srv/{name}:/data \
         $(docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' strata.lab/redis) {command}"
    );
    bench.on(host, &["sh", "-c", &script]).ended(0);
}

fn at_rest_nothing_reloads(bench: &Bench) {
    for balancer in BALANCERS {
        let worker = info(bench, balancer, "Pid");
        for _ in 0..5 {
            let said = update(bench, balancer).ended(0);
            assert!(said.seconds < 2.0, "a run at rest took {:.1} s", said.seconds);
        }
        assert_eq!(info(bench, balancer, "Pid"), worker, "{balancer} was reloaded at rest");
    }
}

/// Frozen, a host still accepts connections and answers nothing: HAProxy's own check goes on
/// passing, so that only the updater can end the session.
fn the_first_host_asked_freezes_and_a_session_is_cut(bench: &Bench) {
    let session = "exec 3<>/dev/tcp/haproxy-01/6379; printf 'SUBSCRIBE x\\r\\n' >&3; cat <&3";
    bench
        .on("redis-02", &["systemd-run", "--unit", "session", "--quiet", "bash", "-c", session])
        .ended(0);
    let live =
        || bench.on("redis-02", &["systemctl", "is-active", "session"]).out.trim() == "active";
    wait("the session", 5, || {
        if info(bench, "haproxy-01", "CurrConns") != "0" && live() {
            Ok(())
        } else {
            Err("none".to_owned())
        }
    });
    let frozen = Fault::FreezeHost { host: "redis-01".to_owned() };
    let fault = bench.lab.fault(&frozen, Duration::from_secs(90)).unwrap();
    let seconds = follows(bench, 35, |line| line.ends_with(":6379") && line != "10.0.0.123:6379");
    println!("figure: both balancers follow {seconds:.1} s after the master froze");
    assert!(!live(), "a session to the old master lives on");
    for balancer in BALANCERS {
        let said = update(bench, balancer).ended(0);
        println!("figure: a run with one dead Sentinel took {:.2} s", said.seconds);
        assert!(said.seconds < 2.0, "a run with one dead Sentinel took {:.1} s", said.seconds);
    }
    bench.lab.heal(&fault).unwrap();
    wait("that the old master is a replica", 40, || {
        let role = bench.on("redis-01", &["docker", "exec", "redis", "redis-cli", "role"]).text();
        if role.starts_with("slave") { Ok(()) } else { Err(role) }
    });
}

/// The role's own text has another line: a run must not bring it back (X5).
fn a_second_run_keeps_the_line(bench: &Bench) {
    let before = BALANCERS.map(|balancer| (line(bench, balancer), info(bench, balancer, "Pid")));
    let said = install(bench).ended(0);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
    let after = BALANCERS.map(|balancer| (line(bench, balancer), info(bench, balancer, "Pid")));
    assert_eq!(before, after);
}

fn a_restart_of_docker_leaves_haproxy_alone(bench: &Bench) {
    let worker = info(bench, "haproxy-01", "Pid");
    bench.on("haproxy-01", &["systemctl", "restart", "docker"]).ended(0);
    wait("the unit", 30, || {
        let said = bench.on("haproxy-01", &["systemctl", "is-active", "haproxy"]);
        let attached = bench.on("haproxy-01", &["pgrep", "-f", "^docker (attach|run)"]);
        if said.code == 0 && attached.code == 0 { Ok(()) } else { Err(said.text()) }
    });
    assert_eq!(info(bench, "haproxy-01", "Pid"), worker);
    bench.on("haproxy-01", &["systemctl", "reload", "haproxy"]).ended(0);
    wait("a reload", 10, || {
        if info(bench, "haproxy-01", "Pid") == worker { Err(worker.clone()) } else { Ok(()) }
    });
}

fn one_sentinel_is_enough_and_none_changes_nothing(bench: &Bench) {
    let kept = BALANCERS.map(|balancer| line(bench, balancer));
    let unchanged = |what: &str| {
        for (balancer, kept) in BALANCERS.iter().zip(&kept) {
            assert_ne!(update(bench, balancer).code, 0, "{what}");
            assert_eq!(&line(bench, balancer), kept, "{what}");
        }
    };
    for host in ["redis-01", "redis-02"] {
        bench.on(host, &["docker", "rm", "--force", "sentinel"]).ended(0);
    }
    for balancer in BALANCERS {
        update(bench, balancer).ended(0);
    }
    bench.on("redis-03", &["docker", "rm", "--force", "sentinel"]).ended(0);
    unchanged("no Sentinel answers");
    // A server that is no Sentinel answers with errors.
    for host in REDIS {
        start(bench, host, "other", "redis-server --protected-mode no --port 26379");
    }
    unchanged("what answers is no Sentinel");
    // Sentinels of somebody else's master: all agree on a host that is no Redis of ours.
    for host in REDIS {
        bench.on(host, &["docker", "rm", "--force", "other"]).ended(0);
        sentinel(bench, host, "10.0.0.250");
    }
    wait("the Sentinels", 10, || {
        let said = bench.on(
            "redis-01",
            &[
                "docker",
                "exec",
                "sentinel",
                "redis-cli",
                "-p",
                "26379",
                "sentinel",
                "get-master-addr-by-name",
                "keybuzz-master",
            ],
        );
        if said.out.contains("10.0.0.250") { Ok(()) } else { Err(said.text()) }
    });
    unchanged("the address is not of the inventory");
}
