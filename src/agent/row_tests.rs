use super::*;
use crate::resource::{Change, Failure, File, Hostname, Item, Once, Resource};
use proptest::prelude::*;

fn batch(mode: Mode, plain: &[bool]) -> Batch {
    let item = |plain: &bool| Item {
        name: "step".into(),
        resource: if *plain {
            Resource::File(File::new("/etc/a", "new"))
        } else {
            Resource::Hostname(Hostname { name: "a".into() })
        },
        notify: Vec::new(),
        secret: false,
        timeout_ms: 1000,
    };
    let items = plain.iter().map(|plain| item(plain).into()).collect();
    Batch { role: "base".into(), mode, items, handlers: Vec::new(), once: Once::default() }
}

fn report(index: u32, changed: bool) -> ItemReport {
    let outcome = if changed {
        Outcome::Changed(vec![Change::new("content", None, None)])
    } else {
        Outcome::Unchanged
    };
    ItemReport { slot: ItemSlot::Step(index), event: ItemEvent::Finished { outcome, took_ms: 1 } }
}

#[test]
fn only_plain_files_make_a_row() {
    let rows = |mode, plain: &[bool]| {
        let row = Row::of(&batch(mode, plain));
        (0..plain.len()).map(|index| row.has(index)).collect::<Vec<bool>>()
    };
    let plain = [true, true, false, true, false];
    assert_eq!(rows(Mode::Apply, &plain), [true, true, false, false, false]);
    assert_eq!(rows(Mode::Check, &plain), [false; 5]);
    for (text, plain) in [
        ("path = '/etc/a'", true),
        ("path = '/etc/a'\ncreate_only = true", true),
        ("path = '/etc/a'\nstate = 'absent'", false),
        ("path = '/etc/a'\nvalidate = ['true', '{file}']", false),
        ("path = '/etc/a'\nguard = { activate = ['true'] }", false),
        ("path = '/etc/a'\ncontent = '# strata:keep a\\n# strata:end a\\n'\nkeep = 'a'", false),
    ] {
        let resource: Resource = toml::from_str(&format!("[file]\n{text}\n")).unwrap();
        assert_eq!(resource.is_plain_file(), plain, "{text}");
    }
}

#[test]
fn what_changes_makes_it_worth_looking_ahead() {
    let mut row = Row::of(&batch(Mode::Apply, &[true; 700]));
    assert_eq!(row.ahead(0, false), 0..0, "a second run looks at everything once");
    assert_eq!(row.ahead(1, true), 2..4);
    assert_eq!(row.ahead(2, true), 4..7);
    let mut most = 0;
    for index in 3..700 {
        let ahead = row.ahead(index, true);
        most = most.max(ahead.end.saturating_sub(index));
    }
    assert_eq!(most, AHEAD + 1);
    let mut short = Row::of(&batch(Mode::Apply, &[true, true, true, false, true]));
    assert_eq!(short.ahead(0, true), 0..0, "not for two");
}

proptest! {
    #[test]
    fn each_step_is_looked_at_ahead_once_at_most_and_only_in_its_row(
        steps in proptest::collection::vec((proptest::bool::weighted(0.9), any::<bool>()), 0..400),
    ) {
        let plain: Vec<bool> = steps.iter().map(|(plain, _)| *plain).collect();
        let mut row = Row::of(&batch(Mode::Apply, &plain));
        let mut looked = std::collections::BTreeSet::new();
        for (index, (_, changed)) in steps.iter().enumerate() {
            for ahead in row.ahead(index, *changed) {
                prop_assert!(ahead > index && ahead <= index + AHEAD);
                prop_assert!(plain[index..=ahead].iter().all(|plain| *plain));
                prop_assert!(looked.insert(ahead), "{ahead} twice");
            }
        }
    }

    #[test]
    fn no_report_is_lost_or_out_of_order(
        steps in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..50),
    ) {
        let mut held = Held::default();
        let now = Instant::now();
        let mut told = Vec::new();
        for (index, (changed, in_row)) in (0_u32..).zip(&steps) {
            let report = report(index, *changed);
            if held.waits(&report, *in_row) {
                held.push(report, now);
            } else {
                prop_assert!(!(*in_row && *changed), "told before it lasts");
                told.push(report);
            }
        }
        told.extend(held.settled());
        let slots: Vec<u32> = told
            .iter()
            .map(|report| match report.slot {
                ItemSlot::Step(index) | ItemSlot::Handler(index) => index,
            })
            .collect();
        prop_assert!(slots.iter().copied().eq(0..u32::try_from(steps.len()).unwrap()));
        prop_assert!(held.is_empty());
    }
}

#[test]
fn reports_wait_for_a_while_or_until_they_are_many() {
    let now = Instant::now();
    let mut held = Held::default();
    assert!(!held.due(now + PATIENCE));
    held.push(report(0, true), now);
    assert!(!held.due(now));
    assert!(held.due(now + PATIENCE));
    for index in 1..SHARED {
        held.push(report(u32::try_from(index).unwrap(), true), now);
    }
    assert!(held.due(now));
    let mut held = Held::default();
    let change =
        Change { before: Some(vec![0; SHARED_BYTES]), ..Change::new("content", None, None) };
    let outcome = Outcome::Changed(vec![change]);
    let event = ItemEvent::Finished { outcome, took_ms: 1 };
    held.push(ItemReport { slot: ItemSlot::Step(0), event }, now);
    assert!(held.due(now), "what is kept of old content is bounded");
}

#[test]
fn a_failed_sync_is_the_first_changes_failure() {
    let mut held = Held::default();
    let now = Instant::now();
    for (index, changed) in [(0, false), (1, true), (2, true)] {
        held.push(report(index, changed), now);
    }
    let failed = Outcome::Failed(Failure::new("input/output error"));
    let reports = held.unsettled(failed.clone());
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0], report(0, false));
    assert_eq!(reports[1].event, ItemEvent::Finished { outcome: failed, took_ms: 1 });
}
