//! Waiting: looks again until something is so, with a deadline and the last reason.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// What a look gives while one waits: what ends the waiting, or why it goes on.
pub type Look<T> = ControlFlow<T, String>;

/// Looks every so often until a look ends the waiting.
///
/// # Errors
/// The reason of the last look when `limit` is over; there is at least one look.
pub async fn until<T>(
    limit: Duration,
    every: Duration,
    mut look: impl AsyncFnMut() -> Look<T>,
) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match look().await {
            Look::Break(value) => return Ok(value),
            Look::Continue(reason) if start.elapsed() >= limit => return Err(reason),
            Look::Continue(_) => tokio::time::sleep(every).await,
        }
    }
}

/// As [`until`], for a condition that gives nothing and tells itself how long it was waited for.
///
/// # Errors
/// As [`until`], with the time in front.
pub async fn until_within(
    limit: Duration,
    every: Duration,
    look: impl AsyncFnMut() -> Look<Result<(), String>>,
) -> Result<(), String> {
    match until(limit, every, look).await {
        Ok(ended) => ended,
        Err(reason) => Err(format!("after {} s still: {reason}", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Look, until, until_within};
    use std::time::Duration;

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn it_looks_until_something_is_so() {
        let mut looks = 0;
        let found = until(Duration::from_secs(60), SHORT, async || {
            looks += 1;
            if looks == 3 { Look::Break(looks) } else { Look::Continue("not yet".to_owned()) }
        });
        assert_eq!(found.await, Ok(3));
    }

    #[tokio::test]
    async fn the_last_reason_is_what_remains_and_one_look_is_always_taken() {
        let mut looks = 0;
        let late = until_within(Duration::ZERO, SHORT, async || {
            looks += 1;
            Look::Continue(format!("look {looks}"))
        });
        assert_eq!(late.await, Err("after 0 s still: look 1".to_owned()));
    }

    #[tokio::test]
    async fn what_cannot_get_better_ends_the_waiting_at_once() {
        let gone = until_within(Duration::from_secs(60), SHORT, async || {
            Look::Break(Err("it is gone".to_owned()))
        });
        assert_eq!(gone.await, Err("it is gone".to_owned()));
    }
}
