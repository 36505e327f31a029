//! Which faults are still there.

use std::cell::RefCell;

/// The faults that a test injected and has not healed. It belongs to the runner, not to the test:
/// a test that ends early, or forgets, still leaves it.
#[derive(Debug, Default)]
pub struct Ledger(RefCell<Vec<String>>);

impl Ledger {
    /// Writes a fault down, or strikes it out.
    pub fn note(&self, what: &str, healed: bool) {
        let mut open = self.0.borrow_mut();
        if !healed {
            open.push(what.to_owned());
        } else if let Some(at) = open.iter().rposition(|other| other == what) {
            open.remove(at);
        }
    }

    /// The faults that are still there.
    pub fn open(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// True when none is.
    pub fn is_clean(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_stays_until_that_very_fault_is_healed() {
        let ledger = Ledger::default();
        ledger.note("a", false);
        ledger.note("b", false);
        ledger.note("c", true);
        ledger.note("a", true);
        assert_eq!(ledger.open(), ["b"]);
        ledger.note("b", false);
        ledger.note("b", true);
        assert!(!ledger.is_clean(), "one of two equal faults is left");
        ledger.note("b", true);
        assert!(ledger.is_clean());
    }
}
