//! Asks the controller to reach the host over a new connection while a dead-man timer runs.

use super::writer::FrameWriter;
use crate::wire::FromAgent;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Waiting proofs; shared by the batch that waits and the session that hears the answer.
#[derive(Clone, Default)]
pub struct Prover {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    confirmed: BTreeSet<u32>,
    ended: bool,
}

impl Prover {
    /// Asks for a proof and waits for it: true only when it came within `deadline` and the
    /// controller is still there.
    pub fn ask(&self, writer: &FrameWriter, batch: u32, deadline: Duration) -> bool {
        let (lock, changed) = &*self.shared;
        let until = Instant::now() + deadline;
        let mut state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        state.confirmed.remove(&batch);
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        if state.ended || writer.report(&FromAgent::ProveReachable { batch, deadline_ms }).is_err()
        {
            return false;
        }
        loop {
            if state.confirmed.remove(&batch) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return false;
            }
            state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The controller reached the host.
    pub fn confirm(&self, batch: u32) {
        self.update(|state| {
            state.confirmed.insert(batch);
        });
    }

    /// The controller is gone: nothing will be confirmed any more.
    pub fn end(&self) {
        self.update(|state| state.ended = true);
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let (lock, changed) = &*self.shared;
        change(&mut lock.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_in_time_confirms() {
        let writer = FrameWriter::start(std::io::sink()).unwrap();
        let prover = Prover::default();
        assert!(!prover.ask(&writer, 1, Duration::from_millis(20)), "nobody answered");
        let other = prover.clone();
        let thread = std::thread::spawn({
            let writer = writer.clone();
            move || other.ask(&writer, 2, Duration::from_secs(20))
        });
        // Confirmed until the waiter takes it: an answer before the question is void.
        while !thread.is_finished() {
            prover.confirm(2);
            std::thread::yield_now();
        }
        assert!(thread.join().unwrap());
        prover.end();
        assert!(!prover.ask(&writer, 3, Duration::from_secs(20)), "the controller is gone");
    }
}
