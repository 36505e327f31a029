//! Faults of the HAProxies and of what they follow.

use super::drill::drill;
use super::haproxy::{UPDATER, server_line};
use super::names::Cluster;
use crate::gate::drill::{self, Host, Limits, ProxyDown};
use crate::gate::fault::{Detour, Kind};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::wire::ExecOutcome;
use futures::future::join_all;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval};

/// Bounds of Sentinels that give no sense.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Garbage {
    /// Seconds without an acknowledged write meanwhile. Default: 5.
    #[serde(default = "default_undisturbed")]
    max_outage: u64,
    /// Seconds until all is as before. Default: 90.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

/// Bounds of HAProxies at rest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaproxyQuiet {
    /// Seconds in which none may reload. Default: 60.
    #[serde(default = "default_over")]
    over: u64,
}

fn default_undisturbed() -> u64 {
    5
}

fn default_restored() -> u64 {
    90
}

fn default_over() -> u64 {
    60
}

/// The container of HAProxy.
const CONTAINER: &str = "haproxy";

/// One HAProxy is gone.
pub async fn haproxy_down(surroundings: Surroundings<'_>, bounds: ProxyDown) -> Finding {
    match Cluster::of(&surroundings) {
        Ok(cluster) => drill::proxy_down(&cluster, bounds).await,
        Err(finding) => *finding,
    }
}

fn limits(outage: u64, restored: u64) -> Limits {
    Limits {
        outage: Duration::from_secs(outage),
        one_writer_after: Duration::ZERO,
        restored: Duration::from_secs(restored),
        heals_after: Duration::from_secs(120),
    }
}

/// On the first HAProxy's host, Sentinels first do not answer, then answer nonsense (Redis answers
/// in their place): the updater fails and leaves the line, and writes go on.
pub async fn garbage(surroundings: Surroundings<'_>, bounds: Garbage) -> Finding {
    let expected =
        "the updater fails and leaves HAProxy's line as it is, and no write is missed".to_owned();
    let limits = limits(bounds.max_outage, bounds.restored_within);
    drill(&surroundings, expected, limits, async |drill| {
        let cluster = drill.cluster;
        let proxy = cluster.place.proxies.first().ok_or("there is no HAProxy")?.clone();
        let members: Vec<_> = cluster.place.members.iter().map(|member| member.address).collect();
        let cut = cluster.place.cut(members.clone(), vec![cluster.sentinel_port]);
        let detour = Kind::Detour(Detour {
            to: members,
            port: cluster.sentinel_port,
            instead: cluster.port,
        });
        for (name, kind) in [("no Sentinel answers", cut), ("Sentinels answer nonsense", detour)] {
            let before = line(cluster, &proxy).await?;
            drill.inject(&proxy.name, kind).await?;
            let stands = stands(cluster, &proxy, &before).await;
            drill.heal().await?;
            stands.map_err(|why| format!("{}, {name}: {why}", proxy.name))?;
            // The way back: with sense from the Sentinels it succeeds.
            probe::output(&proxy.session, &["systemctl", "start", UPDATER]).await?;
        }
        Ok(())
    })
    .await
}

async fn line(cluster: &Cluster<'_>, proxy: &Host) -> Result<String, String> {
    server_line(&cluster.place.fragments(proxy).await?)
        .ok_or_else(|| format!("{}: there is no line `server redis-master`", proxy.name))
}

/// Runs the updater: it must fail, and the line must stay.
async fn stands(cluster: &Cluster<'_>, proxy: &Host, before: &str) -> Result<(), String> {
    let argv = ["systemctl", "start", UPDATER];
    let (outcome, _, stderr) = probe::run(&proxy.session, &argv, Vec::new()).await?;
    let after = line(cluster, proxy).await?;
    if after != before {
        return Err(format!("the line was `{before}` and is `{after}`"));
    }
    match outcome {
        ExecOutcome::Exited(0) => Err("the updater says that all is well".to_owned()),
        ExecOutcome::Exited(_) => Ok(()),
        _ => Err(format!("the updater's end is not known: {}", stderr.trim())),
    }
}

/// Counts reloads at rest: a reload gives HAProxy another worker process.
pub async fn haproxy_quiet(surroundings: Surroundings<'_>, bounds: HaproxyQuiet) -> Finding {
    let cluster = match Cluster::of(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected = format!("no reload in {} s at rest", bounds.over);
    if cluster.place.proxies.is_empty() {
        return Finding::not_run("no HAProxy is placed in this layer");
    }
    let watches = cluster.place.proxies.iter().map(|proxy| {
        let stop = surroundings.stop;
        async move {
            let start = Instant::now();
            let mut pace = interval(Duration::from_secs(1));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut last, mut changes) = (workers(proxy).await?, 0);
            while start.elapsed() < Duration::from_secs(bounds.over) {
                pace.tick().await;
                if stop.wished() {
                    return Err(stop.why().to_owned());
                }
                let now = workers(proxy).await?;
                changes += usize::from(now != last);
                last = now;
            }
            Ok(changes)
        }
    });
    let results: Vec<Result<usize, String>> = join_all(watches).await;
    let mut wrong = Vec::new();
    for (proxy, result) in cluster.place.proxies.iter().zip(results) {
        match result {
            Ok(0) => {}
            Ok(count) => {
                wrong.push(format!("{}: reloaded, processes changed {count} times", proxy.name))
            }
            Err(why) => return Finding::not_run(format!("{}: {why}", proxy.name)),
        }
    }
    Finding::of(expected, wrong)
}

/// The processes of HAProxy.
async fn workers(proxy: &Host) -> Result<BTreeSet<String>, String> {
    let text =
        probe::output(&proxy.session, &["docker", "top", CONTAINER, "-eo", "pid,comm"]).await?;
    let found: BTreeSet<String> = text
        .lines()
        .filter(|line| line.contains("haproxy"))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    if found.is_empty() { Err("no process of HAProxy is seen".to_owned()) } else { Ok(found) }
}
