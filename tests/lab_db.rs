//! The layer db on real hosts: etcd, PostgreSQL under Patroni and PgBouncer on three, HAProxy on
//! two, the balancer before them. Its gate with a fault of each kind, a second run that changes
//! nothing, and a port that refuses while its layer is not installed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/postgres.rs"]
mod postgres;
#[path = "lab/db_presets.rs"]
mod presets;
#[path = "lab/support.rs"]
mod support;

use postgres::{DATA, HOSTS as MEMBERS, RECORD, leader, sql, sql_in, systems};
use std::path::Path;
use std::time::Instant;
use support::cluster::{events, workers};
use support::{Bench, OPERATOR, SITE, Said, install_words, replace, wait};

const HOSTS: [&str; 6] = ["haproxy-01", "haproxy-02", "db-01", "db-02", "db-03", REPOSITORY];
const REPOSITORY: &str = "minio-03";
const BALANCERS: [&str; 2] = ["haproxy-01", "haproxy-02"];
const CONTAINERS: [&str; 4] = ["etcd", "patroni", "pgbouncer", "pgbackrest"];
/// A planned change, a death, a network cut and a lost HAProxy; the campaign has the rest.
const ONE_OF_EACH: [&str; 5] = [
    "postgres-switchover",
    "postgres-kill-leader",
    "postgres-isolated-leader",
    "postgres-haproxy-down",
    "postgres-restore",
];

/// The words of `install --layer db`, with its diag gate alone unless `more` says otherwise.
fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut words = install_words(&HOSTS);
    words[2] = "db";
    words.extend(["--host", OPERATOR]);
    words.extend(more);
    words
}

/// Short times: a leader that is not heard of is replaced after 20 seconds (PV-17).
fn short(site: &Path) {
    let role = site.join("roles/postgres/role.toml");
    replace(&role, "postgres_ttl           = 30", "postgres_ttl           = 20");
    replace(&role, "postgres_loop_wait     = 10", "postgres_loop_wait     = 5");
    replace(&role, "postgres_retry_timeout = 10", "postgres_retry_timeout = 5");
    replace(&role, "archive_timeout        = 60", "archive_timeout        = 15");
    let gate = site.join("roles/postgres/gate.toml");
    for test in ["postgres-leader-without-etcd", "postgres-etcd-majority-down"] {
        let bound = format!("{test}\"\nbounds = {{ watched_for = ");
        replace(&gate, &format!("{bound}45"), &format!("{bound}30"));
    }
}

fn install(bench: &Bench) -> Said {
    bench.strata(&words(&[]))
}

/// A formed layer with a green diag gate.
fn formed(bench: &Bench) -> Said {
    formed_with(bench, short)
}

fn formed_with(bench: &Bench, edit: fn(&Path)) -> Said {
    bench.furnished_with(edit);
    let said = bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    println!("figure: base on 7 hosts {:.1} s", said.seconds);
    // Hosts that were kept from an earlier try have the layer.
    if bench.on(OPERATOR, &["test", "-e", RECORD]).code != 0 {
        refused(bench);
    }
    let said = install(bench);
    if said.code != 0 {
        let journal = ["journalctl", "--no-pager", "-n", "60", "-u", "pgbackrest-*"];
        println!("{}", bench.on(REPOSITORY, &journal).text());
    }
    let said = said.ended(0);
    println!("figure: layer db, diag gate included: {:.1} s", said.seconds);
    said
}

/// Before the layer is there, its ports refuse on the HAProxies and behind the balancer.
fn refused(bench: &Bench) {
    for at in ["10.0.0.11", "10.0.0.12", "10.0.0.10"] {
        for port in [5432, 6432] {
            let dial = format!("exec 3<>/dev/tcp/{at}/{port} && timeout 2 cat <&3");
            let said = bench.on(OPERATOR, &["timeout", "5", "bash", "-c", &dial]);
            assert_eq!(said.out, "", "{at}:{port} answers before its layer is installed");
        }
    }
}

/// What every container and HAProxy's workers are: a second run changes none of it.
fn standing(bench: &Bench) -> Vec<String> {
    let mut all = Vec::new();
    for host in MEMBERS {
        for name in CONTAINERS {
            let format = "{{.Id}} {{.State.StartedAt}} {{.State.Running}}";
            let said = bench.output(host, &["docker", "inspect", "-f", format, name]);
            all.push(format!("{host} {name} {}", said.trim()));
        }
    }
    all.extend(workers(bench, BALANCERS));
    all
}

