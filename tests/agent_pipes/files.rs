//! Many files in one batch: prepared ahead, reported in order, nothing left by a kill.

use super::{Agent, private_root};
use std::path::Path;
use strata::resource::{File, ItemEvent, ItemReport, ItemSlot, Mode, Outcome};
use strata::wire::FromAgent;

/// Files of which one in twenty cannot be prepared, in two directories that do not exist yet.
fn many_files() -> Vec<File> {
    let file = |number: u32| {
        let mut file = serde_json::json!({
            "path": format!("/etc/{}/{number}", if number < 150 { "first" } else { "second" }),
            "content": format!("the content of {number}\n"), "owner": "0", "group": "0"
        });
        if number % 20 == 7 {
            file["state"] = "absent".into();
            file["content"] = "".into();
        }
        serde_json::from_value(file).unwrap()
    };
    (0..300).map(file).collect()
}

/// Names below `etc` that are of no file, and records of what was prepared.
fn traces(root: &Path) -> Vec<String> {
    ["etc/first", "etc/second", "var/lib/strata/prepared"]
        .iter()
        .filter_map(|directory| std::fs::read_dir(root.join(directory)).ok())
        .flat_map(|names| names.map(|name| name.unwrap()))
        .filter(|entry| {
            let of_a_file = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
            !of_a_file || entry.path().starts_with(root.join("var"))
        })
        .map(|entry| entry.path().display().to_string())
        .collect()
}

#[test]
fn many_files_are_written_and_reported_in_order_and_a_kill_leaves_nothing_behind() {
    let root = private_root();
    std::fs::create_dir(root.path().join("var")).unwrap();
    let files = many_files();
    let mut killed = Agent::start(root.path());
    killed.begin(&files, Mode::Apply);
    let mut ended = 0;
    while ended < 100 {
        let FromAgent::Item { report, .. } = killed.receive() else { panic!("a report") };
        if let ItemReport { slot: ItemSlot::Step(index), event: ItemEvent::Finished { .. } } =
            report
        {
            assert_eq!(index, ended, "in order");
            ended += 1;
        }
    }
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let mut agent = Agent::start(root.path());
    agent.begin(&files, Mode::Apply);
    let mut outcomes = Vec::new();
    let complete = loop {
        match agent.receive() {
            FromAgent::Item {
                report: ItemReport { event: ItemEvent::Finished { outcome, .. }, .. },
                ..
            } => outcomes.push(outcome),
            FromAgent::Item { .. } => {}
            FromAgent::BatchDone { complete, .. } => break complete,
            other => panic!("{other:?}"),
        }
    };
    assert!(complete, "{:?}", outcomes.last());
    assert_eq!(outcomes.len(), files.len());
    let first = &outcomes[..100];
    assert!(
        first.iter().all(|outcome| *outcome == Outcome::Unchanged),
        "what was reported is there"
    );
    assert!(matches!(outcomes[299], Outcome::Changed(_)), "the kill came before the end");
    for file in &files {
        let found = std::fs::read(root.path().join(file.path.trim_start_matches('/'))).ok();
        let wanted = (!file.content.is_empty()).then(|| file.content.as_bytes().to_vec());
        assert_eq!(found, wanted, "{}", file.path);
    }
    assert_eq!(traces(root.path()), Vec::<String>::new());
}
