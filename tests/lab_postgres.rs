//! PostgreSQL by Patroni on real hosts: formed once, kept as it is, mended from the live leader,
//! refused where something does not fit, and rolled member by member.
//!
//! One lab for all of it, one step after the other, since a formed cluster is what most of them
//! need.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/postgres.rs"]
mod postgres;
#[path = "lab/support.rs"]
mod support;

use postgres::{
    DATA, HOSTS, actions, base, elected, install, kill, leader, nothing_more_to_do, restarted, sql,
    start_writer, started, stop_writer, systems,
};
use std::fs;
use std::path::Path;
use std::time::Instant;
use support::cluster::Timed;
use support::{Bench, OPERATOR, SITE, replace, wait};

#[test]
fn a_cluster_is_formed_once_and_kept() {
    let bench = Bench::open("t-postgres", &HOSTS);
    base(&bench);
    let mut timed = Timed(Instant::now());
    timed.step("formation", || formed(&bench));
    timed.step("second run", || drop(nothing_more_to_do(&bench)));
    let system = systems(&bench);
    assert_eq!(system.len(), 1, "{system:?}");
    timed.step("elected leader", || the_elected_leader_is_kept(&bench));
    timed.step("data gone", || lost_data_comes_back_from_the_leader(&bench));
    timed.step("all killed", || a_killed_cluster_is_started(&bench));
    timed.step("wrong password", || a_wrong_password_changes_nothing(&bench));
    timed.step("live setting", || a_live_setting_changes_without_a_restart(&bench));
    timed.step("setting with a restart", || {
        a_setting_that_needs_a_start_goes_member_by_member(&bench)
    });
    assert_eq!(systems(&bench), system);
}

/// Another container for every member, under a writer: as the setting that needs a start, by other
/// means.
///
/// ```text
/// cargo test --test lab_postgres -- --ignored --nocapture campaign_of_other_containers
/// ```
#[test]
#[ignore = "campaign: every member's container is renewed, about 4 minutes"]
fn campaign_of_other_containers() {
    let bench = Bench::open("t-postgres", &HOSTS);
    base(&bench);
    formed(&bench);
    let system = systems(&bench);
    a_changed_container_goes_member_by_member(&bench);
    assert_eq!(systems(&bench), system);
}

