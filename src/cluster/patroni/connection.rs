//! Connections to PostgreSQL, made from the member's own host to its private address.

use super::settings::Settings;
use crate::cluster::reach::Reach;
use crate::postgres_client::{Client, Error, Login, state};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a connection may take.
const DIAL: Duration = Duration::from_secs(3);

/// How long a statement may take: a database is copied from its template.
const STATEMENT: Duration = Duration::from_secs(60);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoLogin {
    /// The password is not the server's.
    Refuses(String),
    /// Its data is damaged: it says so itself.
    Damaged(String),
    /// Anything else.
    Unready(String),
}

impl std::fmt::Display for NoLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refuses(why) | Self::Damaged(why) | Self::Unready(why) => f.write_str(why),
        }
    }
}

/// The superuser in the database `postgres`.
///
/// # Errors
/// See [`NoLogin`].
pub async fn superuser(
    reach: &Reach<'_>,
    member: &str,
    address: Ipv4Addr,
    settings: &Settings,
) -> Result<Client, NoLogin> {
    login(
        reach,
        member,
        address,
        settings,
        (&settings.user, settings.password.expose()),
        "postgres",
    )
    .await
}

/// Anybody in any database.
///
/// # Errors
/// See [`NoLogin`].
pub async fn login(
    reach: &Reach<'_>,
    member: &str,
    address: Ipv4Addr,
    settings: &Settings,
    (user, password): (&str, &str),
    database: &str,
) -> Result<Client, NoLogin> {
    let to = settings.server(address);
    let unready = |reason: String| NoLogin::Unready(format!("PostgreSQL on {member}: {reason}"));
    let stream = reach.hosts.dial(member, to, DIAL).await.map_err(|error| unready(error.reason))?;
    let login = Login { user, password, database, application: "strata" };
    Client::login(stream, &login, STATEMENT).await.map_err(|error| match &error {
        Error::WrongPassword { .. } => NoLogin::Refuses(error.to_string()),
        // A server that asks for no password at all, or a role that may not log in, is none of ours.
        Error::Refused { code, .. } if code == state::NOT_AUTHORIZED => {
            NoLogin::Refuses(error.to_string())
        }
        Error::Refused { code, .. } if state::DAMAGED.contains(&code.as_str()) => {
            NoLogin::Damaged(error.to_string())
        }
        _ => unready(error.to_string()),
    })
}
