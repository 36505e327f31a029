//! Where a service stands, as tests reach it: its members, the HAProxies and the balancer before
//! them, and the variables of its role.

use crate::diag::Diagnostics;
use crate::gate::fault::{Cut, Kind};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::{Dial, Dialing, Stream};
use crate::plan::variables_of;
use crate::secrets::Secret;
use crate::site::tree::NodeValue;
use crate::ssh::AgentSession;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to open.
const OPENED: Duration = Duration::from_secs(2);

/// A host of a service.
#[derive(Clone)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its private address.
    pub address: Ipv4Addr,
    /// Its session.
    pub session: Arc<AgentSession>,
}

impl Host {
    /// A way to a port of this host, from this very host: past all proxies and packet filters.
    pub fn local(&self, port: u16) -> Arc<dyn Dial> {
        self.way_to(self.address, port)
    }

    /// A way to a port of an address, from this host.
    pub fn way_to(&self, address: Ipv4Addr, port: u16) -> Arc<dyn Dial> {
        let to = SocketAddr::new(IpAddr::V4(address), port);
        Arc::new(From { session: Arc::clone(&self.session), to })
    }
}

/// The roles that make a service.
#[derive(Debug, Clone, Copy)]
pub struct Roles {
    /// Of its members.
    pub members: &'static str,
    /// Of the HAProxies that lead to them.
    pub proxies: &'static str,
}

/// Where a service stands.
pub struct Place<'a> {
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
    roles: Roles,
}

impl<'a> Place<'a> {
    /// All of it.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason: also while a host of it is out of
    /// service.
    pub fn whole(surroundings: &'a Surroundings<'a>, roles: Roles) -> Result<Self, Box<Finding>> {
        let (site, layer) = (surroundings.context.site, surroundings.context.layer);
        let both = [roles.members, roles.proxies];
        let places = layer.place.iter().filter(|at| both.contains(&&*at.role));
        let hosts = places.filter_map(|at| site.groups.get(&at.group)).flat_map(|at| &at.hosts);
        let out: BTreeSet<&String> = hosts.filter(|host| site.out.contains_key(*host)).collect();
        if out.is_empty() {
            return Self::in_service(surroundings, roles);
        }
        let names: Vec<&str> = out.into_iter().map(String::as_str).collect();
        let why = format!("it needs the whole cluster: {} is out of service", names.join(", "));
        Err(Box::new(Finding::not_run(why)))
    }

    /// As [`Self::whole`], without the hosts that are out of service: for tests that only look.
    /// Tests that take something away need all of it.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason.
    pub fn in_service(
        surroundings: &'a Surroundings<'a>,
        roles: Roles,
    ) -> Result<Self, Box<Finding>> {
        let not_run = |why: String| Box::new(Finding::not_run(why));
        let site = surroundings.context.site;
        let members = hosts_of(surroundings, roles.members).map_err(not_run)?;
        if members.is_empty() {
            let why = format!("the layer places the role {} nowhere", roles.members);
            return Err(not_run(why));
        }
        let absent = placed(surroundings, roles.members).into_iter();
        let absent = absent.filter(|host| site.out.contains_key(*host));
        Ok(Self {
            surroundings,
            absent: absent.filter_map(|name| Some(site.hosts.get(name)?.address)).collect(),
            proxies: hosts_of(surroundings, roles.proxies).map_err(not_run)?,
            operator: host(surroundings, &site.config.operator.0).map_err(not_run)?,
            members,
            roles,
        })
    }

    /// The hosts in service where the layer places another role.
    ///
    /// # Errors
    /// Which of them is not connected.
    pub fn hosts_of(&self, role: &str) -> Result<Vec<Host>, String> {
        hosts_of(self.surroundings, role)
    }

    /// A variable of a role as it is on a host.
    fn variable(&self, role: &str, host: &Host, name: &str) -> Option<NodeValue> {
        let site = self.surroundings.context.site;
        // What is wrong with variables was said before any host was touched.
        let mut problems = Diagnostics::new();
        let role = site.roles.get(role);
        let variables = variables_of(site, &host.name, role, &mut problems);
        variables.get(name).map(|found| found.node.value.clone())
    }

    /// A text among the variables of the members' role.
    pub fn text(&self, name: &str, default: &str) -> String {
        let found = self.members.first().map(|at| self.variable(self.roles.members, at, name));
        text_or(found.flatten(), default)
    }

    /// A text among the variables of an HAProxy's role on its host.
    pub fn text_at(&self, proxy: &Host, name: &str, default: &str) -> String {
        self.text_of(self.roles.proxies, proxy, name, default)
    }

    /// A text among the variables of another role on one of its hosts.
    pub fn text_of(&self, role: &str, host: &Host, name: &str, default: &str) -> String {
        text_or(self.variable(role, host, name), default)
    }

    /// A number among the variables of the members' role.
    pub fn number(&self, name: &str, default: u16) -> u16 {
        let found = self.members.first().map(|at| self.variable(self.roles.members, at, name));
        match found.flatten() {
            Some(NodeValue::Integer(number)) => u16::try_from(number).unwrap_or(default),
            _ => default,
        }
    }

