//! The lab's network: one namespace with two bridges (the switch), one namespace per host, and
//! `outside`, the internet's end of the public side.
//!
//! The switch has no address and no way to the machine's own network. `outside` is the provider's
//! router: hosts' default routes end there, and it forwards between public addresses only.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::command::{check, check_with_input, program};
use super::error::{LabError, Result};
use super::paths::Paths;
use super::spec::{DOCUMENTATION_RANGES, LabHost, digest, short_name};

/// The namespace with the bridges.
pub(super) const SWITCH: &str = "switch";
/// The namespace of the internet's end.
pub(super) const OUTSIDE: &str = "outside";
/// The provider's router, as hosts' default routes name it.
const ROUTER: Ipv4Addr = Ipv4Addr::new(172, 31, 1, 1);
/// The address from which `outside` dials hosts (the range set aside for benchmarks).
const VANTAGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// One of the two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// The network between the hosts.
    Private,
    /// The internet side.
    Public,
}

impl Network {
    /// Both networks.
    pub(super) const ALL: [Self; 2] = [Self::Private, Self::Public];

    /// The bridge's name in the switch.
    pub(super) fn bridge(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }

    /// Bytes per frame without its header: the provider's private network is encapsulated.
    pub(super) fn mtu(self) -> u32 {
        match self {
            Self::Private => 1450,
            Self::Public => 1500,
        }
    }

    /// The interface's name inside a host.
    fn interface(self) -> &'static str {
        match self {
            Self::Private => "eth1",
            Self::Public => "eth0",
        }
    }
}

/// The names of the links a member may have in the switch, on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports {
    /// The member's own link.
    pub(super) own: String,
    /// A bridge that stands between while frames are delayed …
    pub(super) detour: String,
    /// … the forwarder's link on it …
    pub(super) inner: String,
    /// … and the forwarder's link on the network's bridge.
    pub(super) outer: String,
}

impl Ports {
    /// The links of a member.
    pub(super) fn of(member: &str, network: Network) -> Self {
        let name = short_name(member);
        let letters = match network {
            Network::Private => ['p', 'b', 'i', 'o'],
            Network::Public => ['P', 'B', 'I', 'O'],
        };
        let [own, detour, inner, outer] = letters.map(|letter| format!("{letter}-{name}"));
        Self { own, detour, inner, outer }
    }
}

/// Makes the switch and `outside` unless they are there and complete.
pub(super) fn ensure_switch(paths: &Paths) -> Result<()> {
    let port = Ports::of(OUTSIDE, Network::Public).own;
    if has_link(paths, SWITCH, &port) && has_link(paths, OUTSIDE, "eth0") {
        return Ok(());
    }
    for member in [SWITCH, OUTSIDE] {
        remake_namespace(paths, member)?;
    }
    let mut links = String::new();
    for network in Network::ALL {
        let (bridge, mtu) = (network.bridge(), network.mtu());
        let _infallible = writeln!(
            links,
            "link add {bridge} mtu {mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set {bridge} addrgenmode none up"
        );
    }
    batch(paths, SWITCH, &links)?;
    sysctl(paths, SWITCH, &["net.ipv6.conf.all.disable_ipv6=1"])?;
    // Where br_netfilter is loaded, the switch must not run frames through IP tables.
    let _not_loaded = sysctl(
        paths,
        SWITCH,
        &["net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"],
    );
    sysctl(paths, OUTSIDE, &["net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0"])?;
    let mut text = format!(
        "link set lo up\naddr add {ROUTER}/32 dev eth0\naddr add {VANTAGE}/32 dev eth0\n\
         link set eth0 up\n"
    );
    for range in DOCUMENTATION_RANGES {
        let _infallible = writeln!(text, "route add {range} dev eth0 src {VANTAGE}");
    }
    // The link into the switch comes last, as the sign that all of it is there.
    connect(paths, OUTSIDE, Network::Public)?;
    batch(paths, OUTSIDE, &text)
}

/// Gives a host a network namespace as fresh as after a power-on: no rule and no address of an
/// earlier boot is left.
pub(super) fn make_host(paths: &Paths, host: &LabHost, prefix: u8) -> Result<()> {
    disconnect(paths, &host.name);
    remake_namespace(paths, &host.name)?;
    sysctl(paths, &host.name, &["net.ipv4.ip_forward=0"])?;
    connect(paths, &host.name, Network::Private)?;
    if host.public.is_some() {
        connect(paths, &host.name, Network::Public)?;
    }
    batch(paths, &host.name, &host_addresses(host, prefix))
}

/// Gives a balancer a namespace on the private network.
pub(super) fn make_balancer(
    paths: &Paths,
    name: &str,
    address: Ipv4Addr,
    prefix: u8,
) -> Result<()> {
    disconnect(paths, name);
    remake_namespace(paths, name)?;
    connect(paths, name, Network::Private)?;
    let text = format!("link set lo up\naddr add {address}/{prefix} dev eth1\nlink set eth1 up\n");
    batch(paths, name, &text)
}

/// Takes a member off the switch and removes its namespace.
pub(super) fn remove_member(paths: &Paths, member: &str) -> Result<()> {
    disconnect(paths, member);
    remove_namespace(&paths.namespace(member))
}

/// Removes every namespace of the lab.
pub(super) fn remove_all(paths: &Paths) -> Result<()> {
    for name in namespaces(paths) {
        remove_namespace(&name)?;
    }
    Ok(())
}

