//! What every node says, as plain values.

use super::names::Cluster;
use crate::gate::drill::Host;
use futures::future::join_all;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// What one node says of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its host.
    pub name: String,
    /// What it says, or why it could not be asked.
    pub view: Result<View, String>,
}

/// A node's view.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The nodes that it knows.
    pub nodes: Vec<Node>,
    /// The cluster's own id.
    pub cluster: String,
    /// The broker's version.
    pub version: String,
}

/// A node, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Node {
    /// `rabbit@HOST`.
    pub name: String,
    /// `disc`, or `ram`: a node without data of its own.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// True while it runs.
    #[serde(default)]
    pub running: bool,
    /// Nodes that it is cut off from.
    #[serde(default)]
    pub partitions: Vec<String>,
    /// True while memory is short.
    #[serde(default)]
    pub mem_alarm: bool,
    /// True while the disk is full.
    #[serde(default)]
    pub disk_free_alarm: bool,
    /// True while it takes no clients.
    #[serde(default)]
    pub being_drained: bool,
    /// Seconds of silence after which it takes others for lost.
    #[serde(default)]
    pub net_ticktime: u64,
}

/// A queue.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// `quorum`, `classic`, …
    #[serde(default, rename = "type")]
    pub kind: String,
    /// True when it outlives its node.
    #[serde(default)]
    pub durable: bool,
    /// True for one that lives as long as one connection.
    #[serde(default)]
    pub exclusive: bool,
    /// The node that leads it.
    #[serde(default)]
    pub leader: String,
    /// The nodes that have a copy.
    #[serde(default)]
    pub members: Vec<String>,
    /// Those of them that are there.
    #[serde(default)]
    pub online: Vec<String>,
}

#[derive(Deserialize)]
struct Overview {
    #[serde(default)]
    rabbitmq_version: String,
}

/// A vhost.
#[derive(Debug, Default, Deserialize)]
pub struct Vhost {
    /// The kind of its queues where nobody says.
    #[serde(default)]
    pub default_queue_type: Option<String>,
    /// Where releases before 3.11 say it.
    #[serde(default)]
    pub metadata: BTreeMap<String, Value>,
}

/// A client's connection.
#[derive(Debug, Deserialize)]
struct Connection {
    #[serde(default)]
    node: String,
    #[serde(default)]
    user_provided_name: String,
}

/// The host of a node.
pub fn host(node: &str) -> &str {
    node.split_once('@').map_or(node, |(_, host)| host)
}

/// Asks every node, all at once.
pub async fn look(cluster: &Cluster<'_>) -> Vec<Member> {
    let members = cluster.place.members.iter();
    let looks = members.map(|member| async move {
        let view = view(cluster, member).await.map_err(|why| format!("{}: {why}", member.name));
        Member { name: member.name.clone(), view }
    });
    join_all(looks).await
}

async fn view(cluster: &Cluster<'_>, member: &Host) -> Result<View, String> {
    let nodes = get(cluster, member, "/api/nodes").await?;
    let overview: Overview = get(cluster, member, "/api/overview").await?;
    let id: Value = get(cluster, member, "/api/global-parameters/internal_cluster_id").await?;
    let cluster = id["value"].as_str().unwrap_or_default().to_owned();
    Ok(View { nodes, cluster, version: overview.rabbitmq_version })
}

/// Reads a path of the management interface on a node, as its administrator.
///
/// # Errors
/// Why it cannot be read.
pub async fn get<T: DeserializeOwned>(
    cluster: &Cluster<'_>,
    member: &Host,
    path: &str,
) -> Result<T, String> {
    let answer = cluster.ask(member, path, &cluster.admin).await?;
    let read = answer.succeeded().and_then(|answer| answer.read());
    read.map_err(|error| format!("{path}: {error}"))
}

/// The queue of this test, as a node sees it.
///
/// # Errors
/// Why it does not.
pub async fn queue(cluster: &Cluster<'_>, member: &Host) -> Result<Queue, String> {
    let path = format!("/api/queues/{}/{}", cluster.reach.vhost, cluster.reach.queue);
    get(cluster, member, &path).await
}

/// All queues of the applications' vhost.
///
/// # Errors
/// Why they cannot be listed.
pub async fn queues(cluster: &Cluster<'_>, member: &Host) -> Result<Vec<Queue>, String> {
    let columns = "name,type,durable,exclusive,leader,members,online";
    get(cluster, member, &format!("/api/queues/{}?columns={columns}", cluster.reach.vhost)).await
}

/// The hosts that the connections of this name come to, one each.
///
/// # Errors
/// Why they cannot be listed.
pub async fn connections(cluster: &Cluster<'_>, name: &str) -> Result<Vec<String>, String> {
    let path = "/api/connections?columns=node,user_provided_name";
    let all: Vec<Connection> = get(cluster, cluster.other_than(&[])?, path).await?;
    let own = all.iter().filter(|one| one.user_provided_name == name);
    Ok(own.map(|one| host(&one.node).to_owned()).collect())
}
