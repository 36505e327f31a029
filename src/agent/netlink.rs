//! Interfaces and addresses straight from the kernel (rtnetlink): no libc name service, no child
//! process. Building and reading the messages is pure; one function talks to the socket.

use crate::wire::Interface;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x301;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// All interfaces with their addresses, in the kernel's order.
///
/// # Errors
/// When the kernel refuses the request.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found = Collected::default();
    for kind in [RTM_GETLINK, RTM_GETADDR] {
        // NETLINK_ROUTE is protocol 0, which `None` stands for.
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        sendto(&socket, &request(kind), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (length, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            if length == 0 || found.read(&buffer[..length])? {
                break;
            }
        }
    }
    Ok(found.links.into_values().collect())
}

/// A dump request: header and a general message of any family.
fn request(kind: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    bytes.extend_from_slice(&20_u32.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes.extend_from_slice(&1_u32.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

#[derive(Default)]
struct Collected {
    links: BTreeMap<u32, Interface>,
}

impl Collected {
    /// Reads one datagram of messages; true at the end of the dump. Anything that does not fit
    /// its own length ends the reading of that part, never the program.
    fn read(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
            let length = length as usize;
            let Some(body) = bytes.get(16..length) else {
                break;
            };
            match kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => {
                    let code = u32_at(body, 0).unwrap_or_default().cast_signed();
                    return Err(io::Error::from_raw_os_error(-code));
                }
                RTM_NEWLINK => self.link(body),
                RTM_NEWADDR => self.address(body),
                _ => {}
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }

    fn link(&mut self, body: &[u8]) {
        let Some(index) = u32_at(body, 4) else { return };
        let mut interface = Interface { name: String::new(), addresses: Vec::new(), mtu: 0 };
        for (kind, value) in attributes(body.get(16..).unwrap_or_default()) {
            match kind {
                IFLA_IFNAME => {
                    interface.name = String::from_utf8_lossy(
                        value.split(|b| *b == 0).next().unwrap_or_default(),
                    )
                    .into_owned();
                }
                IFLA_MTU => interface.mtu = u32_at(value, 0).unwrap_or_default(),
                _ => {}
            }
        }
        self.links.insert(index, interface);
    }

    fn address(&mut self, body: &[u8]) {
        let (Some(prefix), Some(index)) = (body.get(1).copied(), u32_at(body, 4)) else {
            return;
        };
        let found: BTreeMap<u16, IpAddr> = attributes(body.get(8..).unwrap_or_default())
            .filter_map(|(kind, value)| Some((kind, ip(value)?)))
            .collect();
        // On a point-to-point link ADDRESS is the peer's and LOCAL is ours.
        let Some(address) = found.get(&IFA_LOCAL).or_else(|| found.get(&IFA_ADDRESS)) else {
            return;
        };
        if let Some(interface) = self.links.get_mut(&index) {
            interface.addresses.push((*address, prefix));
        }
    }
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn loopback_is_found() {
        let found = interfaces().unwrap();
        let loopback = found.iter().find(|i| i.name == "lo").expect("lo");
        assert!(loopback.addresses.contains(&(IpAddr::V4(Ipv4Addr::LOCALHOST), 8)), "{found:?}");
        assert!(loopback.mtu > 0);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in prop::sample::select(vec![16_u16, 20, 2, 3])) {
            let mut collected = Collected::default();
            let mut message = Vec::new();
            message.extend_from_slice(&u32::try_from(bytes.len() + 16).unwrap().to_ne_bytes());
            message.extend_from_slice(&kind.to_ne_bytes());
            message.extend_from_slice(&[0; 10]);
            message.extend_from_slice(&bytes);
            collected.read(&message).ok();
            collected.read(&bytes).ok();
        }
    }
}
