//! Layers that are in hand at the same time: where their hosts differ and neither requires the
//! other. What one comes to is nothing to the other, and faults are injected while nothing else is
//! in hand.
//!
//! Needs root, Debian 12 and (the first time) a package mirror.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/support.rs"]
mod support;

use std::fs;
use std::path::Path;
use support::{Bench, OPERATOR, SITE, Said};

const LEFT: &str = "db-01";
const RIGHT: &str = "redis-01";
const HOSTS: [&str; 2] = [LEFT, RIGHT];

/// Four layers: `left` and `right` share no host, `above` requires `left`, and `both` shares a host
/// with each of the first two.
fn settings(most: u32) -> String {
    let layer = |name: &str, requires: &str, role: &str, groups: &[&str]| {
        let place: Vec<String> = groups
            .iter()
            .map(|group| format!("{{ role = \"{role}\", on = \"{group}\" }}"))
            .collect();
        let place = place.join(", ");
        format!("[[layer]]\nname = \"{name}\"\nrequires = [{requires}]\nplace = [{place}]\n")
    };
    let head = format!(
        "site = \"keybuzz\"\noperator = \"install-01\"\nprivate = [\"10.0.0.0/16\"]\n\
         extra_columns = [\"ROLE_V3\", \"LOGICAL_NAME_V3\"]\n\
         [run]\nparallel_layers = {most}\n"
    );
    [
        head,
        layer("left", "", "left", &["db"]),
        layer("right", "", "right", &["redis"]),
        layer("above", "\"left\"", "plain", &["db"]),
        layer("both", "", "shared", &["db", "redis"]),
    ]
    .concat()
}

/// What lets strata in.
const SSH: &str = r#"
[[firewall]]
name  = "ssh"
ports = [22]
from  = ["operator"]
"#;

/// A step that fails on a host that a test has broken.
const BREAKS: &str = r#"
[[step]]
name    = "Breaks"
command = { argv = ["test", "!", "-e", "/root/broken"], changes = false }
"#;

/// A role that takes some seconds and writes down when it ran.
fn slow(role: &str, seconds: u32) -> String {
    format!(
        r#"description = "takes {seconds} s"
[[step]]
name    = "Long"
command = {{ argv = ["sh", "-c", "sleep {seconds}; echo {role} >> /root/ran; touch /root/{role}"], creates = "/root/{role}" }}

[[step]]
name = "Last"
file = {{ path = "/etc/{role}-last", content = "done\n" }}
"#
    )
}

fn site(most: u32) -> impl Fn(&Path) {
    let settings = settings(most);
    move |site: &Path| {
        fs::write(site.join("strata.toml"), &settings).unwrap();
        fs::write(site.join("inventory/lab/exceptions.toml"), "").unwrap();
        let plain = "[[test]]\nname = \"converged\"\n";
        let reboots = "[[test]]\nname = \"converged\"\n[[test]]\nname = \"reboot\"\nbounds = { back_within = 120, settled_within = 60 }\n";
        for (role, text, gate) in [
            ("left", slow("left", 4) + SSH + BREAKS, reboots),
            ("right", slow("right", 8) + SSH, plain),
            ("plain", slow("plain", 0), plain),
            ("shared", slow("shared", 0), plain),
        ] {
            let folder = site.join("roles").join(role);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("role.toml"), text).unwrap();
            fs::write(folder.join("gate.toml"), gate).unwrap();
        }
    }
}

/// The events of the last run, in order.
struct Journal(Vec<serde_json::Value>);

