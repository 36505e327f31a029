//! What the machine itself must have: programs and kernel limits.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::command::{check, program};
use super::error::{At as _, LabError, Result};

/// A program the lab runs, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 13] = [
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("apt-ftparchive", "apt-utils"),
    ("dpkg-deb", "dpkg"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("mount", "mount"),
    ("losetup", "mount"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
];
/// Kernel limits that twenty booting hosts exceed, and what they are raised to.
const LIMITS: [(&str, u64); 3] = [
    ("/proc/sys/fs/inotify/max_user_instances", 8192),
    ("/proc/sys/fs/inotify/max_user_watches", 1_048_576),
    ("/proc/sys/kernel/keys/maxkeys", 20_000),
];

/// Fails unless this process may build a lab at all.
pub(super) fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

/// Installs the programs that are missing; returns the packages that were.
pub(super) fn install_programs() -> Result<Vec<&'static str>> {
    let mut missing: Vec<&'static str> = PROGRAMS
        .iter()
        .filter(|(name, _)| !is_installed(name))
        .map(|(_, package)| *package)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(missing);
    }
    if !Path::new("/etc/debian_version").exists() {
        return Err(LabError::Machine(format!(
            "it is not Debian and lacks the programs of {}; use Debian 12",
            missing.join(", ")
        )));
    }
    update_package_lists()?;
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends", "--"]).args(&missing);
    check("cannot install the lab's programs", &mut command)?;
    Ok(missing)
}

/// Fetches the machine's package lists.
pub(super) fn update_package_lists() -> Result<()> {
    check("cannot fetch package lists", apt_get().arg("update")).map(drop)
}

/// `apt-get` that never asks.
pub(super) fn apt_get() -> Command {
    let mut command = program("apt-get", ["-q"]);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    command
}

/// Raises the limits that many hosts on one machine need. They are never lowered.
pub(super) fn raise_limits() -> Result<()> {
    for (path, wanted) in LIMITS {
        let text = fs::read_to_string(path).at("cannot read", path)?;
        let present = text.trim().parse::<u64>().unwrap_or(0);
        if present < wanted {
            fs::write(path, wanted.to_string()).at("cannot raise", path)?;
        }
    }
    Ok(())
}

fn is_installed(name: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|directory| Path::new(directory).join(name).exists())
}
