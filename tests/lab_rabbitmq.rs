//! RabbitMQ on real hosts, behind real HAProxies: formed once, kept, proved with a fault, and
//! refused where something does not fit. Campaigns are the ignored tests: every ill of the driver,
//! and every test of the gate.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/rabbitmq_ills.rs"]
mod ills;
#[path = "lab/rabbitmq.rs"]
mod rabbitmq;
#[path = "lab/support.rs"]
mod support;

use rabbitmq::{
    DATA, HOSTS, QUEUE, RECORD, Timed, actions, another_program_listens, base, cluster_id, install,
    management, messages_are_there, nothing_more_to_do, put_messages, restarted, started,
    the_other_program_stops, took, why,
};
use std::path::Path;
use std::time::{Duration, Instant};
use strata::lab::Fault;
use support::{Bench, OPERATOR, replace};

/// The tests of the gate that take nodes away.
const FAULTS: [&str; 5] = [
    "rabbitmq-kill-leader",
    "rabbitmq-partition",
    "rabbitmq-majority-down",
    "rabbitmq-drain",
    "rabbitmq-cold-start",
];

#[test]
fn a_cluster_is_formed_once_and_kept() {
    let bench = Bench::open("t-rabbitmq", &HOSTS);
    base(&bench, few_messages);
    let mut timed = Timed(Instant::now());
    timed.step("port taken: no formation", || no_formation_where_a_port_is_taken(&bench));
    timed.step("formation", || formed(&bench));
    timed.step("second run", || the_second_run_does_nothing(&bench));
    put_messages(&bench);
    timed.step("a node killed", || a_node_that_stopped_is_started(&bench));
    timed.step("the leader's node killed", || proved(&bench, "rabbitmq-kill-leader"));
    nothing_is_left(&bench);
}

/// Fewer messages than a site's own gate sends.
fn few_messages(site: &Path) {
    let few = "rabbitmq-kill-leader\"\nbounds = { messages = { window = 20, enough = 1000 }, ";
    replace(&site.join("roles/rabbitmq/gate.toml"), "rabbitmq-kill-leader\"\nbounds = { ", few);
}

/// Every test with a fault goes on until so many messages are confirmed.
fn many_messages(site: &Path) {
    let gate = site.join("roles/rabbitmq/gate.toml");
    for test in FAULTS {
        let named = format!("name   = \"{test}\"\nbounds = {{ ");
        replace(&gate, &named, &format!("{named}messages = {{ confirmed = 20000 }}, "));
    }
}

/// How a cluster comes to be, and comes back.
///
/// ```text
/// cargo test --test lab_rabbitmq -- --ignored --nocapture campaign_of_losses
/// ```
#[test]
#[ignore = "campaign: what is stopped, killed and emptied, about 6 minutes"]
fn campaign_of_losses() {
    let bench = Bench::open("t-rabbitmq", &HOSTS);
    base(&bench, |_| {});
    let mut timed = Timed(Instant::now());
    timed.step("a host is off: no formation", || no_formation_without_a_host(&bench));
    timed.step("port taken: no formation", || no_formation_where_a_port_is_taken(&bench));
    timed.step("formation", || formed(&bench));
    timed.step("second run", || the_second_run_does_nothing(&bench));
    let id = cluster_id(&bench);
    put_messages(&bench);
    timed.step("a node killed", || a_node_that_stopped_is_started(&bench));
    timed.step("data gone", || lost_data_comes_back(&bench));
    timed.step("all stopped", || a_stopped_cluster_is_started(&bench));
    assert_eq!(cluster_id(&bench), id);
    messages_are_there(&bench);
}

/// Every ill of a formed cluster, one after the other.
///
/// ```text
/// cargo test --test lab_rabbitmq -- --ignored --nocapture campaign_of_ills
/// ```
#[test]
#[ignore = "campaign: every ill, about 10 minutes"]
fn campaign_of_ills() {
    let bench = Bench::open("t-rabbitmq", &HOSTS);
    formed_cluster(&bench, |_| {});
    let mut timed = Timed(Instant::now());
    let id = cluster_id(&bench);
    put_messages(&bench);
    timed.step("wrong cookie", || ills::a_wrong_cookie_is_mended(&bench));
    timed.step("wrong password", || ills::a_wrong_password_changes_nothing(&bench));
    timed.step("foreign marker", || ills::a_foreign_marker_is_refused(&bench));
    timed.step("invalid key", || ills::an_invalid_key_is_found_before_a_change(&bench));
    timed.step("rolling", || ills::a_changed_setting_goes_node_by_node(&bench));
    timed.step("disk alarm", || ills::a_full_disk_is_said_and_nothing_is_rolled(&bench));
    messages_are_there(&bench);
    timed.step("port taken", || ills::no_start_where_a_port_is_taken(&bench));
    timed.step("broken settings", || ills::broken_settings_are_brought_back(&bench));
    timed.step("broken data", || ills::a_node_that_does_not_stay_up_is_not_waited_for(&bench));
    timed.step("two clusters", || ills::two_clusters_are_a_split(&bench));
    timed.step("renamed host", || ills::a_renamed_host_is_another_node(&bench));
    assert_eq!(cluster_id(&bench), id);
    messages_are_there(&bench);
}

/// A formed cluster of a site changed by `edit`; in a lab that was kept it may be there already.
fn formed_cluster(bench: &Bench, edit: impl Fn(&Path)) {
    base(bench, edit);
    if bench.on(OPERATOR, &["test", "-e", RECORD]).code == 0 {
        install(bench).ended(0);
    } else {
        formed(bench);
    }
}

