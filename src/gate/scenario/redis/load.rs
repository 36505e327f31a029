//! Bounded load on Redis: directly and through the path of clients.
//!
//! The load is dialled by strata itself, not relayed by an agent: what is measured is Redis and
//! HAProxy. Redis' own benchmark takes its password from its command line only, where everybody
//! could read it.

use super::judge::master;
use super::names::{CALL, Cluster};
use super::seen::look;
use crate::gate::drill::Host;
use crate::gate::judge::Judge;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::speed::{Speed, Work, costs_too_much, figures, hammer, is_here};
use crate::redis_client::Client;
use futures::future::try_join_all;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The load and its bounds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Connections that work at the same time. Default: 50.
    #[serde(default = "default_clients")]
    clients: u16,
    /// Bytes of a value. Default: 256.
    #[serde(default = "default_size")]
    size: u16,
    /// Seconds for each command and way. Default: 5.
    #[serde(default = "default_seconds")]
    seconds: u64,
    /// Per cent of the direct throughput that the way through HAProxy may cost.
    max_overhead: Option<u32>,
    /// Per cent of the site's baseline that each figure must reach.
    baseline_percent: Option<u32>,
}

fn default_clients() -> u16 {
    50
}

fn default_size() -> u16 {
    256
}

fn default_seconds() -> u64 {
    5
}

/// Commands of the load.
#[derive(Clone, Copy)]
enum Command {
    Set,
    Get,
}

/// A client with its command.
struct Working {
    client: Client,
    key: String,
    value: String,
    command: Command,
}

impl Work for Working {
    async fn once(&self) -> Result<(), String> {
        match self.command {
            Command::Set => self.client.set(&self.key, &self.value).await,
            Command::Get => self.client.get(&self.key).await.map(drop),
        }
        .map_err(|error| error.to_string())
    }
}

/// Measures SET and GET, directly at the master, through each HAProxy, and through the balancer.
pub async fn load(surroundings: Surroundings<'_>, bounds: Load) -> Finding {
    let cluster = match Cluster::of(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    if !is_here(&cluster.place.operator) {
        return Finding::not_run("load is dialled from the operator host: run strata there");
    }
    let members = look(&cluster).await;
    let leader = match master(&members).map(|leader| cluster.place.member_at(&leader.address)) {
        Ok(Some(leader)) => leader.clone(),
        Ok(None) => return Finding::not_run("the master is no member"),
        Err(why) => return Finding::not_run(why),
    };
    let expected = format!(
        "{} clients, {} bytes: throughput and latency at the site's baseline, no delayed fsync",
        bounds.clients, bounds.size
    );
    let delayed = match delayed_fsyncs(&cluster, &leader).await {
        Ok(delayed) => delayed,
        Err(why) => return Finding::not_run(why),
    };
    let mut judge = Judge::new(&surroundings);
    let mut ways = vec![("direct".to_owned(), leader.address)];
    ways.extend(cluster.place.proxies.iter().map(|proxy| (proxy.name.clone(), proxy.address)));
    ways.extend(
        cluster.place.balancer(cluster.port).map(|address| ("balancer".to_owned(), address)),
    );
    for (word, command) in [("SET", Command::Set), ("GET", Command::Get)] {
        let mut direct = None;
        for (name, address) in &ways {
            if surroundings.stop.wished() {
                return Finding::not_run(surroundings.stop.why());
            }
            // Where the site lets only members and HAProxies in, nothing can be compared with.
            if name == "direct"
                && let Err(why) =
                    connect(&cluster, SocketAddr::new(IpAddr::V4(*address), cluster.port)).await
            {
                judge.not_applicable(format!("{word} direct is not measured: {why}"));
                continue;
            }
            let speed = match measure(&cluster, *address, &bounds, command).await {
                Ok(speed) => speed,
                Err(why) => {
                    judge.wrong(format!("{word} {name} ({address}): {why}"));
                    continue;
                }
            };
            let conditions = format!("{} clients × {} bytes", bounds.clients, bounds.size);
            figures(&mut judge, name, word, conditions, speed);
            match (direct, bounds.max_overhead) {
                (None, _) if name == "direct" => direct = Some(speed),
                (Some(direct), Some(most)) => {
                    judge.bound("max_overhead", costs_too_much(direct, speed, most, word, name));
                }
                _ => {}
            }
        }
    }
    match delayed_fsyncs(&cluster, &leader).await {
        Ok(now) if now == delayed => {}
        Ok(now) => judge.wrong(format!("{} fsyncs were delayed", now.saturating_sub(delayed))),
        Err(why) => judge.wrong(why),
    }
    if let Err(why) = clean(&cluster, &leader, bounds.clients).await {
        judge.wrong(format!("the load's keys are left: {why}"));
    }
    judge.finish(&expected, bounds.baseline_percent)
}

async fn delayed_fsyncs(cluster: &Cluster<'_>, leader: &Host) -> Result<u64, String> {
    let client = cluster.server(leader).await?;
    let info = client.info("persistence").await.map_err(|error| error.to_string())?;
    // Only servers that write a log have the field.
    Ok(info.number("aof_delayed_fsync").unwrap_or(0))
}

fn key(cluster: &Cluster<'_>, client: u16) -> String {
    format!("strata_gate:{}:load:{client}", cluster.place.surroundings.context.run)
}

async fn measure(
    cluster: &Cluster<'_>,
    address: Ipv4Addr,
    bounds: &Load,
    command: Command,
) -> Result<Speed, String> {
    let to = SocketAddr::new(IpAddr::V4(address), cluster.port);
    let clients = try_join_all((0..bounds.clients).map(|_| connect(cluster, to))).await?;
    let value = "x".repeat(usize::from(bounds.size));
    let working = (0..bounds.clients).zip(clients).map(|(number, client)| Working {
        client,
        key: key(cluster, number),
        value: value.clone(),
        command,
    });
    hammer(working.collect(), Duration::from_secs(bounds.seconds)).await
}

async fn connect(cluster: &Cluster<'_>, to: SocketAddr) -> Result<Client, String> {
    let stream = timeout(CALL, TcpStream::connect(to))
        .await
        .map_err(|_| "no connection in time".to_owned())?
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Client::login(stream, cluster.password.expose(), CALL).await.map_err(|error| error.to_string())
}

async fn clean(cluster: &Cluster<'_>, leader: &Host, clients: u16) -> Result<(), String> {
    let keys: Vec<String> = (0..clients).map(|number| key(cluster, number)).collect();
    let client = cluster.server(leader).await?;
    client.delete(&keys).await.map(drop).map_err(|error| error.to_string())
}
