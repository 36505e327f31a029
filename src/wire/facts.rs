//! What the agent reads of its host before the first request.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Facts of one host. They arrive in the agent's greeting, so they cost no extra round trip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The kernel's host name, without a domain.
    pub hostname: String,
    /// `/etc/machine-id`; equal on two hosts means that one is a clone.
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`; changes with every boot.
    pub boot_id: String,
    /// The machine architecture as `uname -m` prints it, for example `x86_64`.
    pub architecture: String,
    /// The kernel release as `uname -r` prints it.
    pub kernel: String,
    /// `ID` of `/etc/os-release`, for example `debian`.
    pub os: String,
    /// `VERSION_ID` of `/etc/os-release`, for example `12`.
    pub os_version: String,
    /// `VERSION_CODENAME` of `/etc/os-release`, for example `bookworm`.
    pub os_codename: String,
    /// Usable memory in bytes: the smaller of the machine's and the control group's.
    pub memory_bytes: u64,
    /// Processors that the host may use.
    pub cores: u32,
    /// Network interfaces with their addresses, loopback included.
    pub interfaces: Vec<Interface>,
    /// Seconds since boot.
    pub uptime_seconds: u64,
    /// Handlers that an earlier run notified and that have not run yet, as `role/handler`.
    pub pending_handlers: Vec<String>,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Interface name, for example `eth0`.
    pub name: String,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
}
