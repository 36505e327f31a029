//! What is decided for looks that a model does not come to by itself.

use super::action::Action;
use super::decide::{Decided, Wanted, decide, missing};
use super::view::{Control, Member, Observation, Patroni, Seen, Stale, Status, Store};
use crate::cluster::{Formation, Marker, Next, Record, State};
use std::net::Ipv4Addr;

const SYSTEM: u64 = 7_300_000_000_000_000_001;

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(node).unwrap())
}

fn marker(id: &str) -> Marker {
    Marker {
        format: 1,
        cluster: "postgres".to_owned(),
        driver: "patroni".to_owned(),
        id: id.to_owned(),
        created_ms: 0,
    }
}

fn wanted() -> Wanted {
    Wanted { marker: marker("new"), out: Vec::new(), newest: None, sync: 1 }
}

fn nothing() -> Seen {
    Seen {
        marker: Ok(None),
        data: false,
        control: Ok(None),
        patroni: Patroni::Down,
        refuses: None,
        stale: Stale::default(),
        stuck: None,
        restarted_in_vain: false,
    }
}

fn status(leads: bool) -> Status {
    Status {
        state: "running".to_owned(),
        primary: leads,
        sync: !leads,
        streaming: !leads,
        timeline: Some(1),
        position: 100,
        ..Status::default()
    }
}

fn healthy(leads: bool) -> Seen {
    Seen {
        marker: Ok(Some(marker("ours"))),
        data: true,
        control: Ok(Some(Control { system: SYSTEM, timeline: 1, checkpoint: 0x0300_0028 })),
        patroni: Patroni::Up(status(leads)),
        ..nothing()
    }
}

fn observation(members: impl Iterator<Item = Seen>) -> Observation {
    let member = |(at, seen)| Member {
        name: format!("db-0{}", at + 1),
        address: address(at + 1),
        seen: Ok(seen),
    };
    Observation {
        record: Ok(None),
        store: Ok(Store::default()),
        members: members.enumerate().map(member).collect(),
        objects: Vec::new(),
        remarks: Vec::new(),
        dynamic: Vec::new(),
    }
}

fn fresh() -> Observation {
    observation((0..3).map(|_| nothing()))
}

/// A whole cluster that db-01 leads.
fn cluster() -> Observation {
    let mut cluster = observation((0..3).map(|at| healthy(at == 0)));
    cluster.record = Ok(Some(Record {
        marker: marker("ours"),
        formation: Formation::Complete,
        leader: address(1),
        members: (1..=3).map(|node| format!("db-0{node}")).collect(),
    }));
    cluster.store = Ok(Store {
        initialize: Some(SYSTEM.to_string()),
        leader: Some("db-01".to_owned()),
        paused: false,
    });
    cluster
}

fn seen(observation: &mut Observation, node: usize) -> &mut Seen {
    observation.members[node - 1].seen.as_mut().unwrap()
}

fn patroni(observation: &mut Observation, node: usize) -> &mut Status {
    match &mut seen(observation, node).patroni {
        Patroni::Up(status) => status,
        other => panic!("{other:?}"),
    }
}

fn store(observation: &mut Observation) -> &mut Store {
    observation.store.as_mut().unwrap()
}

fn begins(decided: &Decided) -> bool {
    matches!(&decided.next, Next::Act(actions) if matches!(&actions[..],
        [Action::Record(record)] if record.formation == Formation::Begun))
}

