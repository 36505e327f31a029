//! etcd on real hosts: formed once, kept as it is, mended member by member, refused where something
//! does not fit, and rolled with the leader last.
//!
//! One lab for all of it, one step after the other, since a formed cluster is what most of them
//! need.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/etcd.rs"]
mod etcd;
#[path = "lab/support.rs"]
mod support;

use etcd::{
    DATA, HOSTS, MARKER, RECORD, SNAPSHOTS, actions, base, canaries_live, etcd_cluster, install,
    leader, marked_id, native, never_formed, nothing_more_to_do, only_etcd, put_canaries,
    restarted, start_writer, started, stop_writer, voters, words,
};
use std::path::Path;
use std::time::{Duration, Instant};
use strata::lab::Fault;
use support::cluster::Timed;
use support::{Bench, OPERATOR, SITE, Said, replace};

#[test]
fn a_cluster_is_formed_once_and_kept() {
    let bench = Bench::open("t-etcd", &HOSTS);
    base(&bench);
    let mut timed = Timed(Instant::now());
    timed.step("a host is off: no formation", || no_formation_without_a_host(&bench));
    timed.step("formation", || formed(&bench));
    timed.step("second run", || the_second_run_does_nothing(&bench));
    let (id, cluster) = (marked_id(&bench), etcd_cluster(&bench));
    put_canaries(&bench);
    timed.step("member down", || a_stopped_member_is_started(&bench));
    timed.step("data gone", || a_member_whose_data_is_gone_joins_anew(&bench));
    timed.step("all stopped", || a_stopped_cluster_is_started(&bench));
    timed.step("record", || a_lost_record_is_restored_and_a_foreign_marker_refused(&bench));
    timed.step("rolling", || a_changed_setting_goes_member_by_member(&bench));
    assert_eq!((marked_id(&bench), etcd_cluster(&bench)), (id, cluster));
    canaries_live(&bench);
    timed.step("package", || the_package_serves_as_the_container_does(&bench));
}

