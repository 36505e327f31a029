//! The operator host is lost and comes back from a backup, drift is found and told, and a red test
//! is waived for a while and shown as such.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use serde_json::Value;
use support::{Bench, OPERATOR, SITE, Said, append};

const ONE: &str = "db-01";
const HOSTS: [&str; 2] = [OPERATOR, ONE];
const ARCHIVE: &str = "/root/site.strata";
const PASSPHRASE: &str = "correct horse battery staple\n";
const CHRONY: &str = "/etc/chrony/chrony.conf";
/// What the hook writes, and the hook.
const TOLD: &str = "/root/told.json";
const HOOK: &str = "/usr/local/bin/strata-notify";

#[test]
fn a_lost_operator_host_comes_back_and_drift_is_told() {
    let bench = Bench::open("t-ops-site", &HOSTS);
    bench.furnished_with(|site| {
        let notify = format!("\n[notify]\ncommand = [\"{HOOK}\"]\non = [\"drift\"]\n");
        append(&site.join("strata.toml"), &notify);
    });
    bench.put_text(OPERATOR, HOOK, &format!("#!/bin/sh\nexec cat > {TOLD}\n"));
    bench.on(OPERATOR, &["chmod", "0755", HOOK]).ended(0);
    let first = bench.install(SITE, &HOSTS).ended(0);
    println!("figure: first install of 2 hosts: {:.1} s", first.seconds);
    the_operator_host_is_lost_and_comes_back(&bench);
    drift_is_named_told_and_shown(&bench);
    a_red_test_is_waived_and_shown_so(&bench);
}

/// strata on the operator host with a passphrase on standard input.
fn with_passphrase(bench: &Bench, words: &[&str]) -> Said {
    let strata = ["strata", "--site", SITE, "--rehearsal", "--color", "never", "site"];
    let words = [&strata, words, &["--passphrase-fd", "0"]].concat();
    bench.with_input(OPERATOR, &words, PASSPHRASE)
}

/// Owner, mode and content of everything that a backup holds, as a digest a file.
fn kept(bench: &Bench) -> String {
    let script = format!(
        "find {SITE} /root/.config/strata -type f ! -path '*/.strata/lock' ! -name 'index.sqlite*' \
         ! -path '*/images/*' -printf '%m %u:%g %p ' -exec sha256sum {{}} \\; | sort -k3"
    );
    bench.output(OPERATOR, &["sh", "-c", &script])
}

fn activations(bench: &Bench) -> Vec<String> {
    let words = [
        "systemctl",
        "show",
        "--property=Id,MainPID,ActiveEnterTimestampMonotonic,NRestarts",
        "ssh.service",
        "fail2ban.service",
        "docker.service",
        "strata-firewall.service",
    ];
    HOSTS.map(|host| bench.output(host, &words)).to_vec()
}

fn the_operator_host_is_lost_and_comes_back(bench: &Bench) {
    bench.strata(&["site", "backup", ARCHIVE]).ended(2);
    let made = with_passphrase(bench, &["backup", ARCHIVE, "--with-login-key"]).ended(0);
    println!("figure: backup: {:.2} s; {}", made.seconds, made.out.lines().next().unwrap());
    assert!(made.out.contains("opens with  the passphrase"), "{}", made.out);
    with_passphrase(bench, &["backup", ARCHIVE]).ended(7);
    assert_eq!(bench.output(OPERATOR, &["stat", "-c", "%a", ARCHIVE]), "600");
    let (before, activations_before) = (kept(bench), activations(bench));
    let sha256 = made.out.lines().find_map(|line| line.strip_prefix("sha256      ")).unwrap();

    // A damaged copy changes nothing.
    let damaged = "/root/damaged.strata";
    let script = format!("head -c -1 {ARCHIVE} > {damaged}");
    bench.output(OPERATOR, &["sh", "-c", &script]);
    with_passphrase(bench, &["restore", damaged, "--replace"]).ended(2);
    assert_eq!(kept(bench), before);

    // Archives of images are a mount of the lab.
    let script = format!(
        "find {SITE} -mindepth 1 -maxdepth 1 ! -name images -exec rm -rf {{}} + && rm -rf /root/.config"
    );
    bench.output(OPERATOR, &["sh", "-c", &script]);
    let back = with_passphrase(bench, &["restore", ARCHIVE, "--sha256", sha256]).ended(0);
    println!("figure: restore: {:.2} s", back.seconds);
    let after = kept(bench);
    // The restore itself is a run.
    let missing: Vec<&str> = before.lines().filter(|line| !after.contains(*line)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "{after}");
    assert_eq!(after.lines().count(), before.lines().count() + 1);
    let history = bench.strata(&["history"]).ended(0).out;
    assert!(
        history.contains("site restore") && history.contains("install --layer base"),
        "{history}"
    );

    let next = bench.install(SITE, &HOSTS).ended(0);
    println!("figure: next run after the restore: {:.2} s", next.seconds);
    assert!(next.text().contains("2 hosts converged, 0 not; 0 of "), "{}", next.text());
    assert_eq!(activations(bench), activations_before);

    // What differs is refused, and named.
    bench.output(OPERATOR, &["sh", "-c", &format!("echo '# mine' >> {SITE}/versions.yaml")]);
    let refused = with_passphrase(bench, &["restore", ARCHIVE]).ended(7);
    assert!(refused.out.contains("versions.yaml: content"), "{}", refused.text());
    assert!(bench.output(OPERATOR, &["tail", "-n1", &format!("{SITE}/versions.yaml")]) == "# mine");
    with_passphrase(bench, &["restore", ARCHIVE, "--replace"]).ended(0);
    assert!(bench.output(OPERATOR, &["tail", "-n1", &format!("{SITE}/versions.yaml")]) != "# mine");
}