#[track_caller]
fn refusal(decided: &Decided) -> &str {
    match &decided.next {
        Next::Refuse(refusal) => &refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn actions(decided: &Decided) -> &[Action] {
    match &decided.next {
        Next::Act(actions) => actions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_a_provably_absent_cluster_is_formed() {
    let decided = decide(&fresh(), &wanted());
    assert_eq!(decided.state, State::Absent);
    assert!(begins(&decided), "{decided:?}");
    type Spoil = fn(&mut Observation);
    let spoilers: [(&str, Spoil); 9] = [
        ("a host that cannot be asked", |o| o.members[2].seen = Err("no route".to_owned())),
        ("data on one host", |o| seen(o, 2).data = true),
        ("a marker on one host", |o| seen(o, 3).marker = Ok(Some(marker("old")))),
        ("a marker that cannot be read", |o| seen(o, 3).marker = Err("torn".to_owned())),
        ("a Patroni that answers", |o| seen(o, 1).patroni = Patroni::Unready("?".to_owned())),
        ("etcd that does not answer", |o| o.store = Err("refused".to_owned())),
        ("etcd that knows the cluster", |o| store(o).initialize = Some("1".to_owned())),
        ("a formation of somebody else", |o| store(o).initialize = Some(String::new())),
        ("a record that cannot be read", |o| o.record = Err("torn".to_owned())),
    ];
    for (what, spoil) in spoilers {
        let mut spoiled = fresh();
        spoil(&mut spoiled);
        assert!(!begins(&decide(&spoiled, &wanted())), "{what}");
    }
    let out = Wanted { out: vec!["db-03".to_owned()], ..wanted() };
    let mut absent = fresh();
    absent.members[2].seen = Err("out of service".to_owned());
    assert!(!begins(&decide(&absent, &out)), "a member out of service");
}

#[test]
fn a_whole_cluster_is_left_alone() {
    let decided = decide(&cluster(), &wanted());
    assert_eq!((decided.state, &decided.next), (State::Healthy, &Next::Done));
    assert_eq!(missing(&cluster(), &decided), None);
}

#[test]
fn another_password_stops_everything_else() {
    let mut other = cluster();
    seen(&mut other, 1).refuses = Some("28P01".to_owned());
    seen(&mut other, 2).stale.daemon.push("container".to_owned());
    assert!(refusal(&decide(&other, &wanted())).contains("the credential differs"));
}

#[test]
fn data_of_two_clusters_is_never_mixed() {
    let mut mixed = cluster();
    seen(&mut mixed, 3).control = Ok(Some(Control { system: 5, timeline: 1, checkpoint: 0 }));
    let decided = decide(&mixed, &wanted());
    assert_eq!(decided.state, State::Foreign);
    assert!(refusal(&decided).contains("5 (db-03)"), "{decided:?}");
    // The same when etcd alone knows another one.
    let mut mixed = cluster();
    store(&mut mixed).initialize = Some("5".to_owned());
    assert!(refusal(&decide(&mixed, &wanted())).contains("5 (etcd)"));
}

#[test]
fn what_etcd_forgot_is_told_with_evidence() {
    let mut lost = cluster();
    *store(&mut lost) = Store::default();
    for node in 1..=3 {
        seen(&mut lost, node).patroni = Patroni::Down;
    }
    seen(&mut lost, 2).control = Ok(Some(Control { system: SYSTEM, timeline: 2, checkpoint: 9 }));
    let decided = decide(&lost, &wanted());
    assert!(refusal(&decided).contains("(db-02: timeline 2, checkpoint 0/00000009; "));
    let named = Wanted { newest: Some("db-02".to_owned()), ..wanted() };
    let start = Action::Start { member: "db-02".to_owned() };
    assert_eq!(actions(&decide(&lost, &named)), [start]);
}

#[test]
fn all_members_that_stopped_are_started_with_their_data() {
    let mut stopped = cluster();
    store(&mut stopped).leader = None;
    for node in 1..=3 {
        seen(&mut stopped, node).patroni = Patroni::Down;
    }
    // One has lost its data: it waits until somebody leads.
    seen(&mut stopped, 3).data = false;
    seen(&mut stopped, 3).control = Ok(None);
    let decided = decide(&stopped, &wanted());
    assert_eq!(decided.state, State::Down);
    let start = |member: &str| Action::Start { member: member.to_owned() };
    assert_eq!(actions(&decided), [start("db-01"), start("db-02")]);
}

#[test]
fn standbys_come_first_and_the_leader_hands_over() {
    let mut stale = cluster();
    patroni(&mut stale, 3).sync = false;
    for node in 1..=3 {
        seen(&mut stale, node).stale.daemon.push("container".to_owned());
    }
    let renew = |member: &str| Action::Renew { member: member.to_owned() };
    assert_eq!(actions(&decide(&stale, &wanted())), [renew("db-03")]);
    seen(&mut stale, 3).stale = Stale::default();
    assert_eq!(actions(&decide(&stale, &wanted())), [renew("db-02")]);
    seen(&mut stale, 2).stale = Stale::default();
    let hand_over = Action::HandOver { from: "db-01".to_owned(), to: "db-02".to_owned() };
    assert_eq!(actions(&decide(&stale, &wanted())), [hand_over]);
    // Not while another member is far behind, and not against somebody's wish.
    patroni(&mut stale, 1).position = 1 << 30;
    assert!(matches!(decide(&stale, &wanted()).next, Next::Wait { .. }));
    store(&mut stale).paused = true;
    assert!(refusal(&decide(&stale, &wanted())).contains("paused"));
}

#[test]
fn lower_limits_begin_with_the_leader() {
    let mut pending = cluster();
    for node in 1..=3 {
        patroni(&mut pending, node).pending_restart = true;
    }
    let restart = |member: &str| Action::Restart { member: member.to_owned() };
    assert_eq!(actions(&decide(&pending, &wanted())), [restart("db-02")]);
    for node in 2..=3 {
        seen(&mut pending, node).restarted_in_vain = true;
    }
    assert_eq!(actions(&decide(&pending, &wanted())), [restart("db-01")]);
}

#[test]
fn the_last_copy_but_one_is_not_moved() {
    let mut stuck = cluster();
    *patroni(&mut stuck, 3) = Status { state: "start failed".to_owned(), ..Status::default() };
    seen(&mut stuck, 3).stuck = Some("PostgreSQL: start failed".to_owned());
    let aside = Action::SetAside { member: "db-03".to_owned() };
    assert_eq!(actions(&decide(&stuck, &wanted())), [aside]);
    *patroni(&mut stuck, 2) = Status { state: "starting".to_owned(), ..Status::default() };
    assert!(matches!(decide(&stuck, &wanted()).next, Next::Wait { .. }), "it is a copy soon");
    *patroni(&mut stuck, 2) = Status { state: "start failed".to_owned(), ..Status::default() };
    seen(&mut stuck, 2).stuck = Some("PostgreSQL: start failed".to_owned());
    assert!(refusal(&decide(&stuck, &wanted())).contains("only full copy"));
}

#[test]
fn an_image_that_damages_data_is_refused_before_anything_is_renewed() {
    let mut forbidden = cluster();
    for node in 1..=3 {
        seen(&mut forbidden, node).stale.daemon.push("container (image)".to_owned());
    }
    seen(&mut forbidden, 2).stale.forbidden.push("its data is of PostgreSQL 15".to_owned());
    assert!(refusal(&decide(&forbidden, &wanted())).contains("PostgreSQL 15"));
}

#[test]
fn a_stopped_member_is_not_started_with_an_image_that_damages_its_data() {
    let mut stopped = cluster();
    store(&mut stopped).leader = None;
    for node in 1..=3 {
        seen(&mut stopped, node).patroni = Patroni::Down;
    }
    seen(&mut stopped, 3).stale.forbidden.push("its data was sorted by glibc".to_owned());
    assert!(refusal(&decide(&stopped, &wanted())).contains("db-03: its data was sorted by glibc"));
    // Nor does an empty one copy with it.
    let mut joining = cluster();
    *seen(&mut joining, 2) = nothing();
    seen(&mut joining, 1).stale.forbidden.push("its data is of PostgreSQL 15".to_owned());
    assert!(refusal(&decide(&joining, &wanted())).contains("db-01: its data is of"));
}

#[test]
fn one_that_runs_beside_the_history_copies_anew() {
    let mut parted = cluster();
    let status = patroni(&mut parted, 3);
    (status.streaming, status.sync) = (false, false);
    // It may only be behind.
    assert!(matches!(decide(&parted, &wanted()).next, Next::Wait { .. }));
    seen(&mut parted, 3).stuck = Some("it has writes up to 0/9".to_owned());
    let decided = decide(&parted, &wanted());
    assert_eq!(actions(&decided), [Action::SetAside { member: "db-03".to_owned() }]);
    assert!(decided.found.contains("0/9; db-01 leads and db-02 has a full copy"), "{decided:?}");
}
