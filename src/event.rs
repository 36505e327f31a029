//! The vocabulary of a run: plain, serialisable, redacted before anyone sees it.
//!
//! The scheduler and the gates only emit events; the journal, the index, the terminal and the
//! reports only consume them. A run can be replayed from its journal.

mod audit;
mod gate;
mod measurement;
mod program;

pub use audit::{Audited, Drifted, LastWanted, WaivedDifference};
pub use gate::{GateVerdict, TestKind, Verdict, Waiving};
pub use measurement::Measurement;
pub use program::ProgramEnd;

use serde::{Deserialize, Serialize};

/// Version of this vocabulary, written at the start of each journal. 2: tests have figures, hosts
/// have warnings, programs have ends. 3: connections are lost and come
/// back, layers are skipped, hosts are out of service or not started. Journals of every earlier
/// version can be read.
pub const SCHEMA: u32 = 3;

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the epoch, by the operator host's clock.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A run began.
    RunStarted {
        /// [`SCHEMA`].
        schema: u32,
        /// The run's id.
        run: String,
        /// The site's name.
        site: String,
        /// What was asked for, for example `install --layer base`.
        command: String,
        /// The version of strata.
        version: String,
        /// True when this is a rehearsal with the lab's versions and exceptions.
        rehearsal: bool,
        /// Selected hosts.
        hosts: Vec<String>,
        /// Selected layers.
        layers: Vec<String>,
        /// The run that this one goes on with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumes: Option<String>,
    },
    /// A layer began.
    LayerStarted {
        /// The layer.
        layer: String,
        /// The hosts it works on.
        hosts: Vec<String>,
    },
    /// A layer that is not begun although it was selected.
    LayerSkipped {
        /// The layer.
        layer: String,
        /// Why.
        why: String,
    },
    /// Something that a rehearsal leaves out.
    Excepted {
        /// The layer.
        layer: String,
        /// What, for example `sysctl vm.swappiness`.
        what: String,
        /// Why.
        reason: String,
    },
    /// A host answered.
    HostConnected {
        /// The host.
        host: String,
        /// Milliseconds from the first packet to the agent's greeting.
        took_ms: u64,
        /// The host's clock minus ours, in milliseconds.
        skew_ms: i64,
        /// The host's machine id.
        machine_id: String,
        /// The host's boot id.
        boot_id: String,
        /// Its architecture as `uname -m` prints it; empty in journals of an older strata.
        #[serde(default)]
        architecture: String,
    },
    /// A host could not be used.
    HostUnusable {
        /// The host.
        host: String,
        /// Which way.
        class: HostProblem,
        /// Why.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A host can be worked on, but something about it is not as it was.
    HostWarning {
        /// The host.
        host: String,
        /// What.
        text: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A host is out of service: it is absent on purpose.
    HostOut {
        /// The host.
        host: String,
        /// Why.
        reason: String,
        /// The moment from which it counts again.
        until: String,
    },
    /// A host is in service again.
    HostIn {
        /// The host.
        host: String,
    },
    /// An operator said that a host is a new machine: its pinned keys were replaced, and what was
    /// known of the old machine is forgotten.
    HostRebuilt {
        /// The host.
        host: String,
        /// The keys that were pinned, each as algorithm and fingerprint.
        replaced: Vec<String>,
        /// The keys that are pinned now.
        pinned: Vec<String>,
    },
    /// A program that the operator started on a host ended, or was left.
    ProgramFinished {
        /// The host.
        host: String,
        /// How.
        end: ProgramEnd,
        /// The last lines that it printed, errors among them.
        output: Option<String>,
        /// Milliseconds.
        took_ms: u64,
    },
    /// A step began.
    StepStarted {
        /// Which step.
        #[serde(flatten)]
        step: StepId,
    },
    /// A step waits; the reason is the last one.
    StepWaiting {
        /// Which step.
        #[serde(flatten)]
        step: StepId,
        /// For what, and why it is not there yet.
        reason: String,
    },
    /// A step ended.
    StepFinished {
        /// Which step.
        #[serde(flatten)]
        step: StepId,
        /// How.
        outcome: StepOutcome,
        /// Milliseconds.
        took_ms: u64,
    },
    /// A host is done with a layer.
    HostFinished {
        /// The host.
        host: String,
        /// The layer.
        layer: String,
        /// How.
        state: HostState,
        /// Steps changed (or that would change).
        changed: u32,
        /// Steps looked at.
        steps: u32,
        /// Handlers that were notified and have not run.
        waiting_handlers: Vec<String>,
        /// Milliseconds.
        took_ms: u64,
    },
    /// What a cluster was found to be.
    ClusterFound {
        /// The layer.
        layer: String,
        /// The cluster: its role.
        cluster: String,
        /// For example `absent`, `healthy`, `split`.
        state: String,
        /// One line: who leads, what is missing.
        found: String,
    },
    /// What a run would do to a cluster next. What comes after it is decided by what is then found.
    ClusterNext {
        /// The layer.
        layer: String,
        /// The cluster.
        cluster: String,
        /// What, with the member.
        action: String,
    },
    /// Something is done to a cluster.
    ClusterAction {
        /// The layer.
        layer: String,
        /// The cluster.
        cluster: String,
        /// What, with the member.
        action: String,
        /// Milliseconds once it is done; none when it begins.
        took_ms: Option<u64>,
    },
    /// A run waits for a cluster; the reason is the last one.
    ClusterWaiting {
        /// The layer.
        layer: String,
        /// The cluster.
        cluster: String,
        /// For what, and why it is not there yet.
        reason: String,
    },
    /// A run is done with a cluster.
    ClusterFinished {
        /// The layer.
        layer: String,
        /// The cluster.
        cluster: String,
        /// True when it is as wanted.
        complete: bool,
        /// Actions taken.
        actions: u32,
        /// Parts of members changed.
        changed: u32,
        /// Milliseconds.
        took_ms: u64,
    },
    /// A layer's convergence ended.
    LayerFinished {
        /// The layer.
        layer: String,
        /// True when every host reached its wanted state.
        complete: bool,
        /// Milliseconds.
        took_ms: u64,
    },
    /// A gate began.
    GateStarted {
        /// The layer.
        layer: String,
        /// Which kinds of test run.
        kinds: Vec<TestKind>,
    },
    /// A test of a gate began.
    TestStarted {
        /// The layer.
        layer: String,
        /// The test.
        test: String,
    },
    /// A fault was injected or healed.
    Fault {
        /// The layer.
        layer: String,
        /// The test.
        test: String,
        /// What, for example `reboot db-02`.
        what: String,
        /// True when this is the healing.
        healed: bool,
    },
    /// A test of a gate ended.
    TestFinished {
        /// The layer.
        layer: String,
        /// The test.
        test: String,
        /// Its kind.
        kind: TestKind,
        /// The verdict.
        verdict: Verdict,
        /// What was wanted.
        expected: String,
        /// What was found, per host where it differs.
        found: Vec<String>,
        /// What was measured.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        measured: Vec<Measurement>,
        /// The waivers that cover what was found, where the verdict is waived.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waived: Vec<Waiving>,
        /// Milliseconds.
        took_ms: u64,
    },
    /// A gate ended.
    GateFinished {
        /// The layer.
        layer: String,
        /// The verdict.
        verdict: GateVerdict,
        /// Tests by verdict: pass, fail, not run, not applicable.
        counts: [u32; 4],
        /// Tests that are red and waived.
        #[serde(default)]
        waived: u32,
        /// Milliseconds.
        took_ms: u64,
    },
    /// A layer was looked at for what is not as wanted any more.
    LayerAudited {
        /// The layer.
        layer: String,
        /// What was found.
        #[serde(flatten)]
        audited: Audited,
    },
    /// The connection to a host broke in the middle of its work; it is made anew.
    LinkLost {
        /// The host.
        host: String,
        /// Why, as far as is known.
        reason: String,
        /// The step in hand, where one was.
        step: Option<String>,
    },
    /// The connection is back, and the host's work goes on.
    LinkRestored {
        /// The host.
        host: String,
        /// Milliseconds since it was lost, the end of the step in hand included.
        after_ms: u64,
        /// How often it was tried.
        attempts: u32,
    },
    /// Something worth a line.
    Note {
        /// The text.
        text: String,
    },
    /// The run ended.
    RunFinished {
        /// The exit code.
        exit_code: u8,
        /// Why, one line.
        reason: String,
        /// Milliseconds.
        took_ms: u64,
    },
}

/// Names a step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepId {
    /// The host.
    pub host: String,
    /// The layer.
    pub layer: String,
    /// The role.
    pub role: String,
    /// The step's name.
    pub step: String,
    /// True for a handler.
    pub handler: bool,
}

