//! The connected hosts of a run: one session each, kept for the whole run.

use super::target::target_of;
use super::{Events, Stop};
use crate::event::{EventKind, HostProblem, elapsed_ms};
use crate::site::{Host, Site};
use crate::ssh::{AgentSession, ClientConfig, ConnectError, ConnectOptions, LockError};
use crate::wire::LockHolder;
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How soon a held lock is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(250);

/// How to reach the hosts of a site.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Timeouts, identities, pinned keys.
    pub options: ConnectOptions,
    /// TCP port of sshd.
    pub port: u16,
    /// The operator's ssh config, where the site names one.
    pub config: Option<ClientConfig>,
    /// Who holds the hosts' locks, `None` to take none.
    pub holder: Option<LockHolder>,
    /// How long a lock that another run holds is waited for. The agent of a run that was killed
    /// finishes the step in hand and lets go of the lock then.
    pub lock_wait: Duration,
    /// Hosts at work at the same time.
    pub parallel: usize,
    /// How long a host whose connection broke is tried again; zero: not at all.
    pub reconnect: Duration,
}

/// How long a lock is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When another run holds it.
    pub(super) other: Duration,
    /// When an agent of this run still holds it, whose connection broke.
    pub(super) own: Duration,
}

/// Connected hosts by name, and those that could not be used.
#[derive(Default)]
pub struct Fleet(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: BTreeMap<String, Arc<AgentSession>>,
    /// Held by whoever connects a host: layers that are in hand together may both want it.
    turns: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    unusable: BTreeMap<String, HostProblem>,
    /// Where the run's events go: the first ever given. A host that comes back from a reboot is told
    /// of there, also when the attempts to reach it were told to nobody.
    run: Option<Events>,
    /// Machine ids by host: two hosts with the same one are clones.
    machines: BTreeMap<String, String>,
}

impl Fleet {
    /// The session of a host, if it is connected.
    pub fn session(&self, host: &str) -> Option<Arc<AgentSession>> {
        self.state().sessions.get(host).map(Arc::clone)
    }

    /// Why a host could not be used.
    pub fn problem(&self, host: &str) -> Option<HostProblem> {
        self.state().unusable.get(host).copied()
    }

    /// Forgets a host's session or problem, so that it is connected anew.
    pub fn forget(&self, host: &str) {
        let mut state = self.state();
        state.sessions.remove(host);
        state.unusable.remove(host);
        state.machines.retain(|_, name| name != host);
    }

    /// The session of a host: the one that it has as long as it lives, else a new one, with the host's lock. A host
    /// that cannot be used is reported once and stays unusable for this run.
    pub async fn obtain(
        &self,
        site: &Site,
        name: &str,
        connection: &Connection,
        events: &Events,
        stop: &Stop,
    ) -> Option<Arc<AgentSession>> {
        self.state().run.get_or_insert_with(|| events.clone());
        let turn = self.turn(name);
        let _turn = turn.lock().await;
        match self.session(name) {
            Some(session) if !session.is_lost() => return Some(session),
            // It broke while nothing was under way on the host: nobody has to be told.
            Some(_) => self.forget(name),
            None => {}
        }
        let absent = self.problem(name).is_some() || site.out.contains_key(name);
        let host = site.hosts.get(name).filter(|_| !absent)?;
        let patience = Patience { other: connection.lock_wait, own: connection.lock_wait };
        let attempt = tokio::select! {
            attempt = connect_one(site, host, connection, patience, events) => attempt,
            () = stop.soon() => Err(Refusal::stopped()),
        };
        let attempt = attempt.and_then(|(session, took_ms)| {
            let machine = session.hello().facts.machine_id.clone();
            match self.state().machines.entry(machine) {
                std::collections::btree_map::Entry::Occupied(other) if other.get() != name => {
                    Err(Refusal::clone_of(other.get()))
                }
                entry => {
                    entry.or_insert_with(|| name.to_owned());
                    Ok((session, took_ms))
                }
            }
        });
        match attempt {
            Ok((session, took_ms)) => {
                events.emit(connected(&session, took_ms));
                let session = Arc::new(session);
                self.state().sessions.insert(name.to_owned(), Arc::clone(&session));
                Some(session)
            }
            Err(refusal) => {
                self.state().unusable.insert(name.to_owned(), refusal.class);
                events.emit(EventKind::HostUnusable {
                    host: name.to_owned(),
                    class: refusal.class,
                    reason: refusal.reason,
                    hint: refusal.hint,
                });
                None
            }
        }
    }

    /// Connects to every host of the list, all at once.
    pub async fn connect(
        &self,
        site: &Site,
        hosts: &[String],
        connection: &Connection,
        events: &Events,
        stop: &Stop,
    ) {
        stream::iter(hosts)
            .map(|host| self.obtain(site, host, connection, events, stop))
            .buffer_unordered(connection.parallel.max(1))
            .for_each(|_| std::future::ready(()))
            .await;
    }

