//! Processor time that the hypervisor gives to others.

use super::{Finding, Surroundings};
use crate::event::Measurement;
use crate::gate::judge::Judge;
use crate::gate::probe;
use serde::Deserialize;

/// How much may be taken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Per cent of processor time. Default: 5.
    #[serde(default = "default_percent")]
    max_percent: u32,
    /// Seconds that are looked at. Default: 5.
    #[serde(default = "default_seconds")]
    seconds: u32,
}

const fn default_percent() -> u32 {
    5
}

const fn default_seconds() -> u32 {
    5
}

/// Looks at every host's processors for a while.
pub async fn run(surroundings: Surroundings<'_>, bounds: Bounds) -> Finding {
    let seconds = bounds.seconds.to_string();
    let asked =
        surroundings
            .ask_each(|_, session| {
                let seconds = &seconds;
                async move {
                    steal(&probe::agent(&session, &["processor", "--seconds", seconds]).await?)
                }
            })
            .await;
    let results = match asked {
        Ok(results) => results,
        Err(finding) => return finding,
    };
    let mut judge = Judge::new(&surroundings);
    let mut wrong = Vec::new();
    for (host, result) in results {
        match result {
            Ok(percent) => {
                judge.measured(Measurement::new(&host, "steal", percent, "%"));
                if percent > f64::from(bounds.max_percent) {
                    wrong.push(format!("{host}: {percent:.1} % stolen"));
                }
            }
            Err(error) => judge.wrong(format!("{host}: {error}")),
        }
    }
    judge.bound("max_percent", wrong);
    let expected =
        format!("at most {} % of processor time stolen in {seconds} s", bounds.max_percent);
    judge.finish(&expected, None)
}

/// Per cent of stolen time between two `cpu` lines of `/proc/stat`.
fn steal(text: &str) -> Result<f64, String> {
    /// Guest time, which follows, is part of user time already.
    const COUNTED: usize = 8;
    const STEAL: usize = 7;
    let times = |line: &str| -> Option<Vec<u64>> {
        let numbers = line.strip_prefix("cpu ")?.split_whitespace().take(COUNTED);
        let numbers: Vec<u64> = numbers.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        (numbers.len() == COUNTED).then_some(numbers)
    };
    let mut lines = text.lines().map(times);
    let (Some(Some(before)), Some(Some(after))) = (lines.next(), lines.next()) else {
        return Err(format!("`{}` is nothing of /proc/stat", text.trim()));
    };
    let passed: Vec<u64> =
        before.iter().zip(&after).map(|(old, new)| new.saturating_sub(*old)).collect();
    let total: u64 = passed.iter().sum();
    let stolen = passed.get(STEAL).copied().unwrap_or_default();
    if total == 0 {
        return Err("no processor time passed between two looks".to_owned());
    }
    #[expect(clippy::cast_precision_loss, reason = "ticks of some seconds")]
    Ok(stolen as f64 * 100.0 / total as f64)
}

#[cfg(test)]
mod tests {
    use super::steal;

    #[test]
    fn stolen_time_is_a_share_of_all_time_that_passed() {
        let text = "cpu  100 0 50 800 0 0 0 50 0 0\ncpu  130 0 60 850 0 0 0 60 20 0\n";
        assert_eq!(steal(text), Ok(10.0));
        let none = "cpu  1 1 1 1 1 1 1 1 1 1\ncpu  2 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(steal(none), Ok(0.0));
        let still = "cpu  1 1 1 1 1 1 1 1\ncpu  1 1 1 1 1 1 1 1\n";
        for bad in ["", "cpu  1 2\ncpu  1 2\n", "cpu0 1 1 1 1 1 1 1 1\n", still] {
            assert!(steal(bad).is_err(), "{bad}");
        }
    }
}
