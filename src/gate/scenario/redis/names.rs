//! Which hosts, ports, containers and names the tests work with: of the site, of the role's
//! variables, and of the requirements where neither says otherwise.

use crate::diag::Diagnostics;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::{Dial, Dialing, Route, Stream};
use crate::plan::variables_of;
use crate::redis_client::Client;
use crate::secrets::Secret;
use crate::site::tree::NodeValue;
use crate::ssh::AgentSession;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The role of the members, and that of the HAProxies that follow them.
pub const ROLE: &str = "redis";
/// As above.
pub const PROXY_ROLE: &str = "haproxy-redis";

/// Which secret is the servers' password (KB-H9).
const PASSWORD: &str = "REDIS_PASSWORD";

/// How long a call may take.
pub const CALL: Duration = Duration::from_secs(2);

/// Containers of a member.
pub const SERVER: &str = "redis";
/// As above.
pub const SENTINEL: &str = "sentinel";

/// A host of the cluster.
#[derive(Clone)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its private address.
    pub address: Ipv4Addr,
    /// Its session.
    pub session: Arc<AgentSession>,
}

/// The cluster as tests reach it.
pub struct Cluster<'a> {
    /// What the test works on.
    pub surroundings: &'a Surroundings<'a>,
    /// Members in the inventory's order.
    pub members: Vec<Host>,
    /// Addresses of members that are out of service: the others may know them still.
    pub absent: Vec<Ipv4Addr>,
    /// HAProxies in the inventory's order.
    pub proxies: Vec<Host>,
    /// The operator host.
    pub operator: Host,
    /// What Sentinel calls the master.
    pub name: String,
    /// Port of Redis, on members, HAProxies and the balancer alike (KB-C2).
    pub port: u16,
    /// Port of Sentinel.
    pub sentinel_port: u16,
    /// Below which directory members and proxies keep their files.
    pub data: String,
    /// The servers' password.
    pub password: Secret<String>,
}

impl<'a> Cluster<'a> {
    /// The whole cluster with its proxies: hosts, names and the password.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason: also while a host of it is out of
    /// service.
    pub fn of(surroundings: &'a Surroundings<'a>) -> Result<Self, Box<Finding>> {
        let (site, layer) = (surroundings.context.site, surroundings.context.layer);
        let places = layer.place.iter().filter(|at| [ROLE, PROXY_ROLE].contains(&&*at.role));
        let hosts = places.filter_map(|at| site.groups.get(&at.group)).flat_map(|at| &at.hosts);
        let out: BTreeSet<&String> = hosts.filter(|host| site.out.contains_key(*host)).collect();
        if out.is_empty() {
            return Self::in_service(surroundings);
        }
        let names: Vec<&str> = out.into_iter().map(String::as_str).collect();
        let why = format!("it needs the whole cluster: {} is out of service", names.join(", "));
        Err(Box::new(Finding::not_run(why)))
    }

    /// As [`Self::of`], without the hosts that are out of service: for tests that only look. Tests
    /// that take something away need the whole cluster.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason.
    pub fn in_service(surroundings: &'a Surroundings<'a>) -> Result<Self, Box<Finding>> {
        let not_run = |why: String| Box::new(Finding::not_run(why));
        let context = surroundings.context;
        let site = context.site;
        let host = |name: &str| -> Result<Host, Box<Finding>> {
            let address = site.hosts.get(name).map(|host| host.address);
            let session = surroundings.fleet.session(name);
            match (address, session) {
                (Some(address), Some(session)) => {
                    Ok(Host { name: name.to_owned(), address, session })
                }
                _ => Err(not_run(format!("{name} is not connected"))),
            }
        };
        let placed = |role: &str| -> Vec<&String> {
            let places = context.layer.place.iter().filter(|placement| placement.role == role);
            let groups = places.filter_map(|placement| site.groups.get(&placement.group));
            let mut names: Vec<&String> = groups.flat_map(|group| &group.hosts).collect();
            names.dedup();
            names
        };
        let of_role = |role: &str| -> Result<Vec<Host>, Box<Finding>> {
            let here = placed(role).into_iter().filter(|host| !site.out.contains_key(*host));
            here.map(|name| host(name)).collect()
        };
        let absent = placed(ROLE).into_iter().filter(|host| site.out.contains_key(*host));
        let absent = absent.filter_map(|name| Some(site.hosts.get(name)?.address)).collect();
        let members = of_role(ROLE)?;
        if members.is_empty() {
            return Err(not_run(format!("the layer places the role {ROLE} nowhere")));
        }
        let first = members.first().map(|host| host.name.clone()).unwrap_or_default();
        let mut problems = Diagnostics::new();
        let variables = variables_of(site, &first, site.roles.get(ROLE), &mut problems);
        let text = |name: &str, default: &str| match variables.get(name).map(|v| &v.node.value) {
            Some(NodeValue::String(text)) => text.clone(),
            _ => default.to_owned(),
        };
        let number = |name: &str, default: u16| match variables.get(name).map(|v| &v.node.value) {
            Some(NodeValue::Integer(number)) => u16::try_from(*number).unwrap_or(default),
            _ => default,
        };
        let password = context
            .resolver
            .secret(PASSWORD)
            .ok_or_else(|| not_run(format!("the secret {PASSWORD} is not loaded")))?;
        Ok(Self {
            surroundings,
            proxies: of_role(PROXY_ROLE)?,
            operator: host(&site.config.operator.0)?,
            name: text("redis_master", "keybuzz-master"),
            port: number("redis_port", 6379),
            sentinel_port: number("redis_sentinel_port", 26379),
            data: text("data", "/opt/keybuzz"),
            password,
            members,
            absent,
        })
    }

