//! The layer db as other sites want it: one synchronous standby and one that is not, standbys that
//! answer reads, the times of production, and a way back to a moment.

use super::postgres::{DATA, actions, leader, restarted, sql, sql_in, started, systems};
use super::{
    HOSTS, MEMBERS, REPOSITORY, formed, formed_with, install, installed_from_restored, proved,
    short,
};
use crate::support::{Bench, OPERATOR, SITE, replace, wait};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// Sets a list of the role `postgres`.
fn set(site: &Path, name: &str, members: &[&str]) {
    let role = site.join("roles/postgres/role.toml");
    replace(&role, &format!("{name:<22} = []"), &format!("{name:<22} = {members:?}"));
}

/// The HAProxies have a port for reads too.
fn reads(site: &Path) {
    short(site);
    replace(
        &site.join("strata.toml"),
        "  { role = \"haproxy-db\", on = \"haproxy\" },\n",
        "  { role = \"haproxy-db\", on = \"haproxy\" },\n  { role = \"haproxy-db-reads\", on = \"haproxy\" },\n",
    );
}

/// Puts another site there; what layers stand in it concerns the layer below too.
fn put(bench: &Bench, edit: impl FnOnce(&Path)) {
    bench.put_site(SITE, edit);
    bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
}

/// Who confirms writes, as the leader has it: `db-02 sync`, ….
fn confirming(bench: &Bench) -> Vec<String> {
    let query = "select application_name || ' ' || replace(sync_state, 'quorum', 'sync') from pg_stat_replication order by 1";
    sql(bench, leader(bench), query).lines().map(str::to_owned).collect()
}

/// What a client of db-01 gets from a port of an address.
fn ask(bench: &Bench, at: &str, port: u16, statement: &str) -> String {
    let login = "sed -n '/superuser:/,/password/s/.*\\(username\\|password\\): \"\\(.*\\)\"/\\2/p' /opt/keybuzz/patroni/patroni.yml";
    let script = format!(
        "set -- $({login}) \"$@\"; export PGPASSWORD=\"$2\"; exec docker exec -e PGPASSWORD -e PGCONNECT_TIMEOUT=3 pgbackrest \
         psql -h {at} -p {port} -U \"$1\" -d postgres -XtAc \"$3\""
    );
    bench.on("db-01", &["sh", "-c", &script, "sh", statement]).text().trim().to_owned()
}

/// Which members answer reads, asked often enough that each has its turn.
fn readers(bench: &Bench, at: &str) -> BTreeSet<String> {
    let who = "select coalesce(host(inet_server_addr()), '') || ' ' || pg_is_in_recovery()";
    (0..8).map(|_| ask(bench, at, 5433, who)).collect()
}

