//! What was measured against the baseline and earlier runs.

use crate::event::Measurement;

/// A figure of another run.
#[derive(Debug, Clone, PartialEq)]
pub struct PastFigure {
    /// The layer.
    pub layer: String,
    /// The test.
    pub test: String,
    /// The run.
    pub run: String,
    /// The figure.
    pub measurement: Measurement,
}

/// What a run is compared with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// Figures of earlier runs, oldest first.
    pub earlier: Vec<PastFigure>,
    /// The site's baseline.
    pub baseline: Vec<PastFigure>,
}

/// A figure of the run with what it was before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Compared<'a> {
    /// The figure.
    pub figure: &'a Measurement,
    /// The baseline, where there is one.
    pub baseline: Option<f64>,
    /// Its values in earlier runs, oldest first.
    pub earlier: Vec<f64>,
}

impl Compared<'_> {
    /// How far it is from the baseline, or from the last run where there is none, in percent.
    pub fn change(&self) -> Option<f64> {
        let before = self.baseline.or_else(|| self.earlier.last().copied())?;
        let percent = (self.figure.value - before) / before * 100.0;
        percent.is_finite().then_some(percent)
    }
}

/// The figures of a test. Only what stands for the same subject, name and unit is compared.
pub(super) fn compared<'a>(
    (layer, test): (&str, &str),
    figures: &'a [Measurement],
    past: &Past,
) -> Vec<Compared<'a>> {
    let of = |known: &[PastFigure], figure: &Measurement| -> Vec<f64> {
        let same = |one: &&PastFigure| {
            let own = &one.measurement;
            one.layer == layer
                && one.test == test
                && own.subject == figure.subject
                && own.name == figure.name
                && own.unit == figure.unit
        };
        known.iter().filter(same).map(|one| one.measurement.value).collect()
    };
    let compare = |figure: &'a Measurement| Compared {
        figure,
        baseline: of(&past.baseline, figure).last().copied(),
        earlier: of(&past.earlier, figure),
    };
    figures.iter().map(compare).collect()
}
