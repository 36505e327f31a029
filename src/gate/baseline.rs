//! Figures against the baseline of this site (X17): the first green run records what it measured,
//! later ones must reach a share of it. The comparison is pure; the store is in `history`.

use crate::event::Measurement;
use crate::history::Baseline;

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// For example a throughput.
    More,
    /// For example a latency.
    Less,
}

/// A measured figure that has a baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub measurement: Measurement,
    /// Which way it is better.
    pub better: Better,
    /// What else it depends on, for example `500 × 4096 bytes`: measured in another way it has
    /// another baseline.
    pub conditions: String,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison<'a> {
    /// Figures that are too far from their baseline, one line each.
    pub worse: Vec<String>,
    /// Figures that have no baseline yet.
    pub new: Vec<&'a Figure>,
}

/// Compares the figures of a test with what was recorded. Each must reach `percent` of its baseline;
/// where less is better, the baseline must be at least `percent` of the figure.
pub fn compare<'a>(
    test: &str,
    figures: &'a [Figure],
    recorded: &[Baseline],
    percent: u32,
) -> Comparison<'a> {
    let mut comparison = Comparison { worse: Vec::new(), new: Vec::new() };
    for figure in figures {
        let measurement = &figure.measurement;
        let known = recorded.iter().find(|baseline| {
            baseline.is_of(test, measurement) && baseline.conditions == figure.conditions
        });
        let Some(baseline) = known else {
            comparison.new.push(figure);
            continue;
        };
        let (low, high) = match figure.better {
            Better::More => (measurement.value, baseline.measurement.value),
            Better::Less => (baseline.measurement.value, measurement.value),
        };
        // Also false for what is no number: it must not pass.
        let reached = low * 100.0 >= high * f64::from(percent);
        if !reached {
            comparison.worse.push(format!(
                "{}: {} {:.1} {}, the baseline of run {} is {:.1} {}",
                measurement.subject,
                measurement.name,
                measurement.value,
                measurement.unit,
                baseline.run,
                baseline.measurement.value,
                baseline.measurement.unit,
            ));
        }
    }
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, better: Better) -> Figure {
        Figure {
            measurement: Measurement {
                subject: "h".into(),
                name: "n".into(),
                value,
                unit: "u".into(),
            },
            better,
            conditions: "c".into(),
        }
    }

    fn recorded(value: f64) -> Baseline {
        Baseline {
            test: "t".into(),
            measurement: figure(value, Better::More).measurement,
            conditions: "c".into(),
            at_ms: 1,
            run: "r".into(),
        }
    }

    #[test]
    fn a_figure_must_reach_its_share_of_the_baseline() {
        let worse = |value, better| {
            !compare("t", &[figure(value, better)], &[recorded(100.0)], 70).worse.is_empty()
        };
        for (value, expected) in [(70.0, false), (69.9, true), (500.0, false), (f64::NAN, true)] {
            assert_eq!(worse(value, Better::More), expected, "{value}, more is better");
        }
        for (value, expected) in [(142.0, false), (143.0, true), (1.0, false), (f64::NAN, true)] {
            assert_eq!(worse(value, Better::Less), expected, "{value}, less is better");
        }
    }

    #[test]
    fn another_test_figure_unit_or_way_of_measuring_has_another_baseline() {
        let figures = [figure(1.0, Better::More)];
        let others = [
            Baseline { test: "other".into(), ..recorded(100.0) },
            Baseline { conditions: "other".into(), ..recorded(100.0) },
            Baseline {
                measurement: Measurement { unit: "other".into(), ..recorded(100.0).measurement },
                ..recorded(100.0)
            },
        ];
        let comparison = compare("t", &figures, &others, 70);
        assert_eq!((comparison.worse.len(), comparison.new.len()), (0, 1));
    }
}
