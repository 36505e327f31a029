//! How Redis is asked while a test breaks something: its part of the frame.

use super::hand_over::hand_over_to;
use super::judge::{master, wrong_roles, wrong_sentinels};
use super::names::{Cluster, login};
use super::seen::{Member, look};
use crate::gate::drill::{self, Drill, Host, Limits, Place, Promise, Technology};
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::authority::Answer;
use crate::gate::writer::journal::{Outcome, key, value};
use crate::gate::writer::{Connect, DEADLINE, Dial, Put, Watch};
use crate::redis_client::{Client, Endpoint, Error, Role};
use crate::secrets::Secret;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys in one command.
const CHUNK: usize = 500;

/// How long the server may wait for a replica's word (X16).
const REPLICA_WITHIN: Duration = Duration::from_millis(500);

/// Runs `body` inside the frame.
pub async fn drill(
    surroundings: &Surroundings<'_>,
    expected: String,
    limits: Limits,
    body: impl AsyncFnOnce(&mut Drill<'_, Cluster<'_>>) -> Result<(), String>,
) -> Finding {
    match Cluster::of(surroundings) {
        Ok(cluster) => drill::drill(&cluster, expected, limits, body).await,
        Err(finding) => *finding,
    }
}

/// Clients of a test.
pub struct Clients {
    ways: Vec<Arc<dyn Dial>>,
    password: Secret<String>,
    prefix: String,
}

/// A client that writes.
pub struct Writing {
    client: Client,
    prefix: String,
}

/// A node that is looked at.
pub struct Node {
    name: String,
    way: Arc<dyn Dial>,
    password: Secret<String>,
    key: String,
}

impl Connect for Clients {
    type Client = Writing;

    fn prefix(&self) -> &str {
        &self.prefix
    }

    async fn connect(&self, attempt: usize) -> Result<Writing, String> {
        let count = self.ways.len().max(1);
        let way = self.ways.get(attempt % count).ok_or("there is no way to the service")?;
        let client = connected(&**way, &self.password).await?;
        Ok(Writing { client, prefix: self.prefix.clone() })
    }
}

impl Put for Writing {
    async fn put(&self, id: u64) -> (Outcome, Option<String>) {
        match self.client.set(&key(&self.prefix, id), &value(&self.prefix, id)).await {
            Ok(()) => {
                let replicas = self.client.wait(1, REPLICA_WITHIN).await;
                let problem = replicas.as_ref().err().map(Error::to_string);
                (Outcome::Acked(replicas.unwrap_or(0)), problem)
            }
            Err(error) => {
                let reason = error.to_string();
                let outcome = if error.is_refusal() { Outcome::Refused } else { Outcome::Unknown };
                (outcome(reason.clone()), Some(reason))
            }
        }
    }
}

impl Watch for Node {
    type Client = Client;

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<Client, String> {
        connected(&*self.way, &self.password).await
    }

    async fn look(&self, client: &Client) -> (Instant, Answer) {
        let began = Instant::now();
        match client.role().await {
            Ok(Role::Master { .. }) => {}
            Ok(_) => return (began, Answer::Follows),
            Err(error) => return (began, Answer::Silent(error.to_string())),
        }
        let sent = Instant::now();
        let answer = match client.set(&self.key, &self.name).await {
            Ok(()) => Answer::Accepted,
            Err(error) if error.is_refusal() => Answer::Fenced(error.to_string()),
            Err(error) => Answer::Silent(error.to_string()),
        };
        (sent, answer)
    }
}

async fn connected(way: &dyn Dial, password: &Secret<String>) -> Result<Client, String> {
    let stream = way.dial().await?;
    Client::login(stream, password.expose(), DEADLINE).await.map_err(|error| error.to_string())
}

/// The keys of one test.
struct Keys {
    writes: String,
    fence: String,
}

impl Keys {
    fn of(surroundings: &Surroundings<'_>) -> Self {
        let (run, test) = (surroundings.context.run, &surroundings.test.name);
        Self {
            writes: format!("strata_gate:{run}:{test}:"),
            fence: format!("strata_gate_fence:{run}:{test}:"),
        }
    }
}

