//! `strata man`: manual pages, made of the same texts as `--help`.

use super::arguments::Arguments;
use super::output::{out, tell};
use crate::run::Exit;
use clap::{Args, CommandFactory};
use std::path::PathBuf;

/// Arguments of `strata man`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata man /usr/local/share/man/man1    write a page for every command\n  strata man | man -l -                   read the first one"
)]
pub struct ManArguments {
    /// Where the pages go, an existing directory [default: the first page to standard output]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &ManArguments) -> Exit {
    let command = Arguments::command();
    let Some(directory) = &arguments.directory else {
        let mut page = Vec::new();
        if let Err(error) = clap_mangen::Man::new(command).render(&mut page) {
            tell!("error: the page cannot be made: {error}");
            return Exit::Internal;
        }
        out!("{}", String::from_utf8_lossy(&page).trim_end());
        return Exit::Done;
    };
    match clap_mangen::generate_to(command, directory) {
        Ok(()) => {
            tell!("manual pages are in {}", directory.display());
            Exit::Done
        }
        Err(error) => {
            tell!(
                "error: cannot write manual pages to {}: {error}; name an existing directory that you may write to",
                directory.display()
            );
            Exit::InvalidInput
        }
    }
}