    /// Closes every session; the hosts' locks go with them.
    pub async fn close(self) {
        let state = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let closing = state.sessions.into_values().map(|session| async move {
            // A session that somebody still uses closes with its last user. A host that does not
            // answer needs no goodbye.
            if let Some(session) = Arc::into_inner(session) {
                let _ = tokio::time::timeout(Duration::from_secs(2), session.close()).await;
            }
        });
        futures::future::join_all(closing).await;
    }

    /// Tells the run's events of a session that was obtained without them.
    pub(super) fn tell_connected(&self, session: &AgentSession, took: Duration) {
        if let Some(events) = &self.state().run {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            events.emit(connected(session, took_ms));
        }
    }

    /// The machine id that a host had when it was connected.
    pub(super) fn machine_of(&self, host: &str) -> Option<String> {
        let state = self.state();
        state.machines.iter().find(|(_, name)| *name == host).map(|(machine, _)| machine.clone())
    }

    /// Puts a host's new session in place of the one that broke.
    pub(super) fn put(&self, host: &str, session: &Arc<AgentSession>) {
        self.state().sessions.insert(host.to_owned(), Arc::clone(session));
    }

    /// The right to connect a host; whoever waits for it finds the session of who had it.
    pub(super) fn turn(&self, host: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.state().turns.entry(host.to_owned()).or_default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves maps as they were before or after an insertion: both are whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of a host that was connected.
pub(super) fn connected(session: &AgentSession, took_ms: u64) -> EventKind {
    let facts = &session.hello().facts;
    EventKind::HostConnected {
        host: session.host().to_owned(),
        took_ms,
        skew_ms: session.clock_skew_ms(),
        machine_id: facts.machine_id.clone(),
        boot_id: facts.boot_id.clone(),
        architecture: facts.architecture.clone(),
    }
}

pub(super) struct Refusal {
    pub(super) class: HostProblem,
    pub(super) reason: String,
    hint: Option<String>,
    /// True when another attempt would end the same way.
    pub(super) is_final: bool,
}

impl Refusal {
    fn stopped() -> Self {
        Self {
            class: HostProblem::Unreachable,
            reason: "stopped before the host could be worked on".to_owned(),
            hint: None,
            is_final: true,
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
            is_final: true,
        }
    }
}

pub(super) async fn connect_one(
    site: &Site,
    host: &Host,
    connection: &Connection,
    patience: Patience,
    events: &Events,
) -> Result<(AgentSession, u64), Refusal> {
    let start = Instant::now();
    let connecting = async {
        let target = target_of(site, host, connection).await?;
        AgentSession::connect(&target, &connection.options).await
    };
    let session = connecting.await.map_err(|error| Refusal {
        class: match error {
            _ if error.is_identity() => HostProblem::Identity,
            ConnectError::Architecture { .. } => HostProblem::Unfit,
            _ => HostProblem::Unreachable,
        },
        hint: error.hint(),
        is_final: error.is_final(),
        reason: without_name(host, &error.to_string()),
    })?;
    let took_ms = elapsed_ms(start);
    if let Some(holder) = &connection.holder {
        lock(host, &session, holder, patience, events).await?;
    }
    Ok((session, took_ms))
}

/// Takes the host's lock. One that is held is tried again until the limit; who holds it is said
/// once, so that nobody wonders why nothing happens.
async fn lock(
    host: &Host,
    session: &AgentSession,
    holder: &LockHolder,
    patience: Patience,
    events: &Events,
) -> Result<(), Refusal> {
    let start = Instant::now();
    let mut said = false;
    loop {
        let error = match session.lock(holder.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let reason = without_name(host, &error.to_string());
        let limit = match &error {
            LockError::Held { holder: Some(by), .. } if by.run == holder.run => patience.own,
            _ => patience.other,
        };
        let class = match error {
            LockError::Held { .. } => HostProblem::Locked,
            LockError::Failed { .. } => HostProblem::Unfit,
            LockError::Session(_) => HostProblem::Unreachable,
        };
        if class != HostProblem::Locked {
            return Err(Refusal { class, reason, hint: None, is_final: false });
        }
        if start.elapsed() >= limit {
            let waited = match limit.as_secs() {
                0 => String::new(),
                seconds => format!("; waited {seconds} s for it"),
            };
            return Err(Refusal {
                class,
                is_final: true,
                reason: format!("{reason}{waited}"),
                hint: Some(
                    "wait for that run, or stop it; the lock ends with it, and of a run that was killed with the step in hand"
                        .to_owned(),
                ),
            });
        }
        if !said {
            said = true;
            events.emit(EventKind::Note {
                text: format!(
                    "  {}  {reason}; waiting up to {} s for it",
                    host.name,
                    limit.as_secs()
                ),
            });
        }
        tokio::time::sleep(LOCK_AGAIN).await;
    }
}

/// Errors of a session begin with the host's name, which an event already carries.
fn without_name(host: &Host, text: &str) -> String {
    text.strip_prefix(&format!("{}: ", host.name)).unwrap_or(text).to_owned()
}
