//! The connected hosts of a run: one session each, kept for the whole run.

use super::{Events, Stop};
use crate::event::{EventKind, HostProblem};
use crate::site::{Host, Site};
use crate::ssh::{AgentSession, ConnectOptions, LockError, Target, Transport};
use crate::wire::LockHolder;
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How to reach the hosts of a site.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Timeouts, identities, pinned keys.
    pub options: ConnectOptions,
    /// TCP port of sshd.
    pub port: u16,
    /// Who holds the hosts' locks, `None` to take none.
    pub holder: Option<LockHolder>,
    /// Connections at the same time.
    pub parallel: usize,
}

/// Connected hosts by name, and those that could not be used.
#[derive(Default)]
pub struct Fleet {
    sessions: BTreeMap<String, Arc<AgentSession>>,
    unusable: BTreeMap<String, HostProblem>,
}

impl Fleet {
    /// The session of a host.
    pub fn session(&self, host: &str) -> Option<&Arc<AgentSession>> {
        self.sessions.get(host)
    }

    /// Why a host could not be used.
    pub fn problem(&self, host: &str) -> Option<HostProblem> {
        self.unusable.get(host).copied()
    }

    /// Hosts that could not be used.
    pub const fn unusable(&self) -> &BTreeMap<String, HostProblem> {
        &self.unusable
    }

    /// Forgets a host's session, so that [`Fleet::connect`] opens a new one.
    pub fn forget(&mut self, host: &str) {
        self.sessions.remove(host);
    }

    /// Lets [`Fleet::connect`] try a host again that could not be used.
    pub fn retry(&mut self, host: &str) {
        self.unusable.remove(host);
    }

    /// Connects to every host of the list that is not connected yet, all at once, and takes their
    /// locks. Hosts that cannot be used are reported and kept in [`Fleet::unusable`].
    pub async fn connect(
        &mut self,
        site: &Site,
        hosts: &[String],
        connection: &Connection,
        events: &Events,
        stop: &Stop,
    ) {
        let wanted: Vec<&Host> = hosts
            .iter()
            .filter(|host| !self.sessions.contains_key(*host) && !self.unusable.contains_key(*host))
            .filter_map(|host| site.hosts.get(host))
            .collect();
        let operator = site.config.operator.0.as_str();
        let attempts = stream::iter(wanted)
            .map(|host| async move {
                let transport = transport_of(host, operator);
                let result = tokio::select! {
                    result = connect_one(host, transport, connection) => result,
                    () = stop.soon() => Err(Refusal::stopped()),
                };
                (host, result)
            })
            .buffer_unordered(connection.parallel.max(1));
        let mut attempts = std::pin::pin!(attempts);
        let mut machines: BTreeMap<String, String> = self
            .sessions
            .iter()
            .map(|(name, session)| (session.hello().facts.machine_id.clone(), name.clone()))
            .collect();
        while let Some((host, result)) = attempts.next().await {
            let result = result.and_then(|(session, took_ms)| {
                let machine = session.hello().facts.machine_id.clone();
                match machines.insert(machine, host.name.clone()) {
                    Some(other) => Err(Refusal::clone_of(&other)),
                    None => Ok((session, took_ms)),
                }
            });
            match result {
                Ok((session, took_ms)) => {
                    let facts = &session.hello().facts;
                    events.emit(EventKind::HostConnected {
                        host: host.name.clone(),
                        took_ms,
                        skew_ms: session.clock_skew_ms(),
                        machine_id: facts.machine_id.clone(),
                        boot_id: facts.boot_id.clone(),
                    });
                    self.sessions.insert(host.name.clone(), Arc::new(session));
                }
                Err(refusal) => {
                    self.unusable.insert(host.name.clone(), refusal.class);
                    events.emit(EventKind::HostUnusable {
                        host: host.name.clone(),
                        class: refusal.class,
                        reason: refusal.reason,
                        hint: refusal.hint,
                    });
                }
            }
        }
    }

    /// Closes every session; the hosts' locks go with them.
    pub async fn close(self) {
        let names: BTreeSet<String> = self.sessions.keys().cloned().collect();
        tracing::debug!(hosts = names.len(), "closing sessions");
        let closing = self.sessions.into_values().map(|session| async move {
            // Nobody else uses the session any more, else it closes with its last user. A host that
            // does not answer needs no goodbye.
            if let Some(session) = Arc::into_inner(session) {
                let _ = tokio::time::timeout(Duration::from_secs(2), session.close()).await;
            }
        });
        futures::future::join_all(closing).await;
    }
}

struct Refusal {
    class: HostProblem,
    reason: String,
    hint: Option<String>,
}

impl Refusal {
    fn stopped() -> Self {
        Self {
            class: HostProblem::Unreachable,
            reason: "stopped before the connection was made".to_owned(),
            hint: None,
        }
    }

    fn clone_of(other: &str) -> Self {
        Self {
            class: HostProblem::Unfit,
            reason: format!("it has the machine id of {other}: one is a clone of the other"),
            hint: Some(
                "on the clone: rm /etc/machine-id, systemd-machine-id-setup, then reboot"
                    .to_owned(),
            ),
        }
    }
}

/// The operator host is reached without SSH when strata runs on it.
fn transport_of(host: &Host, operator: &str) -> Transport {
    let here = rustix::system::uname();
    let name = here.nodename().to_string_lossy();
    if host.name == operator && name == host.name { Transport::Local } else { Transport::Ssh }
}

async fn connect_one(
    host: &Host,
    transport: Transport,
    connection: &Connection,
) -> Result<(AgentSession, u64), Refusal> {
    let target = Target {
        name: host.name.clone(),
        address: SocketAddr::new(IpAddr::V4(host.address), connection.port),
        user: host.user.clone(),
        transport,
    };
    let start = Instant::now();
    let session =
        AgentSession::connect(&target, &connection.options).await.map_err(|error| Refusal {
            class: if error.is_identity() {
                HostProblem::Identity
            } else {
                HostProblem::Unreachable
            },
            hint: error.hint(),
            reason: without_name(host, &error.to_string()),
        })?;
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some(holder) = &connection.holder {
        session.lock(holder.clone()).await.map_err(|error| Refusal {
            class: match error {
                LockError::Held { .. } => HostProblem::Locked,
                LockError::Failed { .. } => HostProblem::Unfit,
                LockError::Session(_) => HostProblem::Unreachable,
            },
            hint: matches!(error, LockError::Held { .. })
                .then(|| "wait for that run, or stop it; the lock ends with it".to_owned()),
            reason: without_name(host, &error.to_string()),
        })?;
    }
    Ok((session, took_ms))
}

/// Errors of a session begin with the host's name, which an event already carries.
fn without_name(host: &Host, text: &str) -> String {
    text.strip_prefix(&format!("{}: ", host.name)).unwrap_or(text).to_owned()
}
