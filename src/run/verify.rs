//! `strata verify`: the gate alone.

use super::install::{elapsed_ms, hosts_of, prove, unusable_exit};
use super::{Events, Exit, Fleet, Request, Stop};
use crate::diag::Diagnostics;
use crate::event::{EventKind, TestKind};
use crate::plan::Resolver;
use std::sync::Arc;
use std::time::Instant;

/// Runs the gates of the layers. All are run, also when one is red, since they only look (diag) or
/// heal what they do; the worst verdict is the exit.
pub async fn verify(
    request: &Request<'_>,
    kinds: &[TestKind],
    events: &Events,
    stop: &Stop,
) -> (Exit, String) {
    if let Err(error) = events.flush().await {
        return (
            Exit::Internal,
            format!("the journal cannot be written ({error}); no host was touched"),
        );
    }
    let start = Instant::now();
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(request.site, Arc::clone(&request.secrets), &mut problems);
    let mut fleet = Fleet::default();
    let mut exit = Exit::Done;
    let mut reasons = Vec::new();
    for layer in &request.layers {
        let hosts = hosts_of(request.site, layer, &request.hosts);
        if hosts.is_empty() || stop.wished() {
            continue;
        }
        fleet.connect(request.site, &hosts, &request.connection, events, stop).await;
        let unusable = unusable_exit(&fleet, &hosts);
        exit = exit.worse(unusable);
        let (verdict, reason) =
            prove(request, layer, &hosts, kinds.to_vec(), &resolver, &mut fleet, events, stop)
                .await;
        if verdict != Exit::Done || unusable != Exit::Done {
            reasons.push(reason);
        }
        exit = exit.worse(verdict);
    }
    fleet.close().await;
    tracing::debug!(took_ms = elapsed_ms(start), "verified");
    if stop.wished() {
        return (Exit::Interrupted, "stopped by the operator".to_owned());
    }
    events.emit(EventKind::Note { text: String::new() });
    let reason = if reasons.is_empty() { "proved".to_owned() } else { reasons.join("; ") };
    (exit, reason)
}
