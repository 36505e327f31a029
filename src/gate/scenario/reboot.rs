//! Reboots: one host at a time, never the operator host. The next host is not touched before the
//! last one is back as it was.

use super::converged::{differences, plan_of};
use super::{Finding, Surroundings};
use crate::event::EventKind;
use crate::gate::probe;
use crate::run::Stop;
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
pub async fn run(mut surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let expected = format!(
        "back within {} s, as it was within {} s more",
        bounds.back_within, bounds.settled_within
    );
    let operator = surroundings.context.site.config.operator.0.clone();
    let hosts: Vec<String> =
        surroundings.hosts.iter().filter(|host| **host != operator).cloned().collect();
    if hosts.is_empty() {
        return Finding::not_applicable("only the operator host is selected");
    }
    let mut times = Vec::new();
    for host in &hosts {
        match one(&mut surroundings, host, &bounds).await {
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
    surroundings: &mut Surroundings<'_>,
    host: &str,
    bounds: &Bounds,
) -> Result<Duration, (String, bool)> {
    let context = surroundings.context;
    let announce = |healed: bool| EventKind::Fault {
        layer: context.layer.name.clone(),
        test: surroundings.test.name.clone(),
        what: format!("reboot {host}"),
        healed,
    };
    let session = surroundings
        .fleet
        .session(host)
        .cloned()
        .ok_or_else(|| ("it is not connected".to_owned(), true))?;
    let boot = session.hello().facts.boot_id.clone();
    surroundings.events.emit(announce(false));
    let start = Instant::now();
    // The connection may break before the answer; the boot id decides.
    let _ = probe::run(&session, &["systemctl", "reboot"], Vec::new()).await;
    surroundings.fleet.forget(host);
    drop(session);
    let name = host.to_owned();
    let deadline = Duration::from_secs(bounds.back_within);
    loop {
        let names = [name.clone()];
        let quiet = quiet_events();
        surroundings
            .fleet
            .connect(context.site, &names, context.connection, &quiet, &Stop::new())
            .await;
        match surroundings.fleet.session(host) {
            Some(session) if session.hello().facts.boot_id != boot => break,
            Some(_) => surroundings.fleet.forget(host),
            None => surroundings.fleet.retry(host),
        }
        if start.elapsed() > deadline {
            return Err((format!("it did not come back within {} s", bounds.back_within), false));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let took = start.elapsed();
    surroundings.events.emit(announce(true));
    let Some(session) = surroundings.fleet.session(host).map(Arc::clone) else {
        return Err(("its connection was lost again".to_owned(), false));
    };
    let settled = Duration::from_secs(bounds.settled_within);
    let surroundings = &*surroundings;
    probe::wait_until(settled, || async {
        let plan = plan_of(surroundings, host, &session)?;
        let wrong = differences(&session, plan).await?;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    })
    .await
    .map_err(|reason| (reason, true))?;
    Ok(took)
}

/// Attempts to reach a rebooting host are no news.
fn quiet_events() -> crate::run::Events {
    struct Nobody;
    impl crate::event::Consumer for Nobody {
        fn event(&mut self, _: &crate::event::Event) -> std::io::Result<()> {
            Ok(())
        }
    }
    crate::run::Events::start(Box::new(Nobody)).0
}
