//! Ends everything that descends from this process, for the exit after a stuck step.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Kills all descendants, again and again until none is found alive (a dying one may have forked).
/// What has left the family (a daemon adopted by process 1) was meant to stay.
pub fn kill_descendants() {
    let own = std::process::id();
    for _ in 0..100 {
        let living = descendants(own, &parents());
        if living.is_empty() {
            return;
        }
        for pid in living {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
        std::thread::yield_now();
    }
}

/// Every process that is not a zombie, with its parent.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, parent_of_living(&stat)?))
        })
        .collect()
}

/// The parent in the text of `/proc/<pid>/stat`, unless the process is a zombie. The name in
/// parentheses may contain anything, so the fields are counted from its last parenthesis.
fn parent_of_living(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.next()?.parse().ok()
}

fn descendants(of: u32, parents: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut grown = true;
    while grown {
        grown = false;
        for (pid, parent) in parents {
            if (*parent == of || found.contains(parent)) && found.insert(*pid) {
                grown = true;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_through_generations_and_odd_names() {
        assert_eq!(parent_of_living("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_of_living("12 (dead) Z 7 12 12 0"), None);
        let parents = BTreeMap::from([(10, 1), (11, 10), (12, 11), (13, 1)]);
        assert_eq!(descendants(10, &parents), BTreeSet::from([11, 12]));
    }
}
