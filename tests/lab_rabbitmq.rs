//! RabbitMQ on real hosts, behind real HAProxies: formed once, kept, proved with a fault, and
//! refused where something does not fit. Campaigns are the ignored tests: every ill of the driver,
//! and every test of the gate.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/rabbitmq.rs"]
mod rabbitmq;
#[path = "lab/support.rs"]
mod support;

use rabbitmq::{
    CONF, COOKIE, DATA, HOSTS, MARKER, QUEUE, RECORD, Timed, actions, base, cluster_id, install,
    management, messages_are_there, nothing_more_to_do, put_messages, restarted, started, why,
    words,
};
use std::path::Path;
use std::time::{Duration, Instant};
use strata::lab::Fault;
use support::{Bench, OPERATOR, SITE, Said, replace, wait};

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
    formed_cluster(&bench);
    let mut timed = Timed(Instant::now());
    let id = cluster_id(&bench);
    put_messages(&bench);
    timed.step("wrong cookie", || a_wrong_cookie_is_mended(&bench));
    timed.step("wrong password", || a_wrong_password_changes_nothing(&bench));
    timed.step("foreign marker", || a_foreign_marker_is_refused(&bench));
    timed.step("invalid key", || an_invalid_key_is_found_before_a_change(&bench));
    timed.step("rolling", || a_changed_setting_goes_node_by_node(&bench));
    timed.step("disk alarm", || a_full_disk_is_said_and_nothing_is_rolled(&bench));
    messages_are_there(&bench);
    timed.step("two clusters", || two_clusters_are_a_split(&bench));
    timed.step("renamed host", || a_renamed_host_is_another_node(&bench));
    assert_eq!(cluster_id(&bench), id);
    messages_are_there(&bench);
}

