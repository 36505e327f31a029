//! `strata undo`: puts the last-good copy of a file back.

use super::output::{out, tell};
use super::work::connection;
use super::{Exit, Settings, check};
use crate::diag::Diagnostics;
use crate::fleet::{Connection, Events, Fleet, Stop};
use crate::history::StateDir;
use crate::report::Plain;
use crate::site::Site;
use crate::ssh::ExecResult;
use crate::wire::{ExecOutcome, ExecSpec, LockHolder};
use clap::Args;

/// Arguments of `strata undo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  strata undo db-01 /etc/chrony/chrony.conf")]
pub struct UndoArguments {
    /// The host
    #[arg(add = super::complete::host())]
    pub host: String,
    /// The file, as an absolute path
    pub file: String,
}

/// Runs the command. It holds the host's lock meanwhile: a run that changes the host must not find
/// another file than it left.
pub fn run(arguments: &UndoArguments, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let Some(site) = check::load(settings, &mut problems).filter(|_| !problems.has_errors()) else {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    };
    let mut hosts = crate::plan::select_hosts(
        &site,
        &[crate::plan::HostSelector(arguments.host.clone())],
        &mut problems,
    );
    super::hosts_out::set_aside(&site, &mut hosts, &mut problems);
    if problems.has_errors() || hosts.len() != 1 || !arguments.file.starts_with('/') {
        check::show(&problems, settings);
        tell!("error: undo takes one host and one absolute path");
        return Exit::InvalidInput;
    }
    let holder = LockHolder {
        owner: settings.who.clone(),
        purpose: "undo".to_owned(),
        run: StateDir::new_run_id(),
        since_unix_ms: crate::event::now_ms(),
    };
    if let Err(problems) = check::secrets(settings, &site) {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    }
    let connection = connection(&site, settings, Some(holder));
    // With --json standard output carries the one object, and standard error still says why a host
    // could not be used.
    let plain = Plain::new(std::io::stderr(), settings.palette, false);
    let (events, thread) = Events::start(Box::new(plain), Stop::new());
    let done = super::runtime::block_on(on_host(&site, &hosts, &connection, &events, arguments));
    drop(events);
    // The consumers' thread ends with the last sender; a panic there is reported by the hook.
    let _ = thread.join();
    match done {
        Ok(Ok(result)) => {
            let exit = if result.success() { Exit::Done } else { Exit::StepFailed };
            print(&hosts[0], &arguments.file, &result, settings);
            exit
        }
        Ok(Err(exit)) => {
            if settings.json {
                let why = ExecOutcome::NotStarted("the host could not be used".to_owned());
                out!("{}", as_json(&hosts[0], &arguments.file, &why, "", ""));
            }
            exit
        }
        Err(error) => {
            tell!("error: {error}");
            Exit::Internal
        }
    }
}

async fn on_host(
    site: &Site,
    hosts: &[String],
    connection: &Connection,
    events: &Events,
    arguments: &UndoArguments,
) -> Result<ExecResult, Exit> {
    let fleet = Fleet::default();
    fleet.connect(site, hosts, connection, events, &Stop::new()).await;
    let result = match fleet.session(&hosts[0]) {
        None => Err(fleet.problem(&hosts[0]).map_or(Exit::Unreachable, Exit::from)),
        Some(session) => {
            let spec = ExecSpec {
                argv: vec!["/proc/self/exe".to_owned(), "undo".to_owned(), arguments.file.clone()],
                stdin: Vec::new(),
                env: Vec::new(),
                user: None,
                timeout_ms: 60_000,
            };
            session.exec(spec).await.map_err(|error| {
                tell!("error: {error}");
                Exit::Unreachable
            })
        }
    };
    fleet.close().await;
    result
}

fn print(host: &str, file: &str, result: &ExecResult, settings: &Settings) {
    let (stdout, stderr) =
        (String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
    if settings.json {
        out!("{}", as_json(host, file, &result.outcome, &stdout, &stderr));
    } else {
        for (text, print) in [(&stdout, true), (&stderr, false)] {
            match (text.trim_end(), print) {
                ("", _) => {}
                (text, true) => out!("{text}"),
                (text, false) => tell!("{text}"),
            }
        }
    }
}

/// One object: what was asked, whether it was done, and what the host said of it.
fn as_json(
    host: &str,
    file: &str,
    outcome: &ExecOutcome,
    stdout: &str,
    stderr: &str,
) -> serde_json::Value {
    let done = *outcome == ExecOutcome::Exited(0);
    serde_json::json!({
        "host": host,
        "file": file,
        "restored": done,
        "message": match outcome {
            ExecOutcome::Exited(0) => stdout.trim(),
            ExecOutcome::TimedOut => "the host gave no answer in time",
            ExecOutcome::NotStarted(why) => why,
            ExecOutcome::Exited(_) | ExecOutcome::Signaled(_) => stderr.trim(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_says_what_came_of_it() {
        let json = |outcome| as_json("db-01", "/etc/a", &outcome, "restored /etc/a\n", "no copy\n");
        let done = json(ExecOutcome::Exited(0));
        assert_eq!(done["restored"], true);
        assert_eq!(done["message"], "restored /etc/a");
        let failed = json(ExecOutcome::Exited(1));
        assert_eq!((&failed["restored"], &failed["message"]), (&false.into(), &"no copy".into()));
        assert_eq!(json(ExecOutcome::TimedOut)["message"], "the host gave no answer in time");
    }
}
