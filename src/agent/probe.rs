//! `strata-agent probe …`: what a gate measures on a host itself, so that neither the network nor the
//! relay is part of the figure. Each prints `name value` lines and touches nothing that stays.

use super::probe_transfer;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::{Duration, Instant};

/// How to use it.
pub const USAGE: &str = "strata-agent probe sync DIR --count N --bytes N --seconds N
       strata-agent probe send OWN-ADDRESS:PORT PEER-ADDRESS:PORT --seconds N
       strata-agent probe receive OWN-ADDRESS:PORT PEER-ADDRESS:PORT --seconds N
       strata-agent probe processor --seconds N";

/// Most bytes of one write and most writes; more is no probe but a load.
const LIMIT: u64 = 1 << 20;

/// Longest measurement in seconds.
const SECONDS_LIMIT: u64 = 60;

/// Runs a probe; the words come without `probe`. The text is for standard output.
///
/// # Errors
/// `None` when the words are not understood, otherwise what failed.
pub fn run(words: &[&str]) -> Result<String, Option<String>> {
    match words {
        ["sync", directory, options @ ..] => {
            let [count, bytes, seconds] =
                numbers(options, ["--count", "--bytes", "--seconds"]).ok_or(None)?;
            sync(Path::new(directory), count, bytes, Duration::from_secs(seconds))
                .map(|times| summary(&times))
                .map_err(|error| Some(format!("{directory}: {error}")))
        }
        [role @ ("send" | "receive"), own, peer, options @ ..] => {
            let [seconds] = numbers(options, ["--seconds"]).ok_or(None)?;
            let address = |text: &str| text.parse::<SocketAddrV4>().map_err(|_| None);
            let (own, peer) = (address(own)?, address(peer)?);
            let time = Duration::from_secs(seconds);
            let transfer = if *role == "send" {
                probe_transfer::send(own, peer, time)
            } else {
                probe_transfer::receive(own, peer, time)
            };
            transfer.map_err(|error| Some(format!("{own} to {peer}: {error}")))
        }
        ["processor", options @ ..] => {
            let [seconds] = numbers(options, ["--seconds"]).ok_or(None)?;
            processor(Duration::from_secs(seconds))
                .map_err(|error| Some(format!("/proc/stat: {error}")))
        }
        _ => Err(None),
    }
}

/// The values of these options, each given once, in this order; within the limits.
fn numbers<const N: usize>(words: &[&str], names: [&str; N]) -> Option<[u64; N]> {
    if words.len() != 2 * N {
        return None;
    }
    let mut values = [0; N];
    for (name, value) in names.iter().zip(&mut values) {
        let at = words.iter().step_by(2).position(|word| word == name)?;
        let limit = if *name == "--seconds" { SECONDS_LIMIT } else { LIMIT };
        *value = words.get(2 * at + 1)?.parse().ok().filter(|n| (1..=limit).contains(n))?;
    }
    Some(values)
}

/// Appends to a file without a name and waits for the disk after each write, as a log of a database
/// does. The times, unsorted; fewer than `count` when `limit` was over before.
fn sync(directory: &Path, count: u64, bytes: u64, limit: Duration) -> io::Result<Vec<Duration>> {
    let mut file = nameless(directory)?;
    let block = vec![0x5a; usize::try_from(bytes).map_err(io::Error::other)?];
    let end = Instant::now() + limit;
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        let now = Instant::now();
        times.push(now - start);
        if now >= end {
            break;
        }
    }
    Ok(times)
}

/// A file that is gone when the process ends, however it ends.
fn nameless(directory: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(open(directory, flags, Mode::from_raw_mode(0o600))?.into())
}

/// Count and percentiles in microseconds.
fn summary(times: &[Duration]) -> String {
    let mut sorted: Vec<u128> = times.iter().map(Duration::as_micros).collect();
    sorted.sort_unstable();
    let mut text = format!("count {}\n", sorted.len());
    for (name, percent) in [("p50_us", 50), ("p90_us", 90), ("p99_us", 99), ("max_us", 100)] {
        text.push_str(&format!("{name} {}\n", percentile(&sorted, percent)));
    }
    text
}

/// The smallest value that at least this share of the values does not exceed.
fn percentile(sorted: &[u128], percent: usize) -> u128 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// The first line of `/proc/stat`, now and after a while.
fn processor(time: Duration) -> io::Result<String> {
    let line = || -> io::Result<String> {
        let text = std::fs::read_to_string("/proc/stat")?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    let before = line()?;
    std::thread::sleep(time);
    Ok(format!("{before}\n{}\n", line()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<u128> = (1..=200).collect();
        assert_eq!([50, 99, 100].map(|percent| percentile(&sorted, percent)), [100, 198, 200]);
        assert_eq!(percentile(&[7], 99), 7);
        assert_eq!(percentile(&[], 99), 0);
    }

    #[test]
    fn a_sync_leaves_no_file_and_a_directory_that_is_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let words = ["sync", path, "--count", "20", "--bytes", "4096", "--seconds", "10"];
        let text = run(&words).unwrap();
        assert!(text.starts_with("count 20\np50_us "), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = run(&["sync", "/nowhere", "--count", "1", "--bytes", "1", "--seconds", "1"]);
        assert!(error.unwrap_err().unwrap().starts_with("/nowhere: "));
    }

    #[test]
    fn a_sync_ends_when_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let times = sync(folder.path(), 100, 1, Duration::ZERO).unwrap();
        assert_eq!(times.len(), 1);
    }

    #[test]
    fn what_is_not_understood_or_beyond_the_limits_is_refused() {
        let refused: [&[&str]; 8] = [
            &[],
            &["sync", "/tmp"],
            &["sync", "/tmp", "--count", "0", "--bytes", "1", "--seconds", "1"],
            &["sync", "/tmp", "--count", "1", "--bytes", "9999999999", "--seconds", "1"],
            &["sync", "/tmp", "--count", "1", "--count", "1", "--seconds", "1"],
            &["processor", "--seconds", "61"],
            &["processor", "--seconds", "-1"],
            &["send", "127.0.0.1", "127.0.0.1:1", "--seconds", "1"],
        ];
        for words in refused {
            assert_eq!(run(words), Err(None), "{words:?}");
        }
    }
}
