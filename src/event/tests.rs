use super::*;

#[test]
fn an_event_is_one_flat_json_line() {
    let event = Event {
        at_ms: 7,
        kind: EventKind::StepFinished {
            step: StepId {
                host: "h".into(),
                layer: "l".into(),
                role: "r".into(),
                step: "s".into(),
                handler: false,
            },
            outcome: StepOutcome::Unchanged,
            took_ms: 3,
        },
    };
    let line = serde_json::to_string(&event).unwrap();
    assert_eq!(
        line,
        r#"{"at_ms":7,"event":"step_finished","host":"h","layer":"l","role":"r","step":"s","handler":false,"outcome":{"result":"unchanged"},"took_ms":3}"#
    );
    assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
}

#[test]
fn a_test_of_a_journal_of_version_1_has_no_figures() {
    let line = r#"{"at_ms":7,"event":"test_finished","layer":"l","test":"t","kind":"perf","verdict":"pass","expected":"e","found":[],"took_ms":3}"#;
    let event = serde_json::from_str::<Event>(line).unwrap();
    let EventKind::TestFinished { measured, .. } = &event.kind else { panic!("another event") };
    assert_eq!(measured, &[]);
    assert_eq!(serde_json::to_string(&event).unwrap(), line);
}
