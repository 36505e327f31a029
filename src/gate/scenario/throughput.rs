//! What one TCP connection between two hosts carries. The hosts dial each other themselves, so that
//! neither the relay nor the operator host is part of the figure, and no port is opened for it.

use super::{Finding, Surroundings};
use crate::event::{Measurement, now_ms};
use crate::gate::baseline::{Better, Figure};
use crate::gate::judge::Judge;
use crate::gate::probe;
use crate::ssh::AgentSession;
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The first of the ports that both dial from: below those that kernels give away, and of Kubernetes.
const FIRST_PORT: u16 = 20_000;

/// Pairs of ports. Each run takes another, because the last one's connection lingers for a minute.
const PORT_PAIRS: u64 = 2_000;

/// Transfers at the same time, of different hosts.
const AT_ONCE: usize = 32;

/// How fast it must be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Megabits a second between any two neighbours.
    min_mbit: u32,
    /// Seconds of each transfer. Default: 3.
    #[serde(default = "default_seconds")]
    seconds: u32,
    /// Per cent of the site's baseline that must be reached. Default: not compared.
    #[serde(default)]
    baseline_percent: Option<u32>,
}

const fn default_seconds() -> u32 {
    3
}

/// Each host sends to the next one of the list, the last one to the first. No host is part of two
/// transfers at a time.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let site = surroundings.context.site;
    let mut members = Vec::new();
    for host in &surroundings.hosts {
        match (surroundings.fleet.session(host), site.hosts.get(host)) {
            (Some(session), Some(found)) => members.push((host, session, found.address)),
            _ => return Finding::not_run(format!("{host} is not connected")),
        }
    }
    if members.len() < 2 {
        return Finding::not_applicable("one host has nobody to send to");
    }
    let ports = ports_at(now_ms());
    let seconds = bounds.seconds.to_string();
    let mut judge = Judge::new(&surroundings);
    let mut slow = Vec::new();
    for round in rounds(members.len()) {
        let transfers = round.into_iter().filter_map(|(from, to)| {
            let (sender, receiver) = (members.get(from)?, members.get(to)?);
            let seconds = &seconds;
            Some(async move {
                let pair = format!("{} → {}", sender.0, receiver.0);
                let result =
                    transfer((&sender.1, sender.2), (&receiver.1, receiver.2), ports, seconds)
                        .await;
                (pair, result)
            })
        });
        let results: Vec<_> = stream::iter(transfers).buffered(AT_ONCE).collect().await;
        for (pair, result) in results {
            match result {
                Ok(mbit) => {
                    if mbit < f64::from(bounds.min_mbit) {
                        slow.push(format!("{pair}: {mbit:.0} Mbit/s"));
                    }
                    judge.figure(Figure {
                        measurement: Measurement::new(pair, "throughput", mbit.round(), "Mbit/s"),
                        better: Better::More,
                        conditions: format!("{seconds} s"),
                    });
                }
                Err(error) => judge.wrong(format!("{pair}: {error}")),
            }
        }
    }
    judge.bound("min_mbit", slow);
    let expected = format!("at least {} Mbit/s from each host to the next", bounds.min_mbit);
    judge.finish(&expected, bounds.baseline_percent)
}

/// The transfers of a ring of at least two hosts, in rounds in which each host takes part once.
fn rounds(hosts: usize) -> Vec<Vec<(usize, usize)>> {
    let mut rounds = vec![Vec::new(); 3];
    for from in 0..hosts {
        let odd_one = hosts % 2 == 1 && from == hosts - 1;
        let round = if odd_one { 2 } else { from % 2 };
        if let Some(round) = rounds.get_mut(round) {
            round.push((from, (from + 1) % hosts));
        }
    }
    rounds.retain(|round| !round.is_empty());
    rounds
}

/// The sender's and the receiver's port of a run that begins now.
fn ports_at(now_ms: u64) -> (u16, u16) {
    let pair = u16::try_from(now_ms / 1000 % PORT_PAIRS).unwrap_or_default();
    let first = FIRST_PORT + 2 * pair;
    (first, first + 1)
}

/// Megabits a second of one transfer.
async fn transfer(
    (sender, from): (&AgentSession, Ipv4Addr),
    (receiver, to): (&AgentSession, Ipv4Addr),
    (own, peer): (u16, u16),
    seconds: &str,
) -> Result<f64, String> {
    let from = SocketAddrV4::new(from, own).to_string();
    let to = SocketAddrV4::new(to, peer).to_string();
    let receive = ["receive", &to, &from, "--seconds", seconds];
    let send = ["send", &from, &to, "--seconds", seconds];
    let (received, sent) =
        futures::join!(probe::agent(receiver, &receive), probe::agent(sender, &send));
    speed(&received?, &sent?)
}

/// Bits a microsecond, of a transfer that arrived whole.
fn speed(received: &str, sent: &str) -> Result<f64, String> {
    let bytes = probe::value(received, "bytes")?;
    let sent = probe::value(sent, "bytes")?;
    let micros = probe::value(received, "microseconds")?;
    #[expect(clippy::float_cmp, reason = "whole numbers of bytes")]
    if bytes != sent {
        return Err(format!("{bytes} of {sent} bytes arrived"));
    }
    if micros < 1.0 {
        return Err("nothing arrived".to_owned());
    }
    Ok(bytes * 8.0 / micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_host_sends_once_and_is_in_one_transfer_at_a_time() {
        for hosts in 2..30 {
            let rounds = rounds(hosts);
            assert!(rounds.len() <= 3);
            let mut senders = BTreeSet::new();
            for round in rounds {
                let mut busy = BTreeSet::new();
                for (from, to) in round {
                    assert!(busy.insert(from) && busy.insert(to), "{hosts} hosts: {from} → {to}");
                    assert!(senders.insert(from));
                    assert_eq!(to, (from + 1) % hosts);
                }
            }
            assert_eq!(senders.len(), hosts);
        }
    }

    #[test]
    fn ports_stay_below_those_that_kernels_give_away() {
        for second in 0..2 * PORT_PAIRS {
            let (own, peer) = ports_at(second * 1000);
            assert!(own >= FIRST_PORT && peer == own + 1 && peer < 30_000);
        }
        assert_ne!(ports_at(1_000), ports_at(2_000));
    }

    #[test]
    fn a_transfer_counts_only_when_all_of_it_arrived() {
        let sent = "bytes 1000000\n";
        assert_eq!(speed("bytes 1000000\nmicroseconds 8000\n", sent), Ok(1000.0));
        assert_eq!(
            speed("bytes 10\nmicroseconds 8000\n", sent),
            Err("10 of 1000000 bytes arrived".to_owned())
        );
        assert!(speed("bytes 0\nmicroseconds 0\n", "bytes 0\n").is_err());
        assert!(speed("microseconds 5\n", sent).is_err());
    }
}
