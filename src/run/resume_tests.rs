use super::*;
use crate::resource::{Item, Outcome, Resource};
use proptest::prelude::*;

fn item(name: String, repeatable: bool) -> Item {
    let guard = if repeatable { "creates = '/done'\n" } else { "" };
    let resource: Resource =
        toml::from_str(&format!("[command]\nargv = ['make']\n{guard}")).unwrap();
    Item { name, resource, notify: Vec::new(), secret: false, timeout_ms: 1000 }
}

fn batch(mode: Mode, repeatable: &[bool]) -> Batch {
    let items = repeatable.iter().enumerate().map(|(n, again)| item(format!("step {n}"), *again));
    Batch {
        role: "base".into(),
        mode,
        items: items.collect(),
        handlers: vec![item("h".into(), true)],
    }
}

fn report(slot: ItemSlot, event: ItemEvent) -> ItemReport {
    ItemReport { slot, event }
}

fn finished() -> ItemEvent {
    ItemEvent::Finished { outcome: Outcome::Unchanged, took_ms: 1 }
}

/// An agent on a host: what it does and says, and what it goes on doing once nobody hears it.
struct Host {
    /// How often each step was run.
    ran: Vec<u32>,
}

/// What one connection carries before it breaks.
#[derive(Debug, Clone, Copy)]
struct Break {
    /// Messages that are heard.
    heard: usize,
    /// Steps that the agent goes on with before it notices, where they need no permission.
    unheard: usize,
}

impl Host {
    /// Works through a batch from `first`; true when its end was heard.
    fn work(&mut self, batch: &Batch, first: u32, at: Option<Break>, heard: &mut Heard) -> bool {
        let mut left = at.map_or(usize::MAX, |at| at.heard);
        let mut unheard = at.map_or(0, |at| at.unheard);
        for (index, item) in (0_u32..).zip(&rest(batch, first).items) {
            let slot = ItemSlot::Step(index);
            let mut say = |event| {
                let told = left > 0;
                if told {
                    left -= 1;
                    heard.report(&whole(report(slot, event), first));
                }
                told
            };
            let started = say(ItemEvent::Started);
            if !started {
                // Nobody hears: a step that needs permission never begins, others a while longer.
                if !item.resource.is_repeatable() || unheard == 0 {
                    return false;
                }
                unheard -= 1;
            }
            let at = (index + first) as usize;
            if batch.mode == Mode::Apply && (!item.resource.is_repeatable() || self.ran[at] == 0) {
                self.ran[at] += 1;
            }
            say(finished());
        }
        left > 0
    }
}

proptest! {
    #[test]
    fn nothing_is_repeated_and_nothing_is_left_out(
        steps in proptest::collection::vec(any::<bool>(), 1..12),
        breaks in proptest::collection::vec((0_usize..20, 0_usize..6), 0..6),
    ) {
        let batch = batch(Mode::Apply, &steps);
        let mut host = Host { ran: vec![0; steps.len()] };
        let mut heard = Heard::default();
        let mut breaks = breaks.into_iter().map(|(heard, unheard)| Break { heard, unheard });
        let mut first = 0;
        let ended = loop {
            let at = breaks.next();
            if host.work(&batch, first, at, &mut heard) {
                break None;
            }
            match heard.lost(&batch) {
                Resume::From(next) => {
                    prop_assert!(next >= first && next as usize <= steps.len());
                    first = next;
                }
                other => break Some(other),
            }
        };
        for (index, repeatable) in steps.iter().enumerate() {
            prop_assert!(host.ran[index] <= 1, "step {index} ran {} times", host.ran[index]);
            if ended.is_none() {
                prop_assert_eq!(host.ran[index], 1, "step {} was left out", index);
            }
            if let Some(Resume::Unknown(at)) = &ended {
                prop_assert!(*at as usize != index || !repeatable);
            }
        }
    }
}

#[test]
fn the_confirmed_part_is_not_looked_at_again() {
    let batch = batch(Mode::Apply, &[true, false, true]);
    let mut heard = Heard::default();
    for index in 0..2 {
        assert!(heard.report(&report(ItemSlot::Step(index), ItemEvent::Started)));
        assert!(heard.report(&report(ItemSlot::Step(index), finished())));
    }
    heard.report(&report(ItemSlot::Step(2), ItemEvent::Started));
    assert_eq!(heard.in_hand(&batch), Some(("step 2", 1000)));
    assert_eq!(heard.lost(&batch), Resume::From(2));
    assert_eq!(rest(&batch, 2).items[0].name, "step 2");
    let report = whole(report(ItemSlot::Step(0), finished()), 2);
    assert_eq!(report.slot, ItemSlot::Step(2));
    heard.report(&report);
    assert_eq!(heard.lost(&batch), Resume::From(3), "handlers are left");
}

#[test]
fn a_program_that_may_have_run_is_not_run_again() {
    let mut heard = Heard::default();
    heard.report(&report(ItemSlot::Step(0), ItemEvent::Started));
    assert_eq!(heard.clone().lost(&batch(Mode::Apply, &[false])), Resume::Unknown(0));
    assert_eq!(heard.lost(&batch(Mode::Check, &[false])), Resume::From(0), "a look does nothing");
    // Its start was not heard, so nobody gave it permission.
    assert_eq!(Heard::default().lost(&batch(Mode::Apply, &[false])), Resume::From(0));
}

#[test]
fn a_step_that_breaks_the_connection_each_time_is_given_up() {
    let batch = batch(Mode::Apply, &[true, true]);
    let mut heard = Heard::default();
    let started = report(ItemSlot::Step(0), ItemEvent::Started);
    heard.report(&started);
    assert_eq!(heard.lost(&batch), Resume::From(0));
    heard.report(&started);
    assert_eq!(heard.lost(&batch), Resume::GiveUp);
}

#[test]
fn a_look_is_begun_anew_and_tells_nothing_twice() {
    let batch = batch(Mode::Check, &[true, true]);
    let mut heard = Heard::default();
    heard.report(&report(ItemSlot::Step(0), finished()));
    assert_eq!(heard.lost(&batch), Resume::From(0));
    assert!(!heard.report(&report(ItemSlot::Step(0), ItemEvent::Started)));
    assert!(!heard.report(&report(ItemSlot::Step(0), finished())));
    assert!(heard.report(&report(ItemSlot::Step(1), ItemEvent::Started)));
}