fn no_formation_without_a_host(bench: &Bench) {
    let off = Fault::StopHost { host: "queue-03".to_owned() };
    let fault = bench.lab.fault(&off, Duration::from_secs(300)).unwrap();
    let said = install(bench).ended(7);
    println!("printed:\n{}", why(&said));
    assert!(said.text().contains("not every member could be looked at: queue-03"), "{said:?}");
    assert_ne!(bench.on(OPERATOR, &["test", "-e", RECORD]).code, 0, "a formation was written down");
    bench.lab.heal(&fault).unwrap();
}

/// Another program has the port by which nodes find each other.
fn no_formation_where_a_port_is_taken(bench: &Bench) {
    another_program_listens(bench);
    let said = install(bench).ended(7);
    println!("printed:\n{}", why(&said));
    let text = said.text();
    assert!(text.contains("on queue-02 another program has a port of RabbitMQ: "), "{text}");
    assert!(text.contains(":4369 (socat, pid="), "{text}");
    assert_ne!(bench.on(OPERATOR, &["test", "-e", RECORD]).code, 0, "a formation was written down");
    for host in QUEUE {
        assert_eq!(bench.output(host, &["docker", "ps", "-aq"]), "", "{host}");
    }
    the_other_program_stops(bench);
}

fn formed(bench: &Bench) {
    let said = install(bench).ended(0);
    let text = said.text();
    for part in ["cluster rabbitmq  absent", "healthy: 3 nodes run in one cluster"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    println!("figure: formation, diag gate included: {:.1} s", said.seconds);
    took(bench);
}

fn the_second_run_does_nothing(bench: &Bench) {
    let said = nothing_more_to_do(bench);
    println!("figure: nothing to do, diag gate included: {:.1} s", said.seconds);
}

fn a_node_that_stopped_is_started(bench: &Bench) {
    bench.on("queue-02", &["docker", "kill", "rabbitmq"]).ended(0);
    let before = started(bench);
    let said = install(bench).ended(0);
    println!("figure: a killed node: {:.1} s", said.seconds);
    assert_eq!(actions(bench), ["queue-02: start the node as it was"]);
    assert_eq!(restarted(&before, &started(bench)), ["queue-02"]);
    messages_are_there(bench);
}

fn lost_data_comes_back(bench: &Bench) {
    bench.on("queue-03", &["docker", "kill", "rabbitmq"]).ended(0);
    bench.on("queue-03", &["find", DATA, "-mindepth", "1", "-delete"]).ended(0);
    let said = install(bench).ended(0);
    println!("figure: a node's data gone: {:.1} s", said.seconds);
    took(bench);
    assert_eq!(
        actions(bench),
        [
            "queue-03: remove the container without data",
            "queue-01: forget queue-03, which has no data",
            "queue-03: make a node",
            "queue-03: copies of the quorum queues",
        ]
    );
    messages_are_there(bench);
    nothing_more_to_do(bench);
}

fn a_stopped_cluster_is_started(bench: &Bench) {
    for (word, how) in [("stopped", "stop"), ("killed", "kill")] {
        for host in QUEUE {
            bench.on(host, &["docker", how, "rabbitmq"]).ended(0);
        }
        let said = install(bench).ended(0);
        println!("figure: everything was {word}: {:.1} s", said.seconds);
        assert_eq!(actions(bench), QUEUE.map(|host| format!("{host}: start the node as it was")));
        messages_are_there(bench);
    }
}

/// The figures of one test in the last run, by name.
fn figures(bench: &Bench, test: &str) -> Vec<(String, f64)> {
    let events = rabbitmq::events(bench);
    let mut finished =
        events.iter().filter(|event| event["test"] == test && event["measured"].is_array());
    let measured = finished.next_back().unwrap()["measured"].as_array().unwrap();
    measured
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].as_f64().unwrap()))
        .collect()
}

fn figure(figures: &[(String, f64)], part: &str) -> f64 {
    figures.iter().find(|(name, _)| name == part).map_or(f64::NAN, |(_, value)| *value)
}

/// Runs one test of the gate, which must be green.
fn proved(bench: &Bench, test: &str) {
    let said = bench.strata(&["verify", "--layer", "rabbitmq", "--test", test]);
    println!("{}", said.text());
    let said = said.ended(0);
    assert!(!said.text().contains("NOT RUN"), "{}", said.text());
    let found = figures(bench, test);
    let of = |part: &str| figure(&found, part);
    println!(
        "figure: | `{test}` | {:.1} | {} | {} | {} | {} | {} |",
        of("outage"),
        of("sent"),
        of("confirmed"),
        of("consumed"),
        of("consumed again"),
        of("confirmed and lost")
    );
    assert_eq!(of("confirmed and lost"), 0.0);
}

/// No queue of a test is left.
fn nothing_is_left(bench: &Bench) {
    let queues = management(bench, "queue-01", "GET", "queues/keybuzz?columns=name", "", 1);
    assert!(!queues.contains("strata_gate"), "{queues}");
}

/// Every fault of the gate with at least 20,000 confirmed messages, then the load.
///
/// ```text
/// cargo test --test lab_rabbitmq -- --ignored --nocapture campaign_of_faults
/// ```
#[test]
#[ignore = "campaign: every fault, about 15 minutes"]
fn campaign_of_faults() {
    let bench = Bench::open("t-rabbitmq", &HOSTS);
    formed_cluster(&bench, many_messages);
    for test in FAULTS {
        proved(&bench, test);
        assert!(figure(&figures(&bench, test), "confirmed") >= 20_000.0, "{test}");
    }
    proved(&bench, "rabbitmq-haproxy-down");
    nothing_is_left(&bench);
    nothing_more_to_do(&bench);
    let said = bench.strata(&["verify", "--layer", "rabbitmq", "--test", "rabbitmq-load"]);
    println!("{}", said.text());
    said.ended(0);
    nothing_is_left(&bench);
}
