//! What a writer did, and what it comes to. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server acknowledged it; so many replicas had it too (none where that is not known).
    Acked(u32),
    /// The server refused it: it did not happen.
    Refused(String),
    /// No answer: it may have happened.
    Unknown(String),
}

/// One write. Times are since the writer's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its id, unique within the writer.
    pub id: u64,
    /// When it was sent.
    pub sent: Duration,
    /// When its outcome was known.
    pub ended: Duration,
    /// Its outcome.
    pub outcome: Outcome,
}

/// What a writer did, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// Its writes.
    pub writes: Vec<Write>,
    /// Attempts to connect that failed.
    pub failed_connections: u64,
    /// The last reason why something did not work.
    pub last_problem: String,
}

/// What was found afterwards, and what that means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Writes that were sent.
    pub attempted: u64,
    /// Writes that were acknowledged.
    pub acked: u64,
    /// Of these, writes that a replica confirmed too.
    pub confirmed: u64,
    /// Writes that were refused.
    pub refused: u64,
    /// Writes without an answer.
    pub unknown: u64,
    /// Acknowledged, and not readable.
    pub lost: BTreeSet<u64>,
    /// Confirmed by a replica, and not readable.
    pub confirmed_lost: BTreeSet<u64>,
    /// Readable, and never written, refused, or with another value.
    pub phantoms: BTreeSet<String>,
    /// The longest time without an acknowledgement.
    pub outage: Duration,
    /// When that began, since the writer's start.
    pub outage_began: Duration,
}

/// The value of a write: it names its key, so that a value under a wrong key is seen.
pub fn value(prefix: &str, id: u64) -> String {
    format!("{prefix}{id}")
}

/// The key of a write.
pub fn key(prefix: &str, id: u64) -> String {
    format!("{prefix}{id}")
}

impl Journal {
    /// The first acknowledgement after a moment.
    pub fn first_ack_after(&self, moment: Duration) -> Option<Duration> {
        self.writes
            .iter()
            .filter(|write| is_acked(write) && write.sent >= moment)
            .map(|write| write.ended)
            .min()
    }

    /// The longest time without an acknowledgement, from the first one until `end`, and when it
    /// began. Without any acknowledgement all of it.
    pub fn outage(&self, end: Duration) -> (Duration, Duration) {
        let mut acks: Vec<Duration> =
            self.writes.iter().filter(|write| is_acked(write)).map(|write| write.ended).collect();
        if acks.is_empty() {
            return (Duration::ZERO, end);
        }
        acks.sort_unstable();
        acks.push(end.max(acks[acks.len() - 1]));
        let gaps = acks.windows(2).map(|pair| (pair[0], pair[1] - pair[0]));
        gaps.max_by_key(|(_, gap)| *gap).unwrap_or_default()
    }

    /// Holds what was written against what can be read: all keys with the prefix, with their
    /// values.
    pub fn account(
        &self,
        prefix: &str,
        readable: &BTreeMap<String, String>,
        end: Duration,
    ) -> Account {
        let (outage_began, outage) = self.outage(end);
        let mut account = Account { outage, outage_began, ..Account::default() };
        let mut possible: BTreeMap<String, String> = BTreeMap::new();
        for write in &self.writes {
            account.attempted += 1;
            let (key, value) = (key(prefix, write.id), value(prefix, write.id));
            let there = readable.get(&key) == Some(&value);
            match write.outcome {
                Outcome::Acked(replicas) => {
                    account.acked += 1;
                    account.confirmed += u64::from(replicas > 0);
                    if !there {
                        account.lost.insert(write.id);
                        if replicas > 0 {
                            account.confirmed_lost.insert(write.id);
                        }
                    }
                    possible.insert(key, value);
                }
                Outcome::Refused(_) => account.refused += 1,
                Outcome::Unknown(_) => {
                    account.unknown += 1;
                    possible.insert(key, value);
                }
            }
        }
        account.phantoms = readable
            .iter()
            .filter(|(key, value)| possible.get(*key) != Some(*value))
            .map(|(key, _)| key.clone())
            .collect();
        account
    }
}

