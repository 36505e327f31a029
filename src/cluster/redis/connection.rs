//! Connections to Redis and Sentinel, made from their own hosts.

use super::settings::Settings;
use crate::cluster::Hosts;
use crate::redis_client::{Auth, Client, Error};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long a connection and each answer may take.
pub const ANSWER: Duration = Duration::from_secs(3);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoClient {
    /// Nobody listens.
    Down,
    /// The password is not the server's.
    Refuses(String),
    /// Anything else.
    Unready(String),
}

impl std::fmt::Display for NoClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down => f.write_str("nobody listens"),
            Self::Refuses(why) | Self::Unready(why) => f.write_str(why),
        }
    }
}

impl From<Error> for NoClient {
    fn from(error: Error) -> Self {
        match error {
            Error::WrongPassword | Error::NoAuth { .. } => Self::Refuses(error.to_string()),
            other => Self::Unready(other.to_string()),
        }
    }
}

/// Redis on a member's host, logged in.
///
/// # Errors
/// See [`NoClient`].
pub async fn redis(
    hosts: &dyn Hosts,
    host: &str,
    address: Ipv4Addr,
    settings: &Settings,
) -> Result<Client, NoClient> {
    let client = dial(hosts, host, address, settings.port).await?;
    let answer = match (client.auth(settings.password.expose()).await, settings.previous()) {
        // It was not told yet.
        (Ok(Auth::WrongPassword), Some(previous)) => client.auth(previous.expose()).await,
        (answer, _) => answer,
    };
    match answer {
        Ok(Auth::Accepted) => Ok(client),
        Ok(Auth::NoPasswordSet) => {
            Err(NoClient::Refuses("it asks for no password at all".to_owned()))
        }
        Ok(Auth::WrongPassword) => Err(Error::WrongPassword.into()),
        Err(error) => Err(error.into()),
    }
}

/// Sentinel on a member's host.
///
/// # Errors
/// See [`NoClient`].
pub async fn sentinel(
    hosts: &dyn Hosts,
    host: &str,
    address: Ipv4Addr,
    settings: &Settings,
) -> Result<Client, NoClient> {
    dial(hosts, host, address, settings.sentinel_port).await
}

async fn dial(
    hosts: &dyn Hosts,
    host: &str,
    address: Ipv4Addr,
    port: u16,
) -> Result<Client, NoClient> {
    let to = SocketAddr::new(IpAddr::V4(address), port);
    let stream = hosts.dial(host, to, ANSWER).await.map_err(|error| {
        if error.refused { NoClient::Down } else { NoClient::Unready(error.reason) }
    })?;
    Client::over(stream, ANSWER).await.map_err(NoClient::from)
}
