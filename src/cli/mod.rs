//! The command line: one file per subcommand, no logic of its own.

pub mod secrets;

mod agent;
mod arguments;
mod audit;
mod check;
mod complete;
mod fault;
mod gc;
mod history;
mod hosts;
mod hosts_enrol;
mod hosts_out;
mod hosts_rebuild;
mod hosts_show;
mod images;
mod images_lock;
mod install;
mod lab;
mod lab_images;
mod log;
mod man;
mod new;
mod notify;
mod output;
mod plan;
mod recorded;
mod reference;
mod rehearse;
mod report;
mod report_file;
mod resume;
mod run;
mod run_output;
mod runtime;
mod secrets_keep;
mod secrets_rotate;
mod secrets_source;
mod secrets_vault;
mod settings;
mod site;
mod sudo;
mod times;
mod typed;
mod undo;
mod work;

pub use settings::Settings;

use crate::run::Exit;
use arguments::{Anywhere, Arguments, Command};
use clap::Parser;
use output::tell;
use std::process::ExitCode;

/// Runs `strata` with the process's arguments.
pub fn main() -> ExitCode {
    complete::answer();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { Exit::InvalidInput } else { Exit::Done };
            // A closed pipe is not worth a message.
            let _ = error.print();
            return code.into();
        }
    };
    if let Command::Anywhere(command) = &arguments.command {
        return anywhere(command).into();
    }
    let settings = match Settings::new(&arguments.global) {
        Ok(settings) => settings,
        Err(message) => {
            tell!("error: {message}");
            return Exit::InvalidInput.into();
        }
    };
    fault::watch(&settings.redactor, &settings.run);
    if let Err(message) = log::start(&settings) {
        tell!("error: {message}");
        return Exit::InvalidInput.into();
    }
    fault::contained(|| command(&arguments.command, &settings)).into()
}

fn anywhere(command: &Anywhere) -> Exit {
    match command {
        Anywhere::Docs(arguments) => reference::docs(arguments),
        Anywhere::Explain(arguments) => reference::explain(arguments),
        Anywhere::Completions(arguments) => complete::run(arguments),
        Anywhere::Man(arguments) => man::run(arguments),
    }
}

fn command(command: &Command, settings: &Settings) -> Exit {
    match command {
        Command::Check(arguments) => check::run(arguments, settings),
        Command::Plan(arguments) => plan::run(arguments, settings),
        Command::Install(arguments) => install::install(arguments, settings),
        Command::Resume(arguments) => resume::run(arguments, settings),
        Command::Verify(arguments) => install::verify(arguments, settings),
        Command::Audit(arguments) => audit::run(arguments, settings),
        Command::Reboot(arguments) => install::reboot(arguments, settings),
        Command::Adopt(arguments) => install::adopt(arguments, settings),
        Command::Run(arguments) => run::run(arguments, settings),
        Command::Rehearse(arguments) => rehearse::run(arguments, settings),
        Command::Status(arguments) => history::status(arguments, settings),
        Command::History(arguments) => history::history(arguments, settings),
        Command::Show(arguments) => history::show(arguments, settings),
        Command::Report(arguments) => report::run(arguments, settings),
        Command::Hosts(arguments) => hosts::run(arguments, settings),
        Command::Images(arguments) => images::run(arguments, settings),
        Command::Site(arguments) => site::run(arguments, settings),
        Command::Secrets(arguments) => secrets::command(arguments, settings),
        Command::Undo(arguments) => undo::run(arguments, settings),
        Command::Lab(arguments) => lab::run(arguments, settings),
        Command::Agent(arguments) => agent::run(arguments, settings),
        Command::New(arguments) => new::run(arguments, settings),
        Command::Gc(arguments) => gc::run(arguments, settings),
        Command::Anywhere(command) => anywhere(command),
    }
}
