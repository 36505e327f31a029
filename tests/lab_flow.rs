//! The flow of a run on real hosts: whose turn it is, where a run begins, what goes on after a
//! failure, when it stops, and who is left out.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use strata::lab::Fault;
use support::{Bench, SITE, Said};

const FIRST: &str = "db-01";
const SECOND: &str = "db-02";
const THIRD: &str = "db-03";
const HOSTS: [&str; 3] = [FIRST, SECOND, THIRD];

/// Longer than the test: the fault is healed by hand.
const LONG: Duration = Duration::from_secs(600);

/// One site for all parts; `breaks` and `hangs` name the hosts on which a step fails or hangs.
fn settings(flow: u32, breaks: &str, hangs: &str) -> String {
    let layer = |name: &str, requires: &str, role: &str, more: &str| {
        format!(
            "[[layer]]\nname = \"{name}\"\nrequires = [{requires}]\nplace = [{{ role = \"{role}\", on = \"db\"{more} }}]\n"
        )
    };
    let head = format!(
        "site = \"keybuzz\"\noperator = \"install-01\"\nprivate = [\"10.0.0.0/16\"]\n\
         extra_columns = [\"ROLE_V3\", \"LOGICAL_NAME_V3\"]\n\
         [vars]\nflow = \"{flow}\"\nbreaks = \"{breaks}\"\nhangs = \"{hangs}\"\n"
    );
    [
        head,
        layer("roll", "", "flow", ", serial = 1"),
        layer("breaks", "", "breaks", ""),
        layer("above", "\"breaks\"", "above", ""),
        layer("free", "", "free", ""),
    ]
    .concat()
}

/// Roles with next to nothing in them: what is tested is the order of things.
const ROLES: [(&str, &str); 4] = [
    (
        "flow",
        r#"
description = "two files, a handler, and a step that shows when it ran"

[[firewall]]
name  = "ssh"
ports = [22]
from  = ["operator"]

[[step]]
name   = "First"
file   = { path = "/etc/flow-first", content = "{{ flow }}\n" }
notify = "note"

[[step]]
name    = "Breaks"
when    = "host.name == breaks"
command = { argv = ["false"] }

[[step]]
name    = "In turn"
command = { argv = ["sh", "-c", "date +%s%N > /root/begin; sleep 1; date +%s%N > /root/end; touch /root/turn"], creates = "/root/turn" }

[[step]]
name = "Second"
file = { path = "/etc/flow-second", content = "{{ flow }}\n" }

[[handler]]
name    = "note"
command = { argv = ["sh", "-c", "echo x >> /root/handled"] }
"#,
    ),
    (
        "breaks",
        r#"
description = "fails or hangs where the site says so"

[[step]]
name    = "Hangs"
when    = "host.name == hangs"
timeout = 12
command = { argv = ["sleep", "60"], changes = false }

[[step]]
name    = "Fails"
when    = "host.name == breaks"
command = { argv = ["false"], changes = false }

[[step]]
name = "Last"
file = { path = "/etc/flow-last", content = "{{ flow }}\n" }
"#,
    ),
    (
        "above",
        "description = \"above\"\n[[step]]\nname = \"Above\"\nfile = { path = \"/etc/flow-above\" }\n",
    ),
    (
        "free",
        "description = \"free\"\n[[step]]\nname = \"Free\"\nfile = { path = \"/etc/flow-free\" }\n",
    ),
];

fn site(flow: u32, breaks: &str, hangs: &str) -> impl Fn(&Path) {
    let settings = settings(flow, breaks, hangs);
    move |site: &Path| {
        fs::write(site.join("strata.toml"), &settings).unwrap();
        fs::write(site.join("inventory/lab/exceptions.toml"), "").unwrap();
        for (role, text) in ROLES {
            let folder = site.join("roles").join(role);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("role.toml"), text).unwrap();
            fs::write(folder.join("gate.toml"), "[[test]]\nname = \"converged\"\n").unwrap();
        }
    }
}

