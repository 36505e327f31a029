//! HAProxy follows the Redis master: real Redis and Sentinel on three hosts, real HAProxy on two.
//!
//! Redis is started by hand here, so that what is tested is the load balancer's side alone. The
//! first host asked is frozen, Sentinels disagree with the inventory, say nothing and say nonsense;
//! the Docker daemon restarts, HAProxy is killed and stopped, and its host loses its power.

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
const GROUND: &str = "ground";
const LAYER: &str = "redis-through-haproxy";
const FRAGMENT: &str = "/opt/keybuzz/haproxy/30-redis.cfg";
const UPDATER: &str = "redis-update-master.service";

/// Two layers: what the roles under test stand on, without the rest of the base layer; and these
/// roles, beside a Redis whose ports are open and nothing more.
fn edit(site: &Path) {
    append(
        &site.join("strata.toml"),
        &format!(
            "\n[[layer]]\nname = \"{GROUND}\"\nplace = [{{ role = \"ground\", on = \"all\" }}, {{ role = \"docker\", on = \"docker\" }}]\n\
             [[layer]]\nname = \"{LAYER}\"\nplace = [{{ role = \"redis-by-hand\", on = \"redis\" }}, \
             {{ role = \"haproxy\", on = \"haproxy\" }}, {{ role = \"haproxy-redis\", on = \"haproxy\" }}]\n"
        ),
    );
    role(
        site,
        "ground",
        "description = \"Programs of the base layer that the roles under test use\"\n\
         [[firewall]]\nname = \"ssh\"\nports = [22]\nfrom = [\"private\"]\n\
         [[step]]\nname = \"Packages\"\npackage = { names = [\"curl\", \"nftables\", \"socat\"] }\n\
         [[step]]\nname = \"Data directory\"\ndirectory = { path = \"{{ data }}\" }\n",
    );
    role(
        site,
        "redis-by-hand",
        "description = \"A Redis that the test starts: its image and its ports\"\n\
         [[firewall]]\nname = \"redis\"\nports = [6379, 26379]\nfrom = [\"private\"]\n\
         [[step]]\nname = \"Image\"\ncommand = { argv = [\"docker\", \"image\", \"inspect\", \"{{ versions.redis_image }}\"], unless = [\"true\"] }\n",
    );
    // Its tests ask for a Redis that strata itself installed.
    std::fs::remove_file(site.join("roles/haproxy-redis/gate.toml")).unwrap();
}

fn role(site: &Path, name: &str, text: &str) {
    let folder = site.join("roles").join(name);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("role.toml"), text).unwrap();
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
    let start = Instant::now();
    bench.furnished_with(edit);
    println!("figure: hosts are up after {:.1} s", start.elapsed().as_secs_f64());
    install(&bench, GROUND).ended(0);
    println!("figure: their ground is laid after {:.1} s", start.elapsed().as_secs_f64());
    images_are_loaded(&bench);
    println!("figure: images are loaded after {:.1} s", start.elapsed().as_secs_f64());
    install(&bench, LAYER).ended(0);
    println!("figure: everything is installed after {:.1} s", start.elapsed().as_secs_f64());
    without_a_master_clients_are_refused(&bench);
    redis_is_started(&bench);
    let seconds = follows(&bench, 35, |line| line == "10.0.0.123:6379");
    println!("figure: first master on both balancers after {seconds:.1} s");
    at_rest_nothing_reloads(&bench);
    the_first_host_asked_freezes_and_a_session_is_cut(&bench);
    a_second_run_keeps_the_line(&bench);
    a_restart_of_docker_leaves_haproxy_alone(&bench);
    the_unit_is_what_haproxy_does(&bench);
    the_old_master_has_become_a_replica(&bench);
    one_sentinel_is_enough_and_none_changes_nothing(&bench);
}

fn install(bench: &Bench, layer: &'static str) -> Said {
    let hosts = [&HOSTS[..], &[OPERATOR]].concat();
    let mut words = install_words(&hosts);
    words[2] = layer;
    bench.strata_in(SITE, &words)
}

fn images_are_loaded(bench: &Bench) {
    let load = |kind: &str, hosts: &[&str]| {
        hosts.iter().map(|host| format!(
            "ssh -oStrictHostKeyChecking=accept-new {host} docker load < \"$(ls {SITE}/images/*{kind}*.tar.gz)\" & all=\"$all $!\"\n"
        )).collect::<String>()
    };
    let all = load("_haproxy_", &BALANCERS) + &load("_redis_", &REDIS);
    let script = format!("{all}for one in $all; do wait \"$one\" || exit 1; done");
    bench.on(OPERATOR, &["sh", "-c", &script]).ended(0);
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
    let live = session(bench, "session-freeze");
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
}

