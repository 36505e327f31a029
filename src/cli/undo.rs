//! `strata undo`: puts the last-good copy of a file back.

use super::install::connection;
use super::output::tell;
use super::{Exit, Settings, check};
use crate::diag::Diagnostics;
use crate::run::{Events, Fleet, Stop};
use crate::wire::{ExecOutcome, ExecSpec};
use clap::Args;

/// Arguments of `strata undo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  strata undo db-01 /etc/chrony/chrony.conf")]
pub struct UndoArguments {
    /// The host
    pub host: String,
    /// The file, as an absolute path
    pub file: String,
}

/// Runs the command.
pub fn run(arguments: &UndoArguments, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let Some(site) = check::load(settings, &mut problems).filter(|_| !problems.has_errors()) else {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    };
    let hosts = crate::plan::select_hosts(
        &site,
        &[crate::plan::HostSelector(arguments.host.clone())],
        &mut problems,
    );
    if problems.has_errors() || hosts.len() != 1 || !arguments.file.starts_with('/') {
        check::show(&problems, settings);
        tell!("error: undo takes one host and one absolute path");
        return Exit::InvalidInput;
    }
    let connection = connection(&site, settings, None);
    let done = super::runtime::block_on(async {
        let (events, _thread) = Events::start(
            Box::new(crate::report::Plain::new(std::io::stderr(), settings.palette, false)),
            Stop::new(),
        );
        let fleet = Fleet::default();
        fleet.connect(&site, &hosts, &connection, &events, &Stop::new()).await;
        let Some(session) = fleet.session(&hosts[0]) else { return Err(Exit::Unreachable) };
        let spec = ExecSpec {
            argv: vec!["/proc/self/exe".to_owned(), "undo".to_owned(), arguments.file.clone()],
            stdin: Vec::new(),
            env: Vec::new(),
            user: None,
            timeout_ms: 60_000,
        };
        let result = session.exec(spec).await.map_err(|error| {
            tell!("error: {error}");
            Exit::Unreachable
        })?;
        fleet.close().await;
        Ok(result)
    });
    match done {
        Ok(Ok(result)) => {
            print!("{}", String::from_utf8_lossy(&result.stdout));
            eprint!("{}", String::from_utf8_lossy(&result.stderr));
            if result.outcome == ExecOutcome::Exited(0) { Exit::Done } else { Exit::StepFailed }
        }
        Ok(Err(exit)) => exit,
        Err(error) => {
            tell!("error: {error}");
            Exit::Internal
        }
    }
}
