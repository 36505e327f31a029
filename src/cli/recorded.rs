//! A command whose events are kept as a run, so that `strata history` and `strata show` know it.

use super::output::tell;
use super::{Exit, Settings};
use crate::event::{Consumer, EventKind, SCHEMA, elapsed_ms};
use crate::fleet::{Events, Stop};
use crate::history::{Index, Journal, Redact, Redacting, StateDir};
use crate::report::Notice;
use crate::secrets::SharedRedactor;
use crate::site::notify::NotifySettings;
use crate::site::{Profile, Site};
use crate::ssh::agent_binary;
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
    /// Hosts of the run of which it is not known that an agent of this strata fits them: no run has
    /// met them yet, or one met them with another strata.
    pub unmet: Vec<String>,
    thread: JoinHandle<()>,
    start: Instant,
    notify: Option<(NotifySettings, Notice, SharedRedactor)>,
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
        let index = Index::open(state);
        let fits = |host: &String| {
            let identity = index.as_ref().ok().and_then(|index| index.identity(host));
            identity.is_some_and(|identity| agent_binary::has(&identity.architecture))
        };
        let unmet = hosts.iter().filter(|host| !fits(host)).cloned().collect();
        match index {
            Ok(index) => consumers.push(Box::new(index)),
            // Only an index: the journal has everything, and the next command rebuilds it.
            Err(error) => tell!("warning: the index of runs cannot be written: {error}"),
        }
        let notify = site
            .config
            .notify
            .clone()
            .map(|notify| (notify, Notice::default(), settings.redactor.clone()));
        if let Some((_, notice, _)) = &notify {
            consumers.push(Box::new(notice.clone()));
        }
        let redactor = settings.redactor.clone();
        let redact: Box<Redact> = Box::new(move |text| redactor.redact(text));
        let redacting = Redacting::new(redact, Box::new(journal), consumers);
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
        Ok(Self { run, events, stop, unmet, thread, start, notify })
    }

    /// Ends the run; everything about it is shown and kept then, and whoever wants to know is told.
    pub fn end(self, exit: Exit, reason: String) -> Exit {
        let took_ms = elapsed_ms(self.start);
        self.events.emit(EventKind::RunFinished { exit_code: exit.code(), reason, took_ms });
        drop(self.events);
        // The consumers' thread ends with the last sender; a panic there was reported by the hook.
        let exit = if self.thread.join().is_err() { exit.worse(Exit::Internal) } else { exit };
        if let Some((notify, notice, redactor)) = &self.notify {
            super::notify::send(notify, notice, redactor);
        }
        exit
    }
}
