//! What a notification tells of a run: gathered from its events, which are redacted already.

use crate::event::{
    Audited, Consumer, Event, EventKind, GateVerdict, HostProblem, StepId, StepOutcome, TestKind,
    Verdict, Waiving,
};
use serde::Serialize;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Version of the text.
const SCHEMA: u32 = 1;

/// Gathers what there is to tell.
#[derive(Debug, Clone, Default)]
pub struct Notice(Arc<Mutex<Told>>);

/// Why somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// An audit found differences that no waiver covers.
    Drift,
    /// A gate is red.
    RedGate,
    /// The run did not come to its end: a step failed, a host could not be reached, it was refused,
    /// or strata had a fault. An interrupt by the operator is none.
    FailedRun,
    /// A fault that a gate injected could not be healed.
    Unhealed,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Drift, Self::RedGate, Self::FailedRun, Self::Unhealed];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::RedGate => "red-gate",
            Self::FailedRun => "failed-run",
            Self::Unhealed => "unhealed",
        }
    }
}

#[derive(Debug, Default, Serialize)]
struct Told {
    schema: u32,
    causes: Vec<Cause>,
    site: String,
    run: String,
    command: String,
    version: String,
    rehearsal: bool,
    started_ms: u64,
    took_ms: u64,
    exit_code: u8,
    reason: String,
    hosts: usize,
    unusable: Vec<Unusable>,
    failed_steps: Vec<FailedStep>,
    gates: Vec<Gate>,
    audits: Vec<Layer>,
    #[serde(skip)]
    tests: Vec<Test>,
}

#[derive(Debug, Serialize)]
struct Unusable {
    host: String,
    class: HostProblem,
    reason: String,
}

#[derive(Debug, Serialize)]
struct FailedStep {
    #[serde(flatten)]
    step: StepId,
    message: String,
}

#[derive(Debug, Serialize)]
struct Gate {
    layer: String,
    verdict: GateVerdict,
    /// Those that did not pass.
    tests: Vec<Test>,
}

#[derive(Debug, Serialize)]
struct Test {
    test: String,
    kind: TestKind,
    verdict: Verdict,
    found: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waived: Vec<Waiving>,
}

#[derive(Debug, Serialize)]
struct Layer {
    layer: String,
    #[serde(flatten)]
    audited: Audited,
}

impl Notice {
    /// Why somebody is to be told of the run, once it has ended.
    pub fn causes(&self) -> Vec<Cause> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).causes.clone()
    }

    /// The text: one JSON object.
    ///
    /// # Errors
    /// Never in practice: everything in it can be written as JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Told {
    /// The causes, once everything is known. Pure.
    fn causes(&self) -> Vec<Cause> {
        let gate = |verdict| self.gates.iter().any(|gate| gate.verdict == verdict);
        let is = |cause| match cause {
            Cause::Drift => self.audits.iter().any(|layer| layer.audited.differences() > 0),
            Cause::RedGate => gate(GateVerdict::Red),
            Cause::FailedRun => {
                matches!(self.exit_code, 1 | 5 | 6 | 7 | 70) || !self.unusable.is_empty()
            }
            Cause::Unhealed => self.exit_code == 4 || gate(GateVerdict::NotHealed),
        };
        Cause::ALL.into_iter().filter(|cause| is(*cause)).collect()
    }
}

impl Consumer for Notice {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event.kind.clone() {
            EventKind::RunStarted { run, site, command, version, rehearsal, hosts, .. } => {
                *told = Told {
                    schema: SCHEMA,
                    site,
                    run,
                    command,
                    version,
                    rehearsal,
                    started_ms: event.at_ms,
                    hosts: hosts.len(),
                    ..Told::default()
                };
            }
            EventKind::HostUnusable { host, class, reason, .. } => {
                told.unusable.push(Unusable { host, class, reason });
            }
            EventKind::StepFinished {
                step, outcome: StepOutcome::Failed { message, .. }, ..
            } => told.failed_steps.push(FailedStep { step, message }),
            EventKind::TestFinished { test, kind, verdict, found, waived, .. }
                if !matches!(verdict, Verdict::Pass | Verdict::NotApplicable) =>
            {
                told.tests.push(Test { test, kind, verdict, found, waived });
            }
            EventKind::GateFinished { layer, verdict, .. } => {
                let tests = std::mem::take(&mut told.tests);
                told.gates.push(Gate { layer, verdict, tests });
            }
            EventKind::LayerAudited { layer, audited } => {
                told.audits.push(Layer { layer, audited })
            }
            EventKind::RunFinished { exit_code, reason, took_ms } => {
                told.exit_code = exit_code;
                told.reason = reason;
                told.took_ms = took_ms;
                told.causes = told.causes();
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Drifted;

    fn after(kinds: Vec<EventKind>, exit_code: u8) -> Notice {
        let mut notice = Notice::default();
        let start = EventKind::RunStarted {
            schema: 2,
            run: "r".into(),
            site: "s".into(),
            command: "audit".into(),
            version: "0".into(),
            rehearsal: false,
            hosts: vec!["a".into()],
            layers: vec![],
            resumes: None,
        };
        let end = EventKind::RunFinished { exit_code, reason: "why".into(), took_ms: 5 };
        for kind in [start].into_iter().chain(kinds).chain([end]) {
            notice.event(&Event { at_ms: 7, kind }).unwrap();
        }
        notice
    }

    fn gate(verdict: GateVerdict) -> EventKind {
        let (layer, counts) = ("base".into(), [0; 4]);
        EventKind::GateFinished { layer, verdict, counts, waived: 0, took_ms: 1 }
    }

    fn audited(differences: &[&str]) -> EventKind {
        let drifted = Drifted {
            place: "a".into(),
            differences: differences.iter().map(|text| (*text).to_owned()).collect(),
            waived: vec![],
            since: None,
        };
        let audited =
            Audited { looked_at: vec!["a".into()], not_looked_at: vec![], drifted: vec![drifted] };
        EventKind::LayerAudited { layer: "base".into(), audited }
    }

    #[test]
    fn every_cause_has_its_occasion() {
        use GateVerdict::{Green, GreenWithWaivers, NotHealed, Red};
        assert_eq!(after(vec![gate(Green), gate(GreenWithWaivers)], 0).causes(), []);
        assert_eq!(after(vec![audited(&[])], 0).causes(), []);
        assert_eq!(after(vec![audited(&["x"])], 8).causes(), [Cause::Drift]);
        assert_eq!(after(vec![gate(Red)], 3).causes(), [Cause::RedGate]);
        assert_eq!(after(vec![gate(NotHealed)], 4).causes(), [Cause::Unhealed]);
        for (exit_code, failed) in
            [(1, true), (5, true), (7, true), (70, true), (8, false), (130, false)]
        {
            assert_eq!(after(vec![], exit_code).causes() == [Cause::FailedRun], failed);
        }
    }

    #[test]
    fn the_text_has_a_version_and_what_was_found() {
        let text = after(vec![audited(&["base › Zone: content"])], 8).json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["causes"], serde_json::json!(["drift"]));
        assert_eq!(value["audits"][0]["drifted"][0]["place"], "a");
        assert_eq!(value["exit_code"], 8);
        for cause in Cause::ALL {
            assert_eq!(serde_json::json!(cause), cause.word());
        }
    }
}
