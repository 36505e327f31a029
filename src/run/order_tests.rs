use super::*;
use crate::diag::{Diagnostics, Source};
use crate::site::{Profile, config};
use proptest::prelude::*;
use std::path::Path;

const NAMES: [&str; 6] = ["l0", "l1", "l2", "l3", "l4", "l5"];
const HOSTS: [&str; 4] = ["a", "b", "c", "d"];

fn standing(index: usize, below: Vec<usize>, hosts: &[&'static str]) -> Standing<'static> {
    let hosts = hosts.iter().copied().collect();
    Standing { name: NAMES[index], below, hosts, by_itself: false }
}

fn order(most: usize, layers: Vec<Standing<'static>>) -> Order<'static> {
    Order { layers, most }
}

#[test]
fn layers_without_a_common_host_are_in_hand_together() {
    let layers = vec![
        standing(0, vec![], &["a", "b", "c"]),
        standing(1, vec![0], &["a"]),
        standing(2, vec![0], &["b"]),
        standing(3, vec![0, 1], &["c"]),
        standing(4, vec![0], &["b", "c"]),
    ];
    let together: [&[&str]; 3] = [&["l0"], &["l1", "l2"], &["l3"]];
    let all = order(9, layers.clone()).together();
    assert_eq!(all[..3], together);
    assert_eq!(all[3], ["l4"], "it does not overtake l3 on host c");
    let one_by_one = order(1, layers).together();
    assert_eq!(one_by_one, [["l0"], ["l1"], ["l2"], ["l3"], ["l4"]]);
}

#[test]
fn a_gate_that_wants_to_be_alone_comes_before_further_layers() {
    let order = order(
        3,
        vec![standing(0, vec![], &["a"]), standing(1, vec![], &["b"]), standing(2, vec![], &["c"])],
    );
    let mut states = [State::Ready, State::Working, State::Waiting];
    assert_eq!(order.next(&states), None);
    assert!(!order.may_be_alone(0, &states));
    states[1] = State::Ready;
    assert!(order.may_be_alone(0, &states) && !order.may_be_alone(1, &states));
    states[0] = State::Alone;
    assert!(!order.may_be_alone(1, &states));
    assert_eq!(order.next(&states), None);
    states[0] = State::Done;
    assert!(order.may_be_alone(1, &states));
    states[1] = State::Failed;
    assert_eq!(order.next(&states), Some(Next::Begin(2)));
}

#[test]
fn what_requires_a_failed_layer_is_left_out_and_says_of_which() {
    let layers = (0..4).map(|index| {
        let below = if index < 3 { (0..index).collect() } else { vec![] };
        standing(index, below, &["a"])
    });
    let order = order(1, layers.collect());
    let mut states = vec![State::Failed, State::Waiting, State::Waiting, State::Waiting];
    assert_eq!(order.next(&states), Some(Next::Skip(1, 0)));
    states[1] = State::Failed;
    assert_eq!(order.next(&states), Some(Next::Skip(2, 1)), "the nearest is named");
    states[2] = State::Failed;
    assert_eq!(order.next(&states), Some(Next::Begin(3)));
}

/// The repository's site with other layers.
fn site(layers: &str) -> Site {
    let text = format!("site = \"s\"\noperator = \"install-01\"\n{layers}");
    let mut problems = Diagnostics::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut site = Site::load(root, Profile::Production, &mut problems).unwrap();
    let mut problems = Diagnostics::new();
    site.config = config::read(&Source::new("strata.toml", text), &mut problems).unwrap();
    assert!(!problems.has_errors(), "{problems:?}");
    site
}

#[test]
fn the_site_says_who_stands_where_and_on_what() {
    let layer = |name: &str, requires: &str, role: &str, group: &str| {
        format!(
            "[[layer]]\nname = \"{name}\"\nrequires = [{requires}]\nplace = [{{ role = \"{role}\", on = \"{group}\" }}]\n"
        )
    };
    let site = site(
        &[
            layer("base", "", "base", "all"),
            layer("db", "\"base\"", "base", "db"),
            // Its driver looks at every Redis, wherever the role was placed.
            layer("redis", "\"base\"", "redis", "k3s"),
            layer("rest", "\"base\"", "base", "queue"),
            layer("above", "\"db\"", "base", "minio"),
            layer("seat", "\"base\"", "base", "operator"),
        ]
        .concat(),
    );
    let layers: Vec<&Layer> = site.config.layers.iter().collect();
    let order = Order::new(&site, &layers, 8);
    assert!(order.layers[2].hosts.contains("redis-01"));
    assert_eq!(order.layers[4].below, [0, 1]);
    let all = order.together();
    assert_eq!(all[0], ["base"]);
    assert_eq!(all[1], ["db", "redis", "rest"]);
    assert_eq!(all[2], ["above"]);
    assert_eq!(all[3], ["seat"]);
    // What a layer requires through one that is not of the run counts too.
    let some: Vec<&Layer> =
        layers.iter().copied().filter(|layer| ["base", "above"].contains(&&*layer.name)).collect();
    assert_eq!(Order::new(&site, &some, 8).layers[1].below, [0]);
}

fn layers() -> impl Strategy<Value = Vec<Standing<'static>>> {
    let one =
        (prop::collection::vec(prop::bool::weighted(0.3), 6), 0..16_u8, prop::bool::weighted(0.1));
    prop::collection::vec(one, 1..=6).prop_map(|layers| {
        let mut all: Vec<Standing<'static>> = Vec::new();
        for (index, (requires, hosts, by_itself)) in layers.into_iter().enumerate() {
            let mut below: BTreeSet<usize> = BTreeSet::new();
            for other in (0..index).filter(|other| requires[*other]) {
                below.insert(other);
                below.extend(&all[other].below);
            }
            let here: Vec<&str> =
                (0..4).filter(|bit| hosts & (1 << bit) != 0).map(|bit| HOSTS[bit]).collect();
            let one = standing(index, below.into_iter().collect(), &here);
            all.push(Standing { by_itself, ..one });
        }
        all
    })
}

/// What a layer does on its way, drawn before the run.
#[derive(Debug, Clone, Copy)]
struct Fate {
    fails: bool,
    wants_to_be_alone: bool,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let one = (prop::bool::weighted(0.2), any::<bool>());
    prop::collection::vec(
        one.prop_map(|(fails, wants_to_be_alone)| Fate { fails, wants_to_be_alone }),
        6,
    )
}

/// What holds at every moment.
fn sound(order: &Order<'_>, states: &[State]) -> Result<(), TestCaseError> {
    let in_hand: Vec<usize> = (0..states.len()).filter(|at| states[*at].in_hand()).collect();
    prop_assert!(in_hand.len() <= order.most, "{states:?}");
    for (number, one) in in_hand.iter().enumerate() {
        for below in &order.layers[*one].below {
            prop_assert_eq!(states[*below], State::Done, "{} was begun too early", one);
        }
        for other in &in_hand[number + 1..] {
            let (one, other) = (&order.layers[*one], &order.layers[*other]);
            prop_assert!(one.hosts.is_disjoint(&other.hosts), "{one:?} beside {other:?}");
            prop_assert!(!one.by_itself && !other.by_itself, "{one:?} beside {other:?}");
        }
    }
    let alone = states.iter().filter(|state| **state == State::Alone).count();
    let working = states.iter().filter(|state| **state == State::Working).count();
    prop_assert!(alone == 0 || (alone, working) == (1, 0), "{states:?}");
    Ok(())
}

/// Runs all layers; whoever is in hand goes on in an order that `picks` says. Gives what was begun
/// and left out, in order.
fn run(order: &Order<'_>, fates: &[Fate], picks: &[usize]) -> Result<Vec<Next>, TestCaseError> {
    let mut states = vec![State::Waiting; order.layers.len()];
    let mut said = Vec::new();
    for turn in 0.. {
        while let Some(next) = order.next(&states) {
            match next {
                Next::Begin(index) => states[index] = State::Working,
                Next::Skip(index, below) => {
                    prop_assert_eq!(states[below], State::Failed);
                    prop_assert!(order.layers[index].below.contains(&below));
                    states[index] = State::Failed;
                }
            }
            said.push(next);
            sound(order, &states)?;
        }
        let may_go_on: Vec<usize> = (0..states.len())
            .filter(|index| match states[*index] {
                State::Working | State::Alone => true,
                State::Ready => order.may_be_alone(*index, &states),
                State::Waiting | State::Done | State::Failed => false,
            })
            .collect();
        if may_go_on.is_empty() {
            break;
        }
        let index = may_go_on[picks[turn % picks.len()] % may_go_on.len()];
        let fate = fates[index];
        states[index] = match states[index] {
            State::Working if fate.wants_to_be_alone => State::Ready,
            State::Ready => State::Alone,
            _ if fate.fails => State::Failed,
            _ => State::Done,
        };
        sound(order, &states)?;
    }
    let ended = states.iter().all(|state| matches!(state, State::Done | State::Failed));
    prop_assert!(ended, "a layer was never begun: {states:?}");
    Ok(said)
}

proptest! {
    /// However long each takes and whatever fails: no two on one host, none before what it requires,
    /// none forgotten, and no fault beside anything else.
    #[test]
    fn every_layer_has_its_time(
        layers in layers(),
        most in 1..5_usize,
        fates in fates(),
        picks in prop::collection::vec(0..6_usize, 1..8),
    ) {
        let order = order(most, layers);
        let said = run(&order, &fates, &picks)?;
        // On each host in the site's order.
        let begun: Vec<usize> = said
            .iter()
            .filter_map(|next| match next {
                Next::Begin(index) => Some(*index),
                Next::Skip(..) => None,
            })
            .collect();
        for host in HOSTS {
            let here = begun.iter().filter(|index| order.layers[**index].hosts.contains(host));
            prop_assert!(here.is_sorted(), "{host}: {begun:?}");
        }
    }

    /// Without the setting nothing differs from a plain loop over the site's order.
    #[test]
    fn one_at_a_time_is_the_order_of_the_site(layers in layers(), fates in fates()) {
        let order = order(1, layers);
        let mut sound: Vec<bool> = Vec::new();
        let mut expected = Vec::new();
        for (index, layer) in order.layers.iter().enumerate() {
            let failed = layer.below.iter().rev().find(|below| !sound[**below]);
            expected.push(failed.map_or(Next::Begin(index), |below| Next::Skip(index, *below)));
            sound.push(failed.is_none() && !fates[index].fails);
        }
        prop_assert_eq!(run(&order, &fates, &[0])?, expected);
    }
}