/// Awake again, it is nobody's master any more.
fn the_old_master_has_become_a_replica(bench: &Bench) {
    wait("that the old master is a replica", 40, || {
        let role = bench.on("redis-01", &["docker", "exec", "redis", "redis-cli", "role"]).text();
        if role.starts_with("slave") { Ok(()) } else { Err(role) }
    });
}

/// The role's own text has another line: a run must not bring it back (X5).
fn a_second_run_keeps_the_line(bench: &Bench) {
    let before = BALANCERS.map(|balancer| (line(bench, balancer), info(bench, balancer, "Pid")));
    let said = install(bench, LAYER).ended(0);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
    let after = BALANCERS.map(|balancer| (line(bench, balancer), info(bench, balancer, "Pid")));
    assert_eq!(before, after);
}

/// The unit stays active, no process is replaced and no session ends; reloads work afterwards.
fn a_restart_of_docker_leaves_haproxy_alone(bench: &Bench) {
    let worker = info(bench, "haproxy-01", "Pid");
    let unit = || {
        let ask = ["systemctl", "show", "haproxy", "--property=ActiveState,MainPID,NRestarts"];
        bench.output("haproxy-01", &ask)
    };
    let (before, processes) = (unit(), bench.output("haproxy-01", &["pidof", "haproxy"]));
    assert!(before.contains("ActiveState=active"), "{before}");
    let live = session(bench, "session-docker");
    let said = bench.on("haproxy-01", &["systemctl", "restart", "docker"]).ended(0);
    println!("figure: a restart of the Docker daemon took {:.1} s", said.seconds);
    bench.output("haproxy-01", &["docker", "exec", "haproxy", "true"]);
    assert_eq!(bench.output("haproxy-01", &["pidof", "haproxy"]), processes);
    assert_eq!(unit(), before);
    assert!(live(), "a session did not outlive the restart of the daemon");
    bench.on("haproxy-01", &["systemctl", "reload", "haproxy"]).ended(0);
    wait("a reload", 10, || {
        if info(bench, "haproxy-01", "Pid") == worker { Err(worker.clone()) } else { Ok(()) }
    });
    assert_eq!(unit(), before);
}

/// The unit says what HAProxy does: it ends with it and comes back with it, and a stop is a stop,
/// even without a daemon that could be asked.
fn the_unit_is_what_haproxy_does(bench: &Bench) {
    let state = || bench.on("haproxy-02", &["systemctl", "is-active", "haproxy"]).out;
    let healthy = || {
        let said = bench.on("haproxy-02", &["curl", "-fsS", "http://127.0.0.1:8404/health"]);
        let state = state();
        let found = format!("{} {state}", said.text());
        if said.code == 0 && state.trim() == "active" { Ok(()) } else { Err(found) }
    };
    bench.on("haproxy-02", &["pkill", "-KILL", "-x", "haproxy"]).ended(0);
    let start = Instant::now();
    wait("that the unit knows", 3, || match state() {
        state if state.trim() == "active" => Err(state),
        _ => Ok(()),
    });
    wait("HAProxy after its death", 15, healthy);
    println!("figure: a killed HAProxy is back after {:.1} s", start.elapsed().as_secs_f64());

    bench.on("haproxy-02", &["systemctl", "stop", "docker.socket", "docker.service"]).ended(0);
    healthy().unwrap();
    bench.on("haproxy-02", &["systemctl", "stop", "haproxy"]).ended(0);
    assert_eq!(state().trim(), "inactive");
    assert_ne!(bench.on("haproxy-02", &["pidof", "haproxy"]).code, 0, "HAProxy was not stopped");

    bench.on("haproxy-02", &["systemctl", "start", "haproxy"]).ended(0);
    healthy().unwrap();

    // What the power took down is still on the disk as a container of that name.
    let off = Fault::StopHost { host: "haproxy-02".to_owned() };
    let fault = bench.lab.fault(&off, Duration::from_secs(60)).unwrap();
    let start = Instant::now();
    bench.lab.heal(&fault).unwrap();
    wait("HAProxy after a boot", 60, healthy);
    println!("figure: HAProxy answers {:.1} s after a boot began", start.elapsed().as_secs_f64());
}

/// A subscription through the first balancer; whether it still lives.
fn session<'a>(bench: &'a Bench, unit: &'static str) -> impl Fn() -> bool + 'a {
    let line = "exec 3<>/dev/tcp/haproxy-01/6379; printf 'SUBSCRIBE x\\r\\n' >&3; cat <&3";
    let before: u32 = info(bench, "haproxy-01", "CurrConns").parse().unwrap();
    bench.on("redis-02", &["systemd-run", "--unit", unit, "--quiet", "bash", "-c", line]).ended(0);
    let live =
        move || bench.on("redis-02", &["systemctl", "is-active", unit]).out.trim() == "active";
    wait("the session", 5, || {
        let now: u32 = info(bench, "haproxy-01", "CurrConns").parse().unwrap();
        if now > before && live() { Ok(()) } else { Err(format!("{now} connections")) }
    });
    live
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