impl Technology for Cluster<'_> {
    type Clients = Clients;
    type Node = Node;

    const LEADER: &'static str = "master";
    const PROMISE: Promise = Promise::Confirmed;

    fn place(&self) -> &Place<'_> {
        &self.place
    }

    fn clients(&self) -> Clients {
        Clients {
            ways: self.place.clients_ways(self.port),
            password: self.password.clone(),
            prefix: Keys::of(self.place.surroundings).writes,
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let fence = Keys::of(self.place.surroundings).fence;
        let node = |member: &Host| Node {
            name: member.name.clone(),
            way: member.local(self.port),
            password: self.password.clone(),
            key: format!("{fence}fence:{}", member.name),
        };
        self.place.members.iter().map(node).collect()
    }

    async fn healthy(&self) -> Result<Host, String> {
        let members = unhealthy(self).await?;
        let leader = &master(&members)?.name;
        self.place.member(leader).cloned().ok_or_else(|| format!("{leader} is no member"))
    }

    async fn successor(&self, old: &Host) -> Result<Host, String> {
        successor_of(self, old).await
    }

    async fn follows(&self, member: &Host, leader: &Host) -> Result<(), String> {
        let server = self.server(member).await?;
        let replication = server.replication().await.map_err(|error| error.to_string())?;
        if replication.master {
            return Err(format!("{} still calls itself a master", member.name));
        }
        let whom = replication.follows.map(|at| at.host).unwrap_or_default();
        if whom != leader.address.to_string() {
            return Err(format!("{} follows {whom}", member.name));
        }
        if replication.link_up { Ok(()) } else { Err(format!("{}: its link is down", member.name)) }
    }

    async fn lead_to(&self, leader: &Host, except: Option<&str>) -> Result<(), String> {
        lead_to(self, &run_id(self, leader).await?, except).await
    }

    async fn readable(&self, prefix: &str) -> Result<BTreeMap<String, String>, String> {
        let client = self.clients().connect(0).await?.client;
        let keys: Vec<String> = keys(&client, prefix).await?.into_iter().collect();
        let mut found = BTreeMap::new();
        for chunk in keys.chunks(CHUNK) {
            let values = client.get_many(chunk).await.map_err(|error| error.to_string())?;
            let pairs = chunk.iter().cloned().zip(values);
            found.extend(pairs.filter_map(|(key, value)| Some((key, value?))));
        }
        Ok(found)
    }

    async fn hand_over(&self, to: &Host) -> Result<(), String> {
        hand_over_to(self, to).await
    }

    async fn clean(&self) -> Result<(), String> {
        let members = look(self).await;
        let leader = master(&members)?;
        let leader = self.place.member_at(&leader.address).ok_or("the master is no member")?;
        let client = self.server(leader).await?;
        let names = Keys::of(self.place.surroundings);
        for prefix in [&names.writes, &names.fence] {
            let keys: Vec<String> = keys(&client, prefix).await?.into_iter().collect();
            for chunk in keys.chunks(CHUNK) {
                client.delete(chunk).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

/// The member that the Sentinels of all members but `old` agree on, and that says so itself.
async fn successor_of(cluster: &Cluster<'_>, old: &Host) -> Result<Host, String> {
    let mut agreed: BTreeSet<String> = BTreeSet::new();
    for member in cluster.place.members.iter().filter(|member| member.name != old.name) {
        let sentinel = cluster.sentinel(member).await;
        let believed = match sentinel {
            Ok(sentinel) => sentinel.sentinel_master_address(&cluster.name).await,
            Err(error) => return Err(format!("Sentinel of {}: {error}", member.name)),
        };
        match believed {
            Ok(Some(Endpoint { host, .. })) => drop(agreed.insert(host)),
            Ok(None) => return Err(format!("{} watches no {}", member.name, cluster.name)),
            Err(error) => return Err(format!("Sentinel of {}: {error}", member.name)),
        }
    }
    let mut agreed = agreed.into_iter();
    let (Some(address), None) = (agreed.next(), agreed.next()) else {
        return Err("the Sentinels do not agree on a master".to_owned());
    };
    let new = cluster
        .place
        .member_at(&address)
        .ok_or_else(|| format!("the Sentinels believe in {address}, which is no member"))?;
    if new.name == old.name {
        return Err(format!("the Sentinels still believe in {}", old.name));
    }
    let role = cluster.server(new).await?.role().await.map_err(|error| error.to_string())?;
    if role.is_master() { Ok(new.clone()) } else { Err(format!("{} is no master yet", new.name)) }
}

/// The id of a member's Redis.
///
/// # Errors
/// Why it could not be asked.
pub async fn run_id(cluster: &Cluster<'_>, member: &Host) -> Result<String, String> {
    cluster.server(member).await?.run_id().await.map_err(|error| error.to_string())
}

/// An error unless every way (but one through `except`) leads to the master with this id.
///
/// # Errors
/// Where else one leads.
pub async fn lead_to(
    cluster: &Cluster<'_>,
    run_id: &str,
    except: Option<&str>,
) -> Result<(), String> {
    let each = cluster.ways().into_iter().filter(|(name, _)| Some(name.as_str()) != except);
    let looks = each.map(|(name, way)| async move {
        let leads = async {
            let client = login(&*way, &cluster.password).await?;
            leads(&client, run_id).await
        };
        leads.await.map_err(|error| format!("through {name}: {error}"))
    });
    join_all(looks).await.into_iter().collect()
}

async fn leads(client: &Client, run_id: &str) -> Result<(), String> {
    let role = client.role().await.map_err(|error| error.to_string())?;
    if !role.is_master() {
        return Err("a replica answers".to_owned());
    }
    let found = client.run_id().await.map_err(|error| error.to_string())?;
    if found == run_id { Ok(()) } else { Err("another server than the master answers".to_owned()) }
}

/// What is wrong with the cluster now.
async fn unhealthy(cluster: &Cluster<'_>) -> Result<Vec<Member>, String> {
    let members = look(cluster).await;
    // Writes go on: offsets are not equal.
    let mut wrong = wrong_roles(&members, 1, false);
    wrong.extend(wrong_sentinels(&members));
    if wrong.is_empty() { Ok(members) } else { Err(wrong.join("; ")) }
}

async fn keys(client: &Client, prefix: &str) -> Result<BTreeSet<String>, String> {
    let (mut cursor, mut found) = (0, BTreeSet::new());
    loop {
        let (next, keys) =
            client.scan(cursor, &format!("{prefix}*")).await.map_err(|error| error.to_string())?;
        found.extend(keys.into_iter().filter(|key| key.starts_with(prefix)));
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}
