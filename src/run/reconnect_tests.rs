use super::*;
use crate::resource::{Item, Once, Outcome, Resource};
use proptest::prelude::*;

fn item(name: String) -> Item {
    let resource: Resource = toml::from_str("[command]\nargv = ['make']\n").unwrap();
    Item { name, resource, notify: Vec::new(), secret: false, timeout_ms: 1000 }
}

fn batch(mode: Mode, steps: usize) -> Batch {
    let items = (0..steps).map(|number| item(format!("step {number}")).into()).collect();
    let handlers = vec![item("handler".into()).into()];
    Batch { role: "base".into(), mode, items, handlers, once: Once::default() }
}

fn report(slot: ItemSlot, event: ItemEvent) -> ItemReport {
    ItemReport { slot, event }
}

fn finished() -> ItemEvent {
    ItemEvent::Finished { outcome: Outcome::Unchanged, took_ms: 1 }
}

/// What one connection carries before it breaks.
#[derive(Debug, Clone, Copy)]
struct Break {
    /// Messages that are heard.
    heard: usize,
    /// Steps that the agent goes on with before it notices.
    unheard: usize,
}

/// An agent on a host works through a batch from `first`; `ran` is how often each step was done, the
/// steps that were looked at and found done not counted. True when its end was heard.
fn work(ran: &mut [u32], batch: &Batch, first: u32, at: Option<Break>, heard: &mut Heard) -> bool {
    let mut left = at.map_or(usize::MAX, |at| at.heard);
    let mut unheard = at.map_or(0, |at| at.unheard);
    for index in (0_u32..).take(rest(batch, first).items.len()) {
        let slot = ItemSlot::Step(index);
        let mut say = |event| {
            let told = left > 0;
            if told {
                left -= 1;
                heard.report(&whole(report(slot, event), first));
            }
            told
        };
        if !say(ItemEvent::Started) {
            if unheard == 0 {
                return false;
            }
            unheard -= 1;
        }
        let at = (index + first) as usize;
        ran[at] += u32::from(ran[at] == 0);
        say(finished());
    }
    left > 0
}

proptest! {
    #[test]
    fn nothing_is_left_out_and_nothing_confirmed_is_looked_at_again(
        steps in 1_usize..12,
        breaks in proptest::collection::vec((0_usize..20, 0_usize..6), 0..6),
    ) {
        let batch = batch(Mode::Apply, steps);
        let mut ran = vec![0; steps];
        let mut heard = Heard::default();
        let mut breaks = breaks.into_iter().map(|(heard, unheard)| Break { heard, unheard });
        let mut first = 0;
        let ended = loop {
            if work(&mut ran, &batch, first, breaks.next(), &mut heard) {
                break None;
            }
            let confirmed = heard.finished.len();
            match heard.lost(&batch) {
                Resume::From(next) => {
                    prop_assert!(next >= first);
                    prop_assert_eq!(next as usize, confirmed, "the first without a confirmed end");
                    first = next;
                }
                Resume::GiveUp => break Some(()),
            }
        };
        prop_assert!(ended.is_some() || ran.iter().all(|times| *times == 1), "{:?}", ran);
    }
}

#[test]
fn the_confirmed_part_is_not_looked_at_again() {
    let batch = batch(Mode::Apply, 3);
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
fn a_step_that_breaks_the_connection_each_time_is_given_up() {
    let batch = batch(Mode::Apply, 2);
    let mut heard = Heard::default();
    let started = report(ItemSlot::Step(0), ItemEvent::Started);
    heard.report(&started);
    assert_eq!(heard.lost(&batch), Resume::From(0));
    heard.report(&started);
    assert_eq!(heard.lost(&batch), Resume::GiveUp);
}

#[test]
fn a_look_is_begun_anew_and_tells_nothing_twice() {
    let batch = batch(Mode::Check, 2);
    let mut heard = Heard::default();
    heard.report(&report(ItemSlot::Step(0), finished()));
    assert_eq!(heard.lost(&batch), Resume::From(0));
    assert!(!heard.report(&report(ItemSlot::Step(0), ItemEvent::Started)));
    assert!(!heard.report(&report(ItemSlot::Step(0), finished())));
    assert!(heard.report(&report(ItemSlot::Step(1), ItemEvent::Started)));
}
