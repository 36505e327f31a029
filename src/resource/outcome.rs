//! What is asked of a host in one go, and what the agent reports of it.

use super::Resource;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether to change the host or only to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Look only; report what would change.
    Check,
    /// Change what differs.
    Apply,
}

/// An ordered list of resources with the handlers that they may notify: one role on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The role that asks; also the namespace of its handlers' names.
    pub role: String,
    /// Look or change.
    pub mode: Mode,
    /// Steps, in order. The first failure ends the batch. They are shared with whoever knows them
    /// already: most are the same for many hosts, or were made when the site was checked.
    pub items: Vec<Arc<Item>>,
    /// Handlers, in order. Those notified run after the last step; when the batch ends early they
    /// stay recorded on the host and run at the end of the next complete batch of this role.
    pub handlers: Vec<Arc<Item>>,
    /// What keeps steps that cannot tell whether they were done from being done twice.
    pub once: Once,
}

/// The run of which a batch is a part. A step that runs each time ([`Resource::runs_each_time`])
/// runs once in a run and all that resume it; the host keeps the record, since only the host knows
/// what it did before a link or an operator host was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// The run in hand; where there is none, nothing is remembered.
    pub run: Option<String>,
    /// The layer: a role may stand in several, and its steps run in each.
    pub layer: String,
    /// The runs that it goes on with.
    pub resumes: Vec<String>,
    /// What becomes of a step that was in hand when one of them ended.
    pub unknown: Unknown,
}

/// What becomes of a step of which nothing tells whether it was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unknown {
    /// It fails, and the operator is told to look.
    #[default]
    Refuse,
    /// It runs again.
    Repeat,
    /// It is taken for done.
    Done,
}

/// One step of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The step's name, as the role gives it.
    pub name: String,
    /// What the host must have.
    pub resource: Resource,
    /// Names of the handlers to run when this step changed something.
    pub notify: Vec<String>,
    /// True when the resource carries secret material: its content never appears in a report.
    pub secret: bool,
    /// Milliseconds that this step may take; the agent reports a failure after them.
    pub timeout_ms: u32,
}

/// Names an item within its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemSlot {
    /// Index into [`Batch::items`].
    Step(u32),
    /// Index into [`Batch::handlers`].
    Handler(u32),
}

/// Something that happened to one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemReport {
    /// Which item.
    pub slot: ItemSlot,
    /// What happened.
    pub event: ItemEvent,
}

/// What happened to an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemEvent {
    /// The agent began to look at it.
    Started,
    /// It waits for something; the text says for what and why it is not there yet.
    Waiting(String),
    /// It is done.
    Finished {
        /// The result.
        outcome: Outcome,
        /// How long it took, in milliseconds.
        took_ms: u32,
    },
}

impl ItemEvent {
    /// True where nobody misses anything when it is told with what follows: whatever takes long says so
    /// then.
    pub const fn may_wait(&self) -> bool {
        matches!(self, Self::Started | Self::Finished { outcome: Outcome::Unchanged, .. })
    }
}

/// The result of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The host already had it.
    Unchanged,
    /// It was changed, or (in [`Mode::Check`]) would be.
    Changed(Vec<Change>),
    /// It could not be brought to the wanted state.
    Failed(Failure),
}

/// One difference between wanted and found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What differs, for example `mode`, `content`, `package chrony`.
    pub what: String,
    /// The value found, `None` where there was nothing.
    pub from: Option<String>,
    /// The value wanted, `None` where nothing is wanted.
    pub to: Option<String>,
    /// For file content: the bytes found, so that the controller can show a diff. Never present
    /// for secret items.
    pub before: Option<Vec<u8>>,
}

/// Why a resource failed: what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, one line, lower case, no full stop.
    pub message: String,
    /// The end of a program's output, if one failed; already free of secrets.
    pub output: Option<String>,
    /// What the operator can do.
    pub hint: Option<String>,
}

impl Change {
    /// A difference with both values known.
    pub fn new(what: impl Into<String>, from: Option<String>, to: Option<String>) -> Self {
        Self { what: what.into(), from, to, before: None }
    }
}

impl Failure {
    /// A failure that needs no more than its message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), output: None, hint: None }
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the end of a program's output.
    #[must_use]
    pub fn output(mut self, output: impl Into<String>) -> Self {
        self.output = Some(output.into());
        self
    }
}
