//! What is decided for looks that a model does not come to by itself.

use super::action::Action;
use super::decide::{Wanted, decide, missing};
use super::gateway::Peer;
use super::settings::Beginning;
use super::view::{Member, Observation, Seen, Server, Stale, View};
use crate::cluster::{Decision, Formation, Marker, Next, Record, State};
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, node)
}

fn name(node: u8) -> String {
    format!("db-0{node}")
}

fn marker(id: &str) -> Marker {
    Marker {
        format: 1,
        cluster: "etcd".to_owned(),
        driver: "etcd".to_owned(),
        id: id.to_owned(),
        created_ms: 0,
    }
}

fn wanted() -> Wanted {
    Wanted { marker: marker("new"), out: Vec::new() }
}

fn record(formation: Formation) -> Record {
    Record {
        marker: marker("ours"),
        formation,
        leader: address(1),
        members: (1..=3).map(name).collect(),
    }
}

fn nothing() -> Seen {
    Seen {
        marker: Ok(None),
        data: false,
        anything: false,
        config: false,
        server: Server::Down,
        stale: Stale::default(),
    }
}

fn peer(node: u8) -> Peer {
    Peer {
        id: node.into(),
        name: name(node),
        peer_urls: vec![format!("http://{}:2380", address(node))],
        client_urls: vec![format!("http://{}:2379", address(node))],
        learner: false,
    }
}

fn healthy(node: u8, leader: u8) -> Seen {
    Seen {
        marker: Ok(Some(marker("ours"))),
        data: true,
        anything: true,
        config: true,
        server: Server::Up(View {
            cluster: 7,
            id: node.into(),
            leader: Some(leader.into()),
            learner: false,
            index: 10,
            applied: 10,
            trouble: None,
            alarms: Vec::new(),
            list: (1..=3).map(peer).collect(),
        }),
        stale: Stale::default(),
    }
}

fn member(node: u8, seen: Seen) -> Member {
    Member { name: name(node), address: address(node), seen: Ok(seen) }
}

fn cluster(leader: u8) -> Observation {
    Observation {
        record: Ok(Some(record(Formation::Complete))),
        members: (1..=3).map(|node| member(node, healthy(node, leader))).collect(),
        saved: false,
    }
}

fn fresh() -> Observation {
    Observation {
        record: Ok(None),
        members: (1..=3).map(|node| member(node, nothing())).collect(),
        saved: false,
    }
}

fn seen(observation: &mut Observation, node: usize) -> &mut Seen {
    observation.members[node - 1].seen.as_mut().unwrap()
}

fn view(observation: &mut Observation, node: usize) -> &mut View {
    match &mut seen(observation, node).server {
        Server::Up(view) => view,
        other => panic!("{other:?}"),
    }
}

/// A member that stopped with its data, or lost it.
fn down(observation: &mut Observation, node: usize, data: bool) {
    let seen = seen(observation, node);
    (seen.server, seen.data, seen.anything) = (Server::Down, data, data);
}

fn refusal(decision: &Decision<Action>) -> &str {
    match &decision.next {
        Next::Refuse(refusal) => &refusal.reason,
        other => panic!("{other:?}"),
    }
}