/// The figures of one test in the last run, by name.
fn figures(bench: &Bench, test: &str) -> Vec<(String, f64)> {
    let events = events(bench);
    let mut finished =
        events.iter().filter(|event| event["test"] == test && event["measured"].is_array());
    let measured = finished.next_back().unwrap()["measured"].as_array().unwrap();
    measured
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].as_f64().unwrap()))
        .collect()
}

fn figure(figures: &[(String, f64)], part: &str) -> f64 {
    figures.iter().find(|(name, _)| name.contains(part)).map_or(f64::NAN, |(_, value)| *value)
}

/// No table of a test is left, on any member.
fn nothing_is_left(bench: &Bench) {
    let field = |name: &str| {
        format!(
            "$(sed -n '/superuser:/,/password/s/.*{name}: \"\\(.*\\)\"/\\1/p' /opt/keybuzz/patroni/patroni.yml)"
        )
    };
    let script = format!(
        "export PGPASSWORD=\"{}\"; exec docker exec -e PGPASSWORD patroni psql -h 127.0.0.1 -U \"{}\" -d keybuzz \
         -XtAc \"select count(*) from pg_tables where tablename like 'strata_gate%'\"",
        field("password"),
        field("username")
    );
    for host in MEMBERS {
        let left = bench.output(host, &["sh", "-c", &script]);
        assert_eq!(left.trim(), "0", "tables of tests are left on {host}");
    }
}

/// Runs tests of the gate; all of them must be green.
fn proved(bench: &Bench, words: &[&str]) {
    let start = Instant::now();
    let said = bench.strata(words);
    println!("{}", said.text());
    println!("figure: these tests of the gate: {:.1} s", start.elapsed().as_secs_f64());
    let said = said.ended(0);
    assert!(!said.text().contains("NOT RUN"), "{}", said.text());
}

#[test]
fn the_layer_is_green_with_a_fault_of_each_kind_and_stays_as_it_is() {
    let bench = Bench::open("t-db", &HOSTS);
    formed(&bench);
    let before = standing(&bench);
    let said = install(&bench).ended(0);
    println!("figure: second run, diag gate included: {:.2} s", said.seconds);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
    assert_eq!(standing(&bench), before);

    let tests: Vec<&str> = ONE_OF_EACH.iter().flat_map(|test| ["--test", test]).collect();
    proved(&bench, &[&["verify", "--layer", "db"], &tests[..]].concat());
    nothing_is_left(&bench);
    a_wrong_address_of_haproxy_is_red(&bench);
}

/// A line that leads to nobody makes the gate red: the test can fail.
fn a_wrong_address_of_haproxy_is_red(bench: &Bench) {
    let script = "sed -i 's/port 8008/port 8009/' /opt/keybuzz/haproxy/10-db.cfg";
    bench.on("haproxy-02", &["sh", "-c", script]).ended(0);
    bench.on("haproxy-02", &["systemctl", "reload", "haproxy"]).ended(0);
    let red = ["verify", "--layer", "db", "--test", "haproxy-db"];
    let said = bench.strata(&red).ended(3);
    assert!(said.text().contains("haproxy-02: be_postgres_primary: none up, not one"), "{said:?}");
    install(bench).ended(0);
}

/// Every test of the gate with a fault.
///
/// ```text
/// cargo test --test lab_db -- --ignored --nocapture campaign_of_faults
/// ```
#[test]
#[ignore = "campaign: every fault, about 10 minutes"]
fn campaign_of_faults() {
    let bench = Bench::open("t-db", &HOSTS);
    formed(&bench);
    proved(&bench, &["verify", "--layer", "db", "--kind", "diag", "--kind", "failover"]);
    nothing_is_left(&bench);
}

