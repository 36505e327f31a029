//! What an account of writes is held to. Pure.

use crate::event::Measurement;
use crate::gate::writer::journal::Account;
use std::collections::BTreeSet;
use std::time::Duration;

/// What figures are about.
pub(super) const SUBJECT: &str = "clients' path";

/// What every test with a fault is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest time without an acknowledged write.
    pub outage: Duration,
    /// From when on, after the first fault, no two nodes may take writes.
    pub one_writer_after: Duration,
    /// How long the old order may take to come back.
    pub restored: Duration,
    /// When the host itself undoes a fault.
    pub heals_after: Duration,
}

/// Which writes must never be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Those that a replica confirmed; others may be lost by the service's own design and are
    /// counted.
    Confirmed,
    /// Every write that was acknowledged.
    Acknowledged,
}

impl Promise {
    /// The writes that it is about: how many were promised, which of them are lost, and what they
    /// are called.
    const fn of(self, account: &Account) -> (u64, &BTreeSet<u64>, &'static str) {
        match self {
            Self::Confirmed => {
                (account.confirmed, &account.confirmed_lost, "that a replica had confirmed")
            }
            Self::Acknowledged => (account.acked, &account.lost, "that were acknowledged"),
        }
    }
}

/// Holds an account against the limits, and keeps its figures. `broken` is the moment of the first
/// fault, on the writer's clock.
pub(super) fn judge(
    account: &Account,
    promise: Promise,
    limits: Limits,
    broken: Option<Duration>,
    wrong: &mut Vec<String>,
    figures: &mut Vec<Measurement>,
) {
    if account.outage > limits.outage {
        wrong.push(format!(
            "no write was acknowledged for {:.1} s, at most {:.1} s are allowed",
            account.outage.as_secs_f64(),
            limits.outage.as_secs_f64()
        ));
    }
    let (promised, lost, which) = promise.of(account);
    if let Some(first) = lost.first() {
        let count = lost.len();
        wrong.push(format!("{count} writes {which} are lost, the first is number {first}"));
    }
    if let Some(phantom) = account.phantoms.first() {
        wrong.push(format!(
            "{} keys hold what was never written, or was refused: {phantom}",
            account.phantoms.len()
        ));
    }
    if promised == 0 {
        wrong.push(format!("there are no writes {which}: nothing is proved"));
    }
    let outage = account.outage.as_secs_f64();
    figures.push(Measurement::new(SUBJECT, "outage", outage, "s"));
    // Below nought when a write was already waiting for its answer.
    figures.extend(broken.map(|broken| {
        let after = account.outage_began.as_secs_f64() - broken.as_secs_f64();
        Measurement::new(SUBJECT, "outage began after", after, "s")
    }));
    let replicas = promise == Promise::Confirmed;
    let counts = [
        ("attempted", account.attempted, true),
        ("acknowledged", account.acked, true),
        ("confirmed by a replica", account.confirmed, replicas),
        ("refused", account.refused, true),
        ("unknown", account.unknown, true),
        ("acknowledged and lost", account.lost.len() as u64, true),
        ("confirmed and lost", account.confirmed_lost.len() as u64, replicas),
    ];
    // Fewer than a thousand writes a second: exact in a float.
    let shown = counts.into_iter().filter(|(_, _, shown)| *shown);
    figures.extend(
        shown.map(|(name, count, _)| Measurement::new(SUBJECT, name, count as f64, "writes")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        outage: Duration::from_secs(10),
        one_writer_after: Duration::ZERO,
        restored: Duration::ZERO,
        heals_after: Duration::ZERO,
    };

    fn good() -> Account {
        Account {
            attempted: 10,
            acked: 9,
            confirmed: 8,
            unknown: 1,
            outage: Duration::from_secs(9),
            ..Account::default()
        }
    }

    fn wrong(account: &Account, promise: Promise) -> Vec<String> {
        let (mut wrong, mut figures) = (Vec::new(), Vec::new());
        judge(account, promise, LIMITS, None, &mut wrong, &mut figures);
        let names = figures.iter().filter(|figure| figure.name.starts_with("confirmed")).count();
        assert_eq!(names, if promise == Promise::Confirmed { 2 } else { 0 });
        wrong
    }

    #[test]
    fn what_was_promised_must_be_there() {
        for promise in [Promise::Confirmed, Promise::Acknowledged] {
            assert_eq!(wrong(&good(), promise), Vec::<String>::new());
            let lost = Account { lost: [3].into(), confirmed_lost: [3].into(), ..good() };
            assert_eq!(wrong(&lost, promise).len(), 1);
            let nothing = Account { acked: 0, confirmed: 0, ..good() };
            assert_eq!(wrong(&nothing, promise).len(), 1, "no promise is no proof");
        }
        let unconfirmed = Account { lost: [3].into(), ..good() };
        assert_eq!(wrong(&unconfirmed, Promise::Confirmed), Vec::<String>::new());
        assert_eq!(wrong(&unconfirmed, Promise::Acknowledged).len(), 1);
    }

    #[test]
    fn a_long_outage_and_what_nobody_wrote_are_wrong() {
        let late = Account { outage: Duration::from_millis(10_001), ..good() };
        assert_eq!(wrong(&late, Promise::Acknowledged).len(), 1);
        let phantom = Account { phantoms: ["x".to_owned()].into(), ..good() };
        assert_eq!(wrong(&phantom, Promise::Confirmed).len(), 1);
    }
}
