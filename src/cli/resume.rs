//! `strata resume`: goes on where an install ended that was cut short or failed.

use super::arguments::{Arguments, Command};
use super::install::{InstallArguments, install_with};
use super::output::tell;
use super::recorded::open_state;
use super::{Exit, Settings};
use crate::history::{Index, StateDir, Unfinished};
use crate::resource::Unknown;
use crate::run::Continuation;
use crate::site::Profile;
use clap::{Args, Parser, ValueEnum};

/// Arguments of `strata resume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything is looked at again; gates that were green and steps that cannot tell whether\nthey were done are not run twice.\n\nExamples:\n  strata resume                     the last install, if it did not end well\n  strata resume --retry-failed      only the hosts that were not converged\n  strata resume 20261121-091500-abcd --unknown repeat"
)]
pub struct ResumeArguments {
    /// The run's id, or its beginning [default: the last install]
    #[arg(add = super::complete::runs())]
    pub run: Option<String>,
    /// Leave hosts that were converged as they are
    #[arg(long)]
    pub retry_failed: bool,
    /// What becomes of a step that was in hand when the run ended, where nothing tells whether it
    /// was done [default: it fails and says so]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub unknown: Option<UnknownArgument>,
}

/// What becomes of a step of which nothing tells whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnknownArgument {
    /// Run it again
    Repeat,
    /// Take it for done
    Done,
}

/// Runs `strata resume`.
pub fn run(arguments: &ResumeArguments, settings: &Settings) -> Exit {
    let state = match open_state(settings) {
        Ok(state) => state,
        Err(exit) => return exit,
    };
    let left = match find(arguments.run.as_deref(), &state) {
        Ok(left) => left,
        Err(Refusal { message, exit }) => {
            tell!("error: {message}");
            return exit;
        }
    };
    let run = left.runs.first().cloned().unwrap_or_default();
    if left.exit_code == Some(0) {
        tell!("nothing to resume: run {run} (`strata {}`) ended well", left.command);
        return Exit::Done;
    }
    if left.rehearsal != (settings.profile == Profile::Rehearsal) {
        tell!(
            "error: run {run} was a rehearsal, and this is production, or the other way round\nhint: rehearse again instead"
        );
        return Exit::Refused;
    }
    let Some(install) = arguments_of(&left.command) else {
        tell!("error: run {run} was `strata {}`: only an install can be resumed", left.command);
        tell!("hint: run it again");
        return Exit::Refused;
    };
    let how = match left.exit_code {
        None => "was cut short".to_owned(),
        Some(code) => format!("ended with exit code {code}: {}", left.reason),
    };
    if !settings.json {
        tell!("resumes run {run}, which {how}");
    }
    let unknown = match arguments.unknown {
        None => Unknown::Refuse,
        Some(UnknownArgument::Repeat) => Unknown::Repeat,
        Some(UnknownArgument::Done) => Unknown::Done,
    };
    let continuing = Continuation::of(left, arguments.retry_failed, unknown);
    install_with(&install, Some(continuing), settings)
}

struct Refusal {
    message: String,
    exit: Exit,
}

/// The run that was asked for.
fn find(wanted: Option<&str>, state: &StateDir) -> Result<Unfinished, Refusal> {
    let unreadable = |error: std::io::Error| Refusal {
        message: format!("the history cannot be read: {error}; no host was touched"),
        exit: Exit::Internal,
    };
    let runs = Index::open(state).and_then(|index| index.runs(u32::MAX)).map_err(unreadable)?;
    let found = match wanted {
        None => runs.iter().find(|run| arguments_of(&run.command).is_some()),
        Some(start) => runs.iter().find(|run| run.run.starts_with(start)),
    };
    let Some(found) = found else {
        let message = match wanted {
            None => "there is no install to resume".to_owned(),
            Some(start) => format!("there is no run `{start}`"),
        };
        let message = format!("{message}\nhint: `strata history` lists the runs");
        return Err(Refusal { message, exit: Exit::InvalidInput });
    };
    Unfinished::read(state, &found.run).map_err(unreadable)
}

/// A command of the history as it was typed; none where it was no install that changes hosts.
fn arguments_of(command: &str) -> Option<InstallArguments> {
    let words = shlex::split(command)?;
    let words = std::iter::once("strata".to_owned()).chain(words);
    match Arguments::try_parse_from(words).ok()?.command {
        Command::Install(install) if !install.check => Some(install),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_install_is_read_from_the_history_as_it_was_typed() {
        for command in [
            "install",
            "install --layer base --layer redis --host db --tag t --gate full --confirm site",
            r"install --host '!db-03' --host 'db-0*' --tag 'a'\''b'",
        ] {
            assert_eq!(arguments_of(command).unwrap().typed(), command);
        }
        for other in ["verify", "plan --layer base", "install --check", "run -- install", "'", ""] {
            assert!(arguments_of(other).is_none(), "{other}");
        }
    }
}
