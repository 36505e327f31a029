//! The async runtime and the operator's interrupts.

use crate::fleet::Stop;
use std::future::Future;
use std::io::Write;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a future on a runtime of its own.
///
/// # Errors
/// When the runtime cannot be made, as text.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(future))
        .map_err(|error| format!("the runtime cannot be started: {error}"))
}

/// Turns Ctrl-C, SIGTERM and SIGHUP into stop wishes: once, finish what is in hand; twice, stop
/// now.
pub async fn watch_interrupts(stop: Stop) {
    let texts = [
        "stopping after the resources in hand; once more to stop now",
        "stopping now; agents finish the resource in hand",
    ];
    watch_interrupts_saying(stop, texts).await;
}

/// As [`watch_interrupts`], with what is said of the first and of later ones.
pub async fn watch_interrupts_saying(stop: Stop, [first, later]: [&str; 2]) {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        let text = if stop.wished() { later } else { first };
        stop.wish();
        // The terminal may be what was lost.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Wishes to stop when the run's time is over.
pub async fn watch_deadline(stop: Stop, limit: Duration) {
    if tokio::time::timeout(limit, stop.soon()).await.is_err() {
        stop.expire();
        let limit = super::times::typed(limit);
        let _ = writeln!(
            std::io::stderr(),
            "the run's deadline of {limit} passed: stopping after the resources in hand; Ctrl-C to stop now"
        );
    }
}