/// Rounds of a campaign.
fn rounds() -> usize {
    std::env::var("STRATA_LAB_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// `STRATA_LAB_ROUNDS` kills of the leader, one after another.
///
/// ```text
/// cargo test --test lab_db -- --ignored --nocapture campaign_of_killed_leaders
/// ```
#[test]
#[ignore = "campaign: 20 kills, about 30 minutes"]
fn campaign_of_killed_leaders() {
    let bench = Bench::open("t-db", &HOSTS);
    formed(&bench);
    let (mut wrong, mut lost) = (0, 0.0);
    println!(
        "figure: | kill | longest time without a write | new leader | followed by every HAProxy | the old one a replica again | writes | acknowledged | lost | seconds in all |"
    );
    for round in 1..=rounds() {
        let test = "postgres-kill-leader";
        let said = bench.strata(&["verify", "--layer", "db", "--test", test]);
        let found = figures(&bench, test);
        let value = |part: &str| figure(&found, part);
        println!(
            "figure: | {round} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} |",
            value("outage"),
            value("new primary"),
            value("followed"),
            value("replica again"),
            value("attempted"),
            found.iter().find(|(name, _)| name == "acknowledged").map_or(-1.0, |(_, v)| *v),
            value("acknowledged and lost"),
            said.seconds
        );
        lost += value("acknowledged and lost");
        if said.code != 0 {
            wrong += 1;
            println!("{}", said.text());
        }
        if said.code == 4 {
            break;
        }
    }
    assert_eq!((wrong, lost as u64), (0, 0), "rounds that were not green, and writes lost");
    wait("that nothing is left to do", 60, || {
        let said = install(&bench);
        if said.code == 0 { Ok(()) } else { Err(said.text()) }
    });
    nothing_is_left(&bench);
}

/// The newest backup is restored, before and after a differential one; a damaged one is found.
///
/// ```text
/// cargo test --test lab_db -- --ignored --nocapture campaign_of_backups
/// ```
#[test]
#[ignore = "campaign: restores, about 8 minutes"]
fn campaign_of_backups() {
    let bench = Bench::open("t-db", &HOSTS);
    formed(&bench);
    let restore = ["verify", "--layer", "db", "--test", "postgres-restore"];
    proved(&bench, &restore);
    let service = "pgbackrest-backup@diff.service";
    bench.on(REPOSITORY, &["systemctl", "start", service]).ended(0);
    let list = ["docker", "exec", "pgbackrest", "pgbackrest", "--stanza=main", "info"];
    println!("{}", bench.output(REPOSITORY, &list));
    proved(&bench, &restore);

    a_whole_loss_is_restored(&bench);

    // A byte of the oldest backup, on which the newest is built, is another: the restore says so.
    let damage = "file=$(ls -1S /opt/keybuzz/pgbackrest/repository/backup/main/*F/bundle/* | head -n 1); \
                  printf X | dd of=$file bs=1 seek=$(($(stat -c %s $file) / 2)) conv=notrunc";
    bench.on(REPOSITORY, &["sh", "-c", damage]).ended(0);
    let said = bench.strata(&restore).ended(3);
    println!("{}", said.text());
    let left = "docker ps -a --format '{{.Names}}'; ls /opt/keybuzz/pgbackrest/rehearsal";
    assert_eq!(bench.output(REPOSITORY, &["sh", "-c", left]).trim(), "pgbackrest");
    nothing_is_left(&bench);
}

/// Goes on from what was restored on db-01, as the guide says: the store forgets the old cluster,
/// and the site names the member.
fn installed_from_restored(bench: &Bench) -> Said {
    let forget =
        ["--endpoints", "http://10.0.0.120:2379", "del", "--prefix", "/service/keybuzz-pg/"];
    bench.on("db-01", &[&["docker", "exec", "etcd", "etcdctl"], &forget[..]].concat()).ended(0);
    bench.put_site(SITE, |site| {
        short(site);
        let role = site.join("roles/postgres/role.toml");
        replace(&role, "postgres_newest        = \"\"", "postgres_newest        = \"db-01\"");
    });
    install(bench).ended(0)
}

/// Every member's data is gone (class: whole loss): strata forms nothing anew, and goes on from a
/// restored member.
fn a_whole_loss_is_restored(bench: &Bench) {
    let system = systems(bench);
    sql(bench, leader(bench), "create table canary as select generate_series(1, 1000) as n");
    let check = ["docker", "exec", "pgbackrest", "pgbackrest", "--stanza=main", "check"];
    bench.on(REPOSITORY, &check).ended(0);
    for host in MEMBERS {
        let lost = format!("docker kill --signal KILL patroni && rm -rf {DATA}");
        bench.on(host, &["sh", "-c", &lost]).ended(0);
    }
    let start = Instant::now();
    let said = install(bench).ended(7);
    assert!(said.text().contains("restore a backup"), "{}", said.text());
    bench.on("db-01", &["pgbackrest-recover"]).ended(0);
    println!("figure: whole loss, recovered after {:.1} s", start.elapsed().as_secs_f64());
    // It refuses where there is data.
    bench.on("db-01", &["pgbackrest-recover"]).ended(1);
    let said = installed_from_restored(bench);
    println!("{}", said.text());
    println!("figure: whole loss, restored and healthy: {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(sql(bench, leader(bench), "select count(*) from canary"), "1000");
    assert_eq!(systems(bench), system);
    bench.put_site(SITE, short);
    let said = install(bench).ended(0);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
}

/// Debian's etcd, PostgreSQL and Patroni under systemd; backups need the container.
fn native(site: &Path) {
    short(site);
    replace(&site.join("roles/etcd/role.toml"), "= \"container\"   #", "= \"native\"   #");
    replace(&site.join("roles/postgres/role.toml"), "= \"container\"    #", "= \"native\"    #");
    let file = site.join("strata.toml");
    replace(&file, "  { role = \"pgbackrest\", on = \"db\" },\n", "");
    replace(&file, "  { role = \"pgbackrest-repository\", on = \"backup\" },\n", "");
}

/// The same driver and gate without containers.
///
/// ```text
/// cargo test --test lab_db -- --ignored --nocapture campaign_without_containers
/// ```
#[test]
#[ignore = "campaign: the native runtime, about 9 minutes"]
fn campaign_without_containers() {
    let bench = Bench::open("t-db", &HOSTS);
    formed_with(&bench, native);
    let pids = || {
        let units = ["strata-etcd.service", "strata-patroni.service"];
        let of = |host| {
            bench.output(host, &[&["systemctl", "show", "-P", "MainPID"], &units[..]].concat())
        };
        MEMBERS.map(of)
    };
    let before = pids();
    let said = install(&bench).ended(0);
    println!("figure: second run, diag gate included: {:.2} s", said.seconds);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
    assert_eq!(pids(), before);
    proved(&bench, &["verify", "--layer", "db", "--kind", "diag", "--kind", "failover"]);
}

/// A load that a rehearsal measures and does not judge.
#[test]
#[ignore = "campaign: load on all ways, about 3 minutes"]
fn campaign_of_load() {
    let bench = Bench::open("t-db", &HOSTS);
    formed(&bench);
    let said = bench.strata(&["verify", "--layer", "db", "--test", "postgres-load"]);
    println!("{}", said.text());
    said.ended(0);
    assert_eq!(figure(&figures(&bench, "postgres-load"), "failed"), 0.0);
    pgbench(&bench);
    nothing_is_left(&bench);
}

/// pgbench by each way, from a standby's host: writes and reads a second, and what the way costs.
fn pgbench(bench: &Bench) {
    let leader = leader(bench);
    let client = MEMBERS.into_iter().find(|host| *host != leader).unwrap();
    for statement in [
        "create role bench login password 'bench-0123456789'",
        "grant create on schema public to bench",
    ] {
        let said = sql_in(bench, leader, "keybuzz", statement);
        assert!(!said.contains("ERROR"), "{said}");
    }
    let address = bench.output(client, &["getent", "hosts", leader]);
    let address = address.split_whitespace().next().unwrap();
    let run = |host: &str, port: &str, words: &[&str]| {
        let script = "export PGPASSWORD=bench-0123456789; exec docker exec -e PGPASSWORD patroni pgbench -U bench -d keybuzz \"$@\"";
        let all = [&["sh", "-c", script, "sh", "-h", host, "-p", port], words].concat();
        let said = bench.on(client, &all).ended(0).text();
        let rate = said
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.unwrap_or(0.0_f64)
    };
    run(address, "5432", &["-i", "-s", "20", "-q"]);
    let ways = [
        ("direct", address, "5432"),
        ("HAProxy", "10.0.0.10", "5432"),
        ("PgBouncer", "10.0.0.10", "6432"),
    ];
    for (what, words) in [
        ("TPC-B", &["-n", "-c", "16", "-j", "2", "-T", "12"][..]),
        ("reads", &["-S", "-n", "-c", "16", "-j", "2", "-T", "12"]),
    ] {
        // Twice each, in turn: what else the machine does hits all.
        let mut rates = [0.0_f64; 3];
        for _ in 0..2 {
            for (rate, (_, host, port)) in rates.iter_mut().zip(ways) {
                *rate = rate.max(run(host, port, words));
            }
        }
        for (rate, (way, ..)) in rates.iter().zip(ways) {
            println!(
                "figure: pgbench {what}, {way}: {rate:.0} tps, {:.2} of direct",
                rate / rates[0]
            );
        }
    }
    sql_in(bench, leader, "keybuzz", "drop owned by bench");
    sql(bench, leader, "drop role bench");
}
