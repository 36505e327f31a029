//! Figures of tests.

use serde::{Deserialize, Serialize};

/// A figure that a test measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Of what: a host, or two hosts as `db-01 → db-02`.
    pub subject: String,
    /// Which figure, for example `p99`.
    pub name: String,
    /// The figure; NaN where there is none, which JSON writes as null.
    #[serde(deserialize_with = "null_is_nan")]
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

/// A division by nothing must not make a journal unreadable.
fn null_is_nan<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Option::<f64>::deserialize(from).map(|value| value.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::Measurement;

    #[test]
    fn a_figure_that_is_none_is_read_back_as_none() {
        let written =
            serde_json::to_string(&Measurement::new("a", "p99", f64::INFINITY, "ms")).unwrap();
        let read: Measurement = serde_json::from_str(&written).unwrap();
        assert!(read.value.is_nan(), "{written}");
        let finite = Measurement::new("a", "p99", 1.25, "ms");
        let written = serde_json::to_string(&finite).unwrap();
        assert_eq!(serde_json::from_str::<Measurement>(&written).unwrap(), finite);
    }
}
