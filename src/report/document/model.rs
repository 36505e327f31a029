//! A run as a report shows it. Moments are milliseconds since the run's start.

use crate::event::{
    Audited, ChangeText, GateVerdict, HostProblem, HostState, Measurement, TestKind, Verdict,
    Waiving,
};
use serde::Serialize;

/// Version of this object as JSON.
pub const SCHEMA: u32 = 1;

/// One run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The run's id.
    pub run: String,
    /// The site's name; empty where the journal ends before it.
    pub site: String,
    /// What was asked for.
    pub command: String,
    /// The version of strata.
    pub version: String,
    /// True for a rehearsal.
    pub rehearsal: bool,
    /// The run that this one went on with.
    pub resumes: Option<String>,
    /// Milliseconds since the epoch.
    pub started_ms: u64,
    /// Milliseconds; until the last event where the run was cut short.
    pub took_ms: u64,
    /// The exit code, none where the run was cut short.
    pub exit_code: Option<u8>,
    /// Why it ended, in its own words.
    pub reason: Option<String>,
    /// Layers that were selected.
    pub selected: Vec<String>,
    /// Hosts, in the order of the selection; hosts out of service stand last.
    pub hosts: Vec<Host>,
    /// Layers that were begun or skipped.
    pub layers: Vec<Layer>,
    /// What was worth a line.
    pub notes: Vec<String>,
}

/// A host.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Why it is out of service, and until when.
    pub out: Option<String>,
    /// When its connections stood, and how long each took.
    pub connected: Vec<(u64, u64)>,
    /// Why it could not be used.
    pub problem: Option<Problem>,
    /// What is not as it was.
    pub warnings: Vec<String>,
    /// Connections that broke.
    pub links: Vec<LinkBreak>,
    /// What was looked at, and what came of it.
    pub steps: Vec<Step>,
    /// How it ended each layer.
    pub ends: Vec<HostEnd>,
    /// How the operator's program ended, and whether well.
    pub program: Option<(String, bool)>,
}

/// Why a host could not be used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// Which way.
    pub class: HostProblem,
    /// Why.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
    /// When.
    pub at: u64,
}

/// A connection that broke.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkBreak {
    /// When.
    pub from: u64,
    /// When it was back, where it was.
    pub to: Option<u64>,
    /// Why.
    pub reason: String,
}

/// How a host ended a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostEnd {
    /// The layer.
    pub layer: String,
    /// How.
    pub state: HostState,
    /// Steps changed.
    pub changed: u32,
    /// Steps looked at.
    pub steps: u32,
    /// Milliseconds.
    pub took_ms: u64,
}

/// A step on a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// When it began.
    pub at: u64,
    /// Milliseconds; until the last event where it did not end.
    pub took_ms: u64,
    /// The layer.
    pub layer: String,
    /// The role.
    pub role: String,
    /// Its name.
    pub name: String,
    /// True for a handler.
    pub handler: bool,
    /// What came of it.
    #[serde(flatten)]
    pub result: StepResult,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum StepResult {
    /// It was as wanted.
    Unchanged,
    /// It was changed.
    Changed {
        /// The differences.
        changes: Vec<ChangeText>,
    },
    /// It failed.
    Failed {
        /// Why.
        message: String,
        /// The end of a program's output.
        output: Option<String>,
        /// What to do.
        hint: Option<String>,
    },
    /// Its end was not heard.
    Unfinished,
}

/// A layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// When it began.
    pub from: u64,
    /// When its convergence ended, where it did.
    pub converged_at: Option<u64>,
    /// True when every host reached its wanted state; none where that is not known.
    pub complete: Option<bool>,
    /// Why it was not begun.
    pub skipped: Option<String>,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// What a rehearsal leaves out, with the reason.
    pub excepted: Vec<(String, String)>,
    /// Its clusters.
    pub clusters: Vec<Cluster>,
    /// Its gate.
    pub gate: Option<Gate>,
    /// What an audit found.
    pub audited: Option<Audited>,
}

/// A cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// What it was found to be, each time it was looked at: state and one line.
    pub found: Vec<(String, String)>,
    /// What was done: when it was done, what, and how long it took.
    pub actions: Vec<(u64, String, u64)>,
    /// True when it is as wanted; none where that is not known.
    pub complete: Option<bool>,
}

/// A gate.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Gate {
    /// When it began.
    pub from: u64,
    /// Milliseconds; until the last event where it did not end.
    pub took_ms: u64,
    /// Which kinds of test were to run.
    pub kinds: Vec<TestKind>,
    /// The verdict; none where the run was cut short before it.
    pub verdict: Option<GateVerdict>,
    /// Its tests.
    pub tests: Vec<Test>,
}

