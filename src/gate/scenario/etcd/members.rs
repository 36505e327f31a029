//! Which members the tests work with, and what each of them says.

use crate::cluster::etcd::gateway::{self, Peer, Status, call};
use crate::diag::Diagnostics;
use crate::gate::scenario::{Finding, Surroundings};
use crate::http_client::Request;
use crate::plan::variables_of;
use crate::site::tree::NodeValue;
use crate::ssh::AgentSession;
use futures::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The members' role.
const ROLE: &str = "etcd";

/// The unit of members that no container runs.
const UNIT: &str = "strata-etcd.service";

/// The port for clients.
const PORT: u16 = 2379;

/// How long a call may take.
const CALL: Duration = Duration::from_secs(3);

/// A host of the cluster.
#[derive(Clone)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its private address.
    pub address: Ipv4Addr,
    session: Arc<AgentSession>,
}

/// The members as tests reach them.
pub struct Cluster {
    /// Those in service, in the inventory's order.
    pub members: Vec<Host>,
    /// Addresses of those that are out of service: the others know them still.
    pub absent: Vec<Ipv4Addr>,
    /// Bytes of keys that a member takes at most, as the role says.
    pub quota: Option<u64>,
    /// The unit that runs a member, where no container does.
    pub unit: Option<String>,
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it stands.
    pub status: Status,
    /// Whom it knows.
    pub list: Vec<Peer>,
    /// Why nothing can be agreed on through it, if so.
    pub trouble: Option<String>,
}

/// What a member says, or why it says nothing, with its name.
pub type Answer = (String, Result<Said, String>);

impl Cluster {
    /// The members in service.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason.
    pub fn in_service(surroundings: &Surroundings<'_>) -> Result<Self, Box<Finding>> {
        let not_run = |why: String| Box::new(Finding::not_run(why));
        let (site, layer) = (surroundings.context.site, surroundings.context.layer);
        let places = layer.place.iter().filter(|placement| placement.role == ROLE);
        let groups = places.filter_map(|placement| site.groups.get(&placement.group));
        let mut cluster = Self { members: Vec::new(), absent: Vec::new(), quota: None, unit: None };
        for host in groups.flat_map(|group| &group.hosts).filter_map(|name| site.hosts.get(name)) {
            if site.out.contains_key(&host.name) {
                cluster.absent.push(host.address);
                continue;
            }
            let session = surroundings.fleet.session(&host.name);
            let session =
                session.ok_or_else(|| not_run(format!("{} is not connected", host.name)))?;
            let (name, address) = (host.name.clone(), host.address);
            cluster.members.push(Host { name, address, session });
        }
        let first = cluster.members.first();
        let first =
            first.ok_or_else(|| not_run(format!("the layer places the role {ROLE} nowhere")))?;
        let mut problems = Diagnostics::new();
        let variables = variables_of(site, &first.name, site.roles.get(ROLE), &mut problems);
        cluster.quota = match variables.get("etcd_quota_bytes").map(|v| &v.node.value) {
            Some(NodeValue::Integer(bytes)) => u64::try_from(*bytes).ok(),
            _ => None,
        };
        cluster.unit = match variables.get("etcd_runtime").map(|v| &v.node.value) {
            Some(NodeValue::String(runtime)) if runtime == "native" => Some(UNIT.to_owned()),
            _ => None,
        };
        Ok(cluster)
    }

    /// As [`Self::in_service`], and only while every member is in service: for tests that take one
    /// away.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason.
    pub fn whole(surroundings: &Surroundings<'_>) -> Result<Self, Box<Finding>> {
        let cluster = Self::in_service(surroundings)?;
        if cluster.absent.is_empty() {
            return Ok(cluster);
        }
        let why = format!("it needs the whole cluster: {} out of service", cluster.absent.len());
        Err(Box::new(Finding::not_run(why)))
    }

    /// The addresses of all members, in service or not.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let here = self.members.iter().map(|member| member.address);
        here.chain(self.absent.iter().copied()).collect()
    }

    /// Asks every member at the same time.
    pub async fn look(&self) -> Vec<Answer> {
        let asked = self
            .members
            .iter()
            .map(|member| async move { (member.name.clone(), said_by(member).await) });
        join_all(asked).await
    }
}

async fn said_by(member: &Host) -> Result<Said, String> {
    let status: Status = ask(member, call(gateway::STATUS, &json!({}))).await?;
    let list: gateway::Members = ask(member, call(gateway::MEMBERS, &json!({}))).await?;
    let agreed = ask::<serde_json::Value>(member, gateway::agreed_read()).await;
    Ok(Said { status, list: list.members, trouble: agreed.err() })
}

/// Asks a member from its own host.
///
/// # Errors
/// Why there is no answer, or not one of success.
pub async fn ask<T: DeserializeOwned>(member: &Host, request: Request) -> Result<T, String> {
    ask_within(member, request, CALL).await
}

/// As [`ask`], with another limit.
///
/// # Errors
/// As [`ask`].
pub async fn ask_within<T: DeserializeOwned>(
    member: &Host,
    request: Request,
    limit: Duration,
) -> Result<T, String> {
    let to = SocketAddr::new(IpAddr::V4(member.address), PORT);
    let stream = member.session.open_stream(to, limit).await.map_err(|error| error.to_string())?;
    let answer = request.send(stream, limit).await.and_then(|answer| answer.succeeded()?.read());
    answer.map_err(|error| error.to_string())
}