#[test]
fn runs_go_in_order_stop_in_time_and_leave_out_who_is_out() {
    let bench = Bench::open("t-flow", &HOSTS);
    bench.fresh_with(site(1, FIRST, ""));
    a_failure_in_the_first_batch_leaves_the_others_untouched(&bench);
    hosts_take_turns(&bench);
    only_what_is_named_is_done(&bench);
    a_run_begins_where_it_is_told(&bench);
    layers_that_do_not_need_the_failed_one_go_on(&bench);
    a_hung_step_stalls_nobody_and_the_deadline_ends_the_run(&bench);
    who_is_out_of_service_is_left_alone(&bench);
}

fn installed(bench: &Bench, words: &[&str], code: i32) -> Said {
    let words: Vec<&str> = ["install"].iter().chain(words).copied().collect();
    bench.strata(&words).ended(code)
}

#[track_caller]
fn says(said: &Said, texts: &[&str]) {
    let all = said.text();
    for text in texts {
        assert!(all.contains(text), "{text:?} is not said:\n{all}");
    }
}

fn is_there(bench: &Bench, host: &str, path: &str) -> bool {
    bench.on(host, &["test", "-e", path]).code == 0
}

fn a_failure_in_the_first_batch_leaves_the_others_untouched(bench: &Bench) {
    let said = installed(bench, &["--layer", "roll"], 1);
    println!("figure: a first batch of 1 that fails, 2 hosts not started: {:.1} s", said.seconds);
    says(
        &said,
        &[
            "flow on db: 3 hosts in batches of 1, 1, 1",
            "db-01  flow › Breaks  FAILED",
            "db-02  not started",
            "db-03  not started",
            "1 of flow on db failed, max_failures is 0; not started: db-02, db-03",
        ],
    );
    assert!(is_there(bench, FIRST, "/etc/flow-first"));
    for host in [SECOND, THIRD] {
        assert!(!is_there(bench, host, "/etc/flow-first"), "{host}");
        assert!(!is_there(bench, host, "/var/lib/strata/firewall.live"), "{host}");
    }
}

fn hosts_take_turns(bench: &Bench) {
    bench.put_site(SITE, site(1, "", ""));
    let said = installed(bench, &["--layer", "roll"], 0);
    println!("figure: 3 hosts one after the other, with the gate: {:.1} s", said.seconds);
    let at = |host: &str, what: &str| -> u128 {
        bench.output(host, &["cat", &format!("/root/{what}")]).parse().unwrap()
    };
    for (before, after) in [(FIRST, SECOND), (SECOND, THIRD)] {
        assert!(at(before, "end") <= at(after, "begin"), "{after} began before {before} ended");
    }
    assert_eq!(bench.output(FIRST, &["cat", "/root/handled"]), "x", "its handler ran late");
    let again = installed(bench, &["--layer", "roll"], 0);
    says(&again, &["3 hosts converged, 0 not; 0 of "]);
}

fn contents(bench: &Bench, host: &str) -> [String; 3] {
    ["/etc/flow-first", "/etc/flow-second", "/root/handled"]
        .map(|path| bench.output(host, &["cat", path]))
}

fn only_what_is_named_is_done(bench: &Bench) {
    bench.put_site(SITE, site(2, "", ""));
    let words = ["--layer", "roll", "--step", "Fir*", "--host", "@db", "--host", "!db-03"];
    let said = installed(bench, &words, 0);
    says(&said, &["gate of roll not run: only selected steps were", "2 hosts converged, 0 not"]);
    assert_eq!(contents(bench, FIRST), ["2", "1", "x\nx"]);
    assert_eq!(contents(bench, THIRD), ["1", "1", "x"]);
    installed(bench, &["--layer", "roll", "--step", "First", "--host", THIRD], 0);
}

fn a_run_begins_where_it_is_told(bench: &Bench) {
    // Drift before the place at which the run begins is not its business; its gate tells of it.
    bench.output(FIRST, &["rm", "/root/turn"]);
    let said = installed(bench, &["--layer", "roll", "--start-at", "Second"], 3);
    says(&said, &["3 hosts begin at `Second` in layer `roll`", "flow › In turn: "]);
    assert_eq!(contents(bench, FIRST), ["2", "2", "x\nx"]);
    assert!(!is_there(bench, FIRST, "/root/turn"));
    installed(bench, &["--layer", "roll"], 0);
}

