//! One run over a fleet in which every host but one has a trouble of its own: what is printed, and
//! that the others are left right.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::time::Duration;
use strata::lab::{Fault, FaultId};
use support::{Bench, OPERATOR, SITE, append, replace, wait};

const OFF: &str = "db-01";
const FULL: &str = "queue-01";
const NEARLY_FULL: &str = "redis-01";
const OTHER_KEY: &str = "minio-01";
const APT_LOCKED: &str = "k3s-master-01";
const HUNG: &str = "k3s-worker-01";
const GOOD: &str = "k3s-worker-02";
const HOSTS: [&str; 7] = [OFF, FULL, NEARLY_FULL, OTHER_KEY, APT_LOCKED, HUNG, GOOD];

/// Longer than the test: faults are healed by hand.
const LONG: Duration = Duration::from_secs(600);

/// Holds dpkg's lock as another apt would: with a record lock.
const HOLD_DPKG_LOCK: &str = r#"use Fcntl; open(my $f, ">>", "/var/lib/dpkg/lock-frontend") or die;
my $lock = pack("s s x4 q q l x4", F_WRLCK, 0, 0, 0, 0);
fcntl($f, F_SETLK, $lock) or die; sleep 600;"#;

#[test]
fn every_trouble_is_told_and_the_others_are_left_right() {
    let bench = Bench::open("t-failures", &HOSTS);
    bench.fresh();
    bench.put_site(SITE, |site| {
        let role = site.join("roles/base/role.toml");
        replace(&role, "state = \"absent\" }", "state = \"absent\", lock_timeout = 3 }");
        let hangs = format!(
            "\n[[step]]\nname    = \"Hangs\"\nwhen    = \"host.name == '{HUNG}'\"\ntimeout = 4\n\
             command = {{ argv = [\"sleep\", \"1000\"] }}\n"
        );
        append(&role, &hangs);
    });
    let faults = make_trouble(&bench);
    let said = bench.install(SITE, &HOSTS).ended(5);
    println!("figure: one run over 7 hosts with 6 troubles: {:.1} s", said.seconds);
    for host in [FULL, NEARLY_FULL] {
        let text = said.text();
        let told = text.lines().rev().find(|line| line.trim_start().starts_with(host)).unwrap();
        assert!(told.contains("No space left on device"), "{told}");
    }
    insta::with_settings!({ filters => FILTERS.to_vec() }, {
        insta::assert_snapshot!("problems", problems(&said.text()));
    });
    nothing_runs_on(&bench);
    the_good_host_is_right(&bench);
    after_the_healing_they_converge(&bench, &faults);
    a_full_operator_disk_stops_the_run(&bench);
    a_read_only_state_directory_stops_the_run(&bench);
    a_disk_that_fills_during_the_run_stops_it(&bench);
}

/// What differs between runs.
const FILTERS: [(&str, &str); 7] = [
    // What apt was about to write when the disk was full.
    (r"(queue-01 .*cannot read the package lists): .*", "$1: [apt's reason]"),
    (r"(redis-01 .*cannot install .*socat): .*", "$1: [apt's reason]"),
    (r"SHA256:[A-Za-z0-9+/]+", "SHA256:[fingerprint]"),
    (r"pid \d+", "pid [pid]"),
    (r"process \d+", "process [pid]"),
    (r"\d+(\.\d+)? (ms|s)\b", "[time]"),
    (r"AAAA[A-Za-z0-9+/=]+", "[key]"),
];

/// The closing part of what a run prints: the problems in full, the hosts sorted.
fn problems(text: &str) -> String {
    let closing = text.split("\nproblems\n").nth(1).unwrap_or(text);
    let (problems, totals) = closing.rsplit_once("\n\n").unwrap_or((closing, ""));
    // Hosts end in any order.
    let mut blocks: Vec<String> = Vec::new();
    for line in problems.lines() {
        match blocks.last_mut() {
            // What apt says on the way depends on its version.
            Some(_) if line.starts_with("      | ") => {}
            Some(block) if line.starts_with("   ") => {
                block.push('\n');
                block.push_str(line);
            }
            _ => blocks.push(line.to_owned()),
        }
    }
    blocks.sort();
    // How many steps a full disk lets through depends on apt's versions.
    let hosts = totals.split(';').next().unwrap_or_default();
    format!("{}\n\n{hosts}", blocks.join("\n"))
}

fn make_trouble(bench: &Bench) -> Vec<FaultId> {
    let fill = |host: &str, leave_bytes| Fault::FillDisk {
        host: host.into(),
        path: "/var/lib".into(),
        leave_bytes,
    };
    bench.output(APT_LOCKED, &["apt-get", "-q", "update"]);
    bench.output(APT_LOCKED, &["apt-get", "-qy", "--no-install-recommends", "install", "nftables"]);
    bench.output(
        APT_LOCKED,
        &["systemd-run", "--quiet", "--unit=other-apt", "perl", "-e", HOLD_DPKG_LOCK],
    );
    bench.output(OTHER_KEY, &["mv", "/etc/ssh/ssh_host_ed25519_key", "/root/kept-key"]);
    bench.output(
        OTHER_KEY,
        &["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/ssh_host_ed25519_key"],
    );
    bench.output(OTHER_KEY, &["systemctl", "restart", "ssh"]);
    [Fault::StopHost { host: OFF.into() }, fill(FULL, 0), fill(NEARLY_FULL, 16 << 20)]
        .iter()
        .map(|fault| bench.lab.fault(fault, LONG).unwrap())
        .collect()
}

