//! Two sets of facts for checking templates before any host was asked: what renders with both
//! depends on no accident of one machine, and on no one architecture or release.

use crate::site::{Host, Site};
use crate::wire::{Facts, Interface};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// A small machine with Debian 12 and a large one with Debian 13, each as this host would describe
/// itself.
pub fn sample_facts(site: &Site, host: &Host) -> [Facts; 2] {
    let small = facts(site, host, "x86_64", 2, 2 << 30, ("eth0", "eth1"));
    let large = facts(site, host, "aarch64", 64, 512 << 30, ("enp1s0", "enp7s0"));
    let newer = Facts { os_version: "13".to_owned(), os_codename: "trixie".to_owned(), ..large };
    [small, newer]
}

/// Both machines with each of the two releases, by the release's code name.
pub fn samples_by_release(site: &Site, host: &Host) -> BTreeMap<String, [Facts; 2]> {
    let samples = sample_facts(site, host);
    let of = |release: &Facts| {
        let (version, name) = (release.os_version.clone(), release.os_codename.clone());
        let machines = samples.clone().map(|machine| Facts {
            os_version: version.clone(),
            os_codename: name.clone(),
            ..machine
        });
        (name, machines)
    };
    samples.iter().map(of).collect()
}

fn facts(
    site: &Site,
    host: &Host,
    architecture: &str,
    cores: u32,
    memory_bytes: u64,
    (public, private): (&str, &str),
) -> Facts {
    let prefix = site.config.private.first().map_or(24, ipnet::Ipv4Net::prefix_len);
    let interface = |name: &str, address: Ipv4Addr, prefix: u8, mtu: u32| Interface {
        name: name.to_owned(),
        addresses: vec![(IpAddr::V4(address), prefix)],
        mtu,
    };
    let mut interfaces = vec![interface("lo", Ipv4Addr::LOCALHOST, 8, 65_536)];
    interfaces.extend(host.public.map(|address| interface(public, address, 24, 1_500)));
    interfaces.push(interface(private, host.address, prefix, 1_450));
    Facts {
        hostname: host.name.clone(),
        machine_id: "0".repeat(32),
        boot_id: "00000000-0000-0000-0000-000000000000".to_owned(),
        architecture: architecture.to_owned(),
        kernel: "6.1.0".to_owned(),
        os: "debian".to_owned(),
        os_version: "12".to_owned(),
        os_codename: "bookworm".to_owned(),
        memory_bytes,
        cores,
        interfaces,
        uptime_seconds: 60,
        pending_handlers: Vec::new(),
    }
}
