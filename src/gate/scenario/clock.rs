//! Clocks (E10: skew).

use super::{Finding, Surroundings};
use serde::Deserialize;

/// How far clocks may be apart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Milliseconds between any two hosts.
    max_skew_ms: i64,
}

/// Compares the clocks that hosts showed in their greetings.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    // The operator host's own clock is the reference, so that one host has something to differ from.
    let operator = &surroundings.context.site.config.operator.0;
    let mut skews: Vec<(i64, &String)> = vec![(0, operator)];
    for host in &surroundings.hosts {
        match surroundings.fleet.session(host) {
            Some(session) => skews.push((session.clock_skew_ms(), host)),
            None => return Finding::not_run(format!("{host} is not connected")),
        }
    }
    skews.sort_unstable();
    let expected = format!("at most {} ms between two hosts", bounds.max_skew_ms);
    let (Some((low, slow)), Some((high, fast))) = (skews.first(), skews.last()) else {
        return Finding::not_run("no host");
    };
    let apart = high - low;
    let mut finding = Finding::of(expected, Vec::new());
    if apart > bounds.max_skew_ms {
        finding.verdict = crate::event::Verdict::Fail;
    }
    finding.found.push(format!("{apart} ms between {slow} and {fast}"));
    finding
}
