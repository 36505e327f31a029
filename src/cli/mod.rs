//! The command line: one file per subcommand, no logic of its own.

mod arguments;
mod check;

mod settings;


pub use settings::Settings;

use crate::run::Exit;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

/// Runs `strata` with the process's arguments.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { Exit::InvalidInput } else { Exit::Done };
            // A closed pipe is not worth a message.
            let _ = error.print();
            return code.into();
        }
    };
    let settings = match Settings::new(&arguments.global) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("error: {message}");
            return Exit::InvalidInput.into();
        }
    };
    let exit = match &arguments.command {
        Command::Check(check) => check::run(check, &settings),
    };
    exit.into()
}
