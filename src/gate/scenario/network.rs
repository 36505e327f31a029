//! Packets between hosts.

use super::{Finding, Surroundings};
use crate::gate::probe;
use serde::Deserialize;

/// How large packets must pass.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketSize {
    /// Bytes of ICMP payload that must pass without fragments (X18: 1422 for an MTU of 1450).
    payload: u32,
}

/// Each host pings the next one of the list with fragments forbidden.
pub async fn packet_size(surroundings: Surroundings<'_>, bounds: PacketSize) -> Finding {
    let hosts = &surroundings.hosts;
    if hosts.len() < 2 {
        return Finding::not_applicable("one host has nobody to send to");
    }
    let site = surroundings.context.site;
    let size = bounds.payload.to_string();
    let expected = format!("{size} bytes pass unfragmented to the next host");
    surroundings
        .on_each(&expected, |host, session| {
            let index = hosts.iter().position(|other| *other == host).unwrap_or_default();
            let next = &hosts[(index + 1) % hosts.len()];
            let address = site.hosts.get(next).map(|host| host.address.to_string());
            let size = size.clone();
            async move {
                let Some(address) = address else { return Err(format!("no host {next}")) };
                let argv =
                    ["ping", "-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", &size, &address];
                probe::output(&session, &argv).await.map(|_| Vec::new())
            }
        })
        .await
}
