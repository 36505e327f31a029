//! A connection that broke in the middle of a host's work is made anew.

use super::sessions::{Patience, Refusal, connect_one, connected};
use super::{Connection, Events, Fleet, Stop};
use crate::event::{EventKind, HostProblem, elapsed_ms};
use crate::site::Site;
use crate::ssh::AgentSession;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first pause between two attempts; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What broke, and what it broke in.
#[derive(Clone)]
pub struct Lost {
    /// The session that is of no use any more.
    pub session: Arc<AgentSession>,
    /// Why, as far as is known.
    pub reason: String,
    /// The step in hand, where one was.
    pub step: Option<String>,
    /// How long that step may still take: its agent keeps the host's lock until then.
    pub step_may_take: Duration,
}

impl Fleet {
    /// Connects a host anew and takes its lock, which the agent of the broken connection gives up
    /// once it has finished the step in hand. Says both to the operator.
    ///
    /// # Errors
    /// Why it could not be had within the limit of the site; the host then stays as it was lost.
    pub async fn renew(
        &self,
        site: &Site,
        name: &str,
        connection: &Connection,
        lost: Lost,
        events: &Events,
        stop: &Stop,
    ) -> Result<Arc<AgentSession>, String> {
        let Lost { session: broken, reason, step, step_may_take } = lost;
        let host = site.hosts.get(name).ok_or("it is no host of the site")?;
        if connection.reconnect.is_zero() {
            return Err("connections are not made anew: `reconnect` under [ssh] is 0".to_owned());
        }
        events.emit(EventKind::LinkLost { host: name.to_owned(), reason, step });
        let start = Instant::now();
        let turn = self.turn(name);
        let _turn = turn.lock().await;
        let by_another = self.session(name).filter(|other| !Arc::ptr_eq(other, &broken));
        if let Some(session) = by_another.filter(|session| !session.is_lost()) {
            let after_ms = elapsed_ms(start);
            events.emit(EventKind::LinkRestored { host: name.to_owned(), after_ms, attempts: 1 });
            return Ok(session);
        }
        drop(broken);
        let machine = self.machine_of(name);
        let own = connection.reconnect + step_may_take;
        let patience = Patience { other: connection.lock_wait, own };
        let quiet = Events::quiet();
        let (mut attempts, mut pause) = (0, FIRST_PAUSE);
        let session = loop {
            attempts += 1;
            let attempt = tokio::select! {
                attempt = connect_one(site, host, connection, patience, &quiet) => attempt,
                () = stop.soon() => return Err("the run was stopped before it was back".to_owned()),
            };
            let refusal = match attempt {
                Ok((session, _)) => break session,
                Err(refusal) => refusal,
            };
            let late = start.elapsed() + pause >= connection.reconnect;
            if late || !worth_again(&refusal) {
                return Err(format!(
                    "it could not be reconnected within {:.0} s ({attempts} attempts): {}",
                    start.elapsed().as_secs_f64(),
                    refusal.reason
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let found = &session.hello().facts.machine_id;
        if machine.is_some_and(|machine| machine != *found) {
            return Err("another machine answers in its place".to_owned());
        }
        let after_ms = elapsed_ms(start);
        events.emit(connected(&session, after_ms));
        events.emit(EventKind::LinkRestored { host: name.to_owned(), after_ms, attempts });
        let session = Arc::new(session);
        self.put(name, &session);
        Ok(session)
    }
}

/// A refused login, another identity or another run's lock are the same the next time.
fn worth_again(refusal: &Refusal) -> bool {
    refusal.class == HostProblem::Unreachable && !refusal.is_final
}
