//! Clocks (E10: skew), and whom they follow.

use super::{Finding, Surroundings};
use crate::gate::probe;
use crate::ssh::AgentSession;
use futures::future::join_all;
use serde::Deserialize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far clocks may be apart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Milliseconds between any two hosts.
    max_skew_ms: i64,
}

/// How often a host's clock is read before the reading with the shortest round trip counts.
const READINGS: usize = 8;

/// A host's clock beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// Its clock minus ours, in milliseconds.
    skew_ms: i64,
    /// How far that may be off: half of what the round trip took.
    off_ms: i64,
}

/// Compares the clocks that hosts showed in their greetings. A greeting may have been held up on its
/// way, by a host that is busy or far: clocks that seem to be apart are read again.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let mut sessions = Vec::new();
    for host in &surroundings.hosts {
        match surroundings.fleet.session(host) {
            Some(session) => sessions.push(session),
            None => return Finding::not_run(format!("{host} is not connected")),
        }
    }
    let max = bounds.max_skew_ms;
    // The operator host's own clock is the reference, so that one host has something to differ from.
    let operator = surroundings.context.site.config.operator.0.as_str();
    let own = (operator, Reading { skew_ms: 0, off_ms: 0 });
    let greeted = sessions
        .iter()
        .map(|session| (session.host(), Reading { skew_ms: session.clock_skew_ms(), off_ms: 0 }));
    let mut readings: Vec<_> = std::iter::once(own).chain(greeted).collect();
    if apart(&readings).is_some_and(|apart| apart.certain_ms > max) {
        let again = join_all(sessions.iter().map(|session| reading(session))).await;
        readings.truncate(1);
        for (session, reading) in sessions.iter().zip(again) {
            match reading {
                Ok(reading) => readings.push((session.host(), reading)),
                Err(reason) => return Finding::not_run(format!("{}: {reason}", session.host())),
            }
        }
    }
    let expected = format!("at most {max} ms between two hosts");
    let Some(apart) = apart(&readings) else { return Finding::not_run("no host") };
    let mut finding = Finding::of(expected, Vec::new());
    if apart.certain_ms > max {
        finding.verdict = crate::event::Verdict::Fail;
    }
    finding.found.push(apart.text);
    finding
}

/// Reads a host's clock some times.
async fn reading(session: &AgentSession) -> Result<Reading, String> {
    let mut best: Option<Reading> = None;
    for _ in 0..READINGS {
        let (start, ours) = (Instant::now(), SystemTime::now());
        let text = probe::output(session, &["date", "+%s%3N"]).await?;
        let half = start.elapsed() / 2;
        let theirs: i64 =
            text.trim().parse().map_err(|_| format!("`{}` is no time", text.trim()))?;
        let ours = (ours + half).duration_since(UNIX_EPOCH).unwrap_or_default();
        let reading =
            Reading { skew_ms: theirs.saturating_sub(whole(ours)), off_ms: whole(half) + 1 };
        if best.is_none_or(|best| reading.off_ms < best.off_ms) {
            best = Some(reading);
        }
    }
    best.ok_or_else(|| "its clock was not read".to_owned())
}

fn whole(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The two clocks that are furthest apart.
#[derive(Debug, PartialEq, Eq)]
struct Apart {
    /// How far at least, whatever the readings are off.
    certain_ms: i64,
    text: String,
}

fn apart(readings: &[(&str, Reading)]) -> Option<Apart> {
    let slow = readings.iter().min_by_key(|(_, reading)| reading.skew_ms)?;
    let fast = readings.iter().max_by_key(|(_, reading)| reading.skew_ms)?;
    let latest = readings.iter().map(|(_, reading)| reading.skew_ms + reading.off_ms).min()?;
    let earliest = readings.iter().map(|(_, reading)| reading.skew_ms - reading.off_ms).max()?;
    let or_so = match slow.1.off_ms + fast.1.off_ms {
        0 => String::new(),
        off => format!(" (±{off})"),
    };
    let between = fast.1.skew_ms - slow.1.skew_ms;
    Some(Apart {
        certain_ms: earliest - latest,
        text: format!("{between} ms{or_so} between {} and {}", slow.0, fast.0),
    })
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
    use super::{Reading, apart, astray};

    #[test]
    fn clocks_are_apart_as_far_as_their_readings_tell_for_certain() {
        let read = |skew_ms, off_ms| Reading { skew_ms, off_ms };
        assert_eq!(apart(&[]), None);
        let own = ("install-01", read(0, 0));
        let greeted = apart(&[own, ("db-01", read(-400, 0)), ("db-02", read(211, 0))]).unwrap();
        assert_eq!(
            (greeted.certain_ms, greeted.text.as_str()),
            (611, "611 ms between db-01 and db-02")
        );
        // Held up on its way by half a second: nothing certain.
        let again = apart(&[own, ("db-01", read(-520, 530))]).unwrap();
        assert_eq!(again.certain_ms, 0);
        assert_eq!(again.text, "520 ms (±530) between db-01 and install-01");
        // A clock that is wrong is wrong however it is read.
        let wrong = apart(&[own, ("db-01", read(9_000, 20)), ("db-02", read(3, 15))]).unwrap();
        assert_eq!(wrong.certain_ms, 8_980);
    }

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
