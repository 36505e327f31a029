//! Random faults and cut runs on the model, and the sequences that once were too much.

use super::model::{Event, MEMBERS, World, start};
use proptest::prelude::*;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Write),
        3 => (0..MEMBERS).prop_map(Event::Kill),
        2 => (0..MEMBERS).prop_map(Event::KillSentinel),
        1 => Just(Event::StopAll),
        1 => (0..MEMBERS).prop_map(Event::LoseData),
        1 => (0..MEMBERS).prop_map(Event::Reinstall),
        1 => Just(Event::LoseRecord),
        1 => Just(Event::ChangeRole),
        2 => (1_usize..4).prop_map(Event::Time),
        4 => (0_usize..6).prop_map(Event::Run),
        3 => Just(Event::Run(usize::MAX)),
    ]
}

/// An old master slept through the election of another one, and one Sentinel alone knows of it.
#[test]
fn nobody_begins_beside_a_master_that_was_elected_meanwhile() {
    let asleep = [
        Event::Run(usize::MAX),
        Event::LoseRecord,
        Event::Kill(0),
        Event::KillSentinel(0),
        Event::Run(1),
        Event::Reinstall(1),
    ];
    let half_formed =
        [Event::Run(1), Event::Run(5), Event::Kill(0), Event::Time(1), Event::KillSentinel(0)];
    ends_whole(&asleep);
    ends_whole(&half_formed);
}

/// The master's data is gone, one replica is behind, and the run is cut off before the other one is
/// started: the Sentinels may not elect the one that is behind.
#[test]
fn nobody_is_elected_before_who_has_most_is_there() {
    ends_whole(&[
        Event::Run(3),
        Event::Run(5),
        Event::LoseData(0),
        Event::Kill(1),
        Event::Write,
        Event::StopAll,
        Event::Run(1),
        Event::Run(3),
        Event::LoseRecord,
    ]);
    ends_whole(&[
        Event::Run(usize::MAX),
        Event::Kill(0),
        Event::Time(1),
        Event::StopAll,
        Event::Reinstall(2),
        Event::Run(5),
    ]);
}

fn ends_whole(events: &[Event]) {
    let mut world = World::new();
    for event in events {
        match event {
            Event::Run(actions) => drop(world.run(*actions)),
            other => world.happen(other),
        }
        world.check(&format!("{event:?}"));
    }
    assert!(world.run(usize::MAX), "{events:?}");
    for node in &world.nodes {
        assert!(world.acknowledged.iter().all(|write| node.log.contains(write)), "{events:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_fault_and_no_cut_run_loses_a_write_or_forms_twice(
        events in prop::collection::vec(event(), 0..40)
    ) {
        let mut world = World::new();
        for event in &events {
            match event {
                Event::Run(actions) => { world.run(*actions); }
                other => world.happen(other),
            }
            world.check(&format!("{event:?}"));
        }
        prop_assert!(world.run(usize::MAX), "a whole run ends with the cluster as wanted");
        let masters: Vec<usize> = (0..MEMBERS).filter(|node| world.is_master(*node)).collect();
        prop_assert_eq!(masters.len(), 1);
        for node in 0..MEMBERS {
            let node = &world.nodes[node];
            prop_assert!(world.acknowledged.iter().all(|write| node.log.contains(write)));
        }
        prop_assert!(world.run(0), "the second run has nothing to do");
    }

    #[test]
    fn a_run_on_a_healthy_cluster_keeps_its_leader(leader in 0..MEMBERS, kills in 0..3_usize) {
        let mut world = World::new();
        prop_assert!(world.run(usize::MAX));
        // The leader moves as Sentinels decide, and the inventory's first is a replica.
        for _ in 0..kills {
            let master = (0..MEMBERS).find(|node| world.is_master(*node)).unwrap();
            if master == leader { break; }
            world.happen(&Event::Kill(master));
            world.happen(&Event::Time(2));
            start(&mut world.nodes[master]);
            world.happen(&Event::Time(2));
        }
        let before = (0..MEMBERS).find(|node| world.is_master(*node));
        prop_assert!(world.run(0), "nothing to do");
        prop_assert_eq!(before, (0..MEMBERS).find(|node| world.is_master(*node)));
    }
}
