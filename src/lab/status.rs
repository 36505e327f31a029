//! What a lab is doing.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::balancer;
use super::cgroup::Cgroups;
use super::error::{LabError, Result};
use super::fault::{self, ActiveFault};
use super::paths::Paths;
use super::state::{self, HostRecord, HostState, LabFile, now};
use super::supervise::is_supervised;

/// What a lab is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabStatus {
    /// The lab's name.
    pub name: String,
    /// Its hosts, in the order of the inventory.
    pub hosts: Vec<HostStatus>,
    /// Its balancers, and whether each is kept running.
    pub balancers: Vec<(String, Ipv4Addr, bool)>,
    /// The faults that are active.
    pub faults: Vec<ActiveFault>,
}

/// What one host is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Its private address.
    pub private: Ipv4Addr,
    /// What it is doing.
    pub state: HostState,
    /// Why.
    pub reason: String,
    /// Bytes of memory its processes hold, without page cache.
    pub memory_bytes: u64,
    /// Bytes of memory with page cache.
    pub memory_with_cache_bytes: u64,
    /// Seconds since it last booted.
    pub uptime_seconds: Option<u64>,
    /// How often it has booted since it was started.
    pub boots: u32,
}

/// Asks for the status of a lab.
pub(super) fn status(paths: &Paths) -> Result<LabStatus> {
    let file: LabFile = state::read(&paths.lab_file())?
        .ok_or_else(|| LabError::NoSuchLab(paths.lab().to_owned()))?;
    let cgroups = Cgroups::detect()?;
    let mut hosts = Vec::new();
    for host in &file.spec.hosts {
        let own = paths.host(&host.name);
        let record: Option<HostRecord> = state::read(&own.state())?;
        let supervised = is_supervised(&own.supervisor_lock());
        let (state, reason) = match (&record, supervised) {
            (Some(record), true) => (record.state, record.reason.clone()),
            (Some(record), false) if record.state == HostState::Stopped => {
                (HostState::Stopped, record.reason.clone())
            }
            (Some(_), false) => (HostState::Stopped, "its supervisor is gone".to_owned()),
            (None, true) => (HostState::Booting, "preparing".to_owned()),
            (None, false) => (HostState::Stopped, "not started".to_owned()),
        };
        let group = paths.host_group(&host.name);
        let (own_memory, all_memory) = cgroups.memory(&group).unwrap_or_default();
        let record = record.filter(|_| state == HostState::Running);
        hosts.push(HostStatus {
            name: host.name.clone(),
            private: host.private,
            state,
            reason,
            memory_bytes: own_memory,
            memory_with_cache_bytes: all_memory,
            uptime_seconds: record.as_ref().map(|record| now().saturating_sub(record.since)),
            boots: record.map_or(0, |record| record.boots),
        });
    }
    let balancers = file
        .spec
        .balancers
        .iter()
        .map(|one| {
            let kept = is_supervised(&balancer::lock_file(paths, &one.name));
            (one.name.clone(), one.address, kept)
        })
        .collect();
    Ok(LabStatus { name: paths.lab().to_owned(), hosts, balancers, faults: fault::active(paths)? })
}

/// The status as a table for a terminal.
#[must_use]
pub fn render_status(status: &LabStatus) -> String {
    let mut text = String::new();
    let width = status.hosts.iter().map(|host| host.name.len()).max().unwrap_or(4).max(4);
    let running = status.hosts.iter().filter(|host| host.state == HostState::Running);
    let (count, memory) = running.fold((0, 0), |(n, sum), host| (n + 1, sum + host.memory_bytes));
    let _infallible = writeln!(
        text,
        "lab {}: {count} of {} hosts running, {} MiB\n",
        status.name,
        status.hosts.len(),
        memory >> 20
    );
    let _infallible = writeln!(
        text,
        "{:width$}  {:15}  {:8}  {:>8}  {:>8}",
        "host", "private", "state", "memory", "up"
    );
    for host in &status.hosts {
        let uptime = host.uptime_seconds.map_or_else(|| host.reason.clone(), duration);
        let _infallible = writeln!(
            text,
            "{:width$}  {:15}  {:8}  {:>4} MiB  {uptime:>8}",
            host.name,
            host.private.to_string(),
            host.state.to_string(),
            host.memory_bytes >> 20,
        );
    }
    for (name, address, kept) in &status.balancers {
        let state = if *kept { "running" } else { "stopped" };
        let _infallible = writeln!(text, "balancer {name} {address} {state}");
    }
    if !status.faults.is_empty() {
        text.push_str("\nactive faults\n");
    }
    for fault in &status.faults {
        let _infallible = writeln!(text, "  {fault}");
    }
    text
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_host_and_why_it_is_stopped() {
        let host = |name: &str, state, uptime_seconds| HostStatus {
            name: name.into(),
            private: [10, 0, 0, 1].into(),
            state,
            reason: "it was switched off".into(),
            memory_bytes: 25 << 20,
            memory_with_cache_bytes: 60 << 20,
            uptime_seconds,
            boots: 1,
        };
        let status = LabStatus {
            name: "default".into(),
            hosts: vec![
                host("redis-01", HostState::Running, Some(75)),
                host("db-01", HostState::Stopped, None),
            ],
            balancers: vec![("lb".into(), [10, 0, 0, 10].into(), true)],
            faults: Vec::new(),
        };
        insta::assert_snapshot!(render_status(&status), @r"
        lab default: 1 of 2 hosts running, 25 MiB

        host      private          state       memory        up
        redis-01  10.0.0.1         running     25 MiB  1 m 15 s
        db-01     10.0.0.1         stopped     25 MiB  it was switched off
        balancer lb 10.0.0.10 running
        ");
    }
}
