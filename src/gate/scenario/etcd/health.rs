//! Every member does its part.

use super::members::{Answer, Cluster, Said};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Entries that a member may be behind another.
const LAG: u64 = 1_000;

/// Bounds of the members' health.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Per cent of the quota that the keys may take. Default: 50.
    #[serde(default = "default_size")]
    max_size_percent: u64,
    /// Seconds within which a moment must be seen at which all is well. Default: 10.
    #[serde(default = "default_within")]
    within: u64,
}

fn default_size() -> u64 {
    50
}

fn default_within() -> u64 {
    10
}

/// All members answer, agree, and have room.
pub async fn health(surroundings: Surroundings<'_>, bounds: Health) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected = format!(
        "{} members healthy, one leader, one cluster, the members of the inventory and no others, no alarm, at most {} % of the quota in use",
        cluster.members.len(),
        bounds.max_size_percent
    );
    let addresses = cluster.addresses();
    let limit = cluster.quota.map(|quota| quota / 100 * bounds.max_size_percent);
    let found = probe::wait_until(Duration::from_secs(bounds.within), || async {
        let wrong = wrong(&cluster.look().await, &addresses, limit);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    })
    .await;
    let wrong = found.err().map(|lines| lines.lines().map(str::to_owned).collect());
    Finding::of(expected, wrong.unwrap_or_default())
}

/// What is not as it should be, one line a matter. Pure.
pub(super) fn wrong(answers: &[Answer], addresses: &[Ipv4Addr], limit: Option<u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut said: Vec<(&str, &Said)> = Vec::new();
    for (name, answer) in answers {
        match answer {
            Ok(answer) => said.push((name, answer)),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    let different = |what: &str, values: BTreeSet<u64>| {
        let list: Vec<String> = values.iter().map(|value| format!("{value:x}")).collect();
        (values.len() > 1).then(|| format!("the members disagree on {what}: {}", list.join(", ")))
    };
    let clusters = said.iter().map(|(_, answer)| answer.status.header.cluster_id).collect();
    let leaders = said.iter().map(|(_, answer)| answer.status.leader).collect();
    wrong.extend(different("the cluster", clusters));
    wrong.extend(different("the leader", leaders));
    let last = said.iter().map(|(_, answer)| answer.status.index).max().unwrap_or(0);
    for (name, Said { status, list, trouble }) in said {
        let mut line = |text: String| wrong.push(format!("{name}: {text}"));
        if status.leader == 0 {
            line("knows no leader".to_owned());
        }
        if let Some(why) = trouble {
            line(format!("nothing can be agreed on: {why}"));
        }
        if status.learner {
            line("has no vote".to_owned());
        }
        for complaint in &status.errors {
            line(complaint.trim().to_owned());
        }
        let behind = last.saturating_sub(status.applied);
        if behind > LAG {
            line(format!("is {behind} entries behind"));
        }
        if let Some(limit) = limit.filter(|limit| status.size > *limit) {
            line(format!("its keys take {} bytes, {limit} are allowed", status.size));
        }
        let listed: BTreeSet<Ipv4Addr> = list.iter().filter_map(|peer| peer.address()).collect();
        for address in addresses.iter().filter(|address| !listed.contains(address)) {
            line(format!("its list lacks {address}"));
        }
        for peer in list {
            match peer.address() {
                Some(address) if addresses.contains(&address) => {}
                _ => line(format!("its list has {}", peer.peer_urls.join(", "))),
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::etcd::gateway::{Header, Peer, Status};

    fn address(node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, node)
    }

    fn healthy() -> Vec<Answer> {
        let peer = |node: u8| Peer {
            id: node.into(),
            name: format!("db-0{node}"),
            peer_urls: vec![format!("http://{}:2380", address(node))],
            client_urls: vec![format!("http://{}:2379", address(node))],
            learner: false,
        };
        let said = |node: u8| Said {
            status: Status {
                header: Header { cluster_id: 7, member_id: node.into() },
                leader: 1,
                size: 100,
                index: 50,
                applied: 50,
                ..Status::default()
            },
            list: (1..=3).map(peer).collect(),
            trouble: None,
        };
        (1..=3).map(|node| (format!("db-0{node}"), Ok(said(node)))).collect()
    }

    fn found(spoil: impl FnOnce(&mut Said)) -> String {
        let mut answers = healthy();
        if let Ok(said) = &mut answers[1].1 {
            spoil(said);
        }
        let addresses: Vec<Ipv4Addr> = (1..=3).map(address).collect();
        wrong(&answers, &addresses, Some(1000)).join("; ")
    }

    #[test]
    fn each_matter_is_named() {
        assert_eq!(found(|_| {}), "");
        for (spoil, text) in [
            ((|s| s.status.leader = 2) as fn(&mut Said), "disagree on the leader: 1, 2"),
            (|s| s.status.header.cluster_id = 8, "disagree on the cluster: 7, 8"),
            (|s| s.status.leader = 0, "db-02: knows no leader"),
            (|s| s.status.learner = true, "db-02: has no vote"),
            (|s| s.status.size = 1001, "db-02: its keys take 1001 bytes"),
            (|s| s.status.index = 2000, "db-01: is 1950 entries behind"),
            (|s| s.trouble = Some("time-out".to_owned()), "agreed on: time-out"),
            (|s| drop(s.list.pop()), "db-02: its list lacks 10.0.0.3"),
            (|s| s.list[0].peer_urls.clear(), "db-02: its list has"),
            (|s| s.status.errors.push("alarm:NOSPACE".to_owned()), "db-02: alarm:NOSPACE"),
        ] {
            let found = found(spoil);
            assert!(found.contains(text), "{text}: {found}");
        }
    }
}