const fn is_acked(write: &Write) -> bool {
    matches!(write.outcome, Outcome::Acked(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREFIX: &str = "strata_gate:r:";

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn write(id: u64, sent: u64, ended: u64, outcome: Outcome) -> Write {
        Write { id, sent: ms(sent), ended: ms(ended), outcome }
    }

    fn readable(ids: &[u64]) -> BTreeMap<String, String> {
        ids.iter().map(|id| (key(PREFIX, *id), value(PREFIX, *id))).collect()
    }

    fn journal(writes: Vec<Write>) -> Journal {
        Journal { writes, ..Journal::default() }
    }

    #[test]
    fn losses_phantoms_and_the_outage() {
        let journal = journal(vec![
            write(0, 0, 10, Outcome::Acked(1)),
            write(1, 10, 20, Outcome::Acked(0)),
            write(2, 20, 30, Outcome::Unknown("lost".into())),
            write(3, 400, 410, Outcome::Refused("NOREPLICAS".into())),
            write(4, 500, 520, Outcome::Acked(2)),
        ]);
        let account = journal.account(PREFIX, &readable(&[0, 2, 3, 9]), ms(600));
        assert_eq!((account.attempted, account.acked, account.confirmed), (5, 3, 2));
        assert_eq!((account.refused, account.unknown), (1, 1));
        assert_eq!(account.lost, [1, 4].into());
        assert_eq!(account.confirmed_lost, [4].into());
        let phantoms: BTreeSet<String> = [key(PREFIX, 3), key(PREFIX, 9)].into();
        assert_eq!(account.phantoms, phantoms);
        assert_eq!((account.outage_began, account.outage), (ms(20), ms(500)));
        assert_eq!(journal.first_ack_after(ms(15)), Some(ms(520)));
    }

    #[test]
    fn an_outage_that_lasts_until_the_end_counts() {
        let journal = journal(vec![write(0, 0, 10, Outcome::Acked(1))]);
        assert_eq!(journal.outage(ms(9_000)), (ms(10), ms(8_990)));
        assert_eq!(Journal::default().outage(ms(9_000)), (ms(0), ms(9_000)));
    }

    #[test]
    fn another_value_under_the_right_key_is_a_loss_and_a_phantom() {
        let journal = journal(vec![write(7, 0, 10, Outcome::Acked(1))]);
        let read = [(key(PREFIX, 7), "other".to_owned())].into();
        let account = journal.account(PREFIX, &read, ms(10));
        assert_eq!((account.confirmed_lost.len(), account.phantoms.len()), (1, 1));
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            (0_u32..3).prop_map(Outcome::Acked),
            Just(Outcome::Refused(String::new())),
            Just(Outcome::Unknown(String::new())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_read_back_in_full_is_neither_lost_nor_phantom(
            outcomes in proptest::collection::vec((any_outcome(), 0_u64..500), 0..60),
            unknown_happened: bool,
        ) {
            let mut at = 0;
            let writes: Vec<Write> = outcomes.into_iter().enumerate().map(|(id, (outcome, took))| {
                at += took;
                write(id as u64, at - took, at, outcome)
            }).collect();
            let there: Vec<u64> = writes.iter().filter(|write| match write.outcome {
                Outcome::Acked(_) => true,
                Outcome::Unknown(_) => unknown_happened,
                Outcome::Refused(_) => false,
            }).map(|write| write.id).collect();
            let journal = journal(writes);
            let account = journal.account(PREFIX, &readable(&there), ms(at));
            prop_assert!(account.lost.is_empty() && account.phantoms.is_empty());
            prop_assert_eq!(account.attempted, account.acked + account.refused + account.unknown);
            prop_assert!(account.confirmed <= account.acked);
            prop_assert!(account.outage <= ms(at));
        }

        #[test]
        fn every_acknowledged_write_that_is_missing_is_named(
            kept in proptest::collection::vec(any::<(bool, bool)>(), 1..60),
        ) {
            let writes: Vec<Write> = kept.iter().enumerate()
                .map(|(id, (_, replica))| write(id as u64, 0, 1, Outcome::Acked(u32::from(*replica))))
                .collect();
            let there: Vec<u64> =
                (0..).zip(&kept).filter(|(_, (there, _))| *there).map(|(id, _)| id).collect();
            let account = journal(writes).account(PREFIX, &readable(&there), ms(1));
            prop_assert_eq!(account.lost.len(), kept.len() - there.len());
            let confirmed = kept.iter().filter(|(there, replica)| !there && *replica).count();
            prop_assert_eq!(account.confirmed_lost.len(), confirmed);
            prop_assert!(account.confirmed_lost.is_subset(&account.lost));
        }

        #[test]
        fn the_outage_is_at_least_every_gap_between_acknowledgements(
            gaps in proptest::collection::vec(0_u64..5_000, 1..40), tail in 0_u64..5_000,
        ) {
            let mut at = 0;
            let writes: Vec<Write> = gaps.iter().enumerate().map(|(id, gap)| {
                at += gap;
                write(id as u64, at, at, Outcome::Acked(1))
            }).collect();
            let longest = gaps[1..].iter().copied().chain([tail]).max().unwrap_or_default();
            prop_assert_eq!(journal(writes).outage(ms(at + tail)).1, ms(longest));
        }
    }
}
