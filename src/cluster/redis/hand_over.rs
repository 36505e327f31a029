//! A planned hand-over: writes are held, a replica catches up, Sentinel promotes it.

use super::connection::{self, ANSWER};
use super::settings::Settings;
use crate::cluster::Hosts;
use crate::cluster::until::{Look, until};
use crate::redis_client::{Client, Endpoint};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long writes are held at a time; renewed until somebody else leads. Clients see a pause and
/// no error.
const PAUSE: Duration = Duration::from_secs(5);

/// Time between two renewals of the pause.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One member, as a hand-over needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The host.
    pub host: String,
    /// Its private address.
    pub address: Ipv4Addr,
}

/// Hands leadership over from one member to whichever replica Sentinel chooses, and waits until it
/// leads. `SENTINEL FAILOVER` alone is not coordinated and could leave two masters for a moment, so
/// writes are held and offsets are equal first. Gives the new leader.
///
/// # Errors
/// Which step failed; held writes are let go.
pub async fn hand_over(
    hosts: &dyn Hosts,
    settings: &Settings,
    from: &Node,
    others: &[Node],
    limit: Duration,
) -> Result<Ipv4Addr, String> {
    let old = connection::redis(hosts, &from.host, from.address, settings)
        .await
        .map_err(|error| format!("Redis on {}: {error}", from.host))?;
    old.pause_writes(PAUSE).await.map_err(|error| error.to_string())?;
    let result = promoted(hosts, settings, from, others, &old, limit).await;
    if let Ok(address) = result {
        // It follows before it lets writes go: one that still took them would take them in vain,
        // since the Sentinels tell it only seconds later.
        let new = Endpoint { host: address.to_string(), port: settings.port };
        old.follow(&new).await.map_err(|error| error.to_string())?;
    }
    // A master that became a replica has nothing to let go.
    let _ = old.unpause().await;
    result
}

async fn promoted(
    hosts: &dyn Hosts,
    settings: &Settings,
    from: &Node,
    others: &[Node],
    old: &Client,
    limit: Duration,
) -> Result<Ipv4Addr, String> {
    level(old).await?;
    ask_for_failover(hosts, settings, from, others).await?;
    let mut held = Instant::now();
    let new = until(limit, LOOK_EVERY, async || {
        if held.elapsed() >= RENEW_EVERY {
            held = Instant::now();
            // It may have been demoted meanwhile, and then holds nothing.
            let _ = old.pause_writes(PAUSE).await;
        }
        match new_leader(hosts, settings, from, others).await {
            Ok(address) => Look::Break(address),
            Err(reason) => Look::Continue(reason),
        }
    });
    new.await.map_err(|last| format!("no new master after {} s: {last}", limit.as_secs()))
}

/// Waits until every replica in step has every byte: which one Sentinel chooses is its own affair.
async fn level(old: &Client) -> Result<(), String> {
    let level = until(PAUSE / 2, LOOK_EVERY, async || {
        let replication = match old.replication().await {
            Ok(replication) => replication,
            Err(error) => return Look::Break(Err(error.to_string())),
        };
        if !replication.master {
            return Look::Break(Err("it is no master any more".to_owned()));
        }
        let online = replication.replicas.iter().filter(|replica| replica.state == "online");
        match online.map(|replica| replica.offset).min() {
            Some(offset) if offset >= replication.offset => Look::Break(Ok(())),
            Some(offset) => {
                let own = replication.offset;
                Look::Continue(format!("a replica is at {offset}, it is at {own}"))
            }
            None => Look::Continue("it has no replica to hand over to".to_owned()),
        }
    });
    level.await?
}

/// Asks one Sentinel; a replica's own host first, since the old master's may be next to go.
async fn ask_for_failover(
    hosts: &dyn Hosts,
    settings: &Settings,
    from: &Node,
    others: &[Node],
) -> Result<(), String> {
    let mut reasons = Vec::new();
    for node in others.iter().chain([from]) {
        let asked = async {
            let sentinel = connection::sentinel(hosts, &node.host, node.address, settings)
                .await
                .map_err(|error| error.to_string())?;
            sentinel.sentinel_failover(&settings.master).await.map_err(|error| error.to_string())
        };
        match asked.await {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("{}: {reason}", node.host)),
        }
    }
    Err(format!("no Sentinel would fail over: {}", reasons.join("; ")))
}

/// The leader that every reachable Sentinel follows and that takes writes.
async fn new_leader(
    hosts: &dyn Hosts,
    settings: &Settings,
    from: &Node,
    others: &[Node],
) -> Result<Ipv4Addr, String> {
    let mut chosen: Option<Ipv4Addr> = None;
    for node in others.iter().chain([from]) {
        let sentinel = connection::sentinel(hosts, &node.host, node.address, settings)
            .await
            .map_err(|error| format!("Sentinel on {}: {error}", node.host))?;
        let address = sentinel
            .sentinel_master_address(&settings.master)
            .await
            .map_err(|error| format!("Sentinel on {}: {error}", node.host))?
            .and_then(|endpoint| endpoint.host.parse().ok());
        match (address, chosen) {
            (Some(address), _) if address == from.address => {
                return Err(format!("Sentinel on {} still follows the old master", node.host));
            }
            (Some(address), Some(other)) if address != other => {
                return Err("the Sentinels do not agree yet".to_owned());
            }
            (Some(address), _) => chosen = Some(address),
            (None, _) => return Err(format!("Sentinel on {} knows no master", node.host)),
        }
    }
    let address = chosen.ok_or("no Sentinel answers")?;
    let node = others
        .iter()
        .find(|node| node.address == address)
        .ok_or_else(|| format!("{address} is no member"))?;
    let client =
        tokio::time::timeout(ANSWER, connection::redis(hosts, &node.host, address, settings))
            .await
            .map_err(|_| format!("Redis on {} gives no answer", node.host))?
            .map_err(|error| format!("Redis on {}: {error}", node.host))?;
    let role = client.role().await.map_err(|error| error.to_string())?;
    if role.is_master() { Ok(address) } else { Err(format!("{} is still a replica", node.host)) }
}
