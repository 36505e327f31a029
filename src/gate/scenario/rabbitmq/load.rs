//! Bounded load on RabbitMQ: publishers whose every message is confirmed, directly, through each
//! HAProxy and through the balancer, with consumers at the other end.
//!
//! The load is dialled by strata itself, not relayed by an agent: what is measured is the service.

use super::amqp::{Amqp, AmqpError};
use super::judge::wrong_nodes;
use super::names::{CALL, Cluster};
use super::seen::look;
use crate::gate::judge::Judge;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::speed::{Speed, Work, costs_too_much, figures, hammer, is_here};
use futures::future::try_join_all;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::task::JoinSet;

/// The load and its bounds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Publishers, and as many consumers. Default: 3.
    #[serde(default = "default_clients")]
    clients: u16,
    /// Bytes of a message. Default: 1024.
    #[serde(default = "default_size")]
    size: u16,
    /// Seconds for each way. Default: 15.
    #[serde(default = "default_seconds")]
    seconds: u64,
    /// Messages a second at least, through the balancer.
    min_messages: Option<u32>,
    /// Per cent of the direct throughput that a way may cost.
    max_overhead: Option<u32>,
    /// Per cent of the site's baseline that each figure must reach.
    baseline_percent: Option<u32>,
}

fn default_clients() -> u16 {
    3
}

fn default_size() -> u16 {
    1024
}

fn default_seconds() -> u64 {
    15
}

/// A publisher.
struct Publisher {
    client: Amqp,
    queue: String,
    message: [Vec<u8>; 1],
}

impl Work for Publisher {
    async fn once(&self) -> Result<(), String> {
        let done = self.client.publish(&self.queue, &self.message, |_| {}).await;
        done.map_err(|error| error.to_string())
    }
}

/// Measures confirmed messages by each way.
pub async fn load(surroundings: Surroundings<'_>, bounds: Load) -> Finding {
    let cluster = match Cluster::of(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    if !is_here(&cluster.place.operator) {
        return Finding::not_run("load is dialled from the operator host: run strata there");
    }
    let Some(first) = cluster.place.members.first() else {
        return Finding::not_run("there is no node");
    };
    let expected = format!(
        "{} publishers and as many consumers, {} bytes, every message confirmed: at the site's baseline, without alarms",
        bounds.clients, bounds.size
    );
    let mut ways = vec![("direct".to_owned(), first.address)];
    ways.extend(cluster.place.proxies.iter().map(|proxy| (proxy.name.clone(), proxy.address)));
    ways.extend(cluster.place.balancer(cluster.port).map(|at| ("balancer".to_owned(), at)));
    let mut judge = Judge::new(&surroundings);
    let mut direct = None;
    for (name, address) in &ways {
        if surroundings.stop.wished() {
            return Finding::not_run(surroundings.stop.why());
        }
        let speed = match measure(&cluster, *address, &bounds).await {
            Ok(speed) => speed,
            // Where the site lets only HAProxies in, nothing can be compared with.
            Err(why) if name == "direct" => {
                judge.not_applicable(format!("direct is not measured: {why}"));
                continue;
            }
            Err(why) => {
                judge.wrong(format!("{name} ({address}): {why}"));
                continue;
            }
        };
        let conditions = format!("{} clients × {} bytes", bounds.clients, bounds.size);
        figures(&mut judge, name, "confirmed", conditions, speed);
        match (direct, bounds.max_overhead) {
            (None, _) if name == "direct" => direct = Some(speed),
            (Some(direct), Some(most)) => {
                judge
                    .bound("max_overhead", costs_too_much(direct, speed, most, "publishing", name));
            }
            _ => {}
        }
        if let (Some(least), "balancer") = (bounds.min_messages, name.as_str()) {
            judge.bound("min_messages", speed.below(f64::from(least), name));
        }
    }
    for line in wrong_nodes(&look(&cluster).await) {
        judge.wrong(line);
    }
    judge.finish(&expected, bounds.baseline_percent)
}

/// Publishes and consumes by one way, in a queue of its own.
async fn measure(cluster: &Cluster<'_>, address: Ipv4Addr, bounds: &Load) -> Result<Speed, String> {
    let text = |error: AmqpError| error.to_string();
    let to = SocketAddr::new(IpAddr::V4(address), cluster.port);
    let queue = format!("{}load", cluster.reach.queue);
    let connect = |who: &'static str| {
        let name = format!("{queue} {who}");
        let (app, vhost) = (&cluster.reach.app, &cluster.reach.vhost);
        async move { Amqp::at(to, app, vhost, &name, CALL * 2).await.map_err(text) }
    };
    let keeper = connect("test").await?;
    keeper.declare(&queue).await.map_err(text)?;
    let measured = async {
        let consumers = try_join_all((0..bounds.clients).map(|_| connect("consumer"))).await?;
        let publishers = try_join_all((0..bounds.clients).map(|_| connect("publisher"))).await?;
        let mut consuming = JoinSet::new();
        for client in consumers {
            let mut deliveries = client.consume(&queue).await.map_err(text)?;
            consuming.spawn(async move {
                // Held for as long as it consumes.
                let _client = client;
                while let Ok(delivered) = deliveries.next().await {
                    if delivered.acknowledge().await.is_err() {
                        break;
                    }
                }
            });
        }
        let message = [vec![b'x'; usize::from(bounds.size)]];
        let working = publishers.into_iter().map(|client| Publisher {
            client,
            queue: queue.clone(),
            message: message.clone(),
        });
        let speed = hammer(working.collect(), Duration::from_secs(bounds.seconds)).await;
        consuming.shutdown().await;
        speed
    };
    let measured = measured.await;
    keeper.delete(&queue).await.map_err(|error| format!("the load's queue is left: {error}"))?;
    measured
}
