//! `strata verify`: the gate alone.

use super::install::{finish, hosts_of, no_journal, prove};
use super::{Exit, Request};
use crate::diag::Diagnostics;
use crate::event::TestKind;
use crate::fleet::{Events, Fleet, Stop};
use crate::plan::Resolver;
use std::sync::Arc;

/// Runs the gates of the layers. All are run, also when one is red, since they only look (diag) or
/// heal what they do; the worst verdict is the exit.
pub async fn verify(
    request: &Request<'_>,
    kinds: &[TestKind],
    events: &Events,
    stop: &Stop,
) -> (Exit, String) {
    if let Some(refusal) = no_journal(events).await {
        return refusal;
    }
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(request.site, Arc::clone(&request.secrets), &mut problems);
    let fleet = Fleet::default();
    let mut exit = Exit::Done;
    let mut reasons = Vec::new();
    for layer in &request.layers {
        if let Err(error) = events.flush().await {
            exit = exit.worse(Exit::Internal);
            reasons.push(format!("the journal cannot be written: {error}"));
            break;
        }
        let hosts = hosts_of(request.site, layer, &request.hosts);
        if hosts.is_empty() || stop.wished() {
            continue;
        }
        fleet.connect(request.site, &hosts, &request.connection, events, stop).await;
        for host in &hosts {
            exit = exit.worse(fleet.problem(host).map_or(Exit::Done, Exit::from));
        }
        let (verdict, reason) =
            prove(request, layer, &hosts, kinds.to_vec(), &resolver, &fleet, events, stop).await;
        exit = exit.worse(verdict);
        if !reason.is_empty() {
            reasons.push(reason);
        }
    }
    fleet.close().await;
    finish(exit, reasons, "proved", events, stop).await
}