fn audit(bench: &Bench) -> Said {
    bench.strata(&["audit", "--layer", "base", "--host", OPERATOR, "--host", ONE])
}

fn drift_is_named_told_and_shown(bench: &Bench) {
    let install = bench.install(SITE, &HOSTS).ended(0);
    let clean = audit(bench).ended(0);
    println!("figure: audit of 2 hosts: {:.2} s, install {:.2} s", clean.seconds, install.seconds);
    assert!(
        clean.text().contains("audit base  everything is as wanted on 2 hosts"),
        "{}",
        clean.text()
    );
    assert_ne!(bench.on(OPERATOR, &["test", "-e", TOLD]).code, 0, "nobody is told of nothing");

    bench.output(ONE, &["sh", "-c", &format!("echo '# by hand' >> {CHRONY}")]);
    let before = bench.files(ONE);
    let found = audit(bench).ended(8);
    assert!(found.text().contains("audit base  1 difference on 2 hosts"), "{}", found.text());
    assert!(found.text().contains("differs base › chrony.conf: content"), "{}", found.text());
    assert!(found.text().contains("db-01  last as wanted in run 2"), "{}", found.text());
    assert_eq!(bench.files(ONE), before, "an audit changes nothing");

    let told: Value = serde_json::from_str(&bench.output(OPERATOR, &["cat", TOLD])).unwrap();
    assert_eq!(told["schema"], 1);
    assert_eq!(told["causes"], serde_json::json!(["drift"]));
    assert_eq!(told["exit_code"], 8);
    let drifted = &told["audits"][0]["drifted"][0];
    assert_eq!(drifted["place"], ONE);
    assert_eq!(drifted["differences"], serde_json::json!(["base › chrony.conf: content"]));

    let status = bench.strata(&["status"]).text();
    assert!(status.contains("drift     1 difference"), "{status}");
}

fn a_red_test_is_waived_and_shown_so(bench: &Bench) {
    let waivers = |until: &str| {
        format!(
            "[[waiver]]\nhost = \"{ONE}\"\nrole = \"base\"\nstep = \"chrony.conf\"\nreason = \"a provider's own servers\"\nuntil = {until}\nby = \"ops\"\n"
        )
    };
    let path = format!("{SITE}/waivers.toml");
    let verify = || bench.strata(&["verify", "--layer", "base", "--host", OPERATOR, "--host", ONE]);
    bench.put_text(OPERATOR, &path, &waivers("2020-01-01"));
    verify().ended(3);
    let check = bench.strata(&["check"]).ended(0);
    assert!(check.err.contains("a waiver expired on 2020-01-01"), "{}", check.err);

    bench.put_text(OPERATOR, &path, &waivers("2999-12-31"));
    let waived = verify().ended(0);
    let said = "waived: a provider's own servers, until 2999-12-31 (ops)";
    for part in ["waived  diag converged", said, "gate base  green with waivers: "] {
        assert!(waived.text().contains(part), "{part:?}\n{}", waived.text());
    }
    let status = bench.strata(&["status"]).text();
    assert!(status.contains("1 difference, waived"), "{status}");
    let audited = audit(bench).ended(0);
    assert!(
        audited.text().contains("audit base  1 difference, waived on 2 hosts"),
        "{}",
        audited.text()
    );
    assert!(
        audited
            .text()
            .contains("base › chrony.conf: content: a provider's own servers, until 2999-12-31")
    );
    let json =
        bench.strata(&["--json", "verify", "--layer", "base", "--host", ONE, "--host", OPERATOR]);
    assert!(json.out.contains("\"verdict\":\"waived\""), "{}", json.out);

    // Mended, there is nothing to waive.
    bench.install(SITE, &HOSTS).ended(0);
    let clean = audit(bench).ended(0);
    assert!(clean.text().contains("everything is as wanted on 2 hosts"), "{}", clean.text());
}
