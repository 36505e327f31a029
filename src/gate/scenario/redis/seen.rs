//! What every member says, as plain values.

use super::names::Cluster;
use crate::gate::drill::Host;
use crate::redis_client::{Client, Endpoint, Error, Instance, Quorum, Replication};
use futures::future::join_all;

/// What one member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its host.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Redis, or why it could not be asked.
    pub server: Result<Server, String>,
    /// Sentinel, or why it could not be asked.
    pub sentinel: Result<Sentinel, String>,
}

/// What Redis says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The id of this start.
    pub run_id: String,
    /// INFO replication.
    pub replication: Replication,
}

/// What Sentinel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinel {
    /// Its own id.
    pub id: String,
    /// Where it believes the master to be.
    pub address: Option<Endpoint>,
    /// What it knows of the master.
    pub master: Instance,
    /// The replicas that it knows.
    pub replicas: Vec<Instance>,
    /// The other Sentinels that it knows.
    pub others: Vec<Instance>,
    /// Whether a failover could be agreed on.
    pub quorum: Quorum,
}

/// Asks every member, all at once. What they know of members out of service is left out: neither its
/// presence nor its absence is a mistake.
pub async fn look(cluster: &Cluster<'_>) -> Vec<Member> {
    join_all(cluster.place.members.iter().map(|member| one(cluster, member))).await
}

async fn one(cluster: &Cluster<'_>, member: &Host) -> Member {
    let server = async {
        let client = cluster.server(member).await?;
        server(&client).await.map_err(|error| error.to_string())
    };
    let sentinel = async {
        let client = cluster.sentinel(member).await?;
        sentinel(&client, &cluster.name).await.map_err(|error| error.to_string())
    };
    let (mut server, mut sentinel) = futures::join!(server, sentinel);
    let absent: Vec<String> = cluster.place.absent.iter().map(ToString::to_string).collect();
    if let Ok(server) = &mut server {
        server.replication.replicas.retain(|replica| !absent.contains(&replica.endpoint.host));
    }
    if let Ok(sentinel) = &mut sentinel {
        for known in [&mut sentinel.replicas, &mut sentinel.others] {
            known.retain(|instance| !absent.contains(&instance.endpoint.host));
        }
    }
    Member { name: member.name.clone(), address: member.address.to_string(), server, sentinel }
}

async fn server(client: &Client) -> Result<Server, Error> {
    Ok(Server { run_id: client.run_id().await?, replication: client.replication().await? })
}

async fn sentinel(client: &Client, name: &str) -> Result<Sentinel, Error> {
    Ok(Sentinel {
        id: client.sentinel_id().await?,
        address: client.sentinel_master_address(name).await?,
        master: client.sentinel_master(name).await?,
        replicas: client.sentinel_replicas(name).await?,
        others: client.sentinel_sentinels(name).await?,
        quorum: client.sentinel_quorum(name).await?,
    })
}
