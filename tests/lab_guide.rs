//! The sessions of docs/operating.md, typed on hosts in the order of the page: what it shows has to
//! be printed. Numbers, moments and ids apart; commands are the page's own, word for word.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "documentation/blocks.rs"]
mod blocks;
#[path = "lab/support.rs"]
mod support;

use blocks::{Block, block, missing};
use std::process::Command;
use std::time::Instant;
use support::{Bench, OPERATOR, SITE, Said};

const HOSTS: [&str; 3] = ["db-01", "redis-01", "redis-02"];
const CHRONY: &str = "/etc/chrony/chrony.conf";
const UPGRADES: &str = "/etc/apt/apt.conf.d/60-keybuzz-upgrades";

/// A line as it is typed in the site on the operator host. A rehearsal's site says what it is.
fn typed(bench: &Bench, line: &str) -> Said {
    let shell = format!(
        "cd {SITE}; strata() {{ command strata --rehearsal --color never --no-progress \"$@\"; }}; {line}"
    );
    bench.on(OPERATOR, &["bash", "-c", &shell])
}

#[track_caller]
fn shown(said: &Said, lines: &[String], what: &str) {
    assert_eq!(missing(&said.text(), lines), [] as [&str; 0], "{what}\n{}", said.text());
}

/// The command of the first line that a run prints: `strata 0.1.0  COMMAND  site …`.
fn command_of(first: &str) -> String {
    let words: Vec<&str> = first.split_whitespace().collect();
    let end = words.iter().position(|word| *word == "site").unwrap();
    format!("strata {}", words[2..end].join(" "))
}

fn drift(bench: &Bench, host: &str) {
    bench.output(host, &["sh", "-c", &format!("echo '# by hand' >> {CHRONY}")]);
}

#[test]
#[ignore = "a campaign: every session of the operating guide"]
fn campaign_of_the_operating_guide() {
    let start = Instant::now();
    let bench = Bench::open("t-guide", &HOSTS);
    bench.furnished();
    let keys = format!("cp /root/lab-host-keys {SITE}/keys.txt; rm {SITE}/.strata/known_hosts");
    bench.output(OPERATOR, &["sh", "-c", &keys]);
    let trust = block("operating.md", "strata hosts trust --from");
    typed(&bench, &trust.lines[0]).ended(0);

    // The hosts that the lab does not have here are out of service.
    let all = typed(&bench, "strata hosts list --json").ended(0).out;
    let mut out = String::from("set -e\n");
    for host in all.lines().filter_map(|line| line.split("\"host\":\"").nth(1)) {
        let host = host.split('"').next().unwrap();
        if host != OPERATOR && !HOSTS.contains(&host) {
            out += &format!("strata hosts out {host} --reason 'not in this lab' --until 1d\n");
        }
    }
    typed(&bench, &out).ended(0);
    typed(&bench, "strata install --layer base --gate diag").ended(0);

    every_day(&bench);
    programs_on_many_hosts(&bench);
    a_run_that_fails_and_the_one_after_it(&bench);
    a_run_that_is_killed(&bench);
    a_file_is_undone(&bench);
    differences_are_seen(&bench);
    let reboot = block("operating.md", "strata reboot --host redis");
    let said = typed(&bench, &reboot.lines[0]).ended(0);
    println!("figure: two hosts rebooted in {:.0} s", said.seconds);
    the_operator_host_is_lost(&bench);
    println!("figure: the guide's sessions took {:.0} s", start.elapsed().as_secs_f64());
}

