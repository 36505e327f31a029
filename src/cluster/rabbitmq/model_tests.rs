//! Random faults and cut runs on the model.

use super::model::{End, Event, MEMBERS, World};
use proptest::prelude::*;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Publish),
        3 => (0..MEMBERS).prop_map(Event::Kill),
        1 => Just(Event::StopAll),
        1 => (0..MEMBERS).prop_map(Event::LoseData),
        1 => Just(Event::LoseRecord),
        1 => Just(Event::ChangeRole),
        2 => (1_usize..4).prop_map(Event::Time),
        4 => (0_usize..7).prop_map(Event::Run),
        3 => Just(Event::Run(usize::MAX)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_fault_and_no_cut_run_makes_two_clusters_or_loses_a_message(
        events in prop::collection::vec(event(), 0..40)
    ) {
        let mut world = World::new();
        let mut data_lost = false;
        for event in &events {
            data_lost |= matches!(event, Event::LoseData(_));
            match event {
                Event::Run(actions) => { world.run(*actions); }
                other => world.happen(other),
            }
            world.check(&format!("{event:?}"));
        }
        match world.run(usize::MAX) {
            End::AsWanted => {
                for node in 0..MEMBERS {
                    prop_assert!(world.confirmed.iter().all(|message| world.has(node, *message)));
                }
                prop_assert_eq!(world.run(0), End::AsWanted, "the second run has nothing to do");
            }
            // Who stopped last has lost its data: only an operator can say what then counts.
            other => prop_assert!(data_lost, "{:?}", other),
        }
    }
}

#[test]
fn a_formation_that_was_cut_off_anywhere_goes_on() {
    for actions in 0..12 {
        let mut world = World::new();
        world.run(actions);
        assert_eq!(world.run(usize::MAX), End::AsWanted, "after {actions} actions");
        world.check("the second run");
    }
}

#[test]
fn a_node_whose_data_is_gone_gets_everything_again() {
    let mut world = World::new();
    assert_eq!(world.run(usize::MAX), End::AsWanted);
    for _ in 0..5 {
        world.happen(&Event::Publish);
    }
    assert_eq!(world.confirmed.len(), 5);
    world.happen(&Event::LoseData(1));
    assert_eq!(world.run(usize::MAX), End::AsWanted);
    assert!(world.confirmed.iter().all(|message| world.has(1, *message)));
}
