//! `strata reboot`: one host after the other; each hands leadership over first, and the next is
//! not touched before the last one and its clusters are whole again.

use super::ending::{AGAIN, Ending};
use super::underway::Underway;
use super::{Exit, Request};
use crate::cluster::Around;
use crate::event::EventKind;
use crate::fleet::{Events, Stop};
use std::time::Duration;

/// How long a host may take to answer again.
const BACK: Duration = Duration::from_secs(300);

/// How long its clusters may take to be whole again.
const SETTLED: Duration = Duration::from_secs(300);

/// Reboots the selected hosts, never the operator host.
pub async fn reboot(request: &Request<'_>, events: &Events, stop: &Stop) -> (Exit, String) {
    let run = match Underway::begin(request, events, stop).await {
        Ok(run) => run,
        Err(end) => return end,
    };
    let site = request.site;
    let Underway { resolver, fleet, .. } = &run;
    let around = Around { site, resolver, fleet, connection: &request.connection };
    let mut ending = Ending::new(stop);
    let operator = &site.config.operator.0;
    let hosts: Vec<String> =
        request.hosts.iter().filter(|host| *host != operator).cloned().collect();
    run.connect(&hosts).await;
    let unusable: Vec<&String> =
        hosts.iter().filter(|host| fleet.session(host).is_none()).collect();
    for host in &unusable {
        ending.add(fleet.problem(host).map_or(Exit::Unreachable, Exit::from), String::new());
    }
    let mut left = if unusable.is_empty() { hosts.clone() } else { Vec::new() };
    let mut done = 0;
    while !left.is_empty() && !stop.wished() {
        let host = left.remove(next(&left, &around).await);
        if let Err(reason) = one(&host, &run, &around).await {
            ending.add(Exit::StepFailed, format!("{host}: {reason}; {done} were rebooted before"));
            break;
        }
        done += 1;
    }
    run.fleet.close().await;
    ending.finish(&format!("{done} rebooted, one after the other"), AGAIN, events).await
}

/// Whoever leads goes last: leadership then moves once and not from host to host (E5).
async fn next(left: &[String], around: &Around<'_>) -> usize {
    for (index, host) in left.iter().enumerate() {
        if !around.leads(host).await {
            return index;
        }
    }
    0
}

async fn one(host: &str, run: &Underway<'_>, around: &Around<'_>) -> Result<(), String> {
    let Underway { request, fleet, events, stop, .. } = run;
    let note = |text: String| events.emit(EventKind::Note { text });
    for cluster in around.step_down(host).await? {
        note(format!("  {host}  handed over cluster {cluster}"));
    }
    let rebooting = fleet.reboot(request.site, host, &request.connection, BACK);
    let (_, took) = tokio::select! {
        rebooted = rebooting => rebooted.map_err(|error| error.reason)?,
        () = stop.now() => return Err("it was left while it reboots".to_owned()),
    };
    note(format!("  {host}  back after {:.1} s", took.as_secs_f64()));
    tokio::select! {
        settled = around.settle(host, SETTLED) => settled?,
        () = stop.now() => return Err("its clusters were left before they were whole".to_owned()),
    }
    if around.has_clusters(host) {
        note(format!("  {host}  its clusters are whole"));
    }
    Ok(())
}