fn formed(bench: &Bench) {
    let said = install(bench).ended(0);
    let text = said.text();
    for part in ["cluster postgres  absent", "cluster postgres  healthy: db-01 leads: kept"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(leader(bench), "db-01");
    println!("figure: formation, diag gate included: {:.1} s", said.seconds);
    // What the role declares is there, and what this server does not have is said.
    assert!(text.contains("this server has no extension vector"), "{text}");
    let extensions = "select extname from pg_extension where extname in ('pg_trgm', 'uuid-ossp')";
    let inside = format!("set -- \"$1\"; {}", in_database(extensions));
    let found = bench.on("db-01", &["sh", "-c", &inside]).text();
    assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["pg_trgm", "uuid-ossp"], "{found}");
    let checks = sql(bench, "db-01", "show data_checksums");
    assert_eq!(checks, "on");
    // Acknowledged means that two have it.
    let sync = sql(
        bench,
        "db-01",
        "select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum')",
    );
    assert_eq!(sync, "1");
    // Secrets stand in no process' arguments.
    let processes = bench.output("db-01", &["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]);
    let secret = bench.output("db-01", &["sh", "-c", SECRET]);
    assert!(secret.len() > 20 && !processes.contains(&secret));
}

const SECRET: &str = "sed -n '/superuser:/,/password/s/.*password: \"\\(.*\\)\"/\\1/p' /opt/keybuzz/patroni/patroni.yml";

/// Runs a statement in the applications' database.
fn in_database(statement: &str) -> String {
    format!(
        "export PGPASSWORD=\"$({SECRET})\"; user=$(sed -n '/superuser:/,/password/s/.*username: \"\\(.*\\)\"/\\1/p' /opt/keybuzz/patroni/patroni.yml); \
         exec docker exec -e PGPASSWORD patroni psql -h 127.0.0.1 -U \"$user\" -d keybuzz -XtAc \"{statement} order by 1\""
    )
}

/// The inventory's first is dead, another one leads: a run starts it again and keeps who leads.
fn the_elected_leader_is_kept(bench: &Bench) {
    let old = leader(bench);
    kill(bench, old);
    let start = Instant::now();
    let new = elected(bench, old);
    println!("figure: election after the leader's kill: {:.1} s", start.elapsed().as_secs_f64());
    let said = install(bench).ended(0);
    assert_eq!(actions(bench), [format!("{old}: start with its own data")]);
    assert!(said.text().contains(&format!("{new} leads: kept")), "{}", said.text());
    assert_eq!(leader(bench), new);
    nothing_more_to_do(bench);
}

fn lost_data_comes_back_from_the_leader(bench: &Bench) {
    let live = leader(bench);
    let lost = *HOSTS.iter().find(|host| **host != live).unwrap();
    sql(bench, live, "create table canary as select generate_series(1, 1000) as n");
    bench.on(lost, &["docker", "stop", "patroni"]).ended(0);
    bench.on(lost, &["rm", "-rf", DATA]).ended(0);
    let said = install(bench).ended(0);
    assert_eq!(actions(bench), [format!("{lost}: join with a copy of the leader's data")]);
    assert_eq!(leader(bench), live);
    assert_eq!(sql(bench, lost, "select count(*) from canary"), "1000");
    println!("figure: a member copies anew, gate included: {:.1} s", said.seconds);
}

/// Everything is killed at once, etcd too: nothing is formed, and nobody has forgotten anything.
fn a_killed_cluster_is_started(bench: &Bench) {
    let before = systems(bench);
    for host in HOSTS {
        bench.on(host, &["docker", "kill", "--signal", "KILL", "patroni", "etcd"]).ended(0);
    }
    let said = install(bench).ended(0);
    assert_eq!(systems(bench), before);
    let done = actions(bench);
    assert!(!done.iter().any(|action| action.contains("form")), "{done:?}");
    assert_eq!(sql(bench, leader(bench), "select count(*) from canary"), "1000");
    println!("figure: everything killed, then healthy again: {:.1} s", said.seconds);
}

fn a_wrong_password_changes_nothing(bench: &Bench) {
    let right = bench.output("db-01", &["sh", "-c", SECRET]);
    let set = |value: &str| {
        let words = [
            "strata",
            "--site",
            SITE,
            "--rehearsal",
            "secrets",
            "set",
            "postgres",
            "POSTGRES_SUPERPASS",
        ];
        bench.with_input(OPERATOR, &words, value).ended(0);
    };
    set("another-password-0123456789");
    // Something that every other run would mend.
    bench.on("db-02", &["chmod", "0755", "/opt/keybuzz/patroni"]).ended(0);
    let before = started(bench);
    let said = install(bench).ended(7);
    assert!(said.text().contains("the credential differs"), "{}", said.text());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    assert_eq!(bench.output("db-02", &["stat", "-c", "%a", "/opt/keybuzz/patroni"]), "755");
    set(&right);
    install(bench).ended(0);
    assert_eq!(bench.output("db-02", &["stat", "-c", "%a", "/opt/keybuzz/patroni"]), "700");
}

fn change(bench: &Bench, from: &str, to: &str) {
    bench.put_site(SITE, |site| {
        postgres::site(site);
        replace(&site.join("roles/postgres/role.toml"), from, to);
    });
}

fn a_live_setting_changes_without_a_restart(bench: &Bench) {
    change(bench, "tcp_keepalives_idle    = 60", "tcp_keepalives_idle    = 75");
    let before = started(bench);
    let said = install(bench).ended(0);
    let done = actions(bench);
    assert_eq!(done[0], "set postgresql.parameters.tcp_keepalives_idle of Patroni");
    assert!(
        done[1..].iter().all(|action| action.ends_with(": write files and reload")),
        "{done:?}"
    );
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    for host in HOSTS {
        let found = sql(
            bench,
            host,
            "select reset_val from pg_settings where name = 'tcp_keepalives_idle'",
        );
        assert_eq!(found, "75", "{host}");
    }
    println!("figure: a live setting, gate included: {:.1} s", said.seconds);
    bench.put_site(SITE, postgres::site);
    install(bench).ended(0);
}

fn a_setting_that_needs_a_start_goes_member_by_member(bench: &Bench) {
    let old = leader(bench);
    change(bench, "max_connections        = 200", "max_connections        = 220");
    start_writer(bench);
    let said = install(bench).ended(0);
    let written = stop_writer(bench);
    println!("figure: a setting that needs a start: {:.1} s, {written:?}", said.seconds);
    let done = actions(bench);
    for restarted in &done[4..6] {
        assert!(restarted.ends_with(": restart PostgreSQL"), "{done:?}");
        assert!(!restarted.starts_with(old), "{done:?}");
    }
    assert!(done[6].starts_with(&format!("{old}: hand leadership over to ")), "{done:?}");
    // One that hands over starts anew as a standby: as a rule that was its restart.
    let rest = [format!("{old}: restart PostgreSQL")];
    assert!(done[7..].is_empty() || done[7..] == rest, "{done:?}");
    assert_eq!(written.lost, 0, "{written:?}");
    for host in HOSTS {
        assert_eq!(sql(bench, host, "show max_connections"), "220", "{host}");
    }
}

fn a_changed_container_goes_member_by_member(bench: &Bench) {
    let old = leader(bench);
    bench.put_site(SITE, |site| {
        postgres::site(site);
        let role = site.join("roles/postgres/role.toml");
        replace(&role, "max_connections        = 200", "max_connections        = 220");
        replace(&role, "shm_size     = \"1g\"", "shm_size     = \"512m\"");
    });
    start_writer(bench);
    let said = install(bench).ended(0);
    let written = stop_writer(bench);
    println!("figure: rolling renewal of three members: {:.1} s, {written:?}", said.seconds);
    let done = actions(bench);
    assert_eq!(done.len(), 4, "{done:?}");
    for renewed in &done[..2] {
        assert!(renewed.ends_with(": renew Patroni and PostgreSQL"), "{done:?}");
        assert!(!renewed.starts_with(old), "{done:?}");
    }
    assert!(done[2].starts_with(&format!("{old}: hand leadership over to ")), "{done:?}");
    assert_eq!(done[3], format!("{old}: renew Patroni and PostgreSQL"));
    assert_ne!(leader(bench), old);
    assert_eq!(written.lost, 0, "{written:?}");
    nothing_more_to_do(bench);
}

/// Waits until nothing of a member's Patroni runs any more.
fn stop(bench: &Bench, host: &str) {
    bench.on(host, &["docker", "stop", "patroni"]).ended(0);
}

/// Takes a part of a member's data away.
fn without(bench: &Bench, host: &str, part: &str) {
    bench.on(host, &["rm", "-r", &format!("{DATA}/{part}")]).ended(0);
}

/// What was moved aside on a host.
fn aside(bench: &Bench, host: &str) -> Vec<String> {
    let said =
        bench.output(host, &["sh", "-c", &format!("ls -d {DATA}.aside.* 2>/dev/null || true")]);
    said.lines().map(str::to_owned).collect()
}

/// Data of no use is moved aside while another full copy is there, whatever is wrong with it.
///
/// ```text
/// cargo test --test lab_postgres -- --ignored --nocapture campaign_of_useless_data
/// ```
#[test]
#[ignore = "campaign: data that cannot be used, about 8 minutes"]
fn campaign_of_useless_data() {
    let bench = Bench::open("t-postgres", &HOSTS);
    // Little WAL is kept, so that a standby can miss what it needs.
    let site = |site: &Path| {
        postgres::site(site);
        let role = site.join("roles/postgres/role.toml");
        replace(&role, "wal_keep_size          = \"1GB\"", "wal_keep_size          = \"16MB\"");
    };
    bench.fresh_with(site);
    bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    formed(&bench);
    let system = systems(&bench);
    let live = leader(&bench);
    sql(&bench, live, "create table canary as select generate_series(1, 1000) as n");
    let standbys: Vec<&str> = HOSTS.into_iter().filter(|host| *host != live).collect();
    let [first, second] = standbys[..] else { panic!("{standbys:?}") };

    // PostgreSQL does not start; it starts and every login fails; it runs and cannot follow.
    stop(&bench, first);
    without(&bench, first, "pg_replslot");
    moved_aside(&bench, first, live, "PostgreSQL: start failed");
    stop(&bench, second);
    without(&bench, second, "global/pg_filenode.map");
    moved_aside(&bench, second, live, "pg_filenode.map");
    stop(&bench, first);
    no_more_wal_for(&bench, first, live);
    moved_aside(&bench, first, live, "the leader keeps none before");

    // With one full copy left nothing is moved.
    for host in [first, second] {
        stop(&bench, host);
        without(&bench, host, "pg_replslot");
    }
    let said = install(&bench).ended(7);
    println!("{}", said.text());
    assert!(said.text().contains("has the only full copy"), "{}", said.text());
    assert_eq!((aside(&bench, first).len(), aside(&bench, second).len()), (2, 1));
    assert_eq!(leader(&bench), live);
    assert_eq!(systems(&bench), system);
}

/// A run moves the member's data aside and lets it copy; nothing of it is gone.
fn moved_aside(bench: &Bench, host: &str, live: &str, why: &str) {
    let said = install(bench).ended(0);
    println!("{}", said.text());
    println!("figure: {why}: whole again after {:.1} s", said.seconds);
    assert!(said.text().contains(why), "{}", said.text());
    let done = actions(bench);
    let aside_first = format!("{host}: move the data aside and copy anew");
    let join = format!("{host}: join with a copy of the leader's data");
    assert!(done.ends_with(&[aside_first, join]), "{done:?}");
    for kept in aside(bench, host) {
        bench.on(host, &["test", "-s", &format!("{kept}/global/pg_control")]).ended(0);
    }
    assert_eq!(leader(bench), live);
    assert_eq!(sql(bench, host, "select count(*) from canary"), "1000");
    nothing_more_to_do(bench);
}

/// The leader forgets a member that is away, and what it would need.
fn no_more_wal_for(bench: &Bench, host: &str, live: &str) {
    let slots = format!(
        "select count(*) from pg_replication_slots where slot_name = '{}'",
        host.replace('-', "_")
    );
    wait("that nobody keeps WAL for the member", 120, || match sql(bench, live, &slots).as_str() {
        "0" => Ok(()),
        other => Err(other.to_owned()),
    });
    for _ in 0..12 {
        sql(
            bench,
            live,
            "insert into canary select 0 from generate_series(1, 10); delete from canary where n = 0",
        );
        sql(bench, live, "select pg_switch_wal()");
    }
    sql(bench, live, "checkpoint");
}

/// The site with another Patroni image: its pin, and what the lab makes it of.
fn image(site: &Path, version: &str, change: impl Fn(String) -> String) {
    postgres::site(site);
    let pins = site.join("inventory/lab/versions.yaml");
    replace(&pins, "strata.lab/patroni:3.3.0", &format!("strata.lab/patroni:{version}"));
    let made = site.join("inventory/lab/images/patroni.toml");
    let text = fs::read_to_string(&made).unwrap();
    fs::write(&made, change(text.replace("patroni==3.3.0", &format!("patroni=={version}"))))
        .unwrap();
}

/// Another site, whose pins concern the layer below too.
fn changed(bench: &Bench, edit: impl Fn(&Path)) {
    bench.change_with(edit);
    bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
}

fn newer(site: &Path) {
    image(site, "3.3.1", |text| text);
}

/// Another major version of PostgreSQL, of another release of Debian.
fn other_major(site: &Path) {
    image(site, "3.3.2", |text| {
        let text = text.replace("bookworm", "trixie").replace("postgresql-15", "postgresql-17");
        let text = text.replace("postgresql-client-15", "postgresql-client-17");
        let text =
            text.replace("postgresql/15", "postgresql/17").replace("PG_MAJOR=15", "PG_MAJOR=17");
        let text = text
            .replace("\"perl-modules-5.36\", \"libperl5.36\", ", "")
            .replace("libllvm14", "libllvm19");
        text.replace(", \"libz3-4\"", "")
    });
}

/// Another image: rolled member by member under a writer, and refused before the first restart where it
/// would damage the data, whether members run or not.
///
/// ```text
/// cargo test --test lab_postgres -- --ignored --nocapture campaign_of_images
/// ```
#[test]
#[ignore = "campaign: other images, about 9 minutes"]
fn campaign_of_images() {
    let bench = Bench::open("t-postgres", &HOSTS);
    base(&bench);
    formed(&bench);
    let system = systems(&bench);
    let refused = |why: &str| {
        let before = started(&bench);
        let said = install(&bench).ended(7);
        println!("{}", said.text());
        assert!(said.text().contains(why), "{}", said.text());
        assert_eq!(restarted(&before, &started(&bench)), Vec::<String>::new());
    };

    changed(&bench, newer);
    let old = leader(&bench);
    start_writer(&bench);
    let said = install(&bench).ended(0);
    let written = stop_writer(&bench);
    println!("{}", said.text());
    println!("figure: another image on three members: {:.1} s, {written:?}", said.seconds);
    assert_eq!(written.lost, 0, "{written:?}");
    assert_ne!(leader(&bench), old);
    nothing_more_to_do(&bench);

    // An older Patroni.
    changed(&bench, postgres::site);
    refused("it runs Patroni 3.3.1, the wanted image has the older 3.3.0");

    changed(&bench, other_major);
    refused("its data is of PostgreSQL 15, and what is wanted has PostgreSQL 17");
    // Nor are members started with it that were stopped meanwhile.
    for host in HOSTS {
        stop(&bench, host);
    }
    refused("its data is of PostgreSQL 15");

    changed(&bench, newer);
    install(&bench).ended(0);
    assert_eq!(systems(&bench), system);
    nothing_more_to_do(&bench);
}
