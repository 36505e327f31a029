//! Which hosts, ports, containers and names the tests work with: of the site, of the role's
//! variables, and of the requirements where neither says otherwise.

use crate::gate::drill::{Host, Place, Roles};
use crate::gate::scenario::{Finding, Surroundings};
use crate::gate::writer::Dial;
use crate::redis_client::Client;
use crate::secrets::Secret;
use std::sync::Arc;
use std::time::Duration;

/// The role of the members, and that of the HAProxies that follow them.
const ROLES: Roles = Roles { members: "redis", proxies: "haproxy-redis" };

/// Which secret is the servers' password (KB-H9).
const PASSWORD: &str = "REDIS_PASSWORD";

/// How long a call may take.
pub const CALL: Duration = Duration::from_secs(2);

/// Containers of a member.
pub const SERVER: &str = "redis";
/// As above.
pub const SENTINEL: &str = "sentinel";

/// The cluster as tests reach it.
pub struct Cluster<'a> {
    /// Its hosts, and the ways to it.
    pub place: Place<'a>,
    /// What Sentinel calls the master.
    pub name: String,
    /// Port of Redis, on members, HAProxies and the balancer alike (KB-C2).
    pub port: u16,
    /// Port of Sentinel.
    pub sentinel_port: u16,
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
        Self::at(Place::whole(surroundings, ROLES)?)
    }

    /// As [`Self::of`], without the hosts that are out of service: for tests that only look.
    ///
    /// # Errors
    /// The finding of a test that cannot be run, with the reason.
    pub fn in_service(surroundings: &'a Surroundings<'a>) -> Result<Self, Box<Finding>> {
        Self::at(Place::in_service(surroundings, ROLES)?)
    }

    fn at(place: Place<'a>) -> Result<Self, Box<Finding>> {
        Ok(Self {
            name: place.text("redis_master", "keybuzz-master"),
            port: place.number("redis_port", 6379),
            sentinel_port: place.number("redis_sentinel_port", 26379),
            password: place.secret(PASSWORD)?,
            place,
        })
    }

    /// Redis on a member.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn server(&self, member: &Host) -> Result<Client, String> {
        login(&*member.local(self.port), &self.password).await
    }

    /// Sentinel on a member.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub async fn sentinel(&self, member: &Host) -> Result<Client, String> {
        let stream = member.local(self.sentinel_port).dial().await?;
        Client::over(stream, CALL).await.map_err(|error| error.to_string())
    }

    /// The ways to the service with what each is called.
    pub fn ways(&self) -> Vec<(String, Arc<dyn Dial>)> {
        self.place.ways(self.port)
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
