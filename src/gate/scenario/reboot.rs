//! Reboots: one host at a time, never the operator host. The next host is not touched before the
//! last one is back as it was.

use super::converged::{differences, plan_of};
use super::units::Look;
use super::{Finding, Surroundings};
use crate::fleet::Stop;
use crate::gate::probe;
use crate::ssh::AgentSession;
use crate::wire::ExecOutcome;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a reboot may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Seconds until the host answers again.
    back_within: u64,
    /// Seconds until everything on it is as it was.
    settled_within: u64,
}

/// Reboots every host but the operator's.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let expected = format!(
        "back within {} s, as it was within {} s more",
        bounds.back_within, bounds.settled_within
    );
    let operator = &surroundings.context.site.config.operator.0;
    let hosts: Vec<&String> = surroundings.hosts.iter().filter(|host| *host != operator).collect();
    if hosts.is_empty() {
        return Finding::not_applicable("only the operator host is selected");
    }
    let mut times = Vec::new();
    for host in hosts {
        if surroundings.stop.wished() {
            return Finding::not_run(format!("stopped by the operator before {host}"));
        }
        match one(&surroundings, host, &bounds).await {
            Ok(took) => times.push(format!("{host} {:.1} s", took.as_secs_f64())),
            Err((reason, healed)) => {
                let mut finding = Finding::of(expected, vec![format!("{host}: {reason}")]);
                finding.not_healed = !healed;
                return finding;
            }
        }
    }
    let mut finding = Finding::of(expected, Vec::new());
    finding.found.push(times.join(", "));
    finding
}

/// Reboots one host; the error says whether it is reachable again.
async fn one(
    surroundings: &Surroundings<'_>,
    host: &str,
    bounds: &Bounds,
) -> Result<Duration, (String, bool)> {
    let fleet = surroundings.fleet;
    let session = fleet.session(host).ok_or_else(|| ("it is not connected".to_owned(), true))?;
    let boot = session.hello().facts.boot_id.clone();
    let what = format!("reboot {host}");
    surroundings.fault(&what, false);
    let start = Instant::now();
    // The connection may break before the answer; the boot id decides. A refusal is an answer.
    if let Ok((outcome, _, stderr)) =
        probe::run(&session, &["systemctl", "reboot"], Vec::new()).await
        && !matches!(outcome, ExecOutcome::Exited(0) | ExecOutcome::Signaled(_))
    {
        surroundings.fault(&what, true);
        return Err((format!("it refuses to reboot: {}", stderr.trim()), true));
    }
    drop(session);
    let session = back(surroundings, host, &boot, start, bounds).await?;
    let took = start.elapsed();
    surroundings.fault(&what, true);
    let settled = Duration::from_secs(bounds.settled_within);
    probe::wait_until(settled, || async {
        let plan = plan_of(surroundings, host, &session)?;
        let units = Look::of_layer(surroundings, &plan);
        let mut wrong = differences(&session, plan).await?;
        if let Some(units) = units {
            wrong.extend(units.wrong(&session).await?);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    })
    .await
    .map_err(|reason| (reason, true))?;
    Ok(took)
}

/// Waits until the host answers with another boot id.
async fn back(
    surroundings: &Surroundings<'_>,
    host: &str,
    boot: &str,
    start: Instant,
    bounds: &Bounds,
) -> Result<Arc<AgentSession>, (String, bool)> {
    let context = surroundings.context;
    let (fleet, quiet) = (surroundings.fleet, quiet_events());
    let deadline = Duration::from_secs(bounds.back_within);
    loop {
        fleet.forget(host);
        let attempt =
            fleet.obtain(context.site, host, context.connection, &quiet, &Stop::new()).await;
        match attempt {
            Some(session) if session.hello().facts.boot_id != boot => return Ok(session),
            _ if start.elapsed() > deadline => {
                let reason = format!("it did not come back within {} s", bounds.back_within);
                return Err((reason, false));
            }
            _ => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

/// Attempts to reach a rebooting host are no news.
fn quiet_events() -> crate::fleet::Events {
    struct Nobody;
    impl crate::event::Consumer for Nobody {
        fn event(&mut self, _: &crate::event::Event) -> std::io::Result<()> {
            Ok(())
        }
    }
    crate::fleet::Events::start(Box::new(Nobody), Stop::new()).0
}