/// What a run says of why it was refused.
fn why(said: &Said) -> String {
    let text = said.text();
    let lines = text.lines().filter(|line| {
        ["cluster `", "cluster etcd", "hint: "].iter().any(|part| line.contains(part))
    });
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

fn no_formation_without_a_host(bench: &Bench) {
    let off = Fault::StopHost { host: "db-03".to_owned() };
    let fault = bench.lab.fault(&off, Duration::from_secs(300)).unwrap();
    let said = install(bench).ended(7);
    assert!(why(&said).contains("not every member could be looked at: db-03"), "{said:?}");
    assert_ne!(bench.on(OPERATOR, &["test", "-e", RECORD]).code, 0, "a formation was written down");
    for host in ["db-01", "db-02"] {
        assert_ne!(bench.on(host, &["test", "-e", "/opt/keybuzz/etcd"]).code, 0, "{host}");
    }
    bench.lab.heal(&fault).unwrap();
}

fn formed(bench: &Bench) {
    let said = install(bench).ended(0);
    let text = said.text();
    for part in ["cluster etcd  absent", "cluster etcd  healthy: 3 of 3 members in step"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    println!("figure: formation, diag gate included: {:.1} s", said.seconds);
    println!("actions: {:?}", actions(bench));
    for host in HOSTS {
        let file = bench.output(host, &["cat", "/opt/keybuzz/etcd/conf/etcd.yaml"]);
        let alone = format!("initial-cluster: {host}=http://{}:2380\n", etcd::address(host));
        assert!(file.contains(&alone), "its file begins nothing any more: {file}");
    }
}

fn the_second_run_does_nothing(bench: &Bench) {
    let said = nothing_more_to_do(bench);
    println!("figure: second run, diag gate included: {:.2} s", said.seconds);
    let check = bench.strata(&words(&["--check"])).ended(0);
    println!("figure: install --check: {:.2} s", check.seconds);
}

fn a_stopped_member_is_started(bench: &Bench) {
    let leader = leader(bench);
    bench.on(leader, &["docker", "stop", "etcd"]).ended(0);
    let before = started(bench);
    let red = bench.strata(&["verify", "--layer", "only-etcd"]).ended(3);
    assert!(red.text().contains(&format!("{leader}: ")), "{red:?}");
    let said = install(bench).ended(0);
    println!("figure: a member was stopped: {:.1} s", said.seconds);
    assert_eq!(actions(bench), [format!("{leader}: start etcd with its data")]);
    assert_eq!(restarted(&before, &started(bench)), [leader]);
    canaries_live(bench);
}

/// Empties the data directory, whatever its owner does meanwhile.
fn empty(bench: &Bench, host: &str) {
    let script = format!("find {DATA} -mindepth 1 -delete; ls -A {DATA}");
    assert_eq!(bench.output(host, &["sh", "-c", &script]), "");
}

fn a_member_whose_data_is_gone_joins_anew(bench: &Bench) {
    let cluster = etcd_cluster(bench);
    let before = voters(bench, "db-01");
    let lost = *HOSTS.iter().find(|host| **host != leader(bench)).unwrap();
    bench.on(lost, &["docker", "stop", "etcd"]).ended(0);
    empty(bench, lost);
    // The engine starts it before strata looks: it must not vote with what it has forgotten.
    bench.on(lost, &["docker", "start", "etcd"]).ended(0);
    bench.on(lost, &["sh", "-c", "timeout 3 docker wait etcd; docker stop etcd"]).ended(0);
    let log = bench.on(lost, &["docker", "logs", "--tail", "3", "etcd"]).text();
    assert!(bench.on(lost, &["test", "-e", &format!("{DATA}/member/wal")]).code != 0, "{log}");
    let said = install(bench).ended(0);
    println!("figure: a member's data gone: {:.1} s", said.seconds);
    println!("actions: {:?}", actions(bench));
    let after = voters(bench, lost);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_ne!(after[lost], before[lost], "it has another id");
    assert_eq!(etcd_cluster(bench), cluster);
    canaries_live(bench);
    // The leader's directory goes while it runs.
    let lost = leader(bench);
    empty(bench, lost);
    let said = install(bench).ended(0);
    println!("figure: the leader's data gone while it ran: {:.1} s", said.seconds);
    println!("actions: {:?}", actions(bench));
    assert_eq!(etcd_cluster(bench), cluster);
    assert_ne!(leader(bench), lost);
    canaries_live(bench);
    nothing_more_to_do(bench);
}

fn a_stopped_cluster_is_started(bench: &Bench) {
    let (cluster, members) = (etcd_cluster(bench), voters(bench, "db-01"));
    for host in HOSTS {
        bench.on(host, &["docker", "stop", "etcd"]).ended(0);
    }
    let said = install(bench).ended(0);
    println!("figure: everything was stopped: {:.1} s", said.seconds);
    let wanted: Vec<String> =
        HOSTS.iter().map(|host| format!("{host}: start etcd with its data")).collect();
    assert_eq!(actions(bench), wanted);
    assert_eq!((etcd_cluster(bench), voters(bench, "db-01")), (cluster, members));
    canaries_live(bench);
    // Two of three have lost everything: nobody begins anew.
    for host in HOSTS {
        bench.on(host, &["docker", "stop", "etcd"]).ended(0);
    }
    for host in ["db-02", "db-03"] {
        bench.on(host, &["mv", DATA, "/opt/keybuzz/etcd/kept"]).ended(0);
    }
    let said = install(bench).ended(7);
    assert!(why(&said).contains("only 1 have their data (db-01)"), "{said:?}");
    for host in ["db-02", "db-03"] {
        assert_ne!(bench.on(host, &["test", "-e", &format!("{DATA}/member")]).code, 0, "{host}");
        bench.on(host, &["sh", "-c", &format!("rmdir {DATA}; mv /opt/keybuzz/etcd/kept {DATA}")]);
    }
    install(bench).ended(0);
    canaries_live(bench);
    nothing_more_to_do(bench);
}

fn a_lost_record_is_restored_and_a_foreign_marker_refused(bench: &Bench) {
    let id = marked_id(bench);
    bench.on(OPERATOR, &["rm", RECORD]).ended(0);
    let before = started(bench);
    install(bench).ended(0);
    assert_eq!(actions(bench), ["write down that the cluster is formed"]);
    assert_eq!(marked_id(bench), id);
    let marker = bench.output("db-02", &["cat", MARKER]);
    bench.put_text("db-02", MARKER, &marker.replace(&id, "0123456789abcdef0123456789abcdef"));
    let said = install(bench).ended(7);
    assert!(
        why(&said).contains("the data on db-02 belongs to cluster 0123456789abcdef"),
        "{said:?}"
    );
    bench.put_text("db-02", MARKER, &format!("{marker}\n"));
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
}

fn patient(site: &Path) {
    only_etcd(site);
    let role = site.join("roles/etcd/role.toml");
    replace(&role, "etcd_election_ms        = 1000", "etcd_election_ms        = 1500");
}

fn a_changed_setting_goes_member_by_member(bench: &Bench) {
    let old = leader(bench);
    bench.put_site(SITE, patient);
    start_writer(bench, "rolled");
    let said = install(bench).ended(0);
    let written = stop_writer(bench, "rolled");
    println!("figure: rolling renewal of three members: {:.1} s, {written:?}", said.seconds);
    let followers: Vec<&str> = HOSTS.into_iter().filter(|host| *host != old).collect();
    let (first, second) = (followers[0], followers[1]);
    assert_eq!(
        actions(bench),
        [
            format!("{first}: save all keys"),
            format!("{first}: renew etcd"),
            format!("{second}: renew etcd"),
            format!("{old}: let {first} lead"),
            format!("{old}: renew etcd"),
        ]
    );
    assert_eq!(written.lost, 0, "{written:?}");
    // A stall, not a busy machine's seconds.
    assert!(written.outage < 30.0, "{written:?}");
    let saved = bench.output(first, &["ls", SNAPSHOTS]);
    assert_eq!(saved.lines().count(), 1, "{saved}");
    nothing_more_to_do(bench);
}

/// From nothing once more, without containers.
fn the_package_serves_as_the_container_does(bench: &Bench) {
    never_formed(bench);
    bench.put_site(SITE, native);
    let said = install(bench).ended(0);
    println!("figure: formation from the package: {:.1} s", said.seconds);
    for host in HOSTS {
        // The package's own unit begins nothing.
        assert_eq!(bench.on(host, &["systemctl", "is-enabled", "etcd"]).out.trim(), "masked");
        assert_ne!(bench.on(host, &["test", "-e", "/var/lib/etcd/default"]).code, 0, "{host}");
    }
    let pids = || {
        HOSTS.map(|host| {
            bench.output(host, &["systemctl", "show", "-P", "MainPID", "strata-etcd.service"])
        })
    };
    let before = pids();
    let said = install(bench).ended(0);
    assert!(said.text().contains("3 hosts converged, 0 not; 0 of "), "{}", said.text());
    assert_eq!(pids(), before);
    let script = format!("systemctl stop strata-etcd.service; find {DATA} -mindepth 1 -delete");
    bench.on("db-02", &["sh", "-c", &script]).ended(0);
    let said = install(bench).ended(0);
    println!("figure: a member's data gone, from the package: {:.1} s", said.seconds);
    install(bench).ended(0);
    assert_eq!(actions(bench), Vec::<String>::new());
}