/// A test of a gate.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Test {
    /// Its name; a number follows where a gate has it more than once.
    pub name: String,
    /// Its kind; none where the run was cut short before its end.
    pub kind: Option<TestKind>,
    /// The verdict; none where the run was cut short before it.
    pub verdict: Option<Verdict>,
    /// When it began.
    pub from: u64,
    /// Milliseconds.
    pub took_ms: u64,
    /// What was wanted.
    pub expected: String,
    /// What was found.
    pub found: Vec<String>,
    /// What was measured.
    pub measured: Vec<Measurement>,
    /// The waivers that were applied.
    pub waived: Vec<Waiving>,
    /// What was broken.
    pub faults: Vec<Fault>,
}

/// Something that a test broke.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// What.
    pub what: String,
    /// When.
    pub from: u64,
    /// When it was healed, where it was.
    pub to: Option<u64>,
}

/// Steps of all hosts by what came of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StepCounts {
    /// As wanted.
    pub unchanged: usize,
    /// Changed.
    pub changed: usize,
    /// Failed.
    pub failed: usize,
    /// Their end was not heard.
    pub unfinished: usize,
}

/// Hosts by what came of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HostCounts {
    /// Every layer that they were in is as wanted.
    pub converged: usize,
    /// A step or the operator's program failed.
    pub failed: usize,
    /// They could not be used, or were lost.
    pub unusable: usize,
    /// They were stopped or not started, or their end was not heard.
    pub open: usize,
    /// They were connected, and only looked at.
    pub connected: usize,
    /// The run did nothing with them.
    pub untouched: usize,
    /// Out of service.
    pub out: usize,
    /// Something was changed on them.
    pub changed: usize,
}

impl Document {
    /// Steps of all hosts.
    pub fn steps(&self) -> StepCounts {
        let mut counts = StepCounts::default();
        for step in self.hosts.iter().flat_map(|host| &host.steps) {
            match step.result {
                StepResult::Unchanged => counts.unchanged += 1,
                StepResult::Changed { .. } => counts.changed += 1,
                StepResult::Failed { .. } => counts.failed += 1,
                StepResult::Unfinished => counts.unfinished += 1,
            }
        }
        counts
    }

    /// Hosts by what came of them.
    pub fn host_counts(&self) -> HostCounts {
        let mut counts = HostCounts::default();
        for host in &self.hosts {
            if host.steps.iter().any(|step| matches!(step.result, StepResult::Changed { .. })) {
                counts.changed += 1;
            }
            *match host.outcome() {
                Outcome::Out => &mut counts.out,
                Outcome::Unusable => &mut counts.unusable,
                Outcome::Failed => &mut counts.failed,
                Outcome::Open => &mut counts.open,
                Outcome::Converged => &mut counts.converged,
                Outcome::Connected => &mut counts.connected,
                Outcome::Untouched => &mut counts.untouched,
            } += 1;
        }
        counts
    }

    /// Tests that measured something, with the layer that each is of.
    pub fn measuring(&self) -> impl Iterator<Item = (&Layer, &Test)> {
        self.gates()
            .flat_map(|(layer, gate)| gate.tests.iter().map(move |test| (layer, test)))
            .filter(|(_, test)| !test.measured.is_empty())
    }

    /// Gates with the layer that each proves.
    pub fn gates(&self) -> impl Iterator<Item = (&Layer, &Gate)> {
        self.layers.iter().filter_map(|layer| Some((layer, layer.gate.as_ref()?)))
    }
}

/// What came of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Out of service.
    Out,
    /// It could not be used, or was lost.
    Unusable,
    /// A step or the operator's program failed.
    Failed,
    /// Stopped, not started, or its end was not heard.
    Open,
    /// As wanted; the operator's program ended well.
    Converged,
    /// It was connected, and only looked at.
    Connected,
    /// The run did nothing with it.
    Untouched,
}

impl Outcome {
    /// The words for it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Out => "out of service",
            Self::Unusable => "unusable",
            Self::Failed => "failed",
            Self::Open => "not finished",
            Self::Converged => "as wanted",
            Self::Connected => "connected",
            Self::Untouched => "not worked on",
        }
    }
}

impl Host {
    /// What came of it in the whole run.
    pub fn outcome(&self) -> Outcome {
        let ended = |wanted: HostState| self.ends.iter().any(|end| end.state == wanted);
        if self.out.is_some() {
            Outcome::Out
        } else if self.problem.is_some() || ended(HostState::Lost) || ended(HostState::Unusable) {
            Outcome::Unusable
        } else if ended(HostState::Failed)
            || self.steps.iter().any(|step| matches!(step.result, StepResult::Failed { .. }))
            || matches!(self.program, Some((_, false)))
        {
            Outcome::Failed
        } else if ended(HostState::Stopped)
            || ended(HostState::NotStarted)
            || self.steps.iter().any(|step| step.result == StepResult::Unfinished)
            || (self.ends.is_empty() && !self.steps.is_empty())
        {
            Outcome::Open
        } else if self.program.is_some() || !self.ends.is_empty() {
            Outcome::Converged
        } else if self.connected.is_empty() {
            Outcome::Untouched
        } else {
            Outcome::Connected
        }
    }
}