fn layers_that_do_not_need_the_failed_one_go_on(bench: &Bench) {
    bench.put_site(SITE, site(2, SECOND, ""));
    let range = ["--from", "breaks", "--to", "free"];
    let said = installed(bench, &range, 1);
    says(&said, &["not begun: `above`, `free`"]);
    assert!(!is_there(bench, FIRST, "/etc/flow-free"));
    let said = installed(bench, &[&range[..], &["--keep-going"]].concat(), 1);
    println!("figure: 3 layers, the first failing, kept going: {:.1} s", said.seconds);
    says(
        &said,
        &[
            "db-02  breaks › Fails  FAILED",
            "layer above  skipped: it requires `breaks`, which is not green",
            "gate free  green",
        ],
    );
    for host in HOSTS {
        assert!(is_there(bench, host, "/etc/flow-free"), "{host}");
        assert!(!is_there(bench, host, "/etc/flow-above"), "{host}");
    }
}

fn a_hung_step_stalls_nobody_and_the_deadline_ends_the_run(bench: &Bench) {
    bench.put_site(SITE, site(3, "", THIRD));
    let start = Instant::now();
    let running =
        bench.start(SITE, &["install", "--from", "breaks", "--keep-going", "--deadline", "6s"]);
    for host in [FIRST, SECOND] {
        running.wait_for(&format!("  {host}  converged"), 30);
    }
    let others = start.elapsed().as_secs_f64();
    assert!(!running.so_far().contains("FAILED"), "{}", running.so_far());
    running.wait_for("the run's deadline of 6s passed", 30);
    let said = running.finish().ended(1);
    says(
        &said,
        &[
            "db-03  breaks › Hangs has been in hand for ",
            "db-03  breaks › Hangs  FAILED: it was not done after 12 s",
            "stopped: the run's deadline passed; not done: layer `breaks` on db-03; not begun: `above`, `free`; `strata resume` goes on",
        ],
    );
    println!(
        "figure: a step that sleeps 60 s on 1 of 3 hosts: the others done after {others:.1} s, the run (deadline 6 s, the step's own 12 s) after {:.1} s",
        said.seconds
    );
    // A deadline that passes while nothing hangs stops the run as well, and what is left is said.
    bench.put_site(SITE, site(3, "", ""));
    let words = ["--from", "breaks", "--deadline", "2h"];
    says(&installed(bench, &words, 0), &["gate above  green", "gate free  green"]);
}

fn who_is_out_of_service_is_left_alone(bench: &Bench) {
    let out = ["hosts", "out", THIRD, "--reason", "new disks", "--until", "7d"];
    bench.strata(&out).ended(0);
    says(&bench.strata(&["hosts", "out"]).ended(0), &["db-03", "new disks"]);
    says(&bench.strata(&["hosts", "show", THIRD]).ended(0), &["service    out until "]);
    let gone = bench.lab.fault(&Fault::StopHost { host: THIRD.into() }, LONG).unwrap();
    bench.put_site(SITE, site(4, "", ""));
    let said = installed(bench, &["--layer", "roll"], 0);
    println!("figure: an install with 1 of 3 hosts out of service and off: {:.1} s", said.seconds);
    says(
        &said,
        &[
            "db-03  out of service until ",
            "flow on db: 2 hosts in batches of 1, 1",
            "2 hosts converged, 0 not, 1 out of service; ",
            "gate roll  green",
        ],
    );
    bench.strata(&["verify", "--layer", "roll"]).ended(0);
    says(&bench.strata(&["status"]), &["db-03  out of service until "]);
    let alone = bench.strata(&["verify", "--layer", "roll", "--host", THIRD]).ended(2);
    says(&alone, &["every selected host is out of service: db-03"]);
    bench.lab.heal(&gone).unwrap();
    says(&bench.strata(&["hosts", "in", THIRD]).ended(0), &["db-03  in service"]);
    // What was proved without it, and before, is no proof of it.
    says(&bench.strata(&["status"]).ended(8), &["1 of 3 hosts were not looked at"]);
    assert_eq!(contents(bench, THIRD)[0], "2");
    installed(bench, &["--layer", "roll"], 0);
    assert_eq!(contents(bench, THIRD)[0], "4");
    let said = bench.strata(&["status"]);
    assert!(!said.text().contains("were not looked at"), "{}", said.text());
    says(&bench.strata(&["history"]), &["hosts out db-03", "hosts in db-03"]);
}
