//! What is wrong with what was seen. Pure.

use super::seen::{Member, Node, Queue, View, host};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with the nodes and with what each says of all.
pub fn wrong_nodes(members: &[Member]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut clusters = BTreeSet::new();
    let wanted: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    for member in members {
        match &member.view {
            Ok(view) => {
                clusters.insert(view.cluster.as_str());
                let lines = wrong_view(view, &wanted);
                wrong.extend(lines.into_iter().map(|line| format!("{} sees: {line}", member.name)));
            }
            Err(why) => wrong.push(why.clone()),
        }
    }
    if clusters.len() > 1 {
        wrong.push("the nodes are of different clusters".to_owned());
    }
    wrong
}

fn wrong_view(view: &View, wanted: &BTreeSet<&str>) -> Vec<String> {
    let known: BTreeSet<&str> = view.nodes.iter().map(|node| host(&node.name)).collect();
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let mut wrong = Vec::new();
    if known != *wanted {
        wrong.push(format!("the nodes {}, not {}", list(&known), list(wanted)));
    }
    wrong.extend(view.nodes.iter().flat_map(wrong_node));
    wrong.extend(wrong_patience(&view.nodes));
    wrong
}

/// Nodes that notice a cut at different times: some have left the cluster when it heals, and others do
/// not know; neither side gets over that by itself.
fn wrong_patience(nodes: &[Node]) -> Option<String> {
    // One that has just started says nothing of it yet.
    let told = nodes.iter().filter(|node| node.running && node.net_ticktime > 0);
    let times: BTreeMap<u64, &str> = told.map(|node| (node.net_ticktime, &*node.name)).collect();
    let shown = times.iter().map(|(time, node)| format!("{time} on {node}"));
    (times.len() > 1)
        .then(|| format!("different net_ticktime: {}", shown.collect::<Vec<_>>().join(", ")))
}

fn wrong_node(node: &Node) -> Vec<String> {
    let mut wrong = Vec::new();
    if !node.running {
        wrong.push("does not run".to_owned());
        return wrong.into_iter().map(|line| format!("{} {line}", node.name)).collect();
    }
    if node.kind != "disc" {
        wrong.push(format!("is a {} node", node.kind));
    }
    if !node.partitions.is_empty() {
        wrong.push(format!("is cut off from {}", node.partitions.join(", ")));
    }
    for (alarm, what) in [(node.mem_alarm, "memory"), (node.disk_free_alarm, "disk")] {
        if alarm {
            wrong.push(format!("blocks publishers: alarm of {what}"));
        }
    }
    if node.being_drained {
        wrong.push("takes no clients: it was drained".to_owned());
    }
    wrong.into_iter().map(|line| format!("{} {line}", node.name)).collect()
}

/// What is wrong with one queue: every node has a copy and is there, and one of them leads.
pub fn wrong_queue(queue: &Queue, nodes: usize) -> Option<String> {
    let name = &queue.name;
    if queue.kind != "quorum" {
        return Some(format!("{name} is a {} queue, not a quorum queue", queue.kind));
    }
    if queue.online.len() < nodes || queue.members.len() < nodes {
        return Some(format!(
            "{name} has {} of {nodes} copies, {} of them online",
            queue.members.len(),
            queue.online.len()
        ));
    }
    queue.leader.is_empty().then(|| format!("{name} has no leader"))
}

/// What is wrong with the queues of a vhost; those of one connection alone are nobody's loss.
pub fn wrong_queues(queues: &[Queue], nodes: usize, most_apart: usize) -> Vec<String> {
    let durable = || queues.iter().filter(|queue| queue.durable && !queue.exclusive);
    let mut wrong: Vec<String> = durable().filter_map(|queue| wrong_queue(queue, nodes)).collect();
    let mut leads: BTreeMap<&str, usize> = BTreeMap::new();
    for queue in durable().filter(|queue| !queue.leader.is_empty()) {
        *leads.entry(&queue.leader).or_default() += 1;
    }
    let most = leads.values().max().copied().unwrap_or_default();
    let least = if leads.len() < nodes { 0 } else { leads.values().min().copied().unwrap_or(0) };
    if most - least > most_apart {
        let shown: Vec<String> =
            leads.iter().map(|(node, count)| format!("{node} {count}")).collect();
        wrong.push(format!(
            "leaders are not balanced: {} (`rabbitmq-queues rebalance quorum`)",
            shown.join(", ")
        ));
    }
    wrong
}

