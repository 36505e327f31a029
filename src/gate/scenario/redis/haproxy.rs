//! The HAProxies: that every way leads to the master, and that what makes them follow it works.

use super::judge::master;
use super::names::{Cluster, login};
use super::seen::look;
use crate::gate::drill::Host;
use crate::gate::haproxy::until_right;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::Dial;
use crate::redis_client::Client;
use futures::future::join_all;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What makes an HAProxy follow the master (KB-C4).
pub const UPDATER: &str = "redis-update-master.service";
/// What starts it (KB-C6).
const TIMER: &str = "redis-update-master.timer";

/// Bounds of the ways.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// Seconds until every way leads to the master: after a change of the master the updaters have
    /// their turn first. Default: 35.
    #[serde(default = "default_within")]
    within: u64,
}

/// Bounds of the updater.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follows {
    /// Seconds since its last run. Default: 60.
    #[serde(default = "default_age")]
    max_age: u64,
    /// Seconds until the text has the live master. Default: 35.
    #[serde(default = "default_within")]
    within: u64,
}

fn default_within() -> u64 {
    35
}

fn default_age() -> u64 {
    60
}

/// Through each HAProxy and the balancer: the very master that the Sentinels name, for reading and
/// writing.
pub async fn paths(surroundings: Surroundings<'_>, bounds: Paths) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let ways = cluster.ways();
    if ways.is_empty() {
        return Finding::not_run("no way leads to Redis: no HAProxy is placed in this layer");
    }
    let names: Vec<&str> = ways.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        format!("the master that Sentinel names, through {}; SET and GET there", names.join(", "));
    let key = format!("strata_gate:{}:{}:", surroundings.context.run, surroundings.test.name);
    let within = Duration::from_secs(bounds.within);
    until_right(expected, within, async || wrong_ways(&cluster, &ways, &key).await).await
}

/// What is wrong with the ways now.
async fn wrong_ways(
    cluster: &Cluster<'_>,
    ways: &[(String, Arc<dyn Dial>)],
    key: &str,
) -> Vec<String> {
    let run_id = match named(cluster).await {
        Ok(run_id) => run_id,
        Err(why) => return vec![why],
    };
    let looks = ways.iter().map(|(name, way)| {
        let run_id = &run_id;
        let key = format!("{key}{name}");
        async move {
            let look = async {
                let client = login(&**way, &cluster.password).await?;
                through(&client, run_id, &key).await
            };
            look.await.err().map(|why| format!("through {name}: {why}"))
        }
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// The run id of the master that every Sentinel names.
async fn named(cluster: &Cluster<'_>) -> Result<String, String> {
    let members = look(cluster).await;
    let leader = master(&members)?;
    for member in &members {
        let sentinel = member.sentinel.as_ref().map_err(|why| format!("{}: {why}", member.name))?;
        let named = sentinel.address.as_ref().map(|at| at.host.as_str());
        if named != Some(leader.address.as_str()) {
            return Err(format!(
                "the Sentinel of {} names {}, the master is {}",
                member.name,
                named.unwrap_or("nobody"),
                leader.address
            ));
        }
    }
    leader.server.as_ref().map(|server| server.run_id.clone()).map_err(Clone::clone)
}

async fn through(client: &Client, run_id: &str, key: &str) -> Result<(), String> {
    let wrong = |error: crate::redis_client::Error| error.to_string();
    if !client.role().await.map_err(wrong)?.is_master() {
        return Err("a replica answers".to_owned());
    }
    let found = client.run_id().await.map_err(wrong)?;
    if found != run_id {
        return Err("another server than Sentinel's master answers".to_owned());
    }
    client.set(key, run_id).await.map_err(wrong)?;
    let read = client.get(key).await.map_err(wrong)?;
    client.delete(&[key.to_owned()]).await.map_err(wrong)?;
    if read.as_deref() == Some(run_id) { Ok(()) } else { Err(format!("GET gives {read:?}")) }
}

/// The updater runs, succeeds, and wrote the literal text with the live master.
pub async fn follows(surroundings: Surroundings<'_>, bounds: Follows) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected = format!(
        "the updater's timer active, its last run less than {} s ago and successful, the backend's text with the live master",
        bounds.max_age
    );
    let within = Duration::from_secs(bounds.within);
    let max_age = bounds.max_age;
    until_right(expected, within, async || not_following(&cluster, max_age).await).await
}

/// What is wrong with the updaters now.
async fn not_following(cluster: &Cluster<'_>, max_age: u64) -> Vec<String> {
    let members = look(cluster).await;
    let address = match master(&members) {
        Ok(leader) => leader.address.clone(),
        Err(why) => return vec![why],
    };
    let looks = cluster.place.proxies.iter().map(|proxy| {
        let address = &address;
        async move {
            let lines = one(cluster, proxy, address, max_age).await;
            let lines = lines.unwrap_or_else(|why| vec![why]);
            lines.into_iter().map(|line| format!("{}: {line}", proxy.name)).collect::<Vec<_>>()
        }
    });
    join_all(looks).await.concat()
}

async fn one(
    cluster: &Cluster<'_>,
    proxy: &Host,
    address: &str,
    max_age: u64,
) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let timer = probe::run(&proxy.session, &["systemctl", "is-active", TIMER], Vec::new()).await?.1;
    if timer.trim() != "active" {
        wrong.push(format!("{TIMER} is {}", timer.trim()));
    }
    let show = [
        "systemctl",
        "show",
        "--timestamp=unix",
        "--property=Result,ExecMainStatus,ExecMainExitTimestamp",
        UPDATER,
    ];
    let shown = probe::output(&proxy.session, &show).await?;
    let now = probe::output(&proxy.session, &["date", "+%s"]).await?;
    wrong.extend(wrong_run(&shown, &now, max_age));
    let text = cluster.place.fragments(proxy).await?;
    wrong.extend(wrong_backend(&text, address, cluster.port));
    Ok(wrong)
}

/// What is wrong with the updater's last run, as systemd shows it.
fn wrong_run(shown: &str, now: &str, max_age: u64) -> Vec<String> {
    let fields: BTreeMap<&str, &str> =
        shown.lines().filter_map(|line| line.trim().split_once('=')).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    let mut wrong = Vec::new();
    if field("Result") != "success" || field("ExecMainStatus") != "0" {
        wrong.push(format!(
            "the updater's last run: {}, exit status {}",
            field("Result"),
            field("ExecMainStatus")
        ));
    }
    let ended = field("ExecMainExitTimestamp").trim_start_matches('@').parse::<u64>();
    match (ended, now.trim().parse::<u64>()) {
        (Ok(ended), Ok(now)) if now.saturating_sub(ended) < max_age => {}
        (Ok(ended), Ok(now)) => {
            wrong.push(format!("the updater ran {} s ago", now.saturating_sub(ended)));
        }
        _ => wrong.push("the updater never ran".to_owned()),
    }
    wrong
}

/// What is wrong with the backend's text (KB-C3), with the live master in it.
fn wrong_backend(text: &str, address: &str, port: u16) -> Vec<String> {
    let section: Vec<&str> = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "backend be_redis_master")
        .enumerate()
        .take_while(|(index, line)| *index == 0 || !begins_section(line))
        .map(|(_, line)| line)
        .collect();
    let server = format!("server redis-master {address}:{port} check");
    let mut wrong: Vec<String> =
        ["backend be_redis_master", "mode tcp", "option tcp-check", server.as_str()]
            .into_iter()
            .filter(|line| !section.contains(line))
            .map(|line| format!("the line `{line}` is missing"))
            .collect();
    let servers: Vec<&&str> = section.iter().filter(|line| line.starts_with("server ")).collect();
    if servers.len() != 1 {
        wrong.push(format!("{} servers in be_redis_master, not one", servers.len()));
    }
    wrong
}