/// The commands of the table "Every day".
fn every_day(bench: &Bench) {
    let page = include_str!("../docs/operating.md");
    let table = page.split("\n## Every day\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let commands = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let mut typed_lines = 0;
    for command in commands.filter(|code| code.starts_with("strata ")) {
        // Below with its own block; faults in every host are lab_install's, and take minutes.
        if command.contains("site backup") || command.contains("--kind failover") {
            continue;
        }
        let history = typed(bench, "strata history").ended(0).out;
        let run = history.lines().find(|line| line.contains("install")).unwrap();
        let run = run.split_whitespace().next().unwrap();
        let mut line = command.replace("RUN", run);
        // The layers above are not installed here.
        if ["strata verify", "strata audit"].contains(&command) {
            line += " --layer base";
        }
        let said = typed(bench, &line);
        // The status says of the layers above that they were never proved.
        let wanted = if command == "strata status" { 8 } else { 0 };
        assert_eq!(said.code, wanted, "{line}\n{}", said.text());
        typed_lines += 1;
    }
    println!("figure: {typed_lines} commands of every day");
    assert!(typed_lines > 15);
    typed(bench, "strata check").ended(0);
    bench.output(OPERATOR, &["rm", "-r", &format!("{SITE}/roles/grafana")]);
}

fn programs_on_many_hosts(bench: &Bench) {
    let run = block("operating.md", "strata run --host redis");
    bench.put_text(OPERATOR, &format!("{SITE}/notes.txt"), "a note\n");
    let said: Vec<Said> = run.lines.iter().map(|line| typed(bench, line).ended(0)).collect();
    assert_eq!(said.len(), 3);
    for host in ["redis-01", "redis-02"] {
        assert!(said[0].out.contains(host), "{}", said[0].text());
    }
    assert!(!said[0].text().contains("db-01") && said[1].text().contains("db-01"));
    assert_eq!(bench.output("db-01", &["cat", "/root/notes.txt"]), "a note");
}

fn a_run_that_fails_and_the_one_after_it(bench: &Bench) {
    let jail = "/etc/fail2ban/jail.d/keybuzz.local";
    let break_it = format!("rm {UPGRADES}; mkdir {UPGRADES}; echo '# by hand' >> {jail}");
    bench.output("db-01", &["sh", "-c", &break_it]);
    let read = block("operating.md", "strata 0.1.0  install");
    let command = command_of(&read.lines[0]);
    let said = typed(bench, &command).ended(1);
    shown(&said, &read.lines, &command);

    bench.output("db-01", &["rmdir", UPGRADES]);
    let after = block("operating.md", "db-01  base › handler restart fail2ban");
    let said = typed(bench, &command).ended(0);
    shown(&said, &after.lines, &command);
}

fn a_run_that_is_killed(bench: &Bench) {
    let history = block("operating.md", "20261121-083930-xkcg  2026");
    let line = &history.lines[0];
    let command = line.split("  install").nth(1).unwrap();
    let command = format!("install{command}");
    let words: Vec<&str> = command.split_whitespace().collect();
    // Each of its hosts has something to do, and one of them enough of it.
    for host in [OPERATOR, "db-01", "redis-01"] {
        drift(bench, host);
    }
    let stop = "systemctl stop fail2ban; rm /etc/apt/apt.conf.d/60-keybuzz-upgrades /etc/fail2ban/jail.d/keybuzz.local";
    bench.output("db-01", &["sh", "-c", stop]);
    let running = bench.start(SITE, &words);
    for host in [OPERATOR, "db-01", "redis-01"] {
        running.wait_for(&format!("{host}  base › chrony.conf  changed"), 60);
    }
    assert!(bench.signal("KILL"), "it ended by itself: {}", running.so_far());
    running.finish();
    let said = typed(bench, "strata history").ended(0);
    shown(&said, &history.lines, "strata history");
    // Until the agents of the killed run have ended the hosts' locks are theirs.
    support::wait("a resumed run", 120, || {
        let said = typed(bench, "strata resume");
        if said.code == 0 { Ok(()) } else { Err(said.text()) }
    });
}

fn a_file_is_undone(bench: &Bench) {
    for (line, lines) in block("operating.md", "$ strata undo").sessions() {
        let said = typed(bench, &line).ended(0);
        shown(&said, &lines, &line);
    }
    let there = bench.output("db-01", &["cat", CHRONY]);
    assert!(there.ends_with("# by hand"), "{there}");
    typed(bench, "strata install --layer base --gate diag").ended(0);
}

fn differences_are_seen(bench: &Bench) {
    drift(bench, "db-01");
    let rule = "nft add rule inet strata input tcp dport 9999 accept";
    bench.output("db-01", &["sh", "-c", rule]);
    // The layers above are not installed here.
    let audit = block("operating.md", "$ strata audit");
    for (line, lines) in audit.sessions() {
        let said = typed(bench, &format!("{line} --layer base")).ended(8);
        shown(&said, &lines, &line);
    }
    typed(bench, "strata install --layer base --gate diag").ended(0);

    drift(bench, "db-01");
    bench.output("db-01", &["sysctl", "-qw", "net.core.somaxconn=128"]);
    for (line, lines) in block("gates.md", "$ strata verify --layer base --host db-01").sessions() {
        let said = typed(bench, &line).ended(3);
        shown(&said, &lines, &line);
    }
    typed(bench, "strata install --layer base --gate diag").ended(0);
}

fn the_operator_host_is_lost(bench: &Bench) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.txt");
    let made = Command::new("age-keygen").arg("-o").arg(&key).output().unwrap();
    assert!(made.status.success());
    let text = std::fs::read_to_string(&key).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    let there = "mkdir -p /mnt/usb; mkdir -m 0700 /root/recovery";
    bench.output(OPERATOR, &["sh", "-c", there]);
    bench.put_text(OPERATOR, "/root/recovery/key.txt", &text);
    bench.output(OPERATOR, &["chmod", "0600", "/root/recovery/key.txt"]);

    let backup: Block = block("operating.md", "strata site backup");
    let said = typed(bench, &backup.lines[0].replace("age1…", public)).ended(0);
    let sha256 = said.out.lines().find_map(|line| line.strip_prefix("sha256")).unwrap().trim();
    // Archives of images are a mount of the lab.
    let lose = format!(
        "cd /; find {SITE} -mindepth 1 -maxdepth 1 ! -name images -exec rm -rf {{}} + && rm -rf /root/.config"
    );
    bench.output(OPERATOR, &["sh", "-c", &lose]);
    let restore = block("operating.md", "strata --site /opt/keybuzz-installer site restore");
    let line = restore.lines[0].replace("9f86…", sha256);
    let said = typed(bench, &line).ended(0);
    println!("figure: restored in {:.1} s", said.seconds);
    // As the page goes on: nothing changed on the hosts since.
    typed(bench, "strata check").ended(0);
    typed(bench, "strata audit --layer base").ended(0);
    let said = typed(bench, "strata install --layer base --gate diag").ended(0);
    assert!(said.text().contains("; 0 of "), "{}", said.text());
}
