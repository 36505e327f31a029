//! Every ill of a formed cluster of RabbitMQ: what strata says of it, when, and what it leaves alone.

use super::rabbitmq::{
    CONF, COOKIE, DATA, HOSTS, MARKER, QUEUE, actions, another_program_listens, cluster_id,
    install, management, messages_are_there, nothing_more_to_do, restarted, started,
    the_other_program_stops, took, why, words,
};
use super::support::{Bench, OPERATOR, SITE, Said, replace, wait};
use std::path::Path;

/// The class of incident: a stale cookie after a re-run, and a node that finds nobody.
pub fn a_wrong_cookie_is_mended(bench: &Bench) {
    let script = format!(
        "docker stop rabbitmq && printf otherotherotherother > {COOKIE} && docker start rabbitmq"
    );
    is_started_as_it_was(bench, "another cookie on one node", &script);
}

fn is_started_as_it_was(bench: &Bench, ill: &str, script: &str) {
    bench.on("queue-02", &["sh", "-c", script]).ended(0);
    let said = install(bench).ended(0);
    println!("figure: {ill}: {:.1} s\nprinted:\n{}", said.seconds, why(&said));
    assert_eq!(actions(bench), ["queue-02: start the node as it was"]);
    messages_are_there(bench);
}

pub fn a_wrong_password_changes_nothing(bench: &Bench) {
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

pub fn a_foreign_marker_is_refused(bench: &Bench) {
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
pub fn an_invalid_key_is_found_before_a_change(bench: &Bench) {
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

pub fn a_changed_setting_goes_node_by_node(bench: &Bench) {
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

pub fn a_full_disk_is_said_and_nothing_is_rolled(bench: &Bench) {
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

/// A stopped node would not start beside another program, or would ask another's epmd.
pub fn no_start_where_a_port_is_taken(bench: &Bench) {
    bench.on("queue-02", &["docker", "stop", "rabbitmq"]).ended(0);
    another_program_listens(bench);
    let before = started(bench);
    let said = install(bench).ended(7);
    println!("printed:\n{}", why(&said));
    let text = said.text();
    assert!(text.contains("on queue-02 another program has a port of RabbitMQ: "), "{text}");
    assert_eq!(restarted(&before, &started(bench)), Vec::<String>::new());
    the_other_program_stops(bench);
    install(bench).ended(0);
    assert_eq!(actions(bench), ["queue-02: start the node as it was"]);
    messages_are_there(bench);
}

/// Edited by hand, and found when the node was started again.
pub fn broken_settings_are_brought_back(bench: &Bench) {
    let script = format!("echo 'heartbeet = 60' >> {CONF} && docker restart rabbitmq");
    is_started_as_it_was(bench, "settings broken by hand", &script);
}

/// The class of incident: a file that was half written when the power went.
pub fn a_node_that_does_not_stay_up_is_not_waited_for(bench: &Bench) {
    let nodes = format!("{DATA}/rabbit@queue-03/cluster_nodes.config");
    let script = format!(
        "docker stop rabbitmq && cp -a {nodes} /root/nodes && printf 'half a li' > {nodes} && \
         docker start rabbitmq"
    );
    bench.on("queue-03", &["sh", "-c", &script]).ended(0);
    let said = install(bench).ended(7);
    println!(
        "figure: a node that does not stay up: {:.1} s\nprinted:\n{}",
        said.seconds,
        why(&said)
    );
    let text = said.text();
    for part in ["RabbitMQ on queue-03 does not stay up: ", "cannot_read_file", "hint: "] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(said.seconds < 90.0, "{said:?}");
    assert_eq!(actions(bench), Vec::<String>::new());
    let again = install(bench).ended(7);
    println!("figure: the same again: {:.1} s\nprinted:\n{}", again.seconds, why(&again));
    // As the hint says: its data is moved away, and it joins anew.
    let away = format!("docker stop rabbitmq && mv {DATA} /root/broken && mkdir -m 0755 {DATA}");
    bench.on("queue-03", &["sh", "-c", &away]).ended(0);
    install(bench).ended(0);
    messages_are_there(bench);
    nothing_more_to_do(bench);
}

/// A node that lost its data and finds nobody begins a cluster of its own.
pub fn two_clusters_are_a_split(bench: &Bench) {
    let alone = format!(
        "docker stop rabbitmq && cp -a {CONF} /root/conf && mv {DATA} /root/mnesia && \
         sed -i '/classic_config/d' {CONF} && docker start rabbitmq"
    );
    bench.on("queue-03", &["sh", "-c", &alone]).ended(0);
    // It fails at once while the node is not known to its epmd yet.
    let up = "timeout 120 docker exec rabbitmq rabbitmqctl await_startup";
    wait("a cluster of one node", 180, || {
        let said = bench.on("queue-03", &["sh", "-c", up]);
        if said.code == 0 { Ok(()) } else { Err(said.text()) }
    });
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
pub fn a_renamed_host_is_another_node(bench: &Bench) {
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