fn begins_section(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    ["backend", "frontend", "listen", "defaults", "global"].contains(&first)
}

/// The line that the updater keeps, or nothing.
pub fn server_line(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("server redis-master ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "backend be_redis_master\n    mode tcp\n    option tcp-check\n    \
        default-server inter 2s\n    server redis-master 10.0.0.124:6379 check\n\nbackend other\n    \
        server redis-master 10.0.0.1:6379 check\n";

    #[test]
    fn the_backends_text_is_literal_and_names_the_live_master() {
        assert_eq!(wrong_backend(TEXT, "10.0.0.124", 6379), Vec::<String>::new());
        assert_eq!(wrong_backend(TEXT, "10.0.0.123", 6379).len(), 1);
        assert_eq!(
            wrong_backend(&TEXT.replace("mode tcp", "mode http"), "10.0.0.124", 6379).len(),
            1
        );
        let two = TEXT.replace("\n\nbackend", "\n    server b 10.0.0.9:6379 check\n\nbackend");
        assert_eq!(wrong_backend(&two, "10.0.0.124", 6379).len(), 1);
        assert_eq!(wrong_backend("", "10.0.0.124", 6379).len(), 5);
        assert_eq!(server_line(TEXT).unwrap(), "server redis-master 10.0.0.124:6379 check");
    }

    #[test]
    fn the_last_run_must_be_young_and_successful() {
        let good = "Result=success\nExecMainStatus=0\nExecMainExitTimestamp=@1000\n";
        assert_eq!(wrong_run(good, "1059\n", 60), Vec::<String>::new());
        assert_eq!(wrong_run(good, "1060\n", 60).len(), 1);
        let bad = good.replace("success", "exit-code").replace("Status=0", "Status=1");
        assert_eq!(wrong_run(&bad, "1001", 60).len(), 1);
        assert_eq!(
            wrong_run("Result=success\nExecMainStatus=0\nExecMainExitTimestamp=\n", "1", 60).len(),
            1
        );
    }
}