/// Waits until exactly these answers come from every HAProxy.
fn read_by(bench: &Bench, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
    for at in ["10.0.0.11", "10.0.0.12"] {
        wait(&format!("reads of {at} by {wanted:?}"), 60, || {
            let found = readers(bench, at);
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}

/// PV-13, KG-4: who confirms writes, who leads, and who answers reads, as variables of the role.
///
/// ```text
/// cargo test --test lab_db -- --ignored --nocapture campaign_of_presets
/// ```
#[test]
#[ignore = "campaign: presets of replication, about 9 minutes"]
fn campaign_of_presets() {
    let bench = Bench::open("t-db", &HOSTS);
    formed(&bench);
    assert_eq!(leader(&bench), "db-01");
    let before = started(&bench);

    // One synchronous standby and one that is not, and a port for reads.
    put(&bench, |site| {
        reads(site);
        set(site, "postgres_async", &["db-02"]);
    });
    let said = install(&bench).ended(0);
    println!("figure: presets changed: {:.1} s", said.seconds);
    assert!(actions(&bench).iter().all(|action| action.ends_with(": write files and reload")));
    wait("another synchronous standby", 60, || match confirming(&bench) {
        now if now == ["db-02 async", "db-03 sync"] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    read_by(&bench, &["10.0.0.121 true", "10.0.0.122 true"]);
    let said = ask(&bench, "10.0.0.11", 5433, "create table never (n int)");
    assert!(said.contains("read-only transaction"), "{said}");
    let said = install(&bench).ended(0);
    assert!(said.text().contains("; 0 of "), "{}", said.text());

    // Standbys go: the other answers, then the primary.
    let start = Instant::now();
    bench.on("db-02", &["docker", "stop", "patroni"]).ended(0);
    read_by(&bench, &["10.0.0.122 true"]);
    println!(
        "figure: reads without a stopped standby after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    bench.on("db-03", &["docker", "stop", "patroni"]).ended(0);
    read_by(&bench, &["10.0.0.120 false"]);
    install(&bench).ended(0);
    read_by(&bench, &["10.0.0.121 true", "10.0.0.122 true"]);

    // Two confirm every write, and one of them answers no reads.
    put(&bench, |site| {
        reads(site);
        set(site, "postgres_no_reads", &["db-02"]);
        let role = site.join("roles/postgres/role.toml");
        replace(&role, "postgres_sync          = 1", "postgres_sync          = 2");
    });
    let said = install(&bench).ended(0);
    println!("{}", said.text());
    assert_eq!(confirming(&bench), ["db-02 sync", "db-03 sync"]);
    read_by(&bench, &["10.0.0.122 true"]);

    // A member for reads alone never leads.
    put(&bench, |site| {
        reads(site);
        set(site, "postgres_readers", &["db-02"]);
    });
    install(&bench).ended(0);
    wait("that the reader confirms nothing", 60, || match confirming(&bench) {
        now if now == ["db-02 async", "db-03 sync"] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(restarted(&before, &started(&bench)).len(), 4, "two containers and their servers");
    proved(&bench, &["verify", "--layer", "db", "--test", "postgres-kill-leader"]);
    bench.on(leader(&bench), &["docker", "kill", "--signal", "KILL", "patroni"]).ended(0);
    wait("that db-03 leads", 90, || match sql(&bench, "db-03", "select pg_is_in_recovery()") {
        now if now == "f" => Ok(()),
        other => Err(other),
    });
    install(&bench).ended(0);
    assert_eq!(leader(&bench), "db-03");
}

/// The times of production: a leader that is not heard of is replaced after 30 seconds.
///
/// ```text
/// cargo test --test lab_db -- --ignored --nocapture campaign_with_production_times
/// ```
#[test]
#[ignore = "campaign: a death with the times of production, about 5 minutes"]
fn campaign_with_production_times() {
    let bench = Bench::open("t-db", &HOSTS);
    formed_with(&bench, |_| {});
    let tests = ["--test", "postgres-kill-leader", "--test", "postgres-isolated-leader"];
    proved(&bench, &[&["verify", "--layer", "db"], &tests[..]].concat());
}

/// The database as it was before a mistake.
///
/// ```text
/// cargo test --test lab_db -- --ignored --nocapture campaign_of_a_moment
/// ```
#[test]
#[ignore = "campaign: a restore to a moment, about 6 minutes"]
fn campaign_of_a_moment() {
    let bench = Bench::open("t-db", &HOSTS);
    formed(&bench);
    let system = systems(&bench);
    let live = leader(&bench);
    let archived = || {
        let check = ["docker", "exec", "pgbackrest", "pgbackrest", "--stanza=main", "check"];
        bench.on("db-01", &check).ended(0);
    };
    sql(&bench, live, "create table canary as select generate_series(1, 1000) as n");
    archived();
    let moment = sql(&bench, live, "select clock_timestamp()");
    sql(&bench, live, "delete from canary");
    sql(&bench, live, "create table after_the_mistake (n int)");
    archived();

    for host in MEMBERS {
        let aside = format!("docker stop patroni && mv -T {DATA} {DATA}.aside.mistake");
        bench.on(host, &["sh", "-c", &aside]).ended(0);
    }
    let start = Instant::now();
    let said = bench.on("db-01", &["pgbackrest-recover", "yesterday"]).ended(2);
    assert!(said.err.contains("is no moment"), "{}", said.text());
    bench.on("db-01", &["pgbackrest-recover", &moment]).ended(0);
    println!("figure: restored to a moment after {:.1} s", start.elapsed().as_secs_f64());
    let said = installed_from_restored(&bench);
    println!("{}", said.text());
    println!("figure: restored to a moment and healthy: {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(sql(&bench, leader(&bench), "select count(*) from canary"), "1000");
    let later = sql(&bench, leader(&bench), "select to_regclass('after_the_mistake') is null");
    assert_eq!(later, "t");
    assert_eq!(systems(&bench), system);
    // No member would stop at that moment again.
    for host in MEMBERS {
        assert_eq!(sql(&bench, host, "show recovery_target_time"), "", "{host}");
    }
    bench.put_site(SITE, short);
    let said = install(&bench).ended(0);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
    archived();
}

/// Dumps in place of a repository of WAL.
///
/// ```text
/// cargo test --test lab_db -- --ignored --nocapture campaign_of_dumps
/// ```
#[test]
#[ignore = "campaign: dumps, about 5 minutes"]
fn campaign_of_dumps() {
    let bench = Bench::open("t-db", &HOSTS);
    formed(&bench);
    put(&bench, |site| {
        short(site);
        replace(
            &site.join("strata.toml"),
            "  { role = \"pgbackrest-repository\", on = \"backup\" },\n",
            "  { role = \"pgbackrest-repository\", on = \"backup\" },\n  { role = \"postgres-dump\", on = \"backup\" },\n",
        );
    });
    install(&bench).ended(0);
    let statement = "create table canary as select generate_series(1, 1000) as n";
    sql_in(&bench, leader(&bench), "keybuzz", statement);
    for _ in 0..2 {
        bench.on(REPOSITORY, &["systemctl", "start", "postgres-dump.service"]).ended(0);
    }
    let said = bench.output(REPOSITORY, &["postgres-dump", "list"]);
    assert_eq!(said.lines().count(), 2, "{said}");
    let said = bench.on(REPOSITORY, &["postgres-dump", "rehearse"]).ended(0);
    println!("figure: {}", said.out);
    assert!(said.out.contains("keybuzz: 1 tables"), "{}", said.text());
    // Encrypted: no word of a dump can be read.
    let readable = "grep -rl PGDMP /opt/keybuzz/postgres-dump/dumps || echo none";
    assert_eq!(bench.output(REPOSITORY, &["sh", "-c", readable]), "none");
    // A dump that fails is a failed unit, and leaves no half.
    let broken = "mv /opt/keybuzz/postgres-dump/key /root/key; systemctl start postgres-dump.service; \
                  code=$?; mv /root/key /opt/keybuzz/postgres-dump/key; exit $code";
    bench.on(REPOSITORY, &["sh", "-c", broken]).ended(1);
    assert_eq!(bench.output(REPOSITORY, &["postgres-dump", "list"]).lines().count(), 2);
    let said = bench.strata(&["verify", "--layer", "db", "--test", "units"]).ended(3);
    assert!(said.text().contains("postgres-dump.service"), "{}", said.text());
    bench.on(REPOSITORY, &["systemctl", "start", "postgres-dump.service"]).ended(0);
    let said = install(&bench).ended(0);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
}
