//! Reboots one host and waits until it answers again.

use super::{Connection, Events, Fleet, Stop};
use crate::event::{Consumer, Event, EventKind};
use crate::site::Site;
use crate::ssh::AgentSession;
use crate::wire::{ExecOutcome, ExecSpec};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two attempts to connect.
const TRY_EVERY: Duration = Duration::from_millis(300);

/// How long the host may take to accept the wish.
const ACCEPTED_MS: u32 = 60_000;

/// Why a reboot did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebootError {
    /// What happened.
    pub reason: String,
    /// False when the host does not answer any more.
    pub reachable: bool,
}

/// Keeps why a host could not be used.
#[derive(Debug, Clone, Default)]
struct LastRefusal(Arc<Mutex<Option<String>>>);

impl LastRefusal {
    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Consumer for LastRefusal {
    fn event(&mut self, event: &Event) -> std::io::Result<()> {
        if let EventKind::HostUnusable { reason, .. } = &event.kind {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.clone());
        }
        Ok(())
    }
}

impl Fleet {
    /// Reboots a connected host; gives its new session and the time that it took.
    ///
    /// # Errors
    /// The host refuses, or does not come back in time.
    pub async fn reboot(
        &self,
        site: &Site,
        host: &str,
        connection: &Connection,
        back_within: Duration,
    ) -> Result<(Arc<AgentSession>, Duration), RebootError> {
        let reachable = |reason| RebootError { reason, reachable: true };
        let session =
            self.session(host).ok_or_else(|| reachable("it is not connected".to_owned()))?;
        let boot = session.hello().facts.boot_id.clone();
        let start = Instant::now();
        let spec = ExecSpec {
            argv: vec!["systemctl".to_owned(), "reboot".to_owned()],
            stdin: Vec::new(),
            env: Vec::new(),
            user: None,
            timeout_ms: ACCEPTED_MS,
        };
        // The connection may break before the answer; the boot id decides. A refusal is an answer.
        if let Ok(result) = session.exec(spec).await
            && !matches!(result.outcome, ExecOutcome::Exited(0) | ExecOutcome::Signaled(_))
        {
            let stderr = String::from_utf8_lossy(&result.stderr);
            return Err(reachable(format!("it refuses to reboot: {}", stderr.trim())));
        }
        drop(session);
        // Attempts are no news while it boots; why the last one failed is, once it was the last.
        let refusal = LastRefusal::default();
        let attempts = Events::start(Box::new(refusal.clone()), Stop::new()).0;
        loop {
            self.forget(host);
            match self.obtain(site, host, connection, &attempts, &Stop::new()).await {
                Some(session) if session.hello().facts.boot_id != boot => {
                    // The journal has to know this boot: it was strata's own doing.
                    self.tell_connected(&session, start.elapsed());
                    return Ok((session, start.elapsed()));
                }
                _ if start.elapsed() > back_within => {
                    // Nobody but the thread of these events can keep them from being taken.
                    let _ = attempts.flush().await;
                    let seconds = back_within.as_secs();
                    let reason = match refusal.take() {
                        Some(why) => format!("it did not come back within {seconds} s: {why}"),
                        None => format!("it did not come back within {seconds} s"),
                    };
                    return Err(RebootError { reason, reachable: false });
                }
                _ => tokio::time::sleep(TRY_EVERY).await,
            }
        }
    }
}
