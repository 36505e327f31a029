//! `strata-fleet-sim`: simulated hosts, and what a fleet of them costs the controller.

use clap::{Parser, Subcommand};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use strata_bench::Outcome;
use strata_bench::record::Results;
use strata_bench::scale;
use strata_bench::sites::nodes;

/// Simulated hosts: a real SSH server each, and behind it the real agent on a private root.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Measure the controller with fleets of these sizes (needs root, for a network of its own)
    Measure {
        /// How many hosts, several with commas
        #[arg(long, value_delimiter = ',', default_value = "10,100,300,1000")]
        hosts: Vec<u32>,
        /// Runs without a change, of each size
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// How many processes the hosts are in
        #[arg(long, default_value_t = 8)]
        processes: u32,
        /// The file of results
        #[arg(long)]
        results: PathBuf,
        /// Set once the network is there
        #[arg(long, hide = true)]
        inside: bool,
    },
    /// Serve some of the hosts (started by `measure`)
    Serve {
        /// Where their roots and their key are
        #[arg(long)]
        directory: PathBuf,
        /// The first host, counted from 0
        first: u32,
        /// The one behind the last
        last: u32,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("strata-fleet-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Outcome<()> {
    match verb {
        Verb::Measure { inside: false, .. } => Err(enter_a_network_of_our_own().into()),
        Verb::Measure { hosts, rounds, processes, results, .. } => {
            let folder = tempfile::Builder::new().prefix("fleet").tempdir_in("/mnt")?;
            scale::run(folder.path(), &hosts, rounds, processes, &mut Results::open(&results)?)
        }
        Verb::Serve { directory, first, last } => {
            let some = nodes(last).split_off(usize::try_from(first)?);
            let key = russh::keys::load_secret_key(scale::host_key(&directory), None)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            end_with_whoever_started_this();
            let roots = scale::roots(&directory);
            runtime.block_on(strata_bench::sim::serve(&some, &roots, key, || println!("ready")))
        }
    }
}

/// Ends the process when its standard input, a pipe of the process that started it, is closed.
fn end_with_whoever_started_this() {
    std::thread::spawn(|| {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        std::process::exit(0);
    });
}

/// Starts this program again in a network of its own, where the hosts' addresses are local, and with a
/// file system in memory. Returns only when that fails.
fn enter_a_network_of_our_own() -> std::io::Error {
    const SETUP: &str = "ip link set lo up && ip address add 10.50.0.1/16 dev lo && \
        mount -t tmpfs -o mode=0700 strata-fleet-sim /mnt && exec \"$@\" --inside";
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error,
    };
    Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c", SETUP, "sh"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .exec()
}
