//! What the decision says of states that were seen.

use super::action::Action;
use super::decide::{Wanted, decide, missing};
use super::failing::{Ends, Failing};
use super::view::{Member, Observation, Seen, Server, Stale, View};
use crate::cluster::{Formation, Marker, Next, Record, State};
use proptest::prelude::*;
use std::net::Ipv4Addr;

const NAMES: [&str; 3] = ["queue-01", "queue-02", "queue-03"];

fn marker(id: &str) -> Marker {
    Marker {
        format: 1,
        cluster: "rabbitmq".to_owned(),
        driver: "rabbitmq".to_owned(),
        id: id.to_owned(),
        created_ms: 0,
    }
}

fn wanted() -> Wanted {
    Wanted { marker: marker("new"), out: Vec::new() }
}

fn view() -> View {
    let all = || NAMES.iter().map(|name| (*name).to_owned()).collect();
    View { cluster: "keybuzz".to_owned(), nodes: all(), running: all(), ..View::default() }
}

fn seen() -> Seen {
    Seen {
        marker: Ok(Some(marker("ours"))),
        data: true,
        container: true,
        server: Server::Up(view()),
        taken: Vec::new(),
        stale: Stale::default(),
    }
}

fn empty() -> Seen {
    Seen {
        marker: Ok(None),
        data: false,
        container: false,
        server: Server::Down,
        taken: Vec::new(),
        stale: Stale::default(),
    }
}

fn observation(seen: [Seen; 3], record: Option<Record>) -> Observation {
    let members = NAMES.iter().zip(seen).map(|(name, seen)| Member {
        name: (*name).to_owned(),
        address: Ipv4Addr::LOCALHOST,
        seen: Ok(seen),
    });
    Observation { record: Ok(record), members: members.collect() }
}

fn record(formation: Formation) -> Option<Record> {
    Some(Record {
        marker: marker("ours"),
        formation,
        leader: Ipv4Addr::LOCALHOST,
        members: NAMES.iter().map(|name| (*name).to_owned()).collect(),
    })
}

fn whole(seen: [Seen; 3]) -> Observation {
    observation(seen, record(Formation::Complete))
}