impl Journal {
    fn last(bench: &Bench) -> Self {
        let script = format!("cd {SITE}/.strata/runs && cat \"$(ls *.jsonl | tail -n 1)\"");
        let text = bench.output(OPERATOR, &["sh", "-c", &script]);
        // The last line of a run that goes on may not be whole.
        Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Where an event of a layer stands.
    #[track_caller]
    fn at(&self, event: &str, layer: &str) -> usize {
        let found = self.find(event, layer);
        assert!(found.is_some(), "no {event} of {layer}");
        found.unwrap()
    }

    fn find(&self, event: &str, layer: &str) -> Option<usize> {
        self.0.iter().position(|one| one["event"] == event && one["layer"] == layer)
    }

    /// Where an event of a layer's step `Long` stands.
    fn long(&self, event: &str, layer: &str) -> Option<usize> {
        let of = |one: &serde_json::Value| one["layer"] == layer && one["step"] == "Long";
        self.0.iter().position(|one| one["event"] == event && of(one))
    }

    /// The first and the last event of a layer.
    fn span(&self, layer: &str) -> (usize, usize) {
        let of = |one: &serde_json::Value| one["layer"] == layer;
        (self.0.iter().position(of).unwrap(), self.0.iter().rposition(of).unwrap())
    }

    fn order_begun(&self) -> Vec<&str> {
        let begun = self.0.iter().filter(|one| one["event"] == "layer_started");
        begun.map(|one| one["layer"].as_str().unwrap()).collect()
    }
}

fn install(bench: &Bench, more: &[&str], code: i32) -> Said {
    bench.strata(&words(more)).ended(code)
}

fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["install", "--host", LEFT, "--host", RIGHT], more].concat()
}

#[track_caller]
fn says(said: &Said, texts: &[&str]) {
    let all = said.text();
    for text in texts {
        assert!(all.contains(text), "{text:?} is not said:\n{all}");
    }
}

/// The hosts as they were before the first run.
fn clean(bench: &Bench) {
    for host in HOSTS {
        let script = "rm -f /root/ran /root/left /root/right /root/plain /root/shared /root/broken /etc/*-last";
        bench.output(host, &["sh", "-c", script]);
    }
    bench.output(OPERATOR, &["sh", "-c", &format!("rm -f {SITE}/.strata/gates/*")]);
}

fn ran(bench: &Bench, host: &str) -> String {
    bench.on(host, &["cat", "/root/ran"]).out
}

#[test]
fn independent_layers_are_in_hand_together() {
    let bench = Bench::open("t-layers", &HOSTS);
    bench.fresh_with(site(3));
    two_layers_overlap_and_a_fault_has_the_run_to_itself(&bench);
    a_failure_leaves_the_other_layer_whole_and_resume_goes_on(&bench);
    an_interrupt_stops_both_after_the_step_in_hand(&bench);
    without_the_setting_one_follows_the_other(&bench);
}

fn two_layers_overlap_and_a_fault_has_the_run_to_itself(bench: &Bench) {
    let check = bench.strata(&["check"]).ended(0);
    says(&check, &["up to 3 at the same time: left beside right, then above, then both"]);
    let said = install(bench, &[], 0);
    println!(
        "figure: steps of 4 and 8 s in two layers, a reboot, two layers more: {:.1} s",
        said.seconds
    );
    says(
        &said,
        &[
            "gate of left waits for the other layers in hand: it injects faults or measures",
            "  [left] db-01  converged",
            "gate left  green",
            "gate right  green",
            "gate both  green",
        ],
    );
    says(&bench.strata(&["show"]).ended(0), &["  [left] db-01  converged"]);
    let journal = Journal::last(bench);
    assert_eq!(journal.order_begun(), ["left", "right", "above", "both"]);
    // Not their first steps: those of the names and the packet filter may be over at once.
    let long = |event, layer| journal.long(event, layer).unwrap();
    assert!(long("step_started", "left") < long("step_finished", "right"), "their steps overlap");
    assert!(long("step_started", "right") < long("step_finished", "left"), "their steps overlap");
    // The quicker one is converged first; its reboot waits until the other is proved.
    let (fault, whole) = (journal.at("gate_started", "left"), journal.at("gate_finished", "left"));
    assert!(journal.at("layer_finished", "left") < journal.at("layer_finished", "right"));
    assert!(journal.at("gate_finished", "right") < fault);
    let between = &journal.0[fault + 1..whole];
    assert!(between.iter().any(|one| one["event"] == "fault"), "{between:#?}");
    let foreign = between.iter().find(|one| one["layer"].is_string() && one["layer"] != "left");
    assert!(foreign.is_none(), "{foreign:?}");
    // What requires it, or has a host in common, comes after it.
    assert!(whole < journal.span("above").0);
    assert!(journal.span("above").1 < journal.span("both").0);
    assert_eq!(
        (ran(bench, LEFT), ran(bench, RIGHT)),
        ("left\nplain\nshared\n".into(), "right\nshared\n".into())
    );
    let again = install(bench, &[], 0);
    says(&again, &["0 not; 0 of "]);
    says(&bench.strata(&["status"]), &["left", "right"]);
}

