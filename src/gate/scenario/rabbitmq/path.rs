//! The path of clients: every way leads to a node, each in turn, and HAProxy's text is the one that
//! was required.

use super::amqp::{Amqp, AmqpError};
use super::drill::Messages;
use super::names::{Cluster, Reach};
use super::seen::connections;
use crate::gate::drill::ProxyDown;
use crate::gate::haproxy::{self, Server};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::Dial;
use futures::future::join_all;
use serde::Deserialize;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

/// HAProxy's backend (KB-D3).
const BACKEND: &str = "be_rabbitmq";

/// Bounds of the ways.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ways {
    /// Seconds until every way is right: HAProxy may have to see a node up first. Default: 30.
    #[serde(default = "default_within")]
    within: u64,
}

fn default_within() -> u64 {
    30
}

/// Connections by each way: in turn they come to every node.
const CONNECTIONS: usize = 6;

/// How long the broker may take to list a connection.
const LISTED: Duration = Duration::from_secs(15);

/// One HAProxy is gone.
pub async fn haproxy_down(surroundings: Surroundings<'_>, bounds: ProxyDown) -> Finding {
    match Cluster::of(&surroundings) {
        Ok(cluster) => {
            let cluster = cluster.with(Messages::default());
            crate::gate::drill::proxy_down(&cluster, bounds).await
        }
        Err(finding) => *finding,
    }
}

/// Through each HAProxy and the balancer: a message goes in and comes out, and connections come to
/// every node in turn.
pub async fn ways(surroundings: Surroundings<'_>, bounds: Ways) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let ways = cluster.place.ways(cluster.port);
    if ways.is_empty() {
        return Finding::not_run("no way leads to RabbitMQ: no HAProxy is placed in this layer");
    }
    let names: Vec<&str> = ways.iter().map(|(name, _)| name.as_str()).collect();
    let expected = format!(
        "a confirmed message that can be read again through {}, and every node in turn{}",
        names.join(", "),
        cluster.place.without()
    );
    let cluster = &cluster;
    let looks = ways.iter().map(|(name, way)| async move {
        let wrong = wrong_way(cluster, name, &**way, Duration::from_secs(bounds.within)).await;
        wrong.err().map(|why| format!("through {name}: {why}"))
    });
    Finding::of(expected, join_all(looks).await.into_iter().flatten().collect())
}

/// An error unless one try is right: HAProxy may have to see a node up first.
async fn wrong_way(
    cluster: &Cluster<'_>,
    name: &str,
    way: &dyn Dial,
    within: Duration,
) -> Result<(), String> {
    let tries = Cell::new(0_u32);
    probe::wait_until(within, || {
        tries.set(tries.get() + 1);
        one_try(cluster, format!("{}{name}_{}", cluster.reach.queue, tries.get()), way)
    })
    .await
}

async fn one_try(cluster: &Cluster<'_>, queue: String, way: &dyn Dial) -> Result<(), String> {
    let text = |error: AmqpError| error.to_string();
    let reach = Reach { queue: queue.clone(), ..cluster.reach.clone() };
    let connecting = (0..CONNECTIONS).map(|_| reach.by(way, "path"));
    let clients: Result<Vec<Amqp>, AmqpError> = join_all(connecting).await.into_iter().collect();
    let clients = clients.map_err(text)?;
    let client = clients.first().ok_or("there is no connection")?;
    client.declare(&queue).await.map_err(text)?;
    let through = through(client, &queue).await;
    let gone = client.delete(&queue).await.map_err(text);
    let nodes = match through.and(gone) {
        Ok(()) => probe::wait_until(LISTED, || listed(cluster, &queue)).await,
        Err(why) => Err(why),
    };
    join_all(clients.into_iter().map(Amqp::close)).await;
    let nodes = nodes?;
    let missing = cluster.place.members.iter().find(|member| !nodes.contains(&member.name));
    missing.map_or(Ok(()), |member| {
        Err(format!("none of {CONNECTIONS} connections in turn comes to {}", member.name))
    })
}

