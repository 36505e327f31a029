//! Where a host of the site is and how it is reached: the site's own words first, then the operator's
//! ssh config where the site names one.

use super::Connection;
use crate::site::ssh::{JumpSpec, parse_chain};
use crate::site::{Host, Profile, Site};
use crate::ssh::{ConnectError, Hop, Target, Transport};
use std::net::{IpAddr, SocketAddr};

/// Jump hosts that lead to one another, at most: more is a circle.
const LONGEST_CHAIN: usize = 8;

/// How a host is reached.
///
/// # Errors
/// The operator's ssh config cannot be asked, or its jump hosts lead in a circle.
pub async fn target_of(
    site: &Site,
    host: &Host,
    connection: &Connection,
) -> Result<Target, ConnectError> {
    let mut target = direct_target(site, host, connection);
    // The hosts of a rehearsal stand side by side, whatever leads to those of production.
    if target.transport == Transport::Local || site.profile == Profile::Rehearsal {
        return Ok(target);
    }
    let groups: Vec<&str> = site.groups_of(&host.name).map(|group| group.name.as_str()).collect();
    let said = site.config.ssh.jump_of(&host.name, &groups).map(<[JumpSpec]>::to_vec);
    let mut jump = said.clone();
    if let Some(config) = &connection.config {
        let port = site.config.ssh.port_named.then_some(site.config.ssh.port);
        let settings = config.settings(&host.name, Some(&host.user), port).await;
        let settings = settings.map_err(|reason| unusable(&host.name, reason))?;
        target.address.set_port(settings.port);
        if site.config.ssh.identities.is_empty() {
            target.keys = Some(settings.keys);
        }
        if said.is_none()
            && let Some(text) = settings.jump
        {
            jump = Some(parse_chain(&text).map_err(|reason| unusable(&host.name, reason))?);
        }
    }
    target.jump = hops(site, host, connection, jump.unwrap_or_default()).await?;
    Ok(target)
}

/// The host itself, whatever the way to it: its names in known_hosts are made of this.
pub fn direct_target(site: &Site, host: &Host, connection: &Connection) -> Target {
    let operator = host.name == site.config.operator.0;
    let local = operator && site.config.ssh.local && is_this_machine(host);
    Target {
        name: host.name.clone(),
        address: SocketAddr::new(IpAddr::V4(host.address), connection.port),
        user: host.user.clone(),
        transport: if local { Transport::Local } else { Transport::Ssh },
        jump: Vec::new(),
        keys: None,
    }
}

/// True when strata runs as root on this host: its address is one of this machine's own.
fn is_this_machine(host: &Host) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    // The way to an address of this machine begins at that address. Nothing is sent. (Binding to it
    // proves nothing: a balancer's kernel may allow addresses that are elsewhere.)
    let source = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((host.address, 9)).and_then(|()| socket.local_addr()));
    source.is_ok_and(|source| source.ip() == IpAddr::V4(host.address))
}

/// Jump hosts as they are connected to. What leads back to the host itself is left out: a jump host
/// of the inventory is reached like any host, but not through itself.
async fn hops(
    site: &Site,
    host: &Host,
    connection: &Connection,
    wanted: Vec<JumpSpec>,
) -> Result<Vec<Hop>, ConnectError> {
    let mut open = wanted;
    open.reverse();
    let mut found: Vec<Hop> = Vec::new();
    let mut expanded: Vec<String> = Vec::new();
    while let Some(jump) = open.pop() {
        if jump.host == host.name || jump.host == host.address.to_string() {
            break;
        }
        if found.len() >= LONGEST_CHAIN {
            let reason = format!("its jump hosts lead in a circle: {}", jump.host);
            return Err(unusable(&host.name, reason));
        }
        let (hop, before) = hop(site, connection, &jump).await?;
        // What the ssh config puts before a jump host comes first, once.
        if let Some(text) = before.filter(|_| found.is_empty() && !expanded.contains(&jump.host)) {
            expanded.push(jump.host.clone());
            let before = parse_chain(&text).map_err(|reason| unusable(&jump.host, reason))?;
            open.push(jump);
            open.extend(before.into_iter().rev());
            if open.len() > LONGEST_CHAIN {
                let reason = "its jump hosts lead in a circle".to_owned();
                return Err(unusable(&host.name, reason));
            }
            continue;
        }
        found.push(hop);
    }
    Ok(found)
}

/// One jump host, and what the ssh config puts before it.
async fn hop(
    site: &Site,
    connection: &Connection,
    jump: &JumpSpec,
) -> Result<(Hop, Option<String>), ConnectError> {
    if let Some(known) = site.hosts.get(&jump.host) {
        let user = jump.user.clone().unwrap_or_else(|| known.user.clone());
        let (name, host) = (known.name.clone(), known.address.to_string());
        let port = jump.port.unwrap_or(connection.port);
        return Ok((Hop { name, host, port, user, keys: None }, None));
    }
    let name = jump.host.clone();
    let Some(config) = &connection.config else {
        let user = jump.user.clone().unwrap_or_else(|| "root".to_owned());
        let (host, port) = (name.clone(), jump.port.unwrap_or(22));
        return Ok((Hop { name, host, port, user, keys: None }, None));
    };
    let settings = config.settings(&name, jump.user.as_deref(), jump.port).await;
    let settings = settings.map_err(|reason| unusable(&name, reason))?;
    let keys = site.config.ssh.identities.is_empty().then_some(settings.keys);
    let hop = Hop { name, host: settings.host, port: settings.port, user: settings.user, keys };
    Ok((hop, settings.jump))
}

fn unusable(host: &str, reason: String) -> ConnectError {
    ConnectError::ClientConfig { host: host.to_owned(), reason }
}
