//! `strata verify`: the gate alone.

use super::ending::{Ending, no_journal};
use super::install::prove;
use super::{Exit, Request};
use crate::diag::Diagnostics;
use crate::event::TestKind;
use crate::fleet::{Events, Fleet, Stop};
use crate::gate;
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
    let mut ending = Ending::new(stop);
    for layer in &request.layers {
        let here = gate::names_of(request.site, layer, kinds);
        let named = |test: &String| here.contains(&test.as_str());
        if !request.tests.is_empty() && !request.tests.iter().any(named) {
            continue;
        }
        let Some(hosts) = ending.hosts_of_next(layer, request, events).await else { break };
        if hosts.is_empty() || stop.wished() {
            continue;
        }
        fleet.connect(request.site, &hosts, &request.connection, events, stop).await;
        for host in &hosts {
            ending.add(fleet.problem(host).map_or(Exit::Done, Exit::from), String::new());
        }
        let (verdict, reason) =
            prove(request, layer, &hosts, kinds.to_vec(), &resolver, &fleet, events, stop).await;
        ending.add(verdict, reason);
    }
    fleet.close().await;
    ending.finish("proved", events).await
}
