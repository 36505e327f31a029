//! The operator's wish to stop: once, finish what is in hand; twice, stop now.

use tokio_util::sync::CancellationToken;

/// A stop wish that everything in a run can look at and wait for.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    soon: CancellationToken,
    now: CancellationToken,
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

    /// True once the operator wished to stop.
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