/// The hosts that connections of this name come to, once the broker lists all of them.
async fn listed(cluster: &Cluster<'_>, name: &str) -> Result<BTreeSet<String>, String> {
    let own = connections(cluster, &format!("{name} path")).await?;
    match own.len() {
        CONNECTIONS => Ok(own.into_iter().collect()),
        count => Err(format!("the broker lists {count} of {CONNECTIONS} connections")),
    }
}

async fn through(client: &Amqp, queue: &str) -> Result<(), String> {
    let text = |error: AmqpError| error.to_string();
    client.publish(queue, &[queue.as_bytes().to_vec()], |_| {}).await.map_err(text)?;
    match client.take(queue).await.map_err(text)? {
        Some(found) if found == queue => Ok(()),
        found => Err(format!("what comes out is {found:?}")),
    }
}

/// Each HAProxy sees every node up, binds all addresses, and has the backend that was required.
pub async fn backends(surroundings: Surroundings<'_>, bounds: Ways) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected =
        "every node up on each HAProxy, in turn (KB-D3), and the port bound to all addresses";
    let within = Duration::from_secs(bounds.within);
    let members = &cluster.place.members;
    haproxy::on_each(&cluster.place, expected, within, async |proxy| {
        let servers = haproxy::servers(proxy, BACKEND).await?;
        let mut wrong: Vec<String> =
            members.iter().filter_map(|member| wrong_node(&servers, &member.name)).collect();
        if cluster.place.absent.is_empty() {
            let nodes: Vec<(&str, String)> = members
                .iter()
                .map(|at| (at.name.as_str(), format!("{}:{}", at.address, cluster.port)))
                .collect();
            wrong.extend(wrong_text(&cluster.place.fragments(proxy).await?, &nodes));
        }
        wrong.extend(haproxy::wrong_binds(proxy, &[("AMQP", cluster.port)]).await?);
        Ok(wrong)
    })
    .await
}

/// What is wrong with a node in HAProxy's own account of the backend.
fn wrong_node(servers: &[Server], node: &str) -> Option<String> {
    match servers.iter().find(|server| server.name == node) {
        Some(Server { up: true, .. }) => None,
        Some(_) => Some(format!("{node} is down in {BACKEND}")),
        None => Some(format!("{BACKEND} has no server {node}")),
    }
}

/// What is wrong with the backend's text: KB-D3 says it line by line.
fn wrong_text(fragments: &str, nodes: &[(&str, String)]) -> Option<String> {
    let mut wanted: Vec<String> =
        [&format!("backend {BACKEND}"), "mode tcp", "option tcp-check", "balance roundrobin"]
            .map(str::to_owned)
            .to_vec();
    wanted.extend(nodes.iter().map(|(name, at)| format!("server {name} {at} check")));
    let begins = format!("backend {BACKEND}");
    let lines = fragments.lines().map(str::trim).skip_while(|line| *line != begins);
    let found: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    (found != wanted).then(|| format!("its backend is not that of KB-D3: {}", found.join(" / ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_up() {
        let server = |name: &str, up| Server { name: name.to_owned(), up };
        let servers = [server("queue-01", true), server("queue-02", false)];
        assert_eq!(wrong_node(&servers, "queue-01"), None);
        let wrong = ["queue-02", "queue-03"].map(|node| wrong_node(&servers, node).unwrap());
        assert_eq!(
            wrong,
            ["queue-02 is down in be_rabbitmq", "be_rabbitmq has no server queue-03"]
        );
    }

    #[test]
    fn the_backend_is_the_one_of_the_requirement() {
        let text = "frontend fe\n    bind 0.0.0.0:5672\n\nbackend be_rabbitmq\n    mode tcp\n    option tcp-check\n    balance roundrobin\n    server queue-01 10.0.0.126:5672 check\n\nbackend other\n";
        let nodes = [("queue-01", "10.0.0.126:5672".to_owned())];
        assert_eq!(wrong_text(text, &nodes), None);
        assert!(wrong_text(&text.replace("roundrobin", "leastconn"), &nodes).is_some());
        assert!(wrong_text("", &nodes).is_some());
    }
}