    /// A secret of the site.
    ///
    /// # Errors
    /// The finding of a test that cannot be run without it.
    pub fn secret(&self, name: &str) -> Result<Secret<String>, Box<Finding>> {
        let found = self.surroundings.context.resolver.secret(name);
        found.ok_or_else(|| Box::new(Finding::not_run(format!("the secret {name} is not loaded"))))
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

    /// A member by its name.
    pub fn member(&self, name: &str) -> Option<&Host> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The balancer that leads a port to the HAProxies, where the site has one.
    pub fn balancer(&self, port: u16) -> Option<Ipv4Addr> {
        let site = self.surroundings.context.site;
        let to_proxies = |balancer: &&crate::site::Balancer| {
            balancer.forwards.iter().any(|forward| {
                forward.ports.contains(&port)
                    && site.groups.get(&forward.targets).is_some_and(|group| {
                        self.proxies.iter().any(|proxy| group.hosts.contains(&proxy.name))
                    })
            })
        };
        site.balancers.iter().find(to_proxies).map(|balancer| balancer.address)
    }

    /// The ways to a port of the service with what each is called: each HAProxy by itself, and the
    /// balancer.
    pub fn ways(&self, port: u16) -> Vec<(String, Arc<dyn Dial>)> {
        let proxies = self.proxies.iter();
        let mut ways: Vec<(String, Arc<dyn Dial>)> =
            proxies.map(|proxy| (proxy.name.clone(), proxy.local(port))).collect();
        if let Some(address) = self.balancer(port) {
            ways.push((format!("balancer {address}"), self.operator.way_to(address, port)));
        }
        ways
    }

    /// The path of clients to a port: the balancer, else every HAProxy in turn.
    pub fn clients_ways(&self, port: u16) -> Vec<Arc<dyn Dial>> {
        match self.balancer(port) {
            Some(address) => vec![self.operator.way_to(address, port)],
            None => self.proxies.iter().map(|proxy| proxy.local(port)).collect(),
        }
    }

    /// A network cut from these addresses and of these TCP ports; all traffic where no
    /// port is named. The operator host keeps SSH.
    pub fn cut(&self, from: Vec<Ipv4Addr>, ports: Vec<u16>) -> Kind {
        let ssh = self.surroundings.context.site.config.ssh.port;
        Kind::Cut(Cut { from, ports, operator: self.operator.address, ssh })
    }

    /// Cuts `host` off from every host and balancer of the site; the operator host keeps SSH.
    pub fn cut_off(&self, host: &Host) -> Kind {
        let site = self.surroundings.context.site;
        let hosts = site.hosts.values().map(|host| host.address);
        let balancers = site.balancers.iter().map(|balancer| balancer.address);
        let others = hosts.chain(balancers).filter(|address| *address != host.address);
        self.cut(others.collect(), Vec::new())
    }

    /// The text of all fragments that the HAProxy of this host reads.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub async fn fragments(&self, proxy: &Host) -> Result<String, String> {
        let data = self.text("data", "/opt/keybuzz");
        let directory = self.text_at(proxy, "haproxy_directory", &format!("{data}/haproxy"));
        let argv =
            ["find", &directory, "-maxdepth", "1", "-name", "[!.]*.cfg", "-exec", "cat", "{}", "+"];
        probe::output(&proxy.session, &argv).await
    }

    /// Who listens where, on members and HAProxies.
    ///
    /// # Errors
    /// Which host could not be asked.
    pub async fn listeners(&self) -> Result<BTreeSet<String>, String> {
        let hosts = self.members.iter().chain(&self.proxies);
        let looks = hosts.map(|host| async move {
            let text = probe::output(&host.session, &["ss", "-H", "-ltn"]).await?;
            let sockets = text.lines().filter_map(|line| line.split_whitespace().nth(3));
            let sockets = sockets.map(|at| format!("{} {at}", host.name));
            Ok::<_, String>(sockets.collect::<BTreeSet<_>>())
        });
        let all: Result<Vec<BTreeSet<String>>, String> =
            join_all(looks).await.into_iter().collect();
        Ok(all?.into_iter().flatten().collect())
    }
}

fn text_or(found: Option<NodeValue>, default: &str) -> String {
    match found {
        Some(NodeValue::String(text)) => text,
        _ => default.to_owned(),
    }
}

fn host(surroundings: &Surroundings<'_>, name: &str) -> Result<Host, String> {
    let address = surroundings.context.site.hosts.get(name).map(|host| host.address);
    match (address, surroundings.fleet.session(name)) {
        (Some(address), Some(session)) => Ok(Host { name: name.to_owned(), address, session }),
        _ => Err(format!("{name} is not connected")),
    }
}

/// Where the layer places a role, in the inventory's order.
fn placed<'a>(surroundings: &Surroundings<'a>, role: &str) -> Vec<&'a String> {
    let site = surroundings.context.site;
    let places = surroundings.context.layer.place.iter().filter(|at| at.role == role);
    let groups = places.filter_map(|placement| site.groups.get(&placement.group));
    let mut names: Vec<&String> = groups.flat_map(|group| &group.hosts).collect();
    names.dedup();
    names
}

fn hosts_of(surroundings: &Surroundings<'_>, role: &str) -> Result<Vec<Host>, String> {
    let out = &surroundings.context.site.out;
    let here = placed(surroundings, role).into_iter().filter(|host| !out.contains_key(*host));
    here.map(|name| host(surroundings, name)).collect()
}

/// From a host, through its agent.
struct From {
    session: Arc<AgentSession>,
    to: SocketAddr,
}

impl Dial for From {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            let stream = self.session.open_stream(self.to, OPENED).await;
            match stream {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                Err(error) => Err(error.to_string()),
            }
        })
    }
}
