//! Tests of gates, their verdicts and what they measure.

use serde::{Deserialize, Serialize};

/// A figure that a test measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Of what: a host, or two hosts as `db-01 → db-02`.
    pub subject: String,
    /// Which figure, for example `p99`.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit, for example `ms`.
    pub unit: String,
}

impl Measurement {
    /// A figure, rounded to thousandths: so few digits are read back from a file as they were.
    pub fn new(
        subject: impl Into<String>,
        name: impl Into<String>,
        value: f64,
        unit: impl Into<String>,
    ) -> Self {
        let value = (value * 1000.0).round() / 1000.0;
        Self { subject: subject.into(), name: name.into(), value, unit: unit.into() }
    }
}

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
