//! Random faults and cut runs on the model, and the sequences that once were too much.

use super::model::{Event, MEMBERS, World};
use proptest::prelude::*;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Write),
        3 => (0..MEMBERS).prop_map(Event::Kill),
        1 => Just(Event::StopAll),
        3 => (0..MEMBERS).prop_map(Event::EngineStarts),
        2 => (0..MEMBERS).prop_map(Event::LoseData),
        2 => (0..MEMBERS).prop_map(Event::Reinstall),
        1 => Just(Event::LoseRecord),
        1 => Just(Event::ChangeRole),
        3 => Just(Event::Time),
        4 => (0_usize..8).prop_map(Event::Run),
        3 => Just(Event::Run(usize::MAX)),
    ]
}

fn happens(world: &mut World, events: &[Event]) {
    for event in events {
        match event {
            Event::Run(actions) => drop(world.run(*actions)),
            other => world.happen(other),
        }
        world.check(&format!("{event:?}"));
    }
}

/// A member's data is gone, and the engine starts its container before strata looks: it may not
/// vote with what it has forgotten.
#[test]
fn a_member_without_memory_does_not_vote() {
    let mut world = World::new();
    happens(
        &mut world,
        &[
            Event::Run(usize::MAX),
            Event::Time,
            Event::Write,
            Event::Time,
            Event::Kill(0),
            Event::LoseData(0),
            Event::EngineStarts(0),
            Event::Kill(1),
            Event::Time,
            Event::Run(usize::MAX),
        ],
    );
    assert!(world.is_whole(), "{world:#?}");
}

/// The directory of the leader is emptied while it runs.
#[test]
fn a_leader_whose_data_is_gone_gives_way_first() {
    let mut world = World::new();
    happens(&mut world, &[Event::Run(usize::MAX), Event::Time, Event::Write, Event::Time]);
    for node in 0..MEMBERS {
        happens(&mut world, &[Event::LoseData(node), Event::Run(usize::MAX)]);
        assert!(world.is_whole(), "{world:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_fault_and_no_cut_run_loses_a_write_or_forms_twice(
        events in prop::collection::vec(event(), 0..40)
    ) {
        let mut world = World::new();
        happens(&mut world, &events);
        prop_assert!(world.run(usize::MAX), "a whole run ends with the cluster as wanted");
        prop_assert!(world.is_whole(), "{:#?}", world);
        prop_assert!(world.run(0), "the second run has nothing to do");
    }
}
