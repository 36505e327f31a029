//! Jump hosts: one connection each for a whole run, and a channel of it for every host behind.
//!
//! Invariants:
//! - A jump host is connected, judged by its pinned key and logged in to exactly like any host.
//! - While one asks for a connection to a jump host, all others wait for it and get what came of it,
//!   its failure too: a login that is refused is not tried again for each host behind.

use super::connection::{Connection, establish};
use super::error::ConnectError;
use super::target::{ConnectOptions, Hop, Target, Transport};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// The connections to jump hosts, shared by everything that is given a clone.
#[derive(Clone, Default)]
pub struct Jumps(Arc<Mutex<HashMap<Vec<Hop>, SharedSlot>>>);

/// Held by whoever connects; all others wait for it.
type SharedSlot = Arc<tokio::sync::Mutex<Slot>>;

#[derive(Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    failure: Option<(Instant, ConnectError)>,
}

impl std::fmt::Debug for Jumps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jumps").finish_non_exhaustive()
    }
}

impl Jumps {
    /// The connection through which a host is reached; `None` when it is reached directly.
    pub(super) async fn to(
        &self,
        target: &Target,
        options: &ConnectOptions,
    ) -> Result<Option<Arc<Connection>>, ConnectError> {
        let Some(last) = target.jump.last() else { return Ok(None) };
        let connection = self.reach(&target.jump, options).await;
        connection.map(Some).map_err(|cause| ConnectError::Jump {
            host: target.name.clone(),
            jump: last.to_string(),
            cause: Box::new(cause),
        })
    }

    /// The connection to the last host of a chain.
    fn reach<'a>(
        &'a self,
        chain: &'a [Hop],
        options: &'a ConnectOptions,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<Connection>, ConnectError>> + Send + 'a>> {
        Box::pin(async move {
            let asked = Instant::now();
            let slot = {
                let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(slots.entry(chain.to_vec()).or_default())
            };
            let mut slot = slot.lock().await;
            if let Some(connection) = slot.connection.as_ref().filter(|c| !c.handle.is_closed()) {
                return Ok(Arc::clone(connection));
            }
            slot.connection = None;
            if let Some((when, error)) = &slot.failure
                && (*when >= asked || error.is_final())
            {
                return Err(error.clone());
            }
            let connected = match hop_target(chain).await {
                Ok(target) => establish(&target, options).await,
                Err(error) => Err(error),
            };
            match connected {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    slot.connection = Some(Arc::clone(&connection));
                    slot.failure = None;
                    Ok(connection)
                }
                Err(error) => {
                    slot.failure = Some((Instant::now(), error.clone()));
                    Err(error)
                }
            }
        })
    }
}

/// The last host of a chain as a target behind the others.
///
/// # Errors
/// When its name has no address.
pub async fn hop_target(chain: &[Hop]) -> Result<Target, ConnectError> {
    let Some((hop, before)) = chain.split_last() else {
        let host = String::new();
        return Err(ConnectError::Unresolved { host, reason: "no jump host is named".into() });
    };
    Ok(Target {
        name: hop.name.clone(),
        address: address_of(hop).await?,
        user: hop.user.clone(),
        transport: Transport::Ssh,
        jump: before.to_vec(),
        keys: hop.keys.clone(),
    })
}

/// A jump host may be named; every other host has an address.
async fn address_of(hop: &Hop) -> Result<SocketAddr, ConnectError> {
    let unresolved = |reason| ConnectError::Unresolved { host: hop.name.clone(), reason };
    let mut found = tokio::net::lookup_host((hop.host.as_str(), hop.port))
        .await
        .map_err(|error| unresolved(error.to_string()))?;
    found.next().ok_or_else(|| unresolved("it has no address".into()))
}