/// Why a host could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostProblem {
    /// It did not answer, or refused the login.
    Unreachable,
    /// Its host key is not the pinned one, or none is pinned.
    Identity,
    /// Another run holds it.
    Locked,
    /// It answered and cannot be worked on.
    Unfit,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum StepOutcome {
    /// The host already had it.
    Unchanged,
    /// It was changed, or would be.
    Changed {
        /// The differences as text; content of secret steps is not in them.
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
}

/// One difference as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChangeText {
    /// What differs.
    pub what: String,
    /// Found.
    pub from: Option<String>,
    /// Wanted.
    pub to: Option<String>,
    /// A unified diff of file content.
    pub diff: Option<String>,
}

/// How a host ended a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// Everything is as wanted.
    Converged,
    /// A step failed.
    Failed,
    /// The connection broke.
    Lost,
    /// It could not be reached.
    Unusable,
    /// The run was stopped before it was done.
    Stopped,
    /// Its turn did not come: too many hosts before it failed.
    NotStarted,
}

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since `start`.
pub fn elapsed_ms(start: std::time::Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Takes the events of a run, in order.
pub trait Consumer: Send {
    /// One event.
    ///
    /// # Errors
    /// When it cannot be kept (a full disk, for example); the run then stops before its next
    /// change.
    fn event(&mut self, event: &Event) -> std::io::Result<()>;

    /// No event waits to be taken: what was put off to do it at once for many is done now.
    ///
    /// # Errors
    /// As [`Self::event`].
    fn rest(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    /// What the last event brings to light for who knows what happened before: events of their
    /// own, which every consumer takes next.
    fn follow_ups(&mut self) -> Vec<EventKind> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
