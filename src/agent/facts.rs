//! Reads the facts of the host. A fact that cannot be read is empty or zero, never an error: the
//! greeting must arrive, and the controller says which fact a template misses.

use super::netlink;
use super::paths::HostPaths;
use super::pending::PendingHandlers;
use crate::wire::Facts;
use std::fs;
use std::path::{Path, PathBuf};

/// Reads all facts.
pub fn gather(paths: &HostPaths) -> Facts {
    let uname = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let hostname = text(uname.nodename());
    let release = first_readable(paths.root(), &["etc/os-release", "usr/lib/os-release"]);
    Facts {
        hostname: hostname.split('.').next().unwrap_or_default().to_owned(),
        machine_id: read_line(&paths.root().join("etc/machine-id")),
        boot_id: read_line(Path::new("/proc/sys/kernel/random/boot_id")),
        architecture: text(uname.machine()),
        kernel: text(uname.release()),
        os: release_value(&release, "ID"),
        os_version: release_value(&release, "VERSION_ID"),
        os_codename: release_value(&release, "VERSION_CODENAME"),
        memory_bytes: memory_bytes(),
        cores: std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        interfaces: netlink::interfaces().unwrap_or_default(),
        uptime_seconds: read_line(Path::new("/proc/uptime"))
            .split('.')
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or_default(),
        pending_handlers: PendingHandlers::in_directory(paths.pending()).list(),
    }
}

fn read_line(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn first_readable(root: &Path, candidates: &[&str]) -> String {
    candidates.iter().find_map(|path| fs::read_to_string(root.join(path)).ok()).unwrap_or_default()
}

/// The value of `key` in the text of an os-release file, without its quotes.
fn release_value(text: &str, key: &str) -> String {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_matches(['"', '\'']).to_owned())
        .unwrap_or_default()
}

/// The smaller of the machine's memory and every limit from the host's own control group (that of
/// process 1, so that the limit of a login session does not count) up to the root.
fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_total(&text));
    let group = fs::read_to_string("/proc/1/cgroup").ok().and_then(|text| unified_group(&text));
    let mut smallest = machine.unwrap_or_default();
    let mut directory = PathBuf::from("/sys/fs/cgroup");
    if let Some(group) = group {
        directory.push(group.trim_start_matches('/').trim_end_matches("init.scope"));
    }
    while directory.starts_with("/sys/fs/cgroup") {
        if let Ok(limit) = read_line(&directory.join("memory.max")).parse::<u64>() {
            smallest = smallest.min(limit);
        }
        directory.pop();
    }
    smallest
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn unified_group(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_values_lose_their_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(release_value(text, "ID"), "debian");
        assert_eq!(release_value(text, "VERSION_ID"), "12");
        assert_eq!(release_value(text, "VERSION_CODENAME"), "bookworm");
        assert_eq!(release_value(text, "NONE"), "");
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = gather(&HostPaths::below("/"));
        assert!(facts.memory_bytes > 1 << 20);
        assert!(facts.cores > 0 && facts.uptime_seconds > 0);
        assert!(!facts.hostname.is_empty() && !facts.architecture.is_empty());
        assert_eq!(memory_total("MemTotal:   12 kB\n"), Some(12288));
    }
}
