//! The command line: one file per subcommand, no logic of its own.

pub mod secrets;

use std::process::ExitCode;

/// Runs `strata` with the process's arguments.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
