//! Reboots: one host at a time, never the operator host. The next host is not touched before the
//! last one is back as it was.

use super::converged::{differences, plan_of};
use super::units::Look;
use super::{Finding, Surroundings};
use crate::cluster::Around;
use crate::gate::probe;
use serde::Deserialize;
use std::time::Duration;

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
            return Finding::not_run(format!("{} before {host}", surroundings.stop.why()));
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
    let context = surroundings.context;
    let around = Around {
        site: context.site,
        resolver: context.resolver,
        fleet: surroundings.fleet,
        connection: context.connection,
    };
    // A host that leads anything hands over first: a reboot is planned, and costs no failover.
    around.step_down(host).await.map_err(|reason| (reason, true))?;
    let what = format!("reboot {host}");
    surroundings.fault(&what, false);
    let back_within = Duration::from_secs(bounds.back_within);
    let rebooting = surroundings.fleet.reboot(context.site, host, context.connection, back_within);
    let (session, took) = match rebooting.await {
        Ok(back) => back,
        Err(error) => {
            if error.reachable {
                surroundings.fault(&what, true);
            }
            return Err((error.reason, error.reachable));
        }
    };
    surroundings.fault(&what, true);
    let settled = Duration::from_secs(bounds.settled_within);
    probe::wait_until(settled, || async {
        let plan = plan_of(surroundings.context, host, &session)?;
        let units = Look::of_layer(surroundings, &plan);
        let mut wrong = differences(&session, plan).await?;
        if let Some(units) = units {
            wrong.extend(units.wrong(&session).await?);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    })
    .await
    .map_err(|reason| (reason, true))?;
    around.settle(host, settled).await.map_err(|reason| (reason, true))?;
    Ok(took)
}
