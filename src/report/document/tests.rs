use crate::event::{Event, EventKind, HostState, StepId, StepOutcome, Verdict};
use crate::report::document::figures::{Past, PastFigure};
use crate::report::document::model::{Document, Outcome, StepResult};
use crate::report::document::{changes::changes, html, junit, outage::outages, timeline::rows};

fn recorded() -> Vec<Event> {
    let text = include_str!("../../../tests/reports/journal.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn document() -> Document {
    Document::of("r", &recorded())
}

fn page(document: &Document) -> String {
    html::html(document, &Past::default()).unwrap()
}

/// The page is well-formed XML too: nothing in it can have left its place.
fn well_formed(page: &str) {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    if let Err(error) = roxmltree::Document::parse_with_options(page, options) {
        let line = page.lines().nth(error.pos().row as usize - 1).unwrap_or_default();
        panic!("{error}: {line}");
    }
}

#[test]
fn a_run_is_what_its_events_say() {
    let document = document();
    assert_eq!((document.run.as_str(), document.exit_code), ("20261121-190812-ldtj", Some(3)));
    let outcomes: Vec<(&str, Outcome)> =
        document.hosts.iter().map(|host| (host.name.as_str(), host.outcome())).collect();
    assert_eq!(
        outcomes,
        [
            ("install-01", Outcome::Converged),
            ("redis-01", Outcome::Converged),
            ("redis-02", Outcome::Failed),
            ("db-03", Outcome::Unusable),
            ("db-02", Outcome::Out),
        ]
    );
    let steps = document.steps();
    assert_eq!((steps.unchanged, steps.changed, steps.failed, steps.unfinished), (5, 5, 1, 0));
    let (_, gate) = document.gates().next().unwrap();
    let names: Vec<&str> = gate.tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(&names[..4], ["converged", "redis-roles", "converged (2)", "redis-kill-master"]);
    let never_healed = &gate.tests[4].faults[1];
    assert_eq!((gate.tests[4].verdict, never_healed.to), (Some(Verdict::Fail), None));
}

#[test]
fn steps_that_did_the_same_stand_together() {
    let all = changes(&document());
    let titles: Vec<(&str, &str, usize)> = all
        .iter()
        .map(|one| (one.title.as_str(), one.hosts.as_str(), one.variants.len()))
        .collect();
    assert_eq!(
        titles,
        [("base › chrony.conf", "3 hosts", 2), ("base › restart chrony", "2 hosts", 1)]
    );
    assert_eq!(all[0].variants[0].hosts, "install-01, redis-01");
    let classes: Vec<&str> =
        all[0].variants[0].changes[0].lines.iter().map(|(class, _)| *class).collect();
    assert_eq!(classes, ["removed", "added", "place", "removed", "added", "same"]);
}

#[test]
fn an_outage_is_drawn_from_its_fault() {
    let all = outages(&document());
    let lanes = |place: usize| -> Vec<(&str, &str, f64, &str)> {
        let lanes = &all[place].lanes;
        lanes.iter().map(|l| (l.label.as_str(), l.kind, l.x, l.text.as_str())).collect()
    };
    // The axis is 31.251 s: the healing after 15.7 s and 15.551 s more.
    assert_eq!(
        lanes(0),
        [
            ("redis-01: container redis killed", "fault", 0.0, "healed after 15.7 s"),
            ("no write acknowledged", "outage", 0.64, "8.3 s"),
            ("new master", "mark", 0.0, "6.4 s"),
            ("followed by every HAProxy", "mark", 0.0, "9.7 s"),
            ("redis-01 a replica again", "mark", 502.38, "15.5 s"),
        ]
    );
    assert_eq!(all[0].counts, ["attempted 865 writes", "confirmed and lost 0 writes"]);
    assert_eq!(all[0].note, None);
    assert_eq!(lanes(1)[1].3, "not healed");
    assert!(all[1].note.unwrap().contains("drawn from the start"));
}

#[test]
fn the_page_has_everything_and_escapes_all_of_it() {
    let mut events = recorded();
    let name = "<script>alert(1)</script>";
    events.push(Event { at_ms: events[0].at_ms + 5, kind: EventKind::Note { text: name.into() } });
    let mut document = Document::of("r", &events);
    document.hosts[0].name = format!("a\"><img src=x onerror=\"{name}\">");
    document.command = name.to_owned();
    document.layers[0].name = format!("</style>{name}");
    let page = page(&document);
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;"), "{page}");
    for said in
        ["redis-kill-master", "no write acknowledged", "cluster redis", "apt-get ended with 100"]
    {
        assert!(page.contains(said), "{said}");
    }
    assert!(page.contains("␛[31mchrony"), "what a terminal would obey is shown");
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url(h"));
    well_formed(&page);
}

#[test]
fn figures_stand_beside_the_baseline_and_earlier_runs() {
    let document = document();
    let (_, gate) = document.gates().next().unwrap();
    let load = gate.tests.iter().find(|test| test.name == "redis-load").unwrap();
    let before = |value: f64| {
        let mut measurement = load.measured[1].clone();
        measurement.value = value;
        let (layer, test, run) = ("redis".into(), "redis-load".into(), "r".into());
        PastFigure { layer, test, run, measurement }
    };
    let past = Past { earlier: vec![before(4.0), before(8.0)], baseline: vec![before(4.752)] };
    let page = html::html(&document, &past).unwrap();
    well_formed(&page);
    assert!(page.contains("oldest first: 4 ms, 8 ms, 9.504 ms"), "{page}");
    assert!(page.contains("<td class=\"number\">4.752 ms</td><td class=\"number\">+100 %</td>"));
    let without = Past { baseline: Vec::new(), ..past };
    assert!(html::html(&document, &without).unwrap().contains("+19 %"));
}

#[test]
fn a_run_cut_at_any_event_has_a_report() {
    let events = recorded();
    for end in 0..events.len() {
        let document = Document::of("20261121-190812-ldtj", &events[..end]);
        assert_eq!(document.exit_code, None);
        let page = page(&document);
        assert!(page.contains("cut short"), "{end}");
        well_formed(&page);
        let text = junit::junit(&document).unwrap();
        let xml = roxmltree::Document::parse(&text).unwrap();
        assert!(xml.root_element().attribute("errors").unwrap() != "0", "{text}");
    }
    // In the middle of a step and of a test.
    let place =
        |found: fn(&EventKind) -> bool| events.iter().position(|event| found(&event.kind)).unwrap();
    let step = place(|kind| {
        matches!(kind, EventKind::StepFinished { outcome: StepOutcome::Failed { .. }, .. })
    });
    let document = Document::of("r", &events[..step]);
    assert!(document.hosts[2].steps.last().unwrap().result == StepResult::Unfinished);
    assert_eq!(document.hosts[2].outcome(), Outcome::Open);
    let test = place(|kind| matches!(kind, EventKind::Fault { healed: true, .. }));
    let document = Document::of("r", &events[..test]);
    assert_eq!(outages(&document)[0].lanes[0].text, "not healed");
}

#[test]
fn a_large_run_stays_a_small_page() {
    let hosts: Vec<String> = (0..28).map(|host| format!("host-{host:02}")).collect();
    let mut events = vec![Event {
        at_ms: 1,
        kind: EventKind::RunStarted {
            schema: 3,
            run: "r".into(),
            site: "s".into(),
            command: "install".into(),
            version: "0".into(),
            rehearsal: false,
            hosts: hosts.clone(),
            layers: vec!["base".into()],
            resumes: None,
        },
    }];
    let layer = "base".to_owned();
    events.push(Event { at_ms: 2, kind: EventKind::LayerStarted { layer, hosts: hosts.clone() } });
    for number in 0..600_u64 {
        for host in &hosts {
            let step = StepId {
                host: host.clone(),
                layer: "base".into(),
                role: "base".into(),
                step: format!("Step {number}"),
                handler: false,
            };
            let outcome = if number % 40 == 0 {
                StepOutcome::Changed { changes: Vec::new() }
            } else {
                StepOutcome::Unchanged
            };
            let at_ms = 3 + number * 100;
            events.push(Event { at_ms, kind: EventKind::StepStarted { step: step.clone() } });
            let kind = EventKind::StepFinished { step, outcome, took_ms: 99 };
            events.push(Event { at_ms: at_ms + 99, kind });
        }
    }
    for host in hosts {
        let (layer, state) = ("base".to_owned(), HostState::Converged);
        let waiting_handlers = Vec::new();
        let kind = EventKind::HostFinished {
            host,
            layer,
            state,
            changed: 15,
            steps: 600,
            waiting_handlers,
            took_ms: 60_000,
        };
        events.push(Event { at_ms: 61_000, kind });
    }
    let document = Document::of("r", &events);
    assert_eq!(document.steps().changed, 28 * 15);
    let rows = rows(&document);
    assert_eq!(rows.len(), 29);
    // 15 changes with what was looked at before, between and after them.
    assert!(rows[1].bars.len() <= 31, "{:?}", rows[1].bars.len());
    let page = page(&document);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    well_formed(&page);
}
