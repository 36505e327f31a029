//! What strata's own connections, the lab and the libraries have to say beside the events: lines on
//! standard error, through the same redactor as everything else.
//!
//! Warnings of strata itself always show, warnings of libraries with `--verbose`; `STRATA_LOG` sets
//! the filter, for example `STRATA_LOG=strata::ssh=debug,russh=info`.

use super::Settings;
use crate::secrets::SharedRedactor;
use std::io::{self, Write};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::{layer, time::uptime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What shows without any wish.
const QUIET: &str = "strata=warn";
/// What shows with `--verbose`.
const VERBOSE: &str = "warn,strata=info";

/// Starts the log of this process.
///
/// # Errors
/// When `STRATA_LOG` is no filter.
pub fn start(settings: &Settings) -> Result<(), String> {
    let wish = settings.log.as_deref();
    let words = wish.unwrap_or(if settings.verbose { VERBOSE } else { QUIET });
    let filter = EnvFilter::builder().parse(words).map_err(|error| {
        format!("STRATA_LOG is not a filter: {error}\nhint: for example STRATA_LOG=strata::ssh=debug,russh=info")
    })?;
    // Only a second start in one process fails, and then there is a log already.
    let _ = subscriber(filter, settings.redactor.clone(), settings.palette.color, io::stderr)
        .try_init();
    Ok(())
}

fn subscriber<W: Write + 'static>(
    filter: EnvFilter,
    redactor: SharedRedactor,
    color: bool,
    open: impl Fn() -> W + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    let lines = layer()
        .compact()
        .with_timer(uptime())
        .with_ansi(color)
        // A line that cannot be written has nowhere to be complained about.
        .log_internal_errors(false)
        .with_writer(move || Redacted { redactor: redactor.clone(), inner: open() });
    tracing_subscriber::registry().with(filter).with(lines)
}

/// Masks what is written. The layer writes each line as a whole.
struct Redacted<W> {
    redactor: SharedRedactor,
    inner: W,
}

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.inner.write_all(self.redactor.redact(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Redactor, Secret};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str) -> String {
        let redactor = SharedRedactor::new();
        let canary = Secret::new("kanarie\"7Zr0".to_owned());
        redactor.learn(Redactor::new([("A_PASSWORD", &canary)]));
        let seen = Seen::default();
        let sink = seen.clone();
        let filter = EnvFilter::builder().parse(filter).unwrap();
        let subscriber = subscriber(filter, redactor, false, move || sink.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "strata::ssh", value = "kanarie\"7Zr0", "as a text");
            tracing::warn!(target: "strata::ssh", value = ?"kanarie\"7Zr0", "kanarie\"7Zr0");
            tracing::warn!(target: "russh", "a library's warning");
            tracing::info!(target: "strata::ssh", "a connection");
        });
        String::from_utf8(seen.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn no_secret_passes_in_any_form() {
        let text = logged(VERBOSE);
        assert!(!text.contains("kanarie"), "{text}");
        assert_eq!(text.matches("[secret:A_PASSWORD]").count(), 3, "{text}");
    }

    #[test]
    fn libraries_are_heard_on_wish() {
        assert!(!logged(QUIET).contains("library"));
        assert!(!logged(QUIET).contains("a connection"));
        assert!(logged(VERBOSE).contains("a library's warning"));
        assert!(logged(VERBOSE).contains("a connection"));
        assert_eq!(logged("off"), "");
    }
}