/// A formed cluster; in a lab that was kept it may be there already.
fn formed_cluster(bench: &Bench) {
    base(bench, |_| {});
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
    let listen =
        ["systemd-run", "--quiet", "--unit", "other-epmd", "socat", "TCP-LISTEN:4369,fork", "-"];
    bench.on("queue-02", &listen).ended(0);
    wait("that another program listens", 10, || {
        let said = bench.on("queue-02", &["ss", "-Hltn", "sport", "=", ":4369"]).out;
        if said.is_empty() { Err("nobody does".to_owned()) } else { Ok(()) }
    });
    let said = install(bench).ended(7);
    println!("printed:\n{}", why(&said));
    let text = said.text();
    assert!(text.contains("on queue-02 another program has a port of RabbitMQ: "), "{text}");
    assert!(text.contains(":4369 (socat, pid="), "{text}");
    assert_ne!(bench.on(OPERATOR, &["test", "-e", RECORD]).code, 0, "a formation was written down");
    for host in QUEUE {
        assert_eq!(bench.output(host, &["docker", "ps", "-aq"]), "", "{host}");
    }
    bench.on("queue-02", &["systemctl", "stop", "other-epmd"]).ended(0);
    bench.on("queue-02", &["systemctl", "reset-failed", "other-epmd"]);
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

/// What each action of the last run took.
fn took(bench: &Bench) {
    for event in rabbitmq::events(bench) {
        if let (Some(action), Some(ms)) = (event["action"].as_str(), event["took_ms"].as_u64()) {
            println!("figure:   {action}: {ms} ms");
        }
    }
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

/// The class of incident: a stale cookie after a re-run, and a node that finds nobody.
fn a_wrong_cookie_is_mended(bench: &Bench) {
    let script = format!(
        "docker stop rabbitmq && printf otherotherotherother > {COOKIE} && docker start rabbitmq"
    );
    bench.on("queue-02", &["sh", "-c", &script]).ended(0);
    let said = install(bench).ended(0);
    println!("figure: another cookie on one node: {:.1} s\nprinted:\n{}", said.seconds, why(&said));
    assert_eq!(actions(bench), ["queue-02: start the node as it was"]);
    messages_are_there(bench);
}

fn a_wrong_password_changes_nothing(bench: &Bench) {
    let before = started(bench);
    let keep = format!("cp -a {SITE}/credentials /root/credentials");
    bench.on(OPERATOR, &["sh", "-c", &keep]).ended(0);
    let other = "rabbitmqAdminPassword0123456789";
    let set = ["secrets", "set", "rabbitmq", "RABBITMQ_ADMIN_PASSWORD"];
    let words: Vec<&str> = ["strata", "--site", SITE].iter().chain(&set).copied().collect();
    bench.with_input(OPERATOR, &words, other).ended(0);
    let said = install(bench).ended(7);
    let text = said.text();
    println!("printed:\n{}", why(&said));
    assert!(text.contains("does not take RABBITMQ_ADMIN_PASSWORD"), "{text}");
    assert!(!text.contains(other), "{text}");
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    let back = format!("rm -rf {SITE}/credentials && mv /root/credentials {SITE}/credentials");
    bench.on(OPERATOR, &["sh", "-c", &back]).ended(0);
    nothing_more_to_do(bench);
}

fn a_foreign_marker_is_refused(bench: &Bench) {
    let id = cluster_id(bench);
    let before = started(bench);
    let marker = bench.output("queue-02", &["cat", MARKER]);
    bench.put_text("queue-02", MARKER, &marker.replace(&id, "0123456789abcdef0123456789abcdef"));
    let said = install(bench).ended(7);
    println!("printed:\n{}", why(&said));
    assert!(said.text().contains("the data on queue-02 belongs to cluster 0123"), "{said:?}");
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    bench.put_text("queue-02", MARKER, &format!("{marker}\n"));
}

fn setting(text: &str) -> impl Fn(&Path) {
    let more = format!("heartbeat = 60\n{text}");
    move |site: &Path| {
        replace(&site.join("templates/rabbitmq/10-keybuzz.conf.j2"), "heartbeat = 60\n", &more);
    }
}

/// The class of incident: a configuration with a key that does not exist, found when nothing boots.
fn an_invalid_key_is_found_before_a_change(bench: &Bench) {
    let before = started(bench);
    bench.put_site(SITE, setting("heartbeet = 60\n"));
    let said = install(bench).ended(1);
    println!("printed:\n{}", why(&said));
    assert!(said.text().contains("heartbeet"), "{}", said.text());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    for host in QUEUE {
        assert!(!bench.output(host, &["cat", CONF]).contains("heartbeet"), "{host}");
        let left = bench.output(host, &["find", "/opt/keybuzz/rabbitmq/conf", "-name", "*.trial"]);
        assert_eq!(left, "", "{host}");
    }
    bench.put_site(SITE, |_| {});
    // No node was drained: nothing is left to do.
    nothing_more_to_do(bench);
}

fn a_changed_setting_goes_node_by_node(bench: &Bench) {
    bench.put_site(SITE, setting("channel_max = 1024\n"));
    let before = started(bench);
    let said = install(bench).ended(0);
    println!("figure: rolling change of three nodes: {:.1} s", said.seconds);
    took(bench);
    assert_eq!(actions(bench), QUEUE.map(|host| format!("{host}: drain and renew")));
    assert_eq!(restarted(&before, &started(bench)).len(), 3);
    messages_are_there(bench);
    nothing_more_to_do(bench);
}

fn a_full_disk_is_said_and_nothing_is_rolled(bench: &Bench) {
    let fill = "free=$(df --output=avail -B1 /opt/keybuzz | tail -n 1); \
                fallocate -l $((free - 1000000000)) /opt/keybuzz/filled";
    bench.on("queue-03", &["sh", "-c", fill]).ended(0);
    wait("the disk's alarm", 60, || {
        let said = management(bench, "queue-03", "GET", "health/checks/alarms", "", 1);
        if said.contains("failed") { Ok(()) } else { Err(said) }
    });
    bench.put_site(SITE, |_| {});
    let before = started(bench);
    let said = install(bench).ended(7);
    println!("printed:\n{}", why(&said));
    assert!(said.text().contains("queue-03 has an alarm: disk"), "{}", said.text());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    bench.on("queue-03", &["rm", "-f", "/opt/keybuzz/filled"]).ended(0);
    wait("the alarm's end", 60, || {
        let said = management(bench, "queue-03", "GET", "health/checks/alarms", "", 1);
        if said.contains("ok") { Ok(()) } else { Err(said) }
    });
    install(bench).ended(0);
    nothing_more_to_do(bench);
}

/// A node that lost its data and finds nobody begins a cluster of its own.
fn two_clusters_are_a_split(bench: &Bench) {
    let alone = format!(
        "docker stop rabbitmq && cp -a {CONF} /root/conf && mv {DATA} /root/mnesia && \
         sed -i '/classic_config/d' {CONF} && docker start rabbitmq && \
         timeout 120 docker exec rabbitmq rabbitmqctl await_startup"
    );
    bench.on("queue-03", &["sh", "-c", &alone]).ended(0);
    let before = started(bench);
    let said = install(bench).ended(7);
    println!("printed:\n{}", why(&said));
    assert!(said.text().contains("are nodes of two clusters"), "{}", said.text());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    let back = format!(
        "docker stop rabbitmq && cp -a /root/conf {CONF} && mv {DATA} /root/other && \
         mv /root/mnesia {DATA} && docker start rabbitmq"
    );
    bench.on("queue-03", &["sh", "-c", &back]).ended(0);
    install(bench).ended(0);
    nothing_more_to_do(bench);
}

/// The name of a node is in its data: under another name the host would be another node.
fn a_renamed_host_is_another_node(bench: &Bench) {
    let before = started(bench);
    bench.put_site(SITE, |site| {
        let servers = site.join("inventory/servers.tsv");
        let text = std::fs::read_to_string(&servers).unwrap();
        std::fs::write(&servers, text.replace("queue-03", "queue-09")).unwrap();
    });
    let keys = bench.output(OPERATOR, &["cat", "/root/lab-host-keys"]);
    bench.put_text(
        OPERATOR,
        "/root/renamed",
        &format!("{}\n", keys.replace("queue-03", "queue-09")),
    );
    bench.strata(&["hosts", "trust", "--from", "/root/renamed"]).ended(0);
    let hosts = HOSTS.map(|host| if host == "queue-03" { "queue-09" } else { host });
    bench.install(SITE, &[&hosts[..], &[OPERATOR]].concat()).ended(0);
    let renamed: Vec<&str> = words(&[])
        .into_iter()
        .map(|word| if word == "queue-03" { "queue-09" } else { word })
        .collect();
    let said: Said = bench.strata(&renamed).ended(7);
    println!("printed:\n{}", why(&said));
    assert!(said.text().contains("has a node on queue-03, which is no member"), "{}", said.text());
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    bench.put_site(SITE, |_| {});
    bench.install(SITE, &[&HOSTS[..], &[OPERATOR]].concat()).ended(0);
    install(bench).ended(0);
    nothing_more_to_do(bench);
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

/// Runs one test of the gate, which must be green.
fn proved(bench: &Bench, test: &str) {
    let said = bench.strata(&["verify", "--layer", "rabbitmq", "--test", test]);
    println!("{}", said.text());
    let said = said.ended(0);
    assert!(!said.text().contains("NOT RUN"), "{}", said.text());
    let found = figures(bench, test);
    let of = |part: &str| {
        let found = found.iter().find(|(name, _)| name == part);
        found.map_or(f64::NAN, |(_, value)| *value)
    };
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

/// Every fault of the gate, with 20,000 messages each, then the load.
///
/// ```text
/// cargo test --test lab_rabbitmq -- --ignored --nocapture campaign_of_faults
/// ```
#[test]
#[ignore = "campaign: every fault, about 15 minutes"]
fn campaign_of_faults() {
    let bench = Bench::open("t-rabbitmq", &HOSTS);
    formed_cluster(&bench);
    let tests = [
        "rabbitmq-kill-leader",
        "rabbitmq-majority-down",
        "rabbitmq-drain",
        "rabbitmq-haproxy-down",
        "rabbitmq-cold-start",
        "rabbitmq-partition",
    ];
    for test in tests {
        proved(&bench, test);
    }
    nothing_is_left(&bench);
    nothing_more_to_do(&bench);
    let said = bench.strata(&["verify", "--layer", "rabbitmq", "--test", "rabbitmq-load"]);
    println!("{}", said.text());
    said.ended(0);
    nothing_is_left(&bench);
}