fn actions(decision: &Decision<Action>) -> Vec<String> {
    match &decision.next {
        Next::Act(actions) => actions.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn begins(decision: &Decision<Action>) -> bool {
    matches!(&decision.next, Next::Act(actions) if actions.iter().any(|action| match action {
        Action::Record(record) => record.formation == Formation::Begun,
        Action::Begin { begins, .. } => begins.how == Beginning::New,
        _ => false,
    }))
}

#[test]
fn only_a_provably_absent_cluster_is_formed() {
    let decision = decide(&fresh(), &wanted());
    assert_eq!(decision.state, State::Absent);
    assert!(begins(&decision), "{decision:?}");

    type Spoil = fn(&mut Observation);
    let spoilers: [(&str, Spoil); 7] = [
        ("a host that cannot be asked", |o| o.members[2].seen = Err("no route".to_owned())),
        ("something on one host", |o| seen(o, 2).anything = true),
        ("a marker on one host", |o| seen(o, 3).marker = Ok(Some(marker("old")))),
        ("a marker that cannot be read", |o| seen(o, 3).marker = Err("torn".to_owned())),
        ("an etcd that answers", |o| seen(o, 1).server = Server::Unready("hangs".to_owned())),
        ("a file of etcd", |o| seen(o, 1).config = true),
        ("a record that cannot be read", |o| o.record = Err("torn".to_owned())),
    ];
    for (what, spoil) in spoilers {
        let mut observation = fresh();
        spoil(&mut observation);
        let decision = decide(&observation, &wanted());
        assert!(!begins(&decision), "{what}: {decision:?}");
    }
}

#[test]
fn all_members_begin_together_and_nobody_begins_beside_a_leader() {
    let mut observation = fresh();
    observation.record = Ok(Some(record(Formation::Begun)));
    let decision = decide(&observation, &wanted());
    assert_eq!(actions(&decision).len(), 3, "{decision:?}");
    assert!(begins(&decision));
    let mut observation = cluster(1);
    observation.record = Ok(Some(record(Formation::Begun)));
    *seen(&mut observation, 3) = nothing();
    for node in 1..=2 {
        view(&mut observation, node).list[2].client_urls.clear();
    }
    assert_eq!(actions(&decide(&observation, &wanted())), ["db-03: join"]);
}

#[test]
fn a_whole_cluster_is_left_alone() {
    for leader in 1..=3 {
        let decision = decide(&cluster(leader), &wanted());
        assert_eq!((decision.state, &decision.next), (State::Healthy, &Next::Done));
        assert_eq!(missing(&cluster(leader), &decision), None);
    }
}

#[test]
fn a_stopped_member_is_started_and_a_lost_one_replaced() {
    let mut observation = cluster(1);
    down(&mut observation, 2, true);
    assert_eq!(actions(&decide(&observation, &wanted())), ["db-02: start etcd with its data"]);
    down(&mut observation, 2, false);
    let decision = decide(&observation, &wanted());
    assert_eq!(actions(&decision), ["take db-02 (2) out of the list"]);
    for node in [1, 3] {
        view(&mut observation, node).list.retain(|peer| peer.id != 2);
    }
    assert_eq!(actions(&decide(&observation, &wanted())), ["put db-02 into the list"]);
    for node in [1, 3] {
        let learner = Peer { learner: true, client_urls: Vec::new(), id: 9, ..peer(2) };
        view(&mut observation, node).list.push(learner);
    }
    assert_eq!(actions(&decide(&observation, &wanted())), ["db-02: join"]);
}

#[test]
fn a_lost_member_stays_where_the_others_are_not_enough() {
    let mut observation = cluster(1);
    down(&mut observation, 2, false);
    view(&mut observation, 3).trouble = Some("no answer".to_owned());
    assert!(refusal(&decide(&observation, &wanted())).contains("db-03 of 2 others"));
    let mut observation = cluster(1);
    for node in [1, 2] {
        seen(&mut observation, node).data = false;
    }
    assert!(refusal(&decide(&observation, &wanted())).contains("the data of db-01 is gone"));
}

#[test]
fn a_leader_without_data_gives_way_before_it_is_replaced() {
    let mut observation = cluster(2);
    (seen(&mut observation, 2).data, seen(&mut observation, 2).anything) = (false, false);
    assert_eq!(actions(&decide(&observation, &wanted())), ["db-02: let db-01 lead"]);
    for node in 1..=3 {
        view(&mut observation, node).leader = Some(1);
    }
    assert_eq!(actions(&decide(&observation, &wanted())), ["db-02: set what is left aside"]);
}

#[test]
fn lost_majorities_and_lost_clusters_are_disasters() {
    let mut observation = cluster(1);
    for node in 1..=3 {
        down(&mut observation, node, false);
    }
    let decision = decide(&observation, &wanted());
    assert_eq!(decision.state, State::Down);
    assert!(refusal(&decision).contains("every data directory is empty"));
    // One that has its data waits for the others, and is not begun anew.
    let mut observation = cluster(1);
    down(&mut observation, 1, false);
    down(&mut observation, 2, false);
    view(&mut observation, 3).leader = None;
    let decision = decide(&observation, &wanted());
    assert!(refusal(&decision).contains("of 3 members only 1 have their data (db-03)"));
    // All stopped: all are started.
    let mut observation = cluster(1);
    for node in 1..=3 {
        down(&mut observation, node, true);
    }
    assert_eq!(actions(&decide(&observation, &wanted())).len(), 3);
}

#[test]
fn two_clusters_twins_foreign_markers_and_corruption_stop_the_run() {
    type Spoil = fn(&mut Observation);
    let spoilers: [(State, Spoil); 5] = [
        (State::Split, |o| view(o, 2).cluster = 8),
        (State::Split, |o| view(o, 2).id = 1),
        (State::Foreign, |o| seen(o, 2).marker = Ok(Some(marker("other")))),
        (State::Split, |o| view(o, 1).alarms.push(("CORRUPT".to_owned(), 2))),
        (State::Foreign, |o| {
            down(o, 2, true);
            seen(o, 2).marker = Ok(None);
        }),
    ];
    for (state, spoil) in spoilers {
        let mut observation = cluster(1);
        spoil(&mut observation);
        let decision = decide(&observation, &wanted());
        assert_eq!(decision.state, state, "{decision:?}");
        refusal(&decision);
    }
}

#[test]
fn a_member_that_was_taken_out_is_set_aside_and_joins_anew() {
    let mut observation = cluster(1);
    down(&mut observation, 2, true);
    for node in [1, 3] {
        view(&mut observation, node).list.retain(|peer| peer.id != 2);
    }
    assert_eq!(actions(&decide(&observation, &wanted())), ["db-02: set what is left aside"]);
    down(&mut observation, 2, false);
    assert_eq!(actions(&decide(&observation, &wanted())), ["put db-02 into the list"]);
}

#[test]
fn strangers_go_one_at_a_time_and_only_where_they_are_not_needed() {
    let mut observation = cluster(1);
    for node in 1..=3 {
        view(&mut observation, node).list.extend([peer(4), peer(5)]);
    }
    let decision = decide(&observation, &wanted());
    assert_eq!(actions(&decision), ["take db-04 at http://10.0.0.4:2380 (4) out of the list"]);
    view(&mut observation, 2).trouble = Some("slow".to_owned());
    assert!(refusal(&decide(&observation, &wanted())).contains("cannot be taken out"));
    // One that is out of service is no stranger.
    let mut observation = cluster(1);
    observation.members[2].seen = Err("it is out of service".to_owned());
    let decision = decide(&observation, &Wanted { out: vec![name(3)], ..wanted() });
    assert_eq!((decision.state, &decision.next), (State::Degraded, &Next::Done));
}

#[test]
fn a_new_host_of_the_inventory_joins_alone() {
    let mut observation = cluster(1);
    observation.members.extend([member(4, nothing()), member(5, nothing())]);
    assert_eq!(actions(&decide(&observation, &wanted())), ["put db-04 into the list"]);
    for node in 1..=3 {
        let learner = Peer { learner: true, client_urls: Vec::new(), ..peer(4) };
        view(&mut observation, node).list.push(learner);
    }
    assert_eq!(actions(&decide(&observation, &wanted())), ["db-04: join"]);
}

#[test]
fn changes_go_member_by_member_with_the_keys_saved_and_the_leader_last() {
    let mut observation = cluster(2);
    for node in 1..=3 {
        seen(&mut observation, node).stale.server = vec!["image".to_owned()];
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        let decision = decide(&observation, &wanted());
        let Next::Act(wanted_now) = &decision.next else { panic!("{decision:?}") };
        let [action] = &wanted_now[..] else { panic!("one at a time: {decision:?}") };
        assert_eq!(missing(&observation, &decision), None, "nothing is missing without it");
        order.push(action.to_string());
        match action {
            Action::Save { .. } => observation.saved = true,
            Action::Renew { member } => {
                let node = usize::from(member.as_bytes()[4] - b'0');
                seen(&mut observation, node).stale = Stale::default();
            }
            Action::MoveLeader { id, .. } => {
                let leader = *id;
                (1..=3).for_each(|node| view(&mut observation, node).leader = Some(leader));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        order,
        [
            "db-01: save all keys",
            "db-01: renew etcd",
            "db-03: renew etcd",
            "db-02: let db-01 lead",
            "db-02: renew etcd",
        ]
    );
    assert_eq!(decide(&observation, &wanted()).next, Next::Done);
}

#[test]
fn the_next_waits_until_the_last_is_in_step() {
    type Spoil = fn(&mut Observation);
    let spoilers: [(&str, Spoil); 4] = [
        ("db-01: nothing agreed", |o| view(o, 1).trouble = Some("nothing agreed".to_owned())),
        ("5000 entries behind", |o| view(o, 2).index = 5010),
        ("db-03 does not follow", |o| view(o, 3).leader = None),
        ("etcd on db-03: starts", |o| seen(o, 3).server = Server::Unready("starts".to_owned())),
    ];
    for (text, spoil) in spoilers {
        let mut observation = cluster(2);
        seen(&mut observation, 1).stale.server = vec!["image".to_owned()];
        spoil(&mut observation);
        let decision = decide(&observation, &wanted());
        let Next::Wait { reason, .. } = &decision.next else { panic!("{decision:?}") };
        assert!(reason.contains(text), "{reason}");
    }
}

#[test]
fn an_alarm_is_told_and_forbids_no_renewal() {
    let mut observation = cluster(1);
    view(&mut observation, 2).alarms = vec![("NOSPACE".to_owned(), 3)];
    let decision = decide(&observation, &wanted());
    assert!(refusal(&decision).contains("NOSPACE for db-03"));
    assert!(missing(&observation, &decision).is_some());
    seen(&mut observation, 1).stale.server = vec!["quota".to_owned()];
    assert_eq!(actions(&decide(&observation, &wanted())), ["db-02: save all keys"]);
}

fn any_server() -> impl Strategy<Value = Server> {
    let up = (0..4_u64, any::<bool>(), any::<bool>()).prop_map(|(leader, learner, trouble)| {
        Server::Up(View {
            cluster: 7,
            id: 0,
            leader: (leader > 0).then_some(leader),
            learner,
            index: 10,
            applied: 10,
            trouble: trouble.then(|| "trouble".to_owned()),
            alarms: Vec::new(),
            list: (1..=3).map(peer).collect(),
        })
    });
    prop_oneof![Just(Server::Down), Just(Server::Unready("x".to_owned())), up]
}

proptest! {
    /// Whatever a formed cluster looks like: it is never begun anew, and of its members' data none
    /// is set aside or taken out that the rest could not do without.
    #[test]
    fn a_formed_cluster_keeps_its_majority(
        members in prop::collection::vec((any_server(), any::<bool>(), any::<bool>()), 3),
    ) {
        let mut observation = cluster(1);
        for (node, (server, data, anything)) in (1_u8..).zip(members) {
            let seen = seen(&mut observation, node.into());
            seen.server = server;
            (seen.data, seen.anything) = (data, data || anything);
            if let Server::Up(view) = &mut seen.server {
                view.id = node.into();
            }
        }
        let decision = decide(&observation, &wanted());
        prop_assert!(!begins(&decision));
        if let Next::Act(actions) = &decision.next {
            for action in actions {
                let whose = match action {
                    Action::SetAside { member } => member.clone(),
                    Action::Remove { id, .. } => format!("db-0{id}"),
                    _ => continue,
                };
                let others = observation.members.iter().filter(|member| member.name != whose);
                let kept = others.filter(|member| {
                    member.view().is_some_and(|seen| seen.data) && member.up().is_some()
                });
                prop_assert_eq!(kept.count(), 2, "{}", action);
            }
        }
    }
}
