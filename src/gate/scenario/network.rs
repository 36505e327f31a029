//! Packets between hosts.

use super::{Finding, Surroundings};
use crate::gate::probe;
use crate::ssh::AgentSession;
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use std::net::Ipv4Addr;

/// Pings that one host has under way.
const AT_ONCE: &str = "16";

/// How large packets must pass.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketSize {
    /// Bytes of ICMP payload that must pass without fragments (X18: 1422 for an MTU of 1450).
    payload: u32,
}

/// Each host pings every other one with fragments forbidden.
pub async fn packet_size(surroundings: Surroundings<'_>, bounds: PacketSize) -> Finding {
    let site = surroundings.context.site;
    let all: Vec<(String, Ipv4Addr)> = surroundings
        .hosts
        .iter()
        .filter_map(|host| Some((host.clone(), site.hosts.get(host)?.address)))
        .collect();
    if all.len() < 2 {
        return Finding::not_applicable("one host has nobody to send to");
    }
    let pairs = all.len() * (all.len() - 1);
    let expected =
        format!("{} bytes pass unfragmented between {pairs} pairs of hosts", bounds.payload);
    let size = bounds.payload.to_string();
    surroundings
        .on_each(&expected, |host, session| {
            let targets = others(&all, &host);
            let size = size.clone();
            async move { unreached(&session, &targets, &size).await }
        })
        .await
}

/// Everybody but this host.
fn others(all: &[(String, Ipv4Addr)], host: &str) -> Vec<(String, Ipv4Addr)> {
    all.iter().filter(|(name, _)| name != host).cloned().collect()
}

/// The targets that full-sized packets do not reach. All are tried by one program; only when one of
/// them is silent, each is asked by itself, with more patience.
async fn unreached(
    session: &AgentSession,
    targets: &[(String, Ipv4Addr)],
    size: &str,
) -> Result<Vec<String>, String> {
    let addresses: String = targets.iter().map(|(_, address)| format!("{address}\n")).collect();
    let all =
        ["xargs", "-P", AT_ONCE, "-n", "1", "ping", "-q", "-c", "1", "-W", "1", "-M", "do", "-s"];
    let argv: Vec<&str> = all.into_iter().chain([size]).collect();
    if probe::output_of(session, &argv, addresses.into_bytes()).await.is_ok() {
        return Ok(Vec::new());
    }
    let each = targets.iter().map(|(name, address)| async move {
        let to = address.to_string();
        let argv = ["ping", "-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", size, &to];
        let error = probe::output(session, &argv).await.err()?;
        Some(format!("to {name}: {error}"))
    });
    let mut silent: Vec<String> =
        stream::iter(each).buffer_unordered(16).filter_map(|line| async { line }).collect().await;
    silent.sort();
    Ok(silent)
}

#[cfg(test)]
mod tests {
    use super::others;

    #[test]
    fn a_host_tries_everybody_else() {
        let all: Vec<(String, std::net::Ipv4Addr)> = ["a", "b", "c"]
            .iter()
            .zip(1..)
            .map(|(name, last)| ((*name).to_owned(), [10, 0, 0, last].into()))
            .collect();
        let mut pairs = 0;
        for (host, _) in &all {
            let targets = others(&all, host);
            assert!(targets.iter().all(|(name, _)| name != host));
            pairs += targets.len();
        }
        assert_eq!(pairs, 6);
    }
}
