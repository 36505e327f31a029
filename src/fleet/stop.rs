//! The wish to stop: once, finish what is in hand; twice, stop now. The operator has it, or the
//! run's time is over, which counts once.

use tokio_util::sync::CancellationToken;

/// A stop wish that everything in a run can look at and wait for.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    soon: CancellationToken,
    now: CancellationToken,
    late: CancellationToken,
}

impl Stop {
    /// No wish yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more wish: the first asks to finish what is in hand, the second to stop at once.
    pub fn wish(&self) {
        if self.soon.is_cancelled() {
            self.now.cancel();
        }
        self.soon.cancel();
    }

    /// The run's time is over: as the first wish.
    pub fn expire(&self) {
        if !self.wished() {
            self.late.cancel();
            self.soon.cancel();
        }
    }

    /// True when the run's time was over before the operator wished anything.
    pub fn expired(&self) -> bool {
        self.late.is_cancelled() && !self.now.is_cancelled()
    }

    /// Why the run is stopped, in words.
    pub fn why(&self) -> &'static str {
        if self.expired() { "the run's deadline passed" } else { "stopped by the operator" }
    }

    /// True once the run is to stop.
    pub fn wished(&self) -> bool {
        self.soon.is_cancelled()
    }

    /// Waits for the first wish.
    pub async fn soon(&self) {
        self.soon.cancelled().await;
    }

    /// Waits for the second wish.
    pub async fn now(&self) {
        self.now.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::Stop;

    #[test]
    fn a_deadline_counts_once_and_the_operator_has_the_last_word() {
        let stop = Stop::new();
        assert!(!stop.wished() && !stop.expired());
        stop.expire();
        assert!(stop.wished() && stop.expired());
        stop.expire();
        assert!(!stop.now.is_cancelled());
        stop.wish();
        assert!(stop.now.is_cancelled() && !stop.expired());
        let stop = Stop::new();
        stop.wish();
        stop.expire();
        assert!(!stop.expired(), "the operator was first");
    }
}
