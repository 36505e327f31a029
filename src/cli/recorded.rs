//! A command whose events are kept as a run, so that `strata history` and `strata show` know it.

use super::output::tell;
use super::{Exit, Settings};
use crate::event::{Consumer, EventKind, SCHEMA, elapsed_ms};
use crate::fleet::{Events, Stop};
use crate::history::{Index, Journal, Redacting, StateDir};
use crate::site::{Profile, Site};
use std::thread::JoinHandle;
use std::time::Instant;

/// The folder in which runs are kept.
///
/// # Errors
/// When it cannot be written; that was told, and nothing may be done then.
pub fn open_state(settings: &Settings) -> Result<StateDir, Exit> {
    StateDir::open(&settings.root).map_err(|error| {
        tell!(
            "error: {}/.strata cannot be written: {error}\nhint: a run keeps its journal there; make room or mend its permissions\nno host was touched",
            settings.root.display()
        );
        Exit::Internal
    })
}

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
    /// Begins a run with its journal and the index; `consumers` take its events beside these;
    /// `resumes` is the run that this one goes on with.
    ///
    /// # Errors
    /// When the journal cannot be written; that was told, and nothing may be done then.
    pub fn begin(
        settings: &Settings,
        state: &StateDir,
        site: &Site,
        command: &str,
        (hosts, layers): (&[String], &[String]),
        mut consumers: Vec<Box<dyn Consumer>>,
        resumes: Option<&str>,
    ) -> Result<Self, Exit> {
        let start = Instant::now();
        let run = StateDir::new_run_id();
        let journal = Journal::create(&state.journal(&run)).map_err(|error| {
            tell!("error: the journal cannot be written: {error}; no host was touched");
            Exit::Internal
        })?;
        #[cfg(debug_assertions)]
        let journal = journal.dies_after(settings.dies_after);
        settings.run.begin(&run, &state.journal(&run));
        match Index::open(state) {
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
            resumes: resumes.map(ToOwned::to_owned),
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