fn actions(observation: &Observation) -> Vec<String> {
    match decide(observation, &wanted()).next {
        Next::Act(actions) => actions.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn refusal(observation: &Observation) -> (State, String) {
    let decision = decide(observation, &wanted());
    match decision.next {
        Next::Refuse(refusal) => (decision.state, refusal.reason),
        other => panic!("{other:?}"),
    }
}

fn up(change: impl Fn(&mut View)) -> Seen {
    let mut view = view();
    change(&mut view);
    Seen { server: Server::Up(view), ..seen() }
}

#[test]
fn a_whole_cluster_is_left_alone() {
    let decision = decide(&whole([seen(), seen(), seen()]), &wanted());
    assert_eq!((decision.state, decision.next), (State::Healthy, Next::Done));
}

#[test]
fn members_join_one_after_the_other() {
    let begun = |seen| observation(seen, record(Formation::Begun));
    let marked = Seen { marker: Ok(Some(marker("ours"))), ..empty() };
    let alone = up(|view| {
        view.nodes = ["queue-01".to_owned()].into();
        view.running.clone_from(&view.nodes);
    });
    assert_eq!(actions(&begun([empty(), empty(), empty()])), ["queue-01: make a node"]);
    assert_eq!(actions(&begun([alone, marked, empty()])), ["queue-02: make a node"]);
}

#[test]
fn all_start_at_the_same_time_after_a_full_stop() {
    let stopped = || Seen { server: Server::Down, ..seen() };
    let wanted = NAMES.map(|name| format!("{name}: start the node as it was"));
    assert_eq!(actions(&whole([stopped(), stopped(), stopped()])), wanted);
}

#[test]
fn a_member_without_data_is_forgotten_and_joins_anew() {
    let two = || {
        up(|view| {
            view.running.remove("queue-03");
        })
    };
    let shell = Seen { data: false, server: Server::Down, ..seen() };
    let bare = Seen { container: false, ..shell.clone() };
    assert_eq!(
        actions(&whole([two(), two(), shell])),
        ["queue-03: remove the container without data"]
    );
    assert_eq!(
        actions(&whole([two(), two(), bare.clone()])),
        ["queue-01: forget queue-03, which has no data"]
    );
    let forgot = || {
        up(|view| {
            view.nodes.remove("queue-03");
            view.running.remove("queue-03");
        })
    };
    assert_eq!(actions(&whole([forgot(), forgot(), bare.clone()])), ["queue-03: make a node"]);
    let without = || Seen { server: Server::Down, data: false, container: false, ..seen() };
    let alone = up(|view| view.running = ["queue-01".to_owned()].into());
    let (state, reason) = refusal(&whole([alone, without(), bare]));
    assert_eq!(state, State::Degraded);
    assert!(reason.contains("only 1 of 3 nodes run"), "{reason}");
}

#[test]
fn queues_get_their_copies_back() {
    let lacking = || {
        up(|view| {
            view.uncopied.insert("queue-02".to_owned());
        })
    };
    let found = whole([lacking(), lacking(), lacking()]);
    assert_eq!(actions(&found), ["queue-02: copies of the quorum queues"]);
    assert!(missing(&found, &decide(&found, &wanted())).is_some());
}

#[test]
fn two_clusters_are_a_split() {
    let alone = |name: &str| {
        up(|view| {
            view.nodes = [name.to_owned()].into();
            view.running = [name.to_owned()].into();
        })
    };
    let (state, reason) = refusal(&whole([alone(NAMES[0]), alone(NAMES[1]), seen()]));
    assert_eq!(state, State::Split);
    assert!(reason.contains("nodes of two clusters (queue-01 and queue-02)"), "{reason}");
    // The others still know it, and it began anew without them.
    let anew = up(|view| {
        view.cluster = "another".to_owned();
        view.nodes = ["queue-03".to_owned()].into();
    });
    let (state, _) = refusal(&whole([seen(), seen(), anew]));
    assert_eq!(state, State::Split);
}

#[test]
fn a_node_that_is_no_member_is_somebody_elses() {
    let odd = || {
        up(|view| {
            view.nodes.insert("queue-9".to_owned());
        })
    };
    let (state, reason) = refusal(&whole([odd(), odd(), odd()]));
    assert_eq!(state, State::Foreign);
    assert!(reason.contains("has a node on queue-9"), "{reason}");
}

#[test]
fn a_cookie_is_mended_on_one_node_and_never_changed_on_all() {
    let other = |seen: Seen| Seen { stale: Stale { cookie: true, ..Stale::default() }, ..seen };
    let waits = other(Seen { server: Server::Unready("it starts".to_owned()), ..seen() });
    let two = || {
        up(|view| {
            view.running.remove("queue-02");
        })
    };
    assert_eq!(actions(&whole([two(), waits, two()])), ["queue-02: start the node as it was"]);
    let (_, reason) = refusal(&whole([other(seen()), other(seen()), other(seen())]));
    assert!(reason.contains("RABBITMQ_ERLANG_COOKIE"), "{reason}");
}

fn fails() -> Server {
    let ends = Ends { waits: true, restarts: 4, exit: 1, memory: false };
    Server::Fails(Failing { ends, words: "bad schema".to_owned() })
}

#[test]
fn a_node_that_ends_again_and_again_is_not_waited_for() {
    let two = || {
        up(|view| {
            view.running.remove("queue-02");
        })
    };
    let failing = Seen { server: fails(), ..seen() };
    let (state, reason) = refusal(&whole([two(), failing.clone(), two()]));
    assert_eq!(state, State::Degraded);
    let wanted = "RabbitMQ on queue-02 does not stay up: it ended 4 times, the last time with exit code 1: bad schema";
    assert_eq!(reason, wanted);
    // Others that only stopped are started first: it may have failed for want of them.
    let stopped = || Seen { server: Server::Down, ..seen() };
    let found = whole([stopped(), failing.clone(), stopped()]);
    assert_eq!(
        actions(&found),
        ["queue-01: start the node as it was", "queue-03: start the node as it was"]
    );
    // What the role would change is tried before anybody gives up.
    let stale = Stale { files: vec!["10-keybuzz.conf".to_owned()], ..Stale::default() };
    let found = whole([two(), Seen { stale, ..failing }, two()]);
    assert_eq!(actions(&found), ["queue-02: start the node as it was"]);
    // In the middle of a formation, too.
    let blank = Seen { server: fails(), container: true, ..empty() };
    let (state, _) = refusal(&observation([blank, empty(), empty()], record(Formation::Begun)));
    assert_eq!(state, State::Forming);
}

#[test]
fn one_node_at_a_time_is_renewed_and_features_come_first() {
    let stale = |seen: Seen| Seen {
        stale: Stale { files: vec!["10-keybuzz.conf".to_owned()], ..Stale::default() },
        ..seen
    };
    assert_eq!(
        actions(&whole([seen(), stale(seen()), stale(seen())])),
        ["queue-02: drain and renew"]
    );
    let late = up(|view| {
        view.features.insert("stream_queue".to_owned());
    });
    assert_eq!(
        actions(&whole([late, stale(seen()), seen()])),
        ["queue-01: put the version's features into use"]
    );
    let full = up(|view| {
        view.alarms.insert("disk".to_owned());
    });
    let (_, reason) = refusal(&whole([full, stale(seen()), seen()]));
    assert!(reason.contains("has an alarm: disk"), "{reason}");
}

#[test]
fn a_wrong_password_changes_nothing() {
    let refuses = Seen { server: Server::Refuses("status 401".to_owned()), ..seen() };
    let (state, reason) = refusal(&whole([seen(), refuses, seen()]));
    assert_eq!(state, State::Unknown);
    assert!(reason.contains("does not take RABBITMQ_ADMIN_PASSWORD"), "{reason}");
}

#[test]
fn a_port_that_another_has_is_found_before_anything_is_written_down() {
    let taken = || Seen { taken: vec!["0.0.0.0:4369 (epmd, pid=812)".to_owned()], ..empty() };
    let (state, reason) = refusal(&observation([empty(), taken(), empty()], None));
    assert_eq!(state, State::Foreign);
    assert!(reason.contains("queue-02") && reason.contains("epmd, pid=812"), "{reason}");
    let stopped = Seen { server: Server::Down, taken: taken().taken, ..seen() };
    let (_, reason) = refusal(&whole([seen(), seen(), stopped]));
    assert!(reason.contains("queue-03"), "{reason}");
}

fn any_seen() -> impl Strategy<Value = Seen> {
    let server = prop_oneof![
        Just(Server::Down),
        Just(Server::Unready("it starts".to_owned())),
        Just(fails()),
        Just(Server::Up(view())),
    ];
    let marker = prop_oneof![Just(Ok(None)), Just(Ok(Some(marker("ours"))))];
    (marker, any::<bool>(), any::<bool>(), server, any::<bool>()).prop_map(
        |(marker, data, container, server, cookie)| Seen {
            marker,
            data,
            container,
            server,
            taken: Vec::new(),
            stale: Stale { cookie, ..Stale::default() },
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_formed_unless_everything_was_seen_to_be_empty(
        seen in [any_seen(), any_seen(), any_seen()], lost: bool, known: bool,
    ) {
        let mut found = observation(seen, known.then(|| record(Formation::Complete)).flatten());
        if lost {
            found.members[1].seen = Err("no connection".to_owned());
        }
        let decision = decide(&found, &wanted());
        let begins = matches!(&decision.next, Next::Act(actions)
            if actions.iter().any(|action| matches!(action,
                Action::Record(record) if record.formation == Formation::Begun)));
        prop_assert_eq!(begins, decision.state == State::Absent);
        if begins {
            prop_assert!(!known && !lost);
            let empty = |seen: &Seen| {
                let idle = !seen.container && seen.server == Server::Down;
                idle && !seen.data && seen.marker == Ok(None)
            };
            let all = found.members.iter().filter_map(Member::view).all(empty);
            prop_assert!(all);
        }
        if lost {
            prop_assert!(matches!(decision.next, Next::Refuse(_)), "{:?}", decision);
        }
    }
}