/// The step that hung was ended with its agent.
fn nothing_runs_on(bench: &Bench) {
    wait("the end of the hung step", 10, || {
        let left = bench.on(HUNG, &["pgrep", "-af", "sleep 1000|strata-agent"]).out;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

fn the_good_host_is_right(bench: &Bench) {
    bench.strata(&["install", "--layer", "base", "--check", "--host", GOOD]).ended(0);
    bench.nothing_half_done(GOOD);
}

fn after_the_healing_they_converge(bench: &Bench, faults: &[FaultId]) {
    for fault in faults {
        bench.lab.heal(fault).unwrap();
    }
    bench.output(OTHER_KEY, &["mv", "/root/kept-key", "/etc/ssh/ssh_host_ed25519_key"]);
    bench.output(OTHER_KEY, &["systemctl", "restart", "ssh"]);
    bench.output(APT_LOCKED, &["systemctl", "stop", "other-apt"]);
    bench.put_site(SITE, |_| {});
    // Those on which something was under way.
    let left: [&str; 3] = [NEARLY_FULL, APT_LOCKED, HUNG];
    let said = bench.install(SITE, &left).ended(0);
    for host in left {
        bench.nothing_half_done(host);
    }
    println!("figure: the next run on 3 of them, after healing: {:.1} s", said.seconds);
}

/// Nothing is mended on a host while the run cannot keep its journal.
fn touches_no_host(bench: &Bench, what: &str) {
    const DRIFTED: &str = "/etc/chrony/chrony.conf";
    bench.output(GOOD, &["sh", "-c", "echo '# by hand' >> /etc/chrony/chrony.conf"]);
    let said = bench.install(SITE, &[GOOD]).ended(70);
    assert!(said.err.contains("no host was touched"), "{what}: {}", said.err);
    println!("what is printed with {what}: {}", said.err.trim());
    assert!(bench.output(GOOD, &["tail", "-n1", DRIFTED]).contains("by hand"), "{what}");
}

fn a_full_operator_disk_stops_the_run(bench: &Bench) {
    let id = fill_operator_disk(bench);
    touches_no_host(bench, "a full disk");
    bench.lab.heal(&id).unwrap();
    bench.output(OPERATOR, &["rm", "/root/rest"]);
    bench.install(SITE, &[GOOD]).ended(0);
}

/// The fault leaves some blocks for itself; these are taken too.
fn fill_operator_disk(bench: &Bench) -> FaultId {
    let full = Fault::FillDisk { host: OPERATOR.into(), path: SITE.into(), leave_bytes: 0 };
    let id = bench.lab.fault(&full, LONG).unwrap();
    let rest = bench.on(OPERATOR, &["dd", "if=/dev/zero", "of=/root/rest", "bs=1k", "conv=fsync"]);
    assert!(rest.err.contains("No space left on device"), "{rest:?}");
    id
}

/// What is in hand ends; the run is not reported as complete.
fn a_disk_that_fills_during_the_run_stops_it(bench: &Bench) {
    bench.put_site(SITE, |site| {
        let step = |name: &str, argv: &str| {
            format!("\n[[step]]\nname    = \"{name}\"\ntags    = [\"slow\"]\ncommand = {{ argv = [{argv}] }}\n")
        };
        // Enough events after the slow step to need another block of the disk.
        let after = (0..60).map(|number| step(&format!("After {number}"), "\"true\""));
        let steps: String =
            std::iter::once(step("Slow", "\"sleep\", \"4\"")).chain(after).collect();
        append(&site.join("roles/base/role.toml"), &steps);
    });
    let words = ["install", "--layer", "base", "--tag", "slow", "--host", GOOD];
    let running = bench.start(SITE, &words);
    wait("the slow step", 20, || {
        let said = bench.on(GOOD, &["pgrep", "-x", "sleep"]);
        if said.code == 0 { Ok(()) } else { Err(running.so_far()) }
    });
    let id = fill_operator_disk(bench);
    let said = running.finish().ended(70);
    assert!(said.err.contains("the journal cannot be written"), "{}", said.err);
    bench.lab.heal(&id).unwrap();
    bench.output(OPERATOR, &["rm", "/root/rest"]);
    bench.strata(&words).ended(0);
    bench.strata(&["history"]).ended(0);
}

fn a_read_only_state_directory_stops_the_run(bench: &Bench) {
    let state = format!("{SITE}/.strata");
    bench.output(OPERATOR, &["mount", "--bind", &state, &state]);
    bench.output(OPERATOR, &["mount", "-o", "remount,ro,bind", &state]);
    touches_no_host(bench, "a read-only state directory");
    bench.output(OPERATOR, &["umount", &state]);
    bench.install(SITE, &[GOOD]).ended(0);
}
