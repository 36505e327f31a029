//! What is decided for looks that a model does not come to by itself.

use super::action::{Action, Part};
use super::decide::{Wanted, decide};
use super::view::{
    Member, Observation, Role, Seen, Sentinel, SentinelView, Server, ServerView, Stale,
};
use crate::cluster::{Decision, Formation, Marker, Next, Record, State};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, node)
}

fn marker(id: &str) -> Marker {
    Marker {
        format: 1,
        cluster: "redis".to_owned(),
        driver: "redis-sentinel".to_owned(),
        id: id.to_owned(),
        created_ms: 0,
    }
}

fn wanted() -> Wanted {
    Wanted { marker: marker("new"), settle: Duration::from_secs(90), out: Vec::new() }
}

fn record(formation: Formation) -> Record {
    Record {
        marker: marker("ours"),
        formation,
        leader: address(1),
        members: (1..=3).map(|node| format!("redis-0{node}")).collect(),
    }
}

fn nothing() -> Seen {
    Seen {
        marker: Ok(None),
        data: false,
        server_config: false,
        sentinel_config: false,
        server: Server::Down,
        sentinel: Sentinel::Down,
        stale: Stale::default(),
    }
}

fn member(node: u8, seen: Seen) -> Member {
    Member { name: format!("redis-0{node}"), address: address(node), seen: Ok(seen) }
}

/// A healthy member; `leader` leads.
fn healthy(node: u8, leader: u8) -> Seen {
    let role = if node == leader {
        Role::Master((1..=3).filter(|other| *other != leader).map(address).collect())
    } else {
        Role::Replica { of: Some(address(leader)), linked: true }
    };
    Seen {
        marker: Ok(Some(marker("ours"))),
        data: true,
        server_config: true,
        sentinel_config: true,
        server: Server::Up(ServerView { role, replid: "r".to_owned(), offset: 7 }),
        sentinel: Sentinel::Up(SentinelView {
            held: false,
            id: node.to_string(),
            master: Some(address(leader)),
            unsettled: false,
            replicas: 2,
            others: 2,
            quorum: true,
        }),
        stale: Stale::default(),
    }
}

fn cluster(leader: u8) -> Observation {
    Observation {
        record: Ok(Some(record(Formation::Complete))),
        members: (1..=3).map(|node| member(node, healthy(node, leader))).collect(),
    }
}

fn fresh() -> Observation {
    Observation { record: Ok(None), members: (1..=3).map(|node| member(node, nothing())).collect() }
}

fn seen(observation: &mut Observation, node: usize) -> &mut Seen {
    observation.members[node - 1].seen.as_mut().unwrap()
}

fn refused(decision: &Decision<Action>) -> bool {
    matches!(decision.next, Next::Refuse(_))
}

