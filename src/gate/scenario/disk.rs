//! How long a small write takes until the disk has it: what a log of etcd or a database waits for.

use super::{Finding, Surroundings};
use crate::diag::Diagnostics;
use crate::event::Measurement;
use crate::gate::baseline::{Better, Figure};
use crate::gate::judge::Judge;
use crate::gate::probe;
use crate::plan::variables_of;
use crate::site::Site;
use serde::Deserialize;

/// Longest measurement in seconds.
const SECONDS: &str = "10";

/// The variable that names the directory of data.
const DATA: &str = "data";

/// How long writes may take, and where.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Milliseconds that 99 of 100 writes may take at most. Default: 10.
    #[serde(default = "default_p99")]
    p99_ms: u32,
    /// Groups whose hosts are held to it; the others are measured only.
    groups: Vec<String>,
    /// Writes. Default: 500.
    #[serde(default = "default_count")]
    count: u32,
    /// Bytes of a write. Default: 4096.
    #[serde(default = "default_bytes")]
    bytes: u32,
    /// Per cent of the site's baseline that the median must reach. Default: not compared.
    #[serde(default)]
    baseline_percent: Option<u32>,
}

const fn default_p99() -> u32 {
    10
}

const fn default_count() -> u32 {
    500
}

const fn default_bytes() -> u32 {
    4096
}

/// What one host measured, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sync {
    count: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

/// Measures on every host in its directory of data.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let site = surroundings.context.site;
    let (count, bytes) = (bounds.count.to_string(), bounds.bytes.to_string());
    let asked = surroundings
        .ask_each(|host, session| {
            let (count, bytes) = (&count, &bytes);
            async move {
                let path = data_directory(site, &host)?;
                let words =
                    ["sync", &path, "--count", count, "--bytes", bytes, "--seconds", SECONDS];
                read(&probe::agent(&session, &words).await?)
            }
        })
        .await;
    let results = match asked {
        Ok(results) => results,
        Err(finding) => return finding,
    };
    let mut judge = Judge::new(&surroundings);
    let mut held = Vec::new();
    for (host, result) in results {
        let sync = match result {
            Ok(sync) => sync,
            Err(error) => {
                judge.wrong(format!("{host}: {error}"));
                continue;
            }
        };
        judge.figure(Figure {
            measurement: Measurement::new(&host, "p50", sync.p50, "ms"),
            better: Better::Less,
            conditions: format!("{} bytes", bounds.bytes),
        });
        judge.measured(Measurement::new(&host, "p99", sync.p99, "ms"));
        judge.measured(Measurement::new(&host, "max", sync.max, "ms"));
        if bounds.groups.iter().any(|group| is_in(site, group, &host)) {
            held.push((host, sync));
        }
    }
    if held.is_empty() {
        judge.not_applicable(format!("no selected host is in {}", bounds.groups.join(", ")));
    } else {
        judge.bound(
            "p99_ms",
            held.iter().filter_map(|(host, sync)| slow(host, *sync, &bounds)).collect(),
        );
    }
    let expected = format!(
        "99 of 100 writes of {} bytes on disk within {} ms on hosts of {}",
        bounds.bytes,
        bounds.p99_ms,
        bounds.groups.join(", ")
    );
    judge.finish(&expected, bounds.baseline_percent)
}

fn is_in(site: &Site, group: &str, host: &str) -> bool {
    site.groups.get(group).is_some_and(|group| group.hosts.iter().any(|other| other == host))
}

/// The directory that holds the host's data.
fn data_directory(site: &Site, host: &str) -> Result<String, String> {
    let variables = variables_of(site, host, None, &mut Diagnostics::new());
    let path = variables.get(DATA).and_then(|variable| variable.node.as_str());
    match path {
        Some(path) if path.starts_with('/') => Ok(path.to_owned()),
        Some(path) => {
            Err(format!("the variable `{DATA}` is `{path}`, and must be an absolute path"))
        }
        None => Err(format!("there is no variable `{DATA}` that names the directory of data")),
    }
}

fn read(text: &str) -> Result<Sync, String> {
    let milliseconds = |name: &str| probe::value(text, name).map(|micros| micros / 1000.0);
    Ok(Sync {
        count: probe::value(text, "count")?,
        p50: milliseconds("p50_us")?,
        p99: milliseconds("p99_us")?,
        max: milliseconds("max_us")?,
    })
}

/// What is wrong with a measurement.
fn slow(host: &str, sync: Sync, bounds: &Bounds) -> Option<String> {
    if sync.count < f64::from(bounds.count) {
        return Some(format!(
            "{host}: only {} of {} writes in {SECONDS} s",
            sync.count, bounds.count
        ));
    }
    (sync.p99 > f64::from(bounds.p99_ms)).then(|| format!("{host}: p99 {:.1} ms", sync.p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_and_one_that_did_not_get_through_are_named() {
        let bounds = Bounds {
            p99_ms: 10,
            groups: Vec::new(),
            count: 500,
            bytes: 4096,
            baseline_percent: None,
        };
        let sync =
            read("count 500\np50_us 900\np90_us 1500\np99_us 10000\nmax_us 30000\n").unwrap();
        assert_eq!(sync, Sync { count: 500.0, p50: 0.9, p99: 10.0, max: 30.0 });
        assert_eq!(slow("h", sync, &bounds), None);
        let slower = Sync { p99: 10.1, ..sync };
        assert_eq!(slow("h", slower, &bounds), Some("h: p99 10.1 ms".to_owned()));
        let fewer = Sync { count: 40.0, ..sync };
        assert_eq!(slow("h", fewer, &bounds), Some("h: only 40 of 500 writes in 10 s".to_owned()));
        assert!(read("count 500\n").is_err());
    }
}
