//! Whether two nodes ever took writes at the same time. Pure.
//!
//! Each node is asked several times a second what it is, and a master is given a write. A node has
//! authority from the end of its first accepted write until the start of the last one of a series;
//! a write that another node accepted wholly inside that time proves two writers. What only might
//! overlap is not counted: a verdict of two writers is never a false alarm.

use std::time::Duration;

/// What a node did with the write that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It does not call itself a master.
    Follows,
    /// A master that took the write.
    Accepted,
    /// A master that refused it.
    Fenced(String),
    /// No answer.
    Silent(String),
}

/// One look at one node. Times are since the sampler's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The node.
    pub node: String,
    /// When the write was sent (or the look began).
    pub sent: Duration,
    /// When the answer was there.
    pub ended: Duration,
    /// The answer.
    pub answer: Answer,
}

/// Two nodes that both took writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoWriters {
    /// The node with authority.
    pub one: String,
    /// The node that took a write meanwhile.
    pub other: String,
    /// When the write was taken, at the latest.
    pub at: Duration,
}

/// A break of this length ends a series: a node that lost authority and got it again does not have
/// it in between.
const SERIES: Duration = Duration::from_millis(1500);

/// Proven moments after `since` at which two nodes took writes.
pub fn two_writers(samples: &[Sample], since: Duration) -> Vec<TwoWriters> {
    let accepted: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.answer == Answer::Accepted && sample.sent >= since)
        .collect();
    let mut nodes: Vec<&str> = accepted.iter().map(|sample| sample.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut found = Vec::new();
    for node in nodes {
        for (from, until) in series(&accepted, node) {
            found.extend(
                accepted
                    .iter()
                    .filter(|other| other.node != node)
                    .filter(|other| other.sent >= from && other.ended <= until)
                    .map(|other| TwoWriters {
                        one: node.to_owned(),
                        other: other.node.clone(),
                        at: other.ended,
                    }),
            );
        }
    }
    found.sort_by_key(|both| both.at);
    found
}

/// The times in which a node certainly had authority.
fn series(accepted: &[&Sample], node: &str) -> Vec<(Duration, Duration)> {
    let mut own: Vec<&&Sample> = accepted.iter().filter(|sample| sample.node == node).collect();
    own.sort_by_key(|sample| sample.sent);
    let mut series: Vec<(Duration, Duration, Duration)> = Vec::new();
    for sample in own {
        match series.last_mut() {
            Some((_, until, ended)) if sample.sent.saturating_sub(*ended) <= SERIES => {
                *until = sample.sent;
                *ended = sample.ended;
            }
            _ => series.push((sample.ended, sample.sent, sample.ended)),
        }
    }
    series.into_iter().filter(|(from, until, _)| from < until).map(|(f, u, _)| (f, u)).collect()
}

/// The last write that a node took after `since`.
pub fn last_accepted(samples: &[Sample], node: &str, since: Duration) -> Option<Duration> {
    samples
        .iter()
        .filter(|sample| sample.node == node && sample.answer == Answer::Accepted)
        .filter(|sample| sample.ended >= since)
        .map(|sample| sample.ended)
        .max()
}

/// The first write that a node took after `since`.
pub fn first_accepted(samples: &[Sample], node: &str, since: Duration) -> Option<Duration> {
    samples
        .iter()
        .filter(|sample| sample.node == node && sample.answer == Answer::Accepted)
        .filter(|sample| sample.sent >= since)
        .map(|sample| sample.ended)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepted(node: &str, sent: u64) -> Sample {
        Sample {
            node: node.to_owned(),
            sent: Duration::from_millis(sent),
            ended: Duration::from_millis(sent + 5),
            answer: Answer::Accepted,
        }
    }

    #[test]
    fn a_write_inside_another_nodes_series_proves_two_writers() {
        let samples = [accepted("a", 0), accepted("b", 100), accepted("a", 250)];
        let found = two_writers(&samples, Duration::ZERO);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].one.as_str(), found[0].other.as_str()), ("a", "b"));
        assert!(two_writers(&samples, Duration::from_millis(90)).is_empty(), "only after `since`");
    }

    #[test]
    fn authority_that_went_over_and_back_is_no_double() {
        let mut samples: Vec<Sample> = (0..5).map(|n| accepted("a", n * 250)).collect();
        samples.extend((0..8).map(|n| accepted("b", 1500 + n * 250)));
        samples.extend((0..4).map(|n| accepted("a", 4000 + n * 250)));
        assert!(two_writers(&samples, Duration::ZERO).is_empty());
        assert_eq!(
            last_accepted(&samples, "b", Duration::ZERO),
            Some(Duration::from_millis(1500 + 7 * 250 + 5))
        );
        let after = |ms| first_accepted(&samples, "a", Duration::from_millis(ms));
        assert_eq!(after(0), Some(Duration::from_millis(5)));
        assert_eq!(after(1001), Some(Duration::from_millis(4005)), "sent before counts not");
        assert_eq!(after(9000), None);
    }

    #[test]
    fn only_accepted_writes_count() {
        let fenced = Sample { answer: Answer::Fenced("NOREPLICAS".into()), ..accepted("b", 100) };
        let follows = Sample { answer: Answer::Follows, ..accepted("b", 120) };
        let samples = [accepted("a", 0), fenced, follows, accepted("a", 250)];
        assert!(two_writers(&samples, Duration::ZERO).is_empty());
    }

    proptest! {
        /// Turns that follow one another are never taken for two writers, however short.
        #[test]
        fn turns_are_no_double(turns in proptest::collection::vec((0_usize..3, 1_u64..6), 1..20)) {
            let mut samples = Vec::new();
            let mut at = 0;
            let mut last = None;
            for (node, count) in turns {
                // A node's next turn after another's is a turn of its own: time passed.
                at += if last == Some(node) { 0 } else { 2_000 };
                last = Some(node);
                for _ in 0..count {
                    samples.push(accepted(["a", "b", "c"][node], at));
                    at += 250;
                }
            }
            prop_assert!(two_writers(&samples, Duration::ZERO).is_empty());
        }

        /// Two nodes that both take writes all the time are always found out.
        #[test]
        fn two_at_once_are_found(offset in 6_u64..240, count in 2_u64..20) {
            let mut samples = Vec::new();
            for n in 0..count {
                samples.push(accepted("a", n * 250));
                samples.push(accepted("b", n * 250 + offset));
            }
            prop_assert!(!two_writers(&samples, Duration::ZERO).is_empty());
        }
    }
}
