use super::*;
use crate::resource::{Change, Once, Resource};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// A host in memory: which items differ, and what was done to it.
#[derive(Default)]
struct Host {
    differs: BTreeMap<String, bool>,
    always: Vec<String>,
    breaks: Vec<String>,
    log: Vec<String>,
}

/// A function converges the items; nothing is prepared, and everything lasts.
struct Function<F>(F);

impl<F: FnMut(&Item, Mode, &mut dyn FnMut(String)) -> Outcome + Send> Hands for Function<F> {
    fn converge(&mut self, item: &Item, mode: Mode, progress: &mut dyn FnMut(String)) -> Outcome {
        (self.0)(item, mode, progress)
    }

    fn prepare(&mut self, _: &Item) {}

    fn end_row_of_units(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn settle(&mut self, _: Settle) -> Result<(), Failure> {
        Ok(())
    }
}

fn hands(
    function: impl FnMut(&Item, Mode, &mut dyn FnMut(String)) -> Outcome + Send + 'static,
) -> ConvergeItem {
    Box::new(Function(function))
}

pub(super) fn item(name: &str, notify: &[&str]) -> Item {
    Item {
        name: name.into(),
        resource: Resource::Hostname(crate::resource::Hostname { name: name.to_owned() }),
        notify: notify.iter().map(|n| (*n).to_owned()).collect(),
        secret: false,
        timeout_ms: 5_000,
    }
}

pub(super) fn batch(mode: Mode, items: Vec<Item>, handlers: &[&str]) -> Arc<Batch> {
    let handlers = handlers.iter().map(|name| item(name, &[]).into()).collect();
    let items = items.into_iter().map(Arc::new).collect();
    Arc::new(Batch { role: "base".into(), mode, items, handlers, once: Once::default() })
}

fn converge_on(host: &Arc<Mutex<Host>>, pending: &PendingHandlers) -> ConvergeItem {
    let (host, pending) = (Arc::clone(host), pending.clone());
    hands(move |item, mode, _| {
        let mut host = host.lock().unwrap();
        let always = host.always.contains(&item.name);
        let differs = always || host.differs.get(&item.name).copied().unwrap_or(false);
        if mode == Mode::Apply {
            for name in &item.notify {
                assert!(!differs || pending.contains("base", name), "recorded before the change");
            }
            host.log.push(item.name.clone());
            if host.breaks.contains(&item.name) {
                return Outcome::Failed(Failure::new("broken"));
            }
            host.differs.insert(item.name.clone(), false);
        }
        if differs {
            Outcome::Changed(vec![Change::new("content", None, None)])
        } else {
            Outcome::Unchanged
        }
    })
}

struct Ran {
    end: BatchEnd,
    forgotten: Vec<String>,
    reports: Vec<ItemReport>,
    log: Vec<String>,
}

fn run(host: &Arc<Mutex<Host>>, pending: &PendingHandlers, batch: Arc<Batch>) -> Ran {
    run_once(host, pending, &OnceRecords::in_directory("/nonexistent"), batch)
}

fn run_once(
    host: &Arc<Mutex<Host>>,
    pending: &PendingHandlers,
    once: &OnceRecords,
    batch: Arc<Batch>,
) -> Ran {
    let reports = RefCell::new(Vec::new());
    let runner = BatchRunner {
        pending,
        once,
        report: &|report| {
            reports.borrow_mut().push(report);
            Ok(())
        },
        stopped: &|| false,
    };
    let end = runner.run(Arc::clone(&batch), converge_on(host, pending));
    let forgotten = runner.forget_unknown(&batch, end);
    let log = std::mem::take(&mut host.lock().unwrap().log);
    Ran { end, forgotten, reports: reports.into_inner(), log }
}

fn host(differs: &[&str], breaks: &[&str]) -> Arc<Mutex<Host>> {
    let differs = differs.iter().map(|name| ((*name).to_owned(), true)).collect();
    let breaks = breaks.iter().map(|name| (*name).to_owned()).collect();
    Arc::new(Mutex::new(Host {
        differs,
        breaks,
        always: vec!["restart a".into(), "restart b".into()],
        log: Vec::new(),
    }))
}

#[test]
fn a_changed_step_runs_its_handler_once_after_the_last_step() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    let host = host(&["one", "two"], &[]);
    let items = || {
        vec![
            item("one", &["restart a"]),
            item("two", &["restart a"]),
            item("three", &["restart b"]),
        ]
    };
    let first = run(&host, &pending, batch(Mode::Apply, items(), &["restart a", "restart b"]));
    assert_eq!(first.end, BatchEnd::Complete);
    assert_eq!(first.log, ["one", "two", "restart a"]);
    assert!(pending.list().is_empty());
    let second = run(&host, &pending, batch(Mode::Apply, items(), &["restart a", "restart b"]));
    assert_eq!((second.end, second.log.len()), (BatchEnd::Complete, 0));
    assert!(second.reports.iter().all(|r| !matches!(r.slot, ItemSlot::Handler(_))));
}