/// The lab's namespaces that exist.
pub(super) fn namespaces(paths: &Paths) -> Vec<String> {
    let prefix = paths.namespace_prefix();
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// Runs lines of `ip` in a namespace of the lab.
pub(super) fn batch(paths: &Paths, member: &str, lines: &str) -> Result<()> {
    let namespace = paths.namespace(member);
    let mut command = program("ip", ["-n", &namespace, "-batch", "-"]);
    let what = format!("cannot set up the network of {member}");
    check_with_input(&what, &mut command, lines.as_bytes()).map(drop)
}

/// Whether a namespace of the lab has a link of this name.
pub(super) fn has_link(paths: &Paths, member: &str, link: &str) -> bool {
    let namespace = paths.namespace(member);
    paths.namespace_file(member).exists()
        && check("", &mut program("ip", ["-n", &namespace, "link", "show", "dev", link])).is_ok()
}

/// Moves this thread into a namespace of the lab. The thread should end when its work is done.
pub(super) fn enter(paths: &Paths, member: &str) -> Result<()> {
    let path = paths.namespace_file(member);
    let failed = |source: std::io::Error| LabError::Io {
        what: "cannot enter the network namespace",
        path: path.clone(),
        source,
    };
    let file = fs::File::open(&path).map_err(failed)?;
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&file),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .map_err(|error| failed(error.into()))
}

fn host_addresses(host: &LabHost, prefix: u8) -> String {
    let mut text =
        format!("link set lo up\naddr add {}/{prefix} dev eth1\nlink set eth1 up\n", host.private);
    if let Some(public) = host.public {
        let _infallible = write!(
            text,
            "addr add {public}/32 dev eth0\nlink set eth0 up\n\
             route add {ROUTER}/32 dev eth0\nroute add default via {ROUTER} dev eth0\n"
        );
    }
    text
}

/// Plugs a member's namespace into one of the networks.
fn connect(paths: &Paths, member: &str, network: Network) -> Result<()> {
    let ports = Ports::of(member, network);
    let (mtu, interface, port) = (network.mtu(), network.interface(), &ports.own);
    let mac = hardware_address(paths.lab(), member, network);
    let namespace = paths.namespace(member);
    // While frames of this member are delayed, its link belongs on the detour.
    let bridge =
        if has_link(paths, SWITCH, &ports.detour) { &ports.detour } else { network.bridge() };
    let lines = format!(
        "link add {port} mtu {mtu} type veth peer name {interface} address {mac} mtu {mtu} \
         netns {namespace}\nlink set {port} master {bridge} up\n"
    );
    batch(paths, SWITCH, &lines)
}

/// Removes a member's links from the switch. The kernel frees a namespace some time after its
/// last user has gone; without this its links would keep their names until then.
fn disconnect(paths: &Paths, member: &str) {
    let switch = paths.namespace(SWITCH);
    for network in Network::ALL {
        let port = Ports::of(member, network).own;
        let _absent = check("", &mut program("ip", ["-n", &switch, "link", "del", &port]));
    }
}

fn remake_namespace(paths: &Paths, member: &str) -> Result<()> {
    let name = paths.namespace(member);
    remove_namespace(&name)?;
    check("cannot create a network namespace", &mut program("ip", ["netns", "add", &name]))
        .map(drop)
}

fn remove_namespace(name: &str) -> Result<()> {
    let path = Path::new("/run/netns").join(name);
    if !path.exists() {
        return Ok(());
    }
    if check("", &mut program("ip", ["netns", "del", name])).is_ok() {
        return Ok(());
    }
    // A run that was killed between making the file and mounting it leaves a plain file.
    super::state::remove_tree(&path)
}

fn sysctl(paths: &Paths, member: &str, settings: &[&str]) -> Result<()> {
    let mut command =
        program("nsenter", [format!("--net={}", paths.namespace_file(member).display())]);
    command.args(["sysctl", "-q", "-w"]).args(settings);
    check("cannot set kernel parameters", &mut command).map(drop)
}

/// A locally administered address that stays the same over reboots.
fn hardware_address(lab: &str, member: &str, network: Network) -> String {
    let digest = digest([lab, member, network.bridge()]);
    let pairs: Vec<&str> = (0..5).filter_map(|i| digest.get(2 * i..2 * i + 2)).collect();
    format!("02:{}", pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_the_kernels_limit() {
        for name in ["redis-01", "a-very-long-host-name-that-goes-on-01"] {
            for network in Network::ALL {
                let ports = Ports::of(name, network);
                for port in [ports.own, ports.detour, ports.inner, ports.outer] {
                    assert!(port.len() <= 15, "{port}");
                }
            }
        }
        assert_ne!(Ports::of("a", Network::Private), Ports::of("a", Network::Public));
    }

    #[test]
    fn a_host_without_a_public_address_has_no_way_out() {
        let mut host = LabHost {
            name: "db-01".into(),
            fqdn: "db-01.test".into(),
            private: [10, 0, 0, 120].into(),
            public: None,
            release: super::super::Release::default(),
        };
        assert!(!host_addresses(&host, 16).contains("default"));
        host.public = Some([192, 0, 2, 120].into());
        assert_eq!(
            host_addresses(&host, 16),
            "link set lo up\naddr add 10.0.0.120/16 dev eth1\nlink set eth1 up\n\
             addr add 192.0.2.120/32 dev eth0\nlink set eth0 up\n\
             route add 172.31.1.1/32 dev eth0\nroute add default via 172.31.1.1 dev eth0\n"
        );
    }

    #[test]
    fn hardware_addresses_are_stable_and_distinct() {
        let one = hardware_address("l", "a", Network::Private);
        assert_eq!(one, hardware_address("l", "a", Network::Private));
        assert_ne!(one, hardware_address("l", "a", Network::Public));
        assert_eq!(one.len(), 17);
        assert!(one.starts_with("02:"));
    }
}
