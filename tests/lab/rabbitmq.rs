//! What tests of the layer rabbitmq share: hosts, looks at nodes, messages that must never be lost.

#![allow(dead_code, reason = "each test program uses a part")]

use super::support::cluster;
pub use super::support::cluster::{Timed, actions, events, restarted};
use super::support::{Bench, OPERATOR, SITE, Said, install_words, wait};
use std::collections::BTreeMap;
use std::path::Path;

/// Every host but the operator's.
pub const HOSTS: [&str; 5] = ["haproxy-01", "haproxy-02", "queue-01", "queue-02", "queue-03"];
/// The HAProxies.
pub const BALANCERS: [&str; 2] = ["haproxy-01", "haproxy-02"];
/// The members.
pub const QUEUE: [&str; 3] = ["queue-01", "queue-02", "queue-03"];
/// What the operator host remembers of the cluster.
pub const RECORD: &str = "/opt/keybuzz-installer/state/rabbitmq.json";
/// What stands beside each member's data.
pub const MARKER: &str = "/opt/keybuzz/rabbitmq/data/.strata-cluster";
/// The data of a member.
pub const DATA: &str = "/opt/keybuzz/rabbitmq/data/mnesia";
/// The cookie of a member.
pub const COOKIE: &str = "/opt/keybuzz/rabbitmq/data/.erlang.cookie";
/// A member's settings.
pub const CONF: &str = "/opt/keybuzz/rabbitmq/conf/10-keybuzz.conf";
/// Messages that must never be lost.
const MESSAGES: u64 = 100;

/// The words of `install --layer rabbitmq`, with its diag gate alone unless `more` says otherwise.
pub fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut words = install_words(&HOSTS);
    words[2] = "rabbitmq";
    words.extend(["--host", OPERATOR]);
    words.extend(more);
    words
}

/// `install --layer rabbitmq`.
pub fn install(bench: &Bench) -> Said {
    bench.strata(&words(&[]))
}

/// Hosts whose layer base is green, with a site changed by `edit`.
pub fn base(bench: &Bench, edit: impl Fn(&Path)) {
    bench.furnished_with(edit);
    let said = bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    println!("figure: base on 6 hosts {:.1} s", said.seconds);
}

/// When each node was started, by host.
pub fn started(bench: &Bench) -> BTreeMap<String, String> {
    let format = "{{.Id}} {{.State.StartedAt}} {{.State.Running}}";
    let look = |host: &str| bench.on(host, &["docker", "inspect", "-f", format, "rabbitmq"]);
    QUEUE.iter().map(|host| ((*host).to_owned(), look(host).text().trim().to_owned())).collect()
}

/// A run after which nothing is left to do changes and restarts nothing.
#[track_caller]
pub fn nothing_more_to_do(bench: &Bench) -> Said {
    let (before, pids) = (started(bench), workers(bench));
    let said = install(bench).ended(0);
    assert!(said.text().contains("5 hosts converged, 0 not; 0 of "), "{}", said.text());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    assert_eq!(workers(bench), pids, "HAProxy was reloaded");
    said
}

/// Calls the management interface on a member's own host, as often as told; `N` in the body is the
/// number of the call.
pub fn management(
    bench: &Bench,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
    times: u64,
) -> String {
    let script = "conf=/opt/keybuzz/rabbitmq/conf/20-admin.conf; \
         user=$(sed -n 's/^default_user = //p' $conf); pass=$(sed -n 's/^default_pass = //p' $conf); \
         for n in $(seq \"$4\"); do printf 'user = \"%s:%s\"\\n' \"$user\" \"$pass\" | \
         curl -sS -K - -X \"$1\" -H 'content-type: application/json' \
         --data-binary \"$(printf %s \"$3\" | sed \"s/N/$n/\")\" \"http://127.0.0.1:15672/api/$2\"; done";
    let times = times.to_string();
    bench.output(host, &["sh", "-c", script, "sh", method, path, body, &times])
}

/// Publishes the messages that must never be lost.
pub fn put_messages(bench: &Bench) {
    let queue = r#"{"durable":true}"#;
    // A lab that was kept has one.
    management(bench, "queue-01", "DELETE", "queues/keybuzz/canary", "", 1);
    management(bench, "queue-01", "PUT", "queues/keybuzz/canary", queue, 1);
    let message = r#"{"properties":{"delivery_mode":2},"routing_key":"canary","payload":"N","payload_encoding":"string"}"#;
    let path = "exchanges/keybuzz/amq.default/publish";
    let said = management(bench, "queue-02", "POST", path, message, MESSAGES);
    assert_eq!(said.matches(r#"{"routed":true}"#).count() as u64, MESSAGES, "{said}");
    messages_are_there(bench);
}

/// Every message is in the queue, and every node has a copy of it.
#[track_caller]
pub fn messages_are_there(bench: &Bench) {
    let (mut kind, mut members) = (String::new(), Vec::new());
    wait("that all messages are there", 60, || {
        let said = management(bench, "queue-02", "GET", "queues/keybuzz/canary", "", 1);
        let queue: serde_json::Value = serde_json::from_str(&said).map_err(|_| said.clone())?;
        kind = queue["type"].as_str().unwrap_or_default().to_owned();
        members = queue["members"].as_array().cloned().unwrap_or_default();
        let online = queue["online"].as_array().map(Vec::len).unwrap_or_default();
        let found = (queue["messages"].as_u64(), online);
        if found == (Some(MESSAGES), 3) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    assert_eq!((kind.as_str(), members.len()), ("quorum", 3));
}

/// The lines of a run that say why it was refused: what operators read.
pub fn why(said: &Said) -> String {
    let text = said.text();
    let lines = text.lines().filter(|line| {
        ["cluster `", "cluster rabbitmq", "hint: "].iter().any(|part| line.contains(part))
    });
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

/// The process ids of HAProxy's workers: a reload changes them.
pub fn workers(bench: &Bench) -> [String; 2] {
    cluster::workers(bench, BALANCERS)
}

/// The cluster's id, which markers and record must agree on.
#[track_caller]
pub fn cluster_id(bench: &Bench) -> String {
    cluster::agreed_id(bench, RECORD, MARKER, &QUEUE)
}

/// A program that is no RabbitMQ has the port by which nodes find each other.
pub fn another_program_listens(bench: &Bench) {
    let listen = [
        "systemd-run",
        "--quiet",
        "--unit",
        "other-epmd",
        "socat",
        "TCP-LISTEN:4369,fork,reuseaddr",
        "-",
    ];
    bench.on("queue-02", &listen).ended(0);
    wait("that another program listens", 10, || {
        let said = bench.on("queue-02", &["ss", "-Hltn", "sport", "=", ":4369"]).out;
        if said.is_empty() { Err("nobody does".to_owned()) } else { Ok(()) }
    });
}

/// Ends it.
pub fn the_other_program_stops(bench: &Bench) {
    bench.on("queue-02", &["systemctl", "stop", "other-epmd"]).ended(0);
    bench.on("queue-02", &["systemctl", "reset-failed", "other-epmd"]);
}

/// What each action of the last run took.
pub fn took(bench: &Bench) {
    for event in events(bench) {
        if let (Some(action), Some(ms)) = (event["action"].as_str(), event["took_ms"].as_u64()) {
            println!("figure:   {action}: {ms} ms");
        }
    }
}
