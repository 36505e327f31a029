//! Steps that share something: files a sync, units a reading.

use super::tests::{batch, item};
use super::*;
use crate::resource::{Change, Resource};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// What happens to a batch of files, in order: what is done on the host, and what is reported.
#[derive(Clone)]
struct Diary {
    lines: Arc<Mutex<Vec<String>>>,
    settles: bool,
    stuck: Option<(&'static str, u64)>,
    /// Units that were changed and not read again.
    units: u32,
}

fn unit(name: &str) -> Item {
    let text = format!("name = \"{name}\"\nenabled = true");
    let service: crate::resource::Service = toml::from_str(&text).unwrap();
    Item { resource: Resource::Service(service), ..item(name, &[]) }
}

impl Diary {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    /// Runs steps of these names: those that begin with `f` are files, with `u` units; all differ. The lines.
    fn of(names: &[&str], settles: bool, stuck: Option<&'static str>) -> (BatchEnd, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let pending = PendingHandlers::in_directory(directory.path());
        let stuck = stuck.map(|name| (name, 300));
        let diary = Self { lines: Arc::default(), settles, stuck, units: 0 };
        let items: Vec<Item> = names
            .iter()
            .map(|name| match name.strip_prefix('f') {
                None if name.starts_with('u') => unit(name),
                Some(path) => {
                    let file = crate::resource::File::new(format!("/etc/{path}"), "new");
                    Item { resource: Resource::File(file), timeout_ms: 100, ..item(name, &[]) }
                }
                None => item(name, &[]),
            })
            .collect();
        let of = items.clone();
        let runner = BatchRunner {
            pending: &pending,
            once: &OnceRecords::in_directory("/nonexistent"),
            report: &|report| {
                let ItemSlot::Step(index) = report.slot else { return Ok(()) };
                let name = &of[index as usize].name;
                match report.event {
                    ItemEvent::Finished { outcome: Outcome::Failed(_), .. } => {
                        diary.note(format!("{name} failed"));
                    }
                    ItemEvent::Finished { .. } => diary.note(format!("{name} ended")),
                    _ => diary.note(format!("{name} began")),
                }
                Ok(())
            },
            stopped: &|| false,
        };
        let end = runner.run(batch(Mode::Apply, items, &[]), Box::new(diary.clone()));
        let lines = diary.lines.lock().unwrap().clone();
        (end, lines)
    }
}

impl Hands for Diary {
    fn converge(&mut self, item: &Item, mode: Mode, _: &mut dyn FnMut(String)) -> Outcome {
        if let Some((name, ms)) = self.stuck
            && name == item.name
        {
            let (_keep, never) = mpsc::channel::<()>();
            never.recv_timeout(Duration::from_millis(ms)).ok();
        }
        self.note(format!("{} done", item.name));
        self.units += u32::from(item.resource.is_unit() && mode == Mode::Apply);
        if item.name.contains("broken") {
            return Outcome::Failed(Failure::new("broken"));
        }
        Outcome::Changed(vec![Change::new("content", None, None)])
    }

    fn prepare(&mut self, item: &Item) {
        self.note(format!("{} prepared", item.name));
    }

    fn end_row_of_units(&mut self) -> Result<(), Failure> {
        let changed = std::mem::take(&mut self.units);
        if changed == 0 {
            return Ok(());
        }
        self.note(format!("{changed} units read"));
        if self.settles { Ok(()) } else { Err(Failure::new("no systemd")) }
    }

