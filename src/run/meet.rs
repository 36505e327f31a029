//! Hosts that no run has met yet, or not with this strata: whether they can be worked on at all is
//! found out before anything begins on any host. Otherwise half a fleet would be changed before the
//! first machine of another architecture says that no agent is there for it.

use super::Exit;
use super::install::{Request, hosts_of};
use super::underway::Underway;
use crate::event::HostProblem;
use crate::resource::Mode;
use std::collections::BTreeSet;

/// Connects to the hosts that were never met. A run that changes something is refused when one of
/// them is unfit; what else is wrong with a host stops only that host, as always.
pub(super) async fn meet(run: &Underway<'_>) -> Option<(Exit, String)> {
    let hosts = to_meet(run.request);
    if hosts.is_empty() {
        return None;
    }
    run.connect(&hosts).await;
    let unfit: Vec<&str> = hosts
        .iter()
        .map(String::as_str)
        .filter(|host| run.fleet.problem(host) == Some(HostProblem::Unfit))
        .collect();
    refusal(&unfit)
}

/// The hosts of the run's layers that were never met; none for a run that only looks.
fn to_meet(request: &Request<'_>) -> Vec<String> {
    if request.mode == Mode::Check || request.unmet.is_empty() {
        return Vec::new();
    }
    let layers = request.layers.iter();
    let hosts: BTreeSet<String> =
        layers.flat_map(|layer| hosts_of(request.site, layer, &request.unmet)).collect();
    hosts.into_iter().collect()
}

fn refusal(unfit: &[&str]) -> Option<(Exit, String)> {
    let (count, word) = match unfit {
        [] => return None,
        [_] => (1, "host is"),
        several => (several.len(), "hosts are"),
    };
    let names = unfit.join(", ");
    Some((Exit::Refused, format!("{count} {word} unfit ({names}); nothing was begun on any host")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unfit_host_is_enough_and_all_are_named() {
        assert_eq!(refusal(&[]), None);
        let (exit, reason) = refusal(&["a"]).unwrap();
        assert_eq!(exit, Exit::Refused);
        assert_eq!(reason, "1 host is unfit (a); nothing was begun on any host");
        let (_, reason) = refusal(&["a", "b"]).unwrap();
        assert_eq!(reason, "2 hosts are unfit (a, b); nothing was begun on any host");
    }
}
