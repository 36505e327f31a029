//! Random faults and cut runs on the model.

use super::model::{Event, Ill, MEMBERS, World};
use proptest::prelude::*;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Write),
        3 => (0..MEMBERS).prop_map(Event::Kill),
        1 => Just(Event::StopAll),
        1 => (0..MEMBERS).prop_map(Event::LoseData),
        1 => (0..MEMBERS).prop_map(|node| Event::Break(node, Ill::Start)),
        1 => (0..MEMBERS).prop_map(|node| Event::Break(node, Ill::Follow)),
        1 => Just(Event::LoseRecord),
        1 => Just(Event::LoseStore),
        1 => Just(Event::ChangeRole),
        1 => Just(Event::ChangeSettings),
        2 => (1_usize..4).prop_map(Event::Time),
        4 => (0_usize..6).prop_map(Event::Run),
        3 => Just(Event::Run(usize::MAX)),
    ]
}

fn happen(world: &mut World, events: &[Event]) {
    for event in events {
        match event {
            Event::Run(actions) => drop(world.run(*actions)),
            other => world.happen(other),
        }
        world.check(&format!("{event:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_fault_and_no_cut_run_forms_twice_or_loses_a_write(
        events in prop::collection::vec(event(), 0..40)
    ) {
        let mut world = World::new();
        happen(&mut world, &events);
        world.judge();
        prop_assert!(world.run(usize::MAX), "a whole run ends with the cluster as wanted");
        prop_assert_eq!(world.systems.len(), 1);
        for node in &world.nodes {
            let log = &node.disk.as_ref().unwrap().log;
            prop_assert!(world.acknowledged.iter().all(|write| log.contains(write)));
        }
        let leader = world.primary();
        prop_assert!(world.run(0), "the second run has nothing to do");
        prop_assert_eq!(world.primary(), leader, "and keeps who leads");
    }
}

/// Everything stops and etcd has forgotten the cluster: starting anybody would make its data the
/// cluster's, so nobody is started before the operator has said whose counts.
#[test]
fn nobody_is_started_after_etcd_forgot_the_cluster() {
    let mut world = World::new();
    happen(&mut world, &[Event::Run(usize::MAX), Event::Write, Event::Kill(1), Event::Kill(2)]);
    happen(&mut world, &[Event::Time(1), Event::Write, Event::StopAll, Event::LoseStore]);
    assert!(!world.run(usize::MAX), "refused");
    assert!(world.primary().is_none());
    world.judge();
    assert!(world.run(usize::MAX));
    assert_eq!(world.primary(), Some(0), "the one that had the last write");
}

#[test]
fn data_that_cannot_be_used_is_kept() {
    for ill in [Ill::Start, Ill::Follow] {
        let mut world = World::new();
        happen(&mut world, &[Event::Run(usize::MAX), Event::Write, Event::Break(2, ill)]);
        assert!(world.run(usize::MAX), "{ill:?}");
        assert_eq!(world.nodes[2].aside.len(), 1, "{ill:?}");
    }
}