    /// What an expectation adds while members are out of service.
    pub fn without(&self) -> String {
        match self.absent.len() {
            0 => String::new(),
            count => format!("; {count} out of service"),
        }
    }

    /// A member by its address.
    pub fn member_at(&self, address: &str) -> Option<&Host> {
        let address: Ipv4Addr = address.parse().ok()?;
        self.members.iter().find(|member| member.address == address)
    }

    /// A way to a port of a host, from that very host.
    pub fn local(&self, host: &Host, port: u16) -> Arc<dyn Dial> {
        let to = SocketAddr::new(IpAddr::V4(host.address), port);
        Arc::new(From { session: Arc::clone(&host.session), to })
    }

    /// Redis on a member.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn server(&self, member: &Host) -> Result<Client, String> {
        login(&*self.local(member, self.port), &self.password).await
    }

    /// Sentinel on a member.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn sentinel(&self, member: &Host) -> Result<Client, String> {
        let stream = self.local(member, self.sentinel_port).dial().await?;
        Client::over(stream, CALL).await.map_err(|error| error.to_string())
    }

    /// The balancer in front of the HAProxies, where the site has one.
    pub fn balancer(&self) -> Option<Ipv4Addr> {
        let site = self.surroundings.context.site;
        let to_proxies = |balancer: &&crate::site::Balancer| {
            balancer.forwards.iter().any(|forward| {
                forward.ports.contains(&self.port)
                    && site.groups.get(&forward.targets).is_some_and(|group| {
                        self.proxies.iter().any(|proxy| group.hosts.contains(&proxy.name))
                    })
            })
        };
        site.balancers.iter().find(to_proxies).map(|balancer| balancer.address)
    }

    /// The ways to the service with what each is called: each HAProxy by itself, and the balancer.
    pub fn ways(&self) -> Vec<(String, Arc<dyn Dial>)> {
        let mut ways: Vec<(String, Arc<dyn Dial>)> = self
            .proxies
            .iter()
            .map(|proxy| (proxy.name.clone(), self.local(proxy, self.port)))
            .collect();
        if let Some(address) = self.balancer() {
            ways.push((format!("balancer {address}"), self.operators_way(address)));
        }
        ways
    }

    fn operators_way(&self, address: Ipv4Addr) -> Arc<dyn Dial> {
        let to = SocketAddr::new(IpAddr::V4(address), self.port);
        Arc::new(From { session: Arc::clone(&self.operator.session), to })
    }

    /// The path of clients (KB-C2): the balancer, else every HAProxy in turn.
    pub fn route(&self) -> Route {
        let ways = match self.balancer() {
            Some(address) => vec![self.operators_way(address)],
            None => self.proxies.iter().map(|proxy| self.local(proxy, self.port)).collect(),
        };
        Route { ways, password: self.password.clone() }
    }
}

/// Connects and gives the password.
///
/// # Errors
/// Why not.
pub async fn login(way: &dyn Dial, password: &Secret<String>) -> Result<Client, String> {
    let stream = way.dial().await?;
    Client::login(stream, password.expose(), CALL).await.map_err(|error| error.to_string())
}

/// From a host, through its agent.
struct From {
    session: Arc<AgentSession>,
    to: SocketAddr,
}

impl Dial for From {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            let stream = self.session.open_stream(self.to, CALL).await;
            match stream {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}
