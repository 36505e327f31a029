//! [`Hosts`] over the sessions of a run.

use super::hosts::{Applied, DialError, Hosts, Ran, Stream};
use crate::fleet::Fleet;
use crate::resource::{Batch, ItemEvent, ItemReport, ItemSlot};
use crate::ssh::{AgentSession, OpenError};
use crate::wire::{ExecOutcome, ExecSpec};
use futures::future::LocalBoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Takes each report of a batch on a host as it comes.
pub type OnReport<'a> = dyn Fn(&str, &Batch, &ItemReport) + Sync + 'a;

/// The connected hosts of a run.
pub struct FleetHosts<'a> {
    fleet: &'a Fleet,
    on_report: &'a OnReport<'a>,
}

impl<'a> FleetHosts<'a> {
    /// The hosts of `fleet`; every report is handed to `on_report`.
    pub const fn new(fleet: &'a Fleet, on_report: &'a OnReport<'a>) -> Self {
        Self { fleet, on_report }
    }

    /// The hosts of `fleet`, for looks that are no news.
    pub const fn quiet(fleet: &'a Fleet) -> Self {
        Self { fleet, on_report: &|_, _, _| {} }
    }

    fn session(&self, host: &str) -> Result<Arc<AgentSession>, String> {
        self.fleet.session(host).ok_or_else(|| format!("{host} is not connected"))
    }
}

impl Hosts for FleetHosts<'_> {
    fn apply<'a>(
        &'a self,
        host: &'a str,
        work: Batch,
    ) -> LocalBoxFuture<'a, Result<Vec<Applied>, String>> {
        Box::pin(async move {
            let session = self.session(host)?;
            let described = work.clone();
            let mut applied = Vec::new();
            session
                .converge(work, |report| {
                    (self.on_report)(host, &described, &report);
                    if let (ItemSlot::Step(index), ItemEvent::Finished { outcome, .. }) =
                        (report.slot, report.event)
                        && let Some(item) = described.items.get(index as usize)
                    {
                        applied.push(Applied { name: item.name.clone(), outcome });
                    }
                })
                .await
                .map_err(|error| error.to_string())?;
            Ok(applied)
        })
    }

    fn run<'a>(&'a self, host: &'a str, spec: ExecSpec) -> LocalBoxFuture<'a, Result<Ran, String>> {
        Box::pin(async move {
            let (argv, limit) = (spec.argv.clone(), spec.timeout_ms);
            let result = self.session(host)?.exec(spec).await.map_err(|error| error.to_string())?;
            let success = result.success();
            let program = || argv.first().cloned().unwrap_or_default();
            match result.outcome {
                ExecOutcome::Exited(_) => {}
                ExecOutcome::Signaled(signal) => {
                    return Err(format!("{} was ended by signal {signal}", program()));
                }
                ExecOutcome::TimedOut => {
                    return Err(format!("{} did not end within {limit} ms", program()));
                }
                ExecOutcome::NotStarted(why) => {
                    return Err(format!("{} could not be started: {why}", program()));
                }
            }
            Ok(Ran {
                success,
                stdout: String::from_utf8_lossy(&result.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&result.stderr).into_owned(),
            })
        })
    }

    fn dial<'a>(
        &'a self,
        host: &'a str,
        to: SocketAddr,
        limit: Duration,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Stream>, DialError>> {
        Box::pin(async move {
            let failed = |refused, reason| DialError { refused, reason };
            let session = self.session(host).map_err(|reason| failed(false, reason))?;
            match session.open_stream(to, limit).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Stream>),
                Err(error) => {
                    let refused = matches!(error, OpenError::Refused { .. });
                    Err(failed(refused, error.to_string()))
                }
            }
        })
    }
}
