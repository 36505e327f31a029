//! The file of results: one entry a measured run.

use crate::Outcome;
use crate::program::Cost;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// One measured run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// What was measured, for example `second run`.
    pub scenario: String,
    /// With what, for example `strata`.
    pub tool: String,
    /// On how many hosts.
    pub hosts: u32,
    /// How many resources, steps or files each of them has.
    pub resources: u32,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Processor time on the controller, seconds.
    pub cpu_seconds: f64,
    /// Largest resident memory of a process of the controller, bytes.
    pub memory_bytes: u64,
    /// Bytes on the wire, both directions, headers included; 0 where they were not counted.
    pub wire_bytes: u64,
    /// When, seconds since the epoch. Runs of one session are minutes apart.
    pub unix_time: u64,
}

impl Entry {
    /// An entry of what a run cost.
    pub fn of(scenario: &str, tool: &str, (hosts, resources): (u32, u32), cost: &Cost) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            scenario: scenario.to_owned(),
            tool: tool.to_owned(),
            hosts,
            resources,
            seconds: cost.wall.as_secs_f64(),
            cpu_seconds: cost.cpu.as_secs_f64(),
            memory_bytes: cost.memory,
            wire_bytes: 0,
            unix_time: now.as_secs(),
        }
    }
}

/// Results on the disk.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    /// All entries, the oldest first.
    pub entries: Vec<Entry>,
}

impl Results {
    /// Reads the file; one that is missing is empty.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> Outcome<Self> {
        let entries = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        };
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Adds an entry, writes the file, and says the figure.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, entry: Entry) -> Outcome<()> {
        println!(
            "{:<28} {:<26} {:>4} hosts {:>5} each  {:>9.3} s  cpu {:>8.3} s  {:>6.1} MiB  {:>9} bytes",
            entry.scenario,
            entry.tool,
            entry.hosts,
            entry.resources,
            entry.seconds,
            entry.cpu_seconds,
            mebibytes(entry.memory_bytes),
            entry.wire_bytes,
        );
        self.entries.push(entry);
        let lines: Result<Vec<String>, _> =
            self.entries.iter().map(serde_json::to_string).collect();
        fs::write(&self.path, format!("[\n{}\n]\n", lines?.join(",\n")))?;
        Ok(())
    }

    /// The entries of a scenario with a tool.
    pub fn of<'a>(&'a self, scenario: &'a str, tool: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.scenario == scenario && entry.tool == tool)
    }
}

/// Bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Median, smallest and largest of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of these figures; `None` where there is none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut all: Vec<f64> = figures.into_iter().collect();
        all.sort_by(f64::total_cmp);
        let (first, last) = (*all.first()?, *all.last()?);
        let middle = all.len() / 2;
        let median = if all.len() % 2 == 1 {
            *all.get(middle)?
        } else {
            f64::midpoint(*all.get(middle - 1)?, *all.get(middle)?)
        };
        Some(Self { median, least: first, most: last, count: all.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, least: 1.0, most: 4.0, count: 4 });
        assert_eq!(Spread::of([7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn results_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let cost = Cost {
            wall: std::time::Duration::from_millis(1500),
            cpu: std::time::Duration::from_millis(20),
            memory: 1 << 20,
            code: 0,
            output: String::new(),
        };
        let mut results = Results::open(&path).unwrap();
        results.add(Entry::of("second run", "strata", (20, 50), &cost)).unwrap();
        let again = Results::open(&path).unwrap();
        assert_eq!(again.of("second run", "strata").count(), 1);
        assert_eq!(again.entries[0].seconds, 1.5);
    }
}
