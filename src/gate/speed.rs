//! How fast a service is: clients that work without a pause for a while.

use super::baseline::{Better, Figure};
use super::drill::Host;
use super::judge::Judge;
use crate::event::Measurement;
use std::time::{Duration, Instant};

/// A client that works.
pub trait Work: Send + Sync + 'static {
    /// One operation.
    fn once(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Operations a second, and the time in milliseconds that 99 of 100 stay below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    per_second: f64,
    p99: f64,
}

/// Lets all clients work at the same time, for `whole` each.
///
/// # Errors
/// The first operation that failed.
pub async fn hammer<W: Work>(clients: Vec<W>, whole: Duration) -> Result<Speed, String> {
    let start = Instant::now();
    let tasks = clients.into_iter().map(|client| {
        tokio::spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < whole {
                let began = Instant::now();
                client.once().await?;
                times.push(began.elapsed());
            }
            Ok::<_, String>(times)
        })
    });
    let mut times = Vec::new();
    for result in futures::future::join_all(tasks).await {
        times.extend(result.map_err(|error| error.to_string())??);
    }
    speed(times, start.elapsed()).ok_or_else(|| "no operation ended".to_owned())
}

fn speed(mut times: Vec<Duration>, took: Duration) -> Option<Speed> {
    times.sort_unstable();
    let at = (times.len() * 99).div_ceil(100).checked_sub(1)?;
    let p99 = times.get(at)?.as_secs_f64() * 1000.0;
    // Far fewer operations than a float counts exactly.
    Some(Speed { per_second: times.len() as f64 / took.as_secs_f64(), p99 })
}

impl Speed {
    /// What is wrong with a way of fewer operations a second than `least`.
    pub fn below(self, least: f64, way: &str) -> Vec<String> {
        // Also for what is no number: it must not pass.
        if self.per_second >= least {
            return Vec::new();
        }
        vec![format!("{:.0} a second through {way}, at least {least:.0}", self.per_second)]
    }
}

/// Keeps both figures of a way, to be compared with the site's baseline under the same conditions.
pub fn figures(judge: &mut Judge<'_>, way: &str, word: &str, conditions: String, speed: Speed) {
    for (name, value, unit, better) in [
        ("throughput", speed.per_second, "/s", Better::More),
        ("p99", speed.p99, "ms", Better::Less),
    ] {
        judge.figure(Figure {
            measurement: Measurement::new(way, format!("{word} {name}"), value, unit),
            better,
            conditions: conditions.clone(),
        });
    }
}

/// What is wrong with a way that costs more than `most` per cent of the direct throughput.
pub fn costs_too_much(
    direct: Speed,
    speed: Speed,
    most: u32,
    word: &str,
    way: &str,
) -> Vec<String> {
    let cost = 100.0 - speed.per_second * 100.0 / direct.per_second;
    // Also for what is no number: it must not pass.
    if cost <= f64::from(most) {
        return Vec::new();
    }
    vec![format!("{word} through {way} costs {cost:.0} % of the throughput, at most {most} %")]
}

/// True when strata runs on this very host: load is dialled by itself, not relayed.
pub fn is_here(host: &Host) -> bool {
    std::fs::read_to_string("/etc/machine-id")
        .is_ok_and(|id| id.trim() == host.session.hello().facts.machine_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_of_what_was_measured() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        let speed = speed(times, Duration::from_secs(10)).unwrap();
        assert_eq!(speed, Speed { per_second: 10.0, p99: 99.0 });
        assert_eq!(super::speed(Vec::new(), Duration::from_secs(1)), None);
    }

    #[test]
    fn a_way_may_cost_so_much_and_no_more() {
        let at = |per_second| Speed { per_second, p99: 1.0 };
        assert!(costs_too_much(at(100.0), at(60.0), 40, "SET", "h").is_empty());
        assert_eq!(costs_too_much(at(100.0), at(59.0), 40, "SET", "h").len(), 1);
        assert_eq!(
            costs_too_much(at(0.0), at(0.0), 40, "SET", "h").len(),
            1,
            "no number is no pass"
        );
    }
}