fn a_failure_leaves_the_other_layer_whole_and_resume_goes_on(bench: &Bench) {
    clean(bench);
    bench.output(LEFT, &["touch", "/root/broken"]);
    let said = install(bench, &["--gate", "diag"], 1);
    says(
        &said,
        &["db-01  left › Breaks  FAILED", "gate right  green", "not begun: `above`, `both`"],
    );
    let journal = Journal::last(bench);
    assert!(journal.at("layer_finished", "left") < journal.at("layer_finished", "right"));
    assert_eq!(journal.order_begun(), ["left", "right"]);
    assert_eq!(bench.output(RIGHT, &["cat", "/etc/right-last"]), "done");
    // It is proved: what goes on does not do it again.
    bench.output(LEFT, &["rm", "/root/broken"]);
    let said = bench.strata(&["resume"]).ended(0);
    says(&said, &["gate of right was green before, and nothing changed: not repeated"]);
    assert_eq!(
        (ran(bench, LEFT), ran(bench, RIGHT)),
        ("left\nplain\nshared\n".into(), "right\nshared\n".into())
    );
    println!("figure: resumed after one of two layers had failed: {:.1} s", said.seconds);

    // Kept going, all that does not require it is begun.
    clean(bench);
    bench.output(LEFT, &["touch", "/root/broken"]);
    let said = install(bench, &["--gate", "diag", "--keep-going"], 1);
    says(
        &said,
        &["layer above  skipped: it requires `left`, which is not green", "gate both  green"],
    );
    assert_eq!(Journal::last(bench).order_begun(), ["left", "right", "both"]);
}

fn an_interrupt_stops_both_after_the_step_in_hand(bench: &Bench) {
    clean(bench);
    let running = bench.start(SITE, &words(&["--gate", "diag"]));
    running.wait_for("layer right", 30);
    support::wait("both long steps", 30, || {
        let both = Journal::last(bench);
        let begun = |layer| both.long("step_started", layer).is_some();
        if begun("left") && begun("right") { Ok(()) } else { Err("not begun".to_owned()) }
    });
    assert!(bench.signal("INT"));
    let said = running.finish().ended(130);
    says(
        &said,
        &["layer `left` on db-01", "layer `right` on redis-01", "not begun: `above`, `both`"],
    );
    assert_eq!((ran(bench, LEFT), ran(bench, RIGHT)), ("left\n".into(), "right\n".into()));
    bench.strata(&["resume"]).ended(0);
    assert_eq!(
        (ran(bench, LEFT), ran(bench, RIGHT)),
        ("left\nplain\nshared\n".into(), "right\nshared\n".into())
    );
}

fn without_the_setting_one_follows_the_other(bench: &Bench) {
    clean(bench);
    bench.put_site(SITE, site(1));
    let said = install(bench, &["--gate", "diag"], 0);
    println!(
        "figure: the same layers one after the other, without the reboot: {:.1} s",
        said.seconds
    );
    assert!(!said.text().contains("[left]") && !said.text().contains("[right]"), "{}", said.text());
    let journal = Journal::last(bench);
    let layers = ["left", "right", "above", "both"];
    assert_eq!(journal.order_begun(), layers);
    for pair in layers.windows(2) {
        assert!(journal.span(pair[0]).1 < journal.span(pair[1]).0, "{pair:?}");
    }
}