#[test]
fn a_step_that_only_waits_is_done_although_it_notifies() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    let host = host(&[], &[]);
    let wait: Resource = toml::from_str("[wait_for]\nport = 22\n").unwrap();
    let waiting = Item { resource: wait, ..item("wait", &["restart a"]) };
    let ran = run(&host, &pending, batch(Mode::Apply, vec![waiting], &["restart a"]));
    assert_eq!((ran.end, ran.log), (BatchEnd::Complete, vec!["wait".to_owned()]));
    assert!(pending.list().is_empty());
}

#[test]
fn a_handler_survives_a_failed_batch_and_runs_after_the_next_complete_one() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    let host = host(&["one", "two"], &["two"]);
    let items = || vec![item("one", &["restart a"]), item("two", &[])];
    let first = run(&host, &pending, batch(Mode::Apply, items(), &["restart a"]));
    assert_eq!((first.end, first.log), (BatchEnd::Incomplete, vec!["one".into(), "two".into()]));
    assert_eq!(pending.list(), ["base/restart a"]);
    host.lock().unwrap().breaks.clear();
    host.lock().unwrap().differs.clear();
    let second = run(&host, &pending, batch(Mode::Apply, items(), &["restart a"]));
    assert_eq!(second.end, BatchEnd::Complete);
    assert_eq!(second.log, ["two", "restart a"]);
    assert!(pending.list().is_empty());
}

#[test]
fn a_failed_handler_stays_pending_and_the_batch_is_incomplete() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    let host = host(&["one"], &["restart a"]);
    let items = vec![item("one", &["restart a"])];
    let ran = run(&host, &pending, batch(Mode::Apply, items, &["restart a"]));
    assert_eq!(ran.end, BatchEnd::Incomplete);
    assert_eq!(pending.list(), ["base/restart a"]);
}

#[test]
fn check_mode_changes_nothing_and_shows_the_handlers_that_would_run() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    let host = host(&["one"], &[]);
    let items = vec![item("one", &["restart a"]), item("two", &["restart b"])];
    let ran = run(&host, &pending, batch(Mode::Check, items, &["restart a", "restart b"]));
    assert_eq!((ran.end, ran.log.len()), (BatchEnd::Complete, 0));
    assert!(pending.list().is_empty());
    let handlers: Vec<_> =
        ran.reports.iter().filter(|r| matches!(r.slot, ItemSlot::Handler(_))).collect();
    assert_eq!(handlers.len(), 2, "started and finished of one handler: {handlers:?}");
    assert_eq!(handlers[0].slot, ItemSlot::Handler(0));
}

#[test]
fn an_unknown_handler_fails_the_step_before_it_changes_anything() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    let host = host(&["one"], &[]);
    let ran = run(&host, &pending, batch(Mode::Apply, vec![item("one", &["nobody"])], &[]));
    assert_eq!((ran.end, ran.log.len()), (BatchEnd::Incomplete, 0));
    let ItemEvent::Finished { outcome: Outcome::Failed(failure), .. } = &ran.reports[1].event
    else {
        panic!("{:?}", ran.reports)
    };
    assert!(failure.message.contains("nobody"), "{failure:?}");
}

#[test]
fn a_step_that_outlives_its_deadline_ends_the_batch_as_stuck() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    let (release, held) = mpsc::channel::<()>();
    let mut slow = item("slow", &[]);
    slow.timeout_ms = 50;
    let reports = RefCell::new(Vec::new());
    let runner = BatchRunner {
        pending: &pending,
        once: &OnceRecords::in_directory("/nonexistent"),
        report: &|report| {
            reports.borrow_mut().push(report);
            Ok(())
        },
        stopped: &|| false,
    };
    let end = runner.run(
        batch(Mode::Apply, vec![slow, item("never", &[])], &[]),
        hands(move |_, _, progress| {
            progress("the other side".into());
            held.recv().ok();
            Outcome::Unchanged
        }),
    );
    drop(release);
    assert_eq!(end, BatchEnd::Stuck);
    let reports = reports.into_inner();
    assert_eq!(reports.len(), 3, "{reports:?}");
    assert_eq!(reports[1].event, ItemEvent::Waiting("the other side".into()));
    assert!(matches!(reports[2].event, ItemEvent::Finished { outcome: Outcome::Failed(_), .. }));
}

