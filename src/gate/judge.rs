//! How a perf test comes to its verdict: figures are measured, its bounds judge them, and a green run
//! keeps the first figures as the site's baseline.

use super::baseline::{Figure, compare};
use super::scenario::{Finding, Surroundings};
use crate::event::{EventKind, Measurement, Verdict, now_ms};
use crate::history::Baseline;

/// The bound that is the share of the baseline, in per cent.
const BASELINE: &str = "baseline_percent";

/// Collects what a perf test measured and what its bounds say of it.
pub struct Judge<'a> {
    surroundings: &'a Surroundings<'a>,
    measured: Vec<Measurement>,
    figures: Vec<Figure>,
    verdict: Tally,
}

/// What was judged so far. Pure.
#[derive(Debug, Default)]
struct Tally {
    judged: u32,
    wrong: Vec<String>,
    not_judged: Vec<String>,
}

impl Tally {
    /// Counts a bound: why it is not judged, or what of it does not hold.
    fn bound(&mut self, bound: &str, excepted: Option<&str>, wrong: Vec<String>) {
        match excepted {
            Some(reason) => self.not_judged.push(format!("{bound} is not judged: {reason}")),
            None => {
                self.judged += 1;
                self.wrong.extend(wrong);
            }
        }
    }

    /// Wrong is red; nothing that was judged is no pass.
    const fn verdict(&self) -> Verdict {
        if !self.wrong.is_empty() {
            Verdict::Fail
        } else if self.judged == 0 {
            Verdict::NotApplicable
        } else {
            Verdict::Pass
        }
    }
}

impl<'a> Judge<'a> {
    /// Nothing measured yet.
    pub fn new(surroundings: &'a Surroundings<'a>) -> Self {
        Self { surroundings, measured: Vec::new(), figures: Vec::new(), verdict: Tally::default() }
    }

    /// A figure that is shown and kept in the journal.
    pub fn measured(&mut self, measurement: Measurement) {
        self.measured.push(measurement);
    }

    /// A figure that has a baseline too.
    pub fn figure(&mut self, figure: Figure) {
        self.measured.push(figure.measurement.clone());
        self.figures.push(figure);
    }

    /// Judges a bound by its key; `wrong` is what does not hold. A rehearsal's exception leaves the
    /// bound out and says so.
    pub fn bound(&mut self, bound: &str, wrong: Vec<String>) {
        let test = &self.surroundings.test.name;
        let context = self.surroundings.context;
        let excepted = context.site.exceptions.bound(test, bound);
        if let Some(reason) = excepted {
            self.surroundings.events.emit(EventKind::Excepted {
                layer: context.layer.name.clone(),
                what: format!("{test} › {bound}"),
                reason: reason.to_owned(),
            });
        }
        self.verdict.bound(bound, excepted, wrong);
    }

    /// Something that is wrong whatever the bounds say.
    pub fn wrong(&mut self, line: String) {
        self.verdict.wrong.push(line);
    }

    /// A bound that means nothing here, and why.
    pub fn not_applicable(&mut self, why: String) {
        self.verdict.not_judged.push(why);
    }

    /// The finding. With `baseline_percent` the figures are compared with the site's baseline, and
    /// those that have none yet become it when the test is green.
    pub fn finish(mut self, expected: &str, baseline_percent: Option<u32>) -> Finding {
        let Surroundings { context, test, .. } = self.surroundings;
        let layer = &context.layer.name;
        let mut new = Vec::new();
        if let Some(percent) = baseline_percent {
            let recorded = match context.records.baselines(layer) {
                Ok(recorded) => recorded,
                Err(error) => {
                    let why = format!("the baseline cannot be read: {error}");
                    return Finding { measured: self.measured, ..Finding::not_run(why) };
                }
            };
            let comparison = compare(&test.name, &self.figures, &recorded, percent);
            new = comparison
                .new
                .into_iter()
                .map(|figure| Baseline {
                    test: test.name.clone(),
                    measurement: figure.measurement.clone(),
                    conditions: figure.conditions.clone(),
                    at_ms: now_ms(),
                    run: context.run.to_owned(),
                })
                .collect();
            self.bound(BASELINE, comparison.worse);
        }
        let verdict = self.verdict.verdict();
        let excepted = context.site.exceptions.bound(&test.name, BASELINE).is_some();
        let mut found = self.verdict.wrong;
        found.extend(self.verdict.not_judged);
        if verdict == Verdict::Pass && !excepted && !new.is_empty() {
            found.push(format!("{} figures became the site's baseline", new.len()));
            if let Err(error) = context.records.add_baselines(layer, new) {
                let why = format!("the baseline cannot be kept: {error}");
                return Finding { measured: self.measured, ..Finding::not_run(why) };
            }
        }
        Finding { verdict, found, measured: self.measured, ..Finding::of(expected, Vec::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_judged_never_passes() {
        let of = |bounds: &[(Option<&str>, &[&str])]| {
            let mut tally = Tally::default();
            for (excepted, wrong) in bounds {
                tally.bound("b", *excepted, wrong.iter().map(ToString::to_string).collect());
            }
            tally.verdict()
        };
        assert_eq!(of(&[]), Verdict::NotApplicable);
        assert_eq!(of(&[(Some("why"), &[])]), Verdict::NotApplicable);
        assert_eq!(of(&[(Some("why"), &["too slow"])]), Verdict::NotApplicable);
        assert_eq!(of(&[(Some("why"), &["too slow"]), (None, &[])]), Verdict::Pass);
        assert_eq!(of(&[(None, &[]), (None, &["too slow"])]), Verdict::Fail);
    }
}
