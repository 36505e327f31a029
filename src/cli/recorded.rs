//! A command whose events are kept as a run, so that `strata history` and `strata show` know it.

use super::output::tell;
use super::{Exit, Settings};
use crate::event::{Consumer, EventKind, SCHEMA, elapsed_ms};
use crate::fleet::{Events, Stop};
use crate::history::{Index, Journal, Redacting, StateDir};
use crate::site::{Profile, Site};
use std::thread::JoinHandle;
use std::time::Instant;

/// A run in hand.
pub struct Recorded {
    /// Its id.
    pub run: String,
    /// Where its events go.
    pub events: Events,
    /// The operator's wish to stop it.
    pub stop: Stop,
    thread: JoinHandle<()>,
    start: Instant,
}

impl Recorded {
    /// Begins a run with its journal; `display` shows its events.
    ///
    /// # Errors
    /// When the journal cannot be written; that was told, and nothing may be done then.
    pub fn begin(
        settings: &Settings,
        site: &Site,
        command: &str,
        (hosts, layers): (&[String], &[String]),
        display: Option<Box<dyn Consumer>>,
    ) -> Result<Self, Exit> {
        let start = Instant::now();
        let run = StateDir::new_run_id();
        let opened = StateDir::open(&settings.root).and_then(|state| {
            let journal = Journal::create(&state.journal(&run))?;
            Ok((state, journal))
        });
        let (state, journal) = opened.map_err(|error| {
            tell!(
                "error: {}/.strata cannot be written: {error}\nhint: a run keeps its journal there; make room or mend its permissions\nno host was touched",
                settings.root.display()
            );
            Exit::Internal
        })?;
        settings.run.begin(&run, &state.journal(&run));
        let mut consumers: Vec<Box<dyn Consumer>> = display.into_iter().collect();
        match Index::open(&state) {
            Ok(index) => consumers.push(Box::new(index)),
            // Only an index: the journal has everything, and the next command rebuilds it.
            Err(error) => tell!("warning: the index of runs cannot be written: {error}"),
        }
        let redactor = settings.redactor.clone();
        let redact = move |text: &str| redactor.redact(text).into_owned();
        let redacting = Redacting::new(Box::new(redact), Box::new(journal), consumers);
        let stop = Stop::new();
        let (events, thread) = Events::start(Box::new(redacting), stop.clone());
        events.emit(EventKind::RunStarted {
            schema: SCHEMA,
            run: run.clone(),
            site: site.config.name.clone(),
            command: command.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rehearsal: settings.profile == Profile::Rehearsal,
            hosts: hosts.to_vec(),
            layers: layers.to_vec(),
        });
        Ok(Self { run, events, stop, thread, start })
    }

    /// Ends the run; everything about it is shown and kept then.
    pub fn end(self, exit: Exit, reason: String) -> Exit {
        let took_ms = elapsed_ms(self.start);
        self.events.emit(EventKind::RunFinished { exit_code: exit.code(), reason, took_ms });
        drop(self.events);
        // The consumers' thread ends with the last sender; a panic there was reported by the hook.
        if self.thread.join().is_err() { exit.worse(Exit::Internal) } else { exit }
    }
}
