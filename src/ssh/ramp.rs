//! How many connections are being made at the same time, and when one that a server turned away is
//! tried again.
//!
//! A server turns connections away that are not logged in yet (`MaxStartups`), and newer ones punish
//! addresses (`PerSourcePenalties`). Both close the connection before the server's identification.
//! That is the only thing that is tried again: a refused login never is.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Handshakes at the same time unless the site says otherwise: each costs some 10 ms of computing.
const HANDSHAKES: usize = 64;

/// The first pause; it doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Bounds the handshakes that are under way; shared by all hosts of a run.
#[derive(Debug, Clone)]
pub struct Ramp(Arc<Semaphore>);

impl Ramp {
    /// At most `handshakes` at the same time, one at least.
    pub fn new(handshakes: usize) -> Self {
        Self(Arc::new(Semaphore::new(handshakes.clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Waits for a turn. `None` never comes: nobody closes the queue.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.0.acquire().await.ok()
    }
}

impl Default for Ramp {
    fn default() -> Self {
        Self::new(HANDSHAKES)
    }
}

/// The pause before attempt `attempt` (1 is the second one): doubled each time up to a limit, then
/// between half and one and a half of that, so that hosts that were turned away together do not come
/// back together. `chance` is any byte.
pub(super) fn pause(attempt: u32, chance: u8) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let whole = doubled.min(LONGEST_PAUSE);
    whole / 2 + whole * u32::from(chance) / 255
}

/// A byte of chance; without a source of chance all pauses are equal.
pub(super) fn chance() -> u8 {
    let mut byte = [128];
    getrandom::fill(&mut byte).ok();
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_to_a_limit_and_never_vanish(attempt in 1_u32.., chance: u8) {
            let this = pause(attempt, chance);
            prop_assert!(this >= FIRST_PAUSE / 2);
            prop_assert!(this <= LONGEST_PAUSE * 3 / 2);
            prop_assert!(pause(attempt.saturating_add(1), chance) >= this);
        }
    }

    #[tokio::test]
    async fn a_turn_is_given_back() {
        let ramp = Ramp::new(0);
        for _ in 0..3 {
            let turn = tokio::time::timeout(Duration::from_secs(5), ramp.turn()).await.unwrap();
            assert!(turn.is_some());
        }
    }
}
