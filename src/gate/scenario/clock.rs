//! Clocks (E10: skew), and whom they follow.

use super::{Finding, Surroundings};
use crate::gate::probe;
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

/// How far a clock may be from its time server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Milliseconds between the system clock and what chrony takes for the time.
    max_offset_ms: u32,
}

/// Asks chrony on every host whether it follows a time server, and how closely.
pub async fn source(surroundings: Surroundings<'_>, bounds: Source) -> Finding {
    let expected =
        format!("leap status Normal, and at most {} ms off the time server", bounds.max_offset_ms);
    surroundings
        .on_each(&expected, |_, session| {
            let max = f64::from(bounds.max_offset_ms);
            async move {
                let text = probe::output(&session, &["chronyc", "-c", "-n", "tracking"]).await?;
                Ok(astray(&text, max)?.into_iter().collect())
            }
        })
        .await
}

/// What is wrong with a line of `chronyc -c tracking`.
fn astray(text: &str, max_ms: f64) -> Result<Option<String>, String> {
    const FIELDS: usize = 14;
    const OFFSET: usize = 4;
    const LEAP: usize = 13;
    let fields: Vec<&str> = text.trim().split(',').collect();
    let unreadable = || format!("`{}` is no answer of chronyc", text.trim());
    if fields.len() != FIELDS {
        return Err(unreadable());
    }
    let (Some(offset), Some(leap)) = (fields.get(OFFSET), fields.get(LEAP)) else {
        return Err(unreadable());
    };
    let offset_ms = offset.parse::<f64>().map_err(|_| unreadable())?.abs() * 1000.0;
    Ok(if *leap != "Normal" {
        Some(format!("leap status {leap}"))
    } else if offset_ms <= max_ms {
        None
    } else {
        Some(format!("{offset_ms:.3} ms off"))
    })
}

#[cfg(test)]
mod tests {
    use super::astray;

    #[test]
    fn a_clock_must_follow_a_source_closely() {
        let line = |offset: &str, leap: &str| {
            format!(
                "C0A80001,192.0.2.1,3,1700000000.123456789,{offset},0.000010,0.000020,1.5,0.0,0.1,0.01,0.001,64.2,{leap}\n"
            )
        };
        assert_eq!(astray(&line("-0.000020", "Normal"), 100.0), Ok(None));
        assert_eq!(
            astray(&line("-0.200000", "Normal"), 100.0),
            Ok(Some("200.000 ms off".to_owned()))
        );
        assert_eq!(
            astray(&line("0.0", "Not synchronised"), 100.0),
            Ok(Some("leap status Not synchronised".to_owned()))
        );
        assert!(astray(&line("nan", "Normal"), 100.0).unwrap().is_some());
        for other in ["", "506 Cannot talk to daemon", "a,b,c", &line("x", "Normal")] {
            assert!(astray(other, 100.0).is_err(), "{other}");
        }
    }
}