/// What is wrong with a version; `release` is the tag of the pinned image.
pub fn wrong_version(found: &str, release: &str) -> Option<String> {
    let wanted = release.split(['-', '@']).next().unwrap_or_default();
    (found != wanted && !found.starts_with(&format!("{wanted}.")))
        .then(|| format!("is RabbitMQ {found}, the pin is {release}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Vec<Member> {
        let names = ["queue-01", "queue-02", "queue-03"];
        let node = |name: &&str| Node {
            name: format!("rabbit@{name}"),
            kind: "disc".to_owned(),
            running: true,
            partitions: Vec::new(),
            mem_alarm: false,
            disk_free_alarm: false,
            being_drained: false,
            net_ticktime: 20,
        };
        let view = View {
            nodes: names.iter().map(node).collect(),
            cluster: "id".to_owned(),
            version: "3.13.2".to_owned(),
        };
        let member = |name: &str| Member { name: name.to_owned(), view: Ok(view.clone()) };
        names.into_iter().map(member).collect()
    }

    fn view(member: &mut Member) -> &mut View {
        member.view.as_mut().unwrap()
    }

    #[test]
    fn each_illness_is_seen() {
        type Ill = fn(&mut [Member]);
        let illnesses: [(&str, Ill); 9] = [
            ("silent", |m| m[1].view = Err("silent".into())),
            ("different clusters", |m| view(&mut m[1]).cluster = "other".into()),
            ("does not run", |m| view(&mut m[0]).nodes[2].running = false),
            ("the nodes queue-01, queue-02, not", |m| drop(view(&mut m[0]).nodes.pop())),
            ("is a ram node", |m| view(&mut m[0]).nodes[1].kind = "ram".into()),
            ("cut off from rabbit@x", |m| {
                view(&mut m[2]).nodes[0].partitions = vec!["rabbit@x".into()]
            }),
            ("alarm of disk", |m| view(&mut m[2]).nodes[0].disk_free_alarm = true),
            ("different net_ticktime: 20 on rabbit@queue-03, 60 on rabbit@queue-02", |m| {
                view(&mut m[0]).nodes[1].net_ticktime = 60
            }),
            ("was drained", |m| view(&mut m[2]).nodes[0].being_drained = true),
        ];
        assert_eq!(wrong_nodes(&healthy()), Vec::<String>::new());
        for (word, ill) in illnesses {
            let mut members = healthy();
            ill(&mut members);
            let wrong = wrong_nodes(&members).join("\n");
            assert!(wrong.contains(word), "{word}: {wrong}");
        }
    }

    fn queue(name: &str, leader: usize) -> Queue {
        let nodes = vec!["rabbit@1".to_owned(), "rabbit@2".to_owned(), "rabbit@3".to_owned()];
        Queue {
            name: name.to_owned(),
            kind: "quorum".to_owned(),
            durable: true,
            exclusive: false,
            leader: nodes[leader].clone(),
            members: nodes.clone(),
            online: nodes,
        }
    }

    #[test]
    fn queues_are_quorum_queues_on_every_node_with_leaders_on_all() {
        let good = [queue("a", 0), queue("b", 1), queue("c", 2)];
        assert_eq!(wrong_queues(&good, 3, 1), Vec::<String>::new());
        assert_eq!(wrong_queues(&good[..1], 3, 1), Vec::<String>::new());
        let alone = [queue("a", 0), queue("b", 0), queue("c", 0)];
        assert_eq!(wrong_queues(&alone, 3, 1).len(), 1);
        let classic = [Queue { kind: "classic".to_owned(), ..queue("a", 0) }];
        assert!(wrong_queues(&classic, 3, 1)[0].contains("is a classic queue"));
        let mine = [Queue { exclusive: true, ..classic[0].clone() }];
        assert_eq!(wrong_queues(&mine, 3, 1), Vec::<String>::new());
        let mut late = queue("a", 0);
        late.online.pop();
        assert!(wrong_queue(&late, 3).unwrap().contains("3 of 3 copies, 2 of them online"));
        assert!(wrong_queue(&Queue { leader: String::new(), ..queue("a", 0) }, 3).is_some());
    }

    #[test]
    fn the_version_is_the_pins() {
        for release in ["3.13.2-management", "3.13.2", "3.13", "3.13.2@sha256:00"] {
            assert_eq!(wrong_version("3.13.2", release), None, "{release}");
        }
        assert!(wrong_version("3.10.8", "3.13.2-management").is_some());
        assert!(wrong_version("3.13.20", "3.13.2").is_some());
    }
}