#[test]
fn a_stopped_batch_finishes_the_item_in_hand_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    let stop = Arc::new(AtomicBool::new(false));
    let done = RefCell::new(0);
    let runner = BatchRunner {
        pending: &pending,
        once: &OnceRecords::in_directory("/nonexistent"),
        report: &|report| {
            if matches!(report.event, ItemEvent::Finished { .. }) {
                *done.borrow_mut() += 1;
            }
            Ok(())
        },
        stopped: &|| stop.load(Ordering::SeqCst),
    };
    let stop_inside = Arc::clone(&stop);
    let end = runner.run(
        batch(Mode::Apply, vec![item("one", &[]), item("two", &[])], &[]),
        hands(move |_, _, _| {
            stop_inside.store(true, Ordering::SeqCst);
            Outcome::Unchanged
        }),
    );
    assert_eq!((end, *done.borrow()), (BatchEnd::Incomplete, 1));
}

#[test]
fn a_renamed_handler_is_forgotten_after_a_complete_batch_that_changes() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path());
    pending.record("base", "restart old").unwrap();
    let of = |mode, broken: &[&str], handlers: &[&str]| {
        let host = host(&["one"], broken);
        run(&host, &pending, batch(mode, vec![item("one", &[])], handlers)).forgotten
    };
    let with = |mode, broken: &[&str]| of(mode, broken, &["restart a"]);
    assert_eq!(of(Mode::Apply, &[], &[]), Vec::<String>::new());
    assert_eq!(with(Mode::Check, &[]), Vec::<String>::new());
    assert_eq!(with(Mode::Apply, &["one"]), Vec::<String>::new());
    assert_eq!(pending.list(), ["base/restart old"]);
    assert_eq!(with(Mode::Apply, &[]), ["restart old"]);
    assert!(pending.list().is_empty());
}

#[test]
fn a_step_that_cannot_tell_runs_once_in_a_run_and_those_that_resume_it() {
    let directory = tempfile::tempdir().unwrap();
    let pending = PendingHandlers::in_directory(directory.path().join("pending"));
    let once = OnceRecords::in_directory(directory.path().join("once"));
    let host = host(&[], &[]);
    host.lock().unwrap().always.push("make".into());
    let command: Resource = toml::from_str("[command]\nargv = ['make']\n").unwrap();
    let of = |run: &str, resumes: &[&str]| {
        let items = vec![Item { resource: command.clone(), ..item("make", &["restart a"]) }];
        let resumes = resumes.iter().map(|run| (*run).to_owned()).collect();
        let once = Once { run: Some(run.into()), resumes, ..Once::default() };
        Arc::new(Batch { once, ..(*batch(Mode::Apply, items, &["restart a"])).clone() })
    };
    // Looked at for its handler, then done, then the handler.
    let ran = |run, resumes: &[&str]| run_once(&host, &pending, &once, of(run, resumes)).log;
    assert_eq!(ran("one", &[]), ["make", "restart a"]);
    assert!(ran("one", &[]).is_empty(), "the link broke and the list began anew");
    assert!(ran("two", &["one"]).is_empty(), "resumed");
    assert_eq!(ran("three", &[]), ["make", "restart a"], "a run of its own");
    // Cut between beginning and end.
    let cut = of("four", &[]);
    once.of(&cut, &cut.items[0]).begun("four").unwrap();
    let cut = run_once(&host, &pending, &once, of("five", &["four"]));
    assert_eq!(cut.end, BatchEnd::Incomplete);
    assert!(cut.log.is_empty());
    let ItemEvent::Finished { outcome: Outcome::Failed(failure), .. } =
        &cut.reports.last().unwrap().event
    else {
        panic!("{:?}", cut.reports)
    };
    assert!(failure.message.contains("nothing tells whether it was done"), "{failure:?}");
    // One that failed is tried again.
    host.lock().unwrap().breaks.push("make".into());
    assert_eq!(ran("six", &[]), ["make"]);
    assert_eq!(ran("seven", &["six"]), ["make"]);
}
