//! `strata verify`: the gate alone.

use super::ending::{AGAIN, Ending};
use super::install::prove;
use super::underway::Underway;
use super::{Exit, Request};
use crate::event::TestKind;
use crate::fleet::{Events, Stop};
use crate::gate;

/// Runs the gates of the layers. All are run, also when one is red, since they only look (diag) or
/// heal what they do; the worst verdict is the exit.
pub async fn verify(
    request: &Request<'_>,
    kinds: &[TestKind],
    events: &Events,
    stop: &Stop,
) -> (Exit, String) {
    let run = match Underway::begin(request, events, stop).await {
        Ok(run) => run,
        Err(end) => return end,
    };
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
        ending.add(run.reach(&hosts).await, String::new());
        let (verdict, reason) = prove(&run, layer, &hosts, kinds.to_vec()).await;
        ending.add(verdict, reason);
    }
    run.fleet.close().await;
    ending.finish("proved", AGAIN, events).await
}