fn begins(decision: &Decision<Action>) -> bool {
    matches!(&decision.next, Next::Act(actions) if actions.iter().any(|action| {
        matches!(action, Action::Record(record) if record.formation == Formation::Begun)
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
        ("data on one host", |o| seen(o, 2).data = true),
        ("a marker on one host", |o| seen(o, 3).marker = Ok(Some(marker("old")))),
        ("a marker that cannot be read", |o| seen(o, 3).marker = Err("torn".to_owned())),
        ("a Redis that answers", |o| seen(o, 1).server = Server::Unready("hangs".to_owned())),
        ("a Sentinel that answers", |o| seen(o, 1).sentinel = healthy(1, 1).sentinel),
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
fn whoever_leads_is_kept() {
    for leader in 1..=3 {
        let decision = decide(&cluster(leader), &wanted());
        assert_eq!(decision.state, State::Healthy);
        assert_eq!(decision.found, format!("redis-0{leader} is master: kept"));
        assert_eq!(decision.next, Next::Done);
    }
}

#[test]
fn a_wrong_password_stops_everything_before_a_change() {
    let mut observation = cluster(1);
    seen(&mut observation, 2).server = Server::Refuses("WRONGPASS".to_owned());
    seen(&mut observation, 3).stale.files = vec!["static.conf".to_owned()];
    assert!(refused(&decide(&observation, &wanted())));
}

#[test]
fn every_data_directory_empty_after_the_formation_is_a_disaster() {
    let mut observation = fresh();
    observation.record = Ok(Some(record(Formation::Complete)));
    let decision = decide(&observation, &wanted());
    assert!(refused(&decision), "{decision:?}");
    assert_eq!(decision.state, State::Down);
}

#[test]
fn a_foreign_marker_a_twin_sentinel_and_two_histories_stop_the_run() {
    let mut observation = cluster(1);
    seen(&mut observation, 3).marker = Ok(Some(marker("theirs")));
    assert_eq!(decide(&observation, &wanted()).state, State::Foreign);

    let mut observation = cluster(1);
    if let Sentinel::Up(view) = &mut seen(&mut observation, 3).sentinel {
        view.id = "1".to_owned();
    }
    assert_eq!(decide(&observation, &wanted()).state, State::Split);

    let mut observation = cluster(1);
    for node in 1..=3 {
        seen(&mut observation, node).sentinel = Sentinel::Unready("hangs".to_owned());
    }
    seen(&mut observation, 3).server = healthy(3, 3).server;
    let decision = decide(&observation, &wanted());
    assert_eq!((decision.state, refused(&decision)), (State::Split, true));
}

#[test]
fn a_wiped_member_joins_the_live_master_and_not_the_inventory_s_first() {
    let mut observation = cluster(2);
    *seen(&mut observation, 1) = nothing();
    let decision = decide(&observation, &wanted());
    let Next::Act(actions) = decision.next else { panic!("{decision:?}") };
    assert_eq!(
        actions,
        vec![Action::Create {
            member: "redis-01".to_owned(),
            leader: address(2),
            part: Part::Server,
            forming: false,
        }]
    );
}

#[test]
fn a_member_that_lost_its_data_does_not_begin_with_the_file_of_its_former_life() {
    let mut observation = cluster(2);
    let old_master = seen(&mut observation, 1);
    old_master.data = false;
    old_master.server = Server::Down;
    let decision = decide(&observation, &wanted());
    let aside = Action::SetAside { member: "redis-01".to_owned() };
    assert_eq!(decision.next, Next::Act(vec![aside]));
}

#[test]
fn nothing_is_started_beside_a_master_that_not_every_sentinel_knows_yet() {
    let mut observation = cluster(2);
    let old_master = seen(&mut observation, 1);
    old_master.server = Server::Down;
    if let Sentinel::Up(view) = &mut old_master.sentinel {
        view.master = Some(address(1));
    }
    *seen(&mut observation, 3) = nothing();
    let decision = decide(&observation, &wanted());
    assert!(matches!(decision.next, Next::Wait { .. }), "{decision:?}");
}

#[test]
fn an_old_master_that_is_not_demoted_yet_is_waited_for() {
    let mut observation = cluster(2);
    seen(&mut observation, 1).server = healthy(1, 1).server;
    let decision = decide(&observation, &wanted());
    assert!(matches!(decision.next, Next::Wait { .. }), "{decision:?}");
}

#[test]
fn changes_go_to_replicas_first_and_to_the_leader_after_it_handed_over() {
    let mut observation = cluster(2);
    for node in 1..=3 {
        seen(&mut observation, node).stale.server = vec!["image".to_owned()];
    }
    let mut order = Vec::new();
    loop {
        match decide(&observation, &wanted()).next {
            Next::Act(actions) => {
                assert_eq!(actions.len(), 1, "one member at a time");
                match &actions[0] {
                    Action::Renew { member, part: Part::Server } => {
                        order.push(member.clone());
                        let node: usize = member.strip_prefix("redis-0").unwrap().parse().unwrap();
                        seen(&mut observation, node).stale = Stale::default();
                    }
                    Action::HandOver { from } => {
                        order.push(format!("{from} hands over"));
                        let stale = observation.members[1].view().unwrap().stale.clone();
                        observation = cluster(1);
                        seen(&mut observation, 2).stale = stale;
                    }
                    other => panic!("{other:?}"),
                }
            }
            Next::Done => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(order, ["redis-01", "redis-03", "redis-02 hands over", "redis-02"]);
}

#[test]
fn a_master_whose_data_directory_is_gone_hands_over_or_keeps_running() {
    let mut observation = cluster(1);
    seen(&mut observation, 1).data = false;
    let decision = decide(&observation, &wanted());
    let hand_over = Action::HandOver { from: "redis-01".to_owned() };
    assert_eq!(decision.next, Next::Act(vec![hand_over]));
    for node in 2..=3 {
        seen(&mut observation, node).data = false;
    }
    assert!(refused(&decide(&observation, &wanted())), "its memory is the only copy");
}

/// Found by the model: a node that still believes in itself as master of long ago, and one that
/// still follows it, took writes together which the true master never saw.
#[test]
fn after_a_full_stop_the_true_master_starts_first_and_the_others_one_by_one() {
    let started = |observation: &Observation| match decide(observation, &wanted()).next {
        Next::Act(actions) => actions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        Next::Wait { reason, .. } => vec![reason],
        other => panic!("{other:?}"),
    };
    let mut observation = cluster(2);
    for node in 1..=3 {
        seen(&mut observation, node).server = Server::Down;
        seen(&mut observation, node).sentinel = Sentinel::Down;
    }
    let sentinels = (1..=3).map(|node| format!("redis-0{node}: start Sentinel as it was"));
    assert_eq!(started(&observation), sentinels.collect::<Vec<_>>());
    for node in 1..=3 {
        seen(&mut observation, node as usize).sentinel = healthy(node, 2).sentinel;
    }
    assert_eq!(started(&observation), ["redis-02: start Redis as it was"]);
    seen(&mut observation, 2).server = healthy(2, 2).server;
    assert_eq!(started(&observation), ["redis-01: start Redis as it was"]);
    seen(&mut observation, 1).server = healthy(1, 1).server;
    assert_eq!(
        started(&observation),
        ["redis-01 still says that it is the master; the Sentinels will make it follow"]
    );
    seen(&mut observation, 1).server = healthy(1, 2).server;
    assert_eq!(started(&observation), ["redis-03: start Redis as it was"]);
}

/// Found by the model: a run cut off between two starts left one that was behind to be elected.
#[test]
fn after_a_full_stop_without_the_master_s_data_nobody_is_elected_before_all_are_there() {
    let does = |observation: &Observation| match decide(observation, &wanted()).next {
        Next::Act(actions) => actions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        Next::Wait { reason, .. } => vec![reason],
        other => panic!("{other:?}"),
    };
    let watched = |observation: &mut Observation, held: bool, unsettled: bool| {
        for node in 1..=3 {
            let Sentinel::Up(view) = healthy(node, 2).sentinel else { panic!("it answers") };
            let view = SentinelView { held, unsettled, ..view };
            seen(observation, node as usize).sentinel = Sentinel::Up(view);
        }
    };
    let each =
        |what: &str| (1..=3).map(|node| format!("redis-0{node}: {what}")).collect::<Vec<_>>();
    let mut observation = cluster(2);
    for node in 1..=3 {
        seen(&mut observation, node).server = Server::Down;
    }
    seen(&mut observation, 2).data = false;
    assert_eq!(does(&observation), each("Sentinel elects nobody for now"));
    watched(&mut observation, true, true);
    assert_eq!(does(&observation), ["Sentinel on redis-01 still takes the master for down"]);
    watched(&mut observation, true, false);
    let both = ["redis-01: start Redis as it was", "redis-03: start Redis as it was"];
    assert_eq!(does(&observation), both);
    seen(&mut observation, 1).server = healthy(1, 2).server;
    assert_eq!(does(&observation), both[1..]);
    seen(&mut observation, 3).server = healthy(3, 2).server;
    assert_eq!(does(&observation), each("Sentinel may elect again"));
    watched(&mut observation, false, true);
    assert!(matches!(decide(&observation, &wanted()).next, Next::Wait { .. }));
}

/// The third member is out of service.
fn without_third() -> Wanted {
    Wanted { out: vec!["redis-03".to_owned()], ..wanted() }
}

fn absent(mut observation: Observation) -> Observation {
    observation.members[2].seen = Err("it is not connected".to_owned());
    observation
}

#[test]
fn a_healthy_cluster_with_a_member_out_of_service_is_left_as_it_is() {
    let observation = absent(cluster(1));
    let decision = decide(&observation, &without_third());
    assert_eq!((decision.state, &decision.next), (State::Degraded, &Next::Done));
    assert!(decision.found.contains("redis-01 is master: kept; redis-03 is out of service"));
    // No other may go away now.
    let missing = super::decide::missing(&observation, &decision).unwrap();
    assert_eq!(missing, "it is not whole: redis-03 is out of service");
    // One that nobody declared absent is missing.
    assert_eq!(decide(&observation, &wanted()).state, State::Unknown);
}

#[test]
fn sentinels_may_have_forgotten_a_member_that_is_out_of_service() {
    for (replicas, others) in [(2, 2), (1, 1)] {
        let mut observation = absent(cluster(1));
        for node in [1, 2] {
            if let Sentinel::Up(view) = &mut seen(&mut observation, node).sentinel {
                (view.replicas, view.others) = (replicas, others);
            }
        }
        assert_eq!(decide(&observation, &without_third()).next, Next::Done);
    }
}

#[test]
fn with_a_member_out_of_service_no_cluster_is_formed_or_renewed() {
    let decision = decide(&absent(fresh()), &without_third());
    assert_eq!(decision.state, State::Absent);
    assert!(refused(&decision), "{decision:?}");
    let mut observation = absent(cluster(1));
    seen(&mut observation, 2).stale.server.push("container redis".to_owned());
    let decision = decide(&observation, &without_third());
    assert!(refused(&decision), "{decision:?}");
    let Next::Refuse(refusal) = decision.next else { return };
    assert!(
        refusal.reason.contains("with redis-03 out of service this is not done"),
        "{refusal:?}"
    );
    assert!(refusal.hint.contains("strata hosts in redis-03"), "{refusal:?}");
}

fn any_seen() -> impl Strategy<Value = Seen> {
    (0_u8..3, any::<bool>(), any::<bool>(), any::<bool>(), 0_u8..4, 0_u8..3, 1_u8..4).prop_map(
        |(marked, data, server_config, sentinel_config, server, sentinel, leader)| {
            let whole = healthy(1, leader);
            Seen {
                marker: match marked {
                    0 => Ok(None),
                    1 => Ok(Some(marker("ours"))),
                    _ => Err("torn".to_owned()),
                },
                data,
                server_config,
                sentinel_config,
                server: match server {
                    0 => Server::Down,
                    1 => Server::Unready("hangs".to_owned()),
                    2 => Server::Refuses("WRONGPASS".to_owned()),
                    _ => whole.server,
                },
                sentinel: match sentinel {
                    0 => Sentinel::Down,
                    1 => Sentinel::Unready("hangs".to_owned()),
                    _ => whole.sentinel,
                },
                stale: Stale::default(),
            }
        },
    )
}

proptest! {
    /// Whatever is found of the others: with a member out of service nothing is done.
    #[test]
    fn nothing_is_done_with_a_member_out_of_service(
        members in prop::collection::vec(
            prop_oneof![4 => any_seen().prop_map(Ok), 1 => Just(Err("no route".to_owned()))], 3),
        out in prop::sample::subsequence(vec![1_u8, 2, 3], 1..=3),
        known in 0_u8..3,
    ) {
        let members = members.into_iter().zip(1..).map(|(seen, node)| Member {
            name: format!("redis-0{node}"),
            address: address(node),
            seen: if out.contains(&node) { Err("it is not connected".to_owned()) } else { seen },
        });
        let record = match known {
            0 => None,
            1 => Some(record(Formation::Begun)),
            _ => Some(record(Formation::Complete)),
        };
        let observation = Observation { record: Ok(record), members: members.collect() };
        let out = out.into_iter().map(|node| format!("redis-0{node}")).collect();
        let decision = decide(&observation, &Wanted { out, ..wanted() });
        prop_assert!(!matches!(decision.next, Next::Act(_)), "{:?}", decision);
        if decision.next == Next::Done {
            prop_assert!(super::decide::missing(&observation, &decision).is_some());
        }
    }

    #[test]
    fn a_formation_begins_only_from_nothing_at_all(
        members in prop::collection::vec(
            prop_oneof![any_seen().prop_map(Ok), Just(Err("no route".to_owned()))], 3),
        known in 0_u8..4,
    ) {
        let members: Vec<Member> = members
            .into_iter()
            .zip(1..)
            .map(|(seen, node)| Member {
                name: format!("redis-0{node}"), address: address(node), seen,
            })
            .collect();
        let record = match known {
            0 => Ok(None),
            1 => Ok(Some(record(Formation::Begun))),
            2 => Ok(Some(record(Formation::Complete))),
            _ => Err("torn".to_owned()),
        };
        let observation = Observation { record, members };
        let absent = observation.record == Ok(None)
            && observation.members.iter().all(|member| member.view().is_some_and(|seen| {
                seen.marker == Ok(None) && !seen.data
                    && seen.server == Server::Down && seen.sentinel == Sentinel::Down
            }));
        prop_assert_eq!(begins(&decide(&observation, &wanted())), absent);
    }
}
