//! Tests of gates, their verdicts, and waivers as they were applied.

use serde::{Deserialize, Serialize};

/// Kinds of gate tests (E7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestKind {
    /// Reads only.
    Diag,
    /// Injects one fault.
    Failover,
    /// Bounded load.
    Perf,
}

/// A test's verdict. Not run is red.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As wanted.
    Pass,
    /// Not as wanted.
    Fail,
    /// It could not be run.
    NotRun,
    /// The site's layers make it meaningless, or a rehearsal excepts it with a reason.
    NotApplicable,
    /// Not as wanted, and a waiver of the site says why that is borne, and until when.
    Waived,
}

/// A gate's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// No test failed and none was left out.
    Green,
    /// As green, but for tests that are red and waived.
    GreenWithWaivers,
    /// A test failed or could not be run.
    Red,
    /// A fault that a test injected could not be healed.
    NotHealed,
}

impl GateVerdict {
    /// True when the layer counts as proved.
    pub const fn is_green(self) -> bool {
        matches!(self, Self::Green | Self::GreenWithWaivers)
    }
}

impl TestKind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Diag => "diag",
            Self::Failover => "failover",
            Self::Perf => "perf",
        }
    }
}

impl Verdict {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotRun => "NOT RUN",
            Self::NotApplicable => "n/a",
            Self::Waived => "waived",
        }
    }
}

/// A waiver as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Waiving {
    /// What the waiver covers, as its file says it; empty in journals and records of before it was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub covers: String,
    /// Why it is borne.
    pub reason: String,
    /// The last day on which it is, as `2026-12-31`, in UTC.
    pub until: String,
    /// Who decided it.
    pub by: String,
}

impl std::fmt::Display for Waiving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, until {} ({})", self.reason, self.until, self.by)
    }
}