    fn settle(&mut self, at: Settle) -> Result<(), Failure> {
        self.note(format!("settled {at:?}"));
        if self.settles { Ok(()) } else { Err(Failure::new("input/output error")) }
    }
}

fn place_of(lines: &[String], line: &str) -> usize {
    lines.iter().position(|found| found == line).unwrap_or_else(|| panic!("no {line}: {lines:?}"))
}

#[test]
fn files_in_a_row_are_reported_when_they_will_last_and_before_anything_else_is_done() {
    let names = ["f1", "f2", "f3", "f4", "f5", "f6", "other", "f7"];
    let (end, lines) = Diary::of(&names, true, None);
    assert_eq!(end, BatchEnd::Complete);
    let settled = place_of(&lines, "settled Behind");
    for name in &names[..6] {
        assert!(place_of(&lines, &format!("{name} done")) < settled, "{lines:?}");
        assert!(place_of(&lines, &format!("{name} ended")) > settled, "{lines:?}");
        assert!(
            place_of(&lines, &format!("{name} ended")) < place_of(&lines, "other done"),
            "{lines:?}"
        );
    }
    for name in ["f2", "f3", "f4", "f5", "f6"] {
        let prepared = place_of(&lines, &format!("{name} prepared"));
        assert!(prepared < place_of(&lines, &format!("{name} done")), "{lines:?}");
    }
    // Alone, and nothing before it waits: as ever.
    let alone = place_of(&lines, "f7 done");
    assert_eq!(lines[alone + 1], "f7 ended");
    assert!(!lines.contains(&"f7 prepared".to_owned()));
    assert_eq!(lines.last().unwrap(), "settled End");
    let reports: Vec<&String> =
        lines.iter().filter(|line| line.ends_with(" began") || line.ends_with(" ended")).collect();
    let wanted: Vec<String> =
        names.iter().flat_map(|name| [format!("{name} began"), format!("{name} ended")]).collect();
    assert_eq!(reports, wanted.iter().collect::<Vec<_>>(), "in their order, none left out");
}

#[test]
fn a_failure_in_a_row_is_reported_behind_what_was_done_before_it() {
    let (end, lines) = Diary::of(&["f1", "f2", "f3broken", "f4", "f5"], true, None);
    assert_eq!(end, BatchEnd::Incomplete);
    let settled = place_of(&lines, "settled End");
    assert_eq!(
        lines[settled + 1..],
        ["f1 ended", "f2 began", "f2 ended", "f3broken began", "f3broken failed"]
    );
    assert!(!lines.contains(&"f4 done".to_owned()));
}

#[test]
fn a_sync_that_fails_fails_the_first_file_that_waited_for_it_and_tells_of_no_other() {
    let (end, lines) = Diary::of(&["f1", "f2", "f3", "other"], false, None);
    assert_eq!(end, BatchEnd::Incomplete);
    let told: Vec<&String> =
        lines.iter().filter(|line| line.ends_with("ended") || line.ends_with("failed")).collect();
    assert_eq!(told, ["f1 failed"]);
    assert!(!lines.contains(&"other done".to_owned()), "{lines:?}");
}

#[test]
fn a_file_that_is_stuck_is_told_and_those_before_it_are_left_to_the_next_run() {
    let (end, lines) = Diary::of(&["f1", "f2", "f3"], true, Some("f2"));
    assert_eq!(end, BatchEnd::Stuck);
    let told: Vec<&String> = lines.iter().filter(|line| !line.ends_with("done")).collect();
    assert_eq!(told, ["f1 began", "f2 began", "f2 failed"]);
}

#[test]
fn units_in_a_row_are_read_once_before_anything_else_is_done() {
    let (end, lines) = Diary::of(&["u1", "u2", "u3", "other", "u4"], true, None);
    assert_eq!(end, BatchEnd::Complete);
    let read: Vec<&String> = lines.iter().filter(|line| line.ends_with("read")).collect();
    assert_eq!(read, ["3 units read", "1 units read"]);
    let first = place_of(&lines, "3 units read");
    assert!(place_of(&lines, "u3 done") < first && first < place_of(&lines, "u3 ended"));
    assert!(place_of(&lines, "u2 ended") < first, "what is said of it is true already");
}

#[test]
fn a_row_of_units_that_is_cut_short_is_read_and_one_that_is_not_read_has_failed() {
    let (end, lines) = Diary::of(&["u1", "u2broken", "u3"], true, None);
    assert_eq!(end, BatchEnd::Incomplete);
    assert!(place_of(&lines, "2 units read") < place_of(&lines, "u2broken failed"), "{lines:?}");
    let (end, lines) = Diary::of(&["u1", "u2", "other"], false, None);
    assert_eq!(end, BatchEnd::Incomplete);
    assert!(place_of(&lines, "u1 ended") < place_of(&lines, "u2 failed"), "{lines:?}");
    assert!(!lines.contains(&"other done".to_owned()));
}

#[test]
fn a_row_whose_last_unit_is_only_looked_at_ends_before_what_is_behind_it() {
    let diary = Diary { lines: Arc::default(), settles: true, stuck: None, units: 0 };
    let items = vec![unit("u1"), unit("u2"), item("other", &[])];
    let worker =
        Worker::start(batch(Mode::Apply, items, &[]), Box::new(diary.clone())).ok().unwrap();
    let limit = Limit { ms: 0, began: Instant::now() };
    for (index, mode) in [(0, Mode::Apply), (1, Mode::Check), (2, Mode::Apply)] {
        worker.send(Job::Item(ItemSlot::Step(index), mode)).ok().unwrap();
        assert!(matches!(worker.news(&limit), Ok(News::Done(Outcome::Changed(_)))));
    }
    let lines = diary.lines.lock().unwrap().clone();
    assert_eq!(lines, ["u1 done", "u2 done", "1 units read", "other done"]);
}
