//! Figures of tests.

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
