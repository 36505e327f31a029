//! `strata-bench`: measurements on real hosts, and the document that shows all of them.

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use strata_bench::Outcome;
use strata_bench::compare::{self, Rounds, Scenario};
use strata_bench::grounds::Grounds;
use strata_bench::record::Results;
use strata_bench::{distance, document, large};

/// Measures strata beside other tools and over distance, on hosts of its own lab.
#[derive(Debug, Parser)]
struct Arguments {
    /// The file of results
    #[arg(long, default_value = "docs/performance.json")]
    results: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The same work with every tool
    Compare {
        /// How many hosts
        #[arg(long, default_value_t = 20)]
        hosts: u32,
        /// What is measured, several with commas
        #[arg(long, value_delimiter = ',', default_value = "first,packages,second,changed")]
        scenario: Vec<Scenario>,
        /// With what, and how often each
        #[arg(long, default_value = "strata=7,ssh=7,ssh-curve=7,pyinfra=3,mitogen=1,ansible=1")]
        rounds: Rounds,
    },
    /// Steps and files for one host that is far away
    Distance {
        /// How many nodes the lab has
        #[arg(long, default_value_t = 20)]
        hosts: u32,
        /// How often each
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
    /// A file of 100 MiB to ten hosts, with every tool
    Large {
        /// How many nodes the lab has
        #[arg(long, default_value_t = 20)]
        hosts: u32,
        /// With what, and how often each
        #[arg(long, default_value = "strata=3,ssh-curve=3,pyinfra=1,mitogen=1,ansible=1")]
        rounds: Rounds,
    },
    /// Remove the lab
    Down,
    /// Write the tables and plots of docs/performance.md from the results
    Document {
        /// The document; plots go beside it
        #[arg(long, default_value = "docs/performance.md")]
        document: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("strata-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(Arguments { results, verb }: Arguments) -> Outcome<()> {
    let mut results = Results::open(&results)?;
    match verb {
        Verb::Compare { hosts, scenario, rounds } => {
            let grounds = Grounds::bring_up(work_directory(), hosts)?;
            compare::run(&grounds, &scenario, &rounds, &mut results)
        }
        Verb::Distance { hosts, rounds } => {
            let grounds = Grounds::bring_up(work_directory(), hosts)?;
            distance::run(&grounds, rounds, &mut results)
        }
        Verb::Large { hosts, rounds } => {
            let grounds = Grounds::bring_up(work_directory(), hosts)?;
            large::run(&grounds, &rounds, &mut results)
        }
        Verb::Down => Grounds::take_down(),
        Verb::Document { document } => document::write(&document, &results),
    }
}

/// Where sites and inventories of the measured work are written. It stays, so that hosts that are up can
/// be measured again.
fn work_directory() -> &'static Path {
    Path::new("/var/tmp/strata-bench")
}
