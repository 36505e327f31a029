//! The agent's verbs. The controller uses `serve`; the others are for a person on the host.

use super::paths::HostPaths;
use super::serve::{MakeConverge, serve};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit status of an agent whose own file is not what the controller uploaded. The controller then
/// replaces the file.
pub const EXIT_DAMAGED: u8 = 126;

const USAGE: &str = "usage: strata-agent serve [--root DIR] [--digest SHA256]
       strata-agent version
       strata-agent digest
       strata-agent undo PATH
       strata-agent revert ID";

/// Runs a verb. `arguments` come without the program's name.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    quiet_panics();
    let arguments: Vec<String> = arguments.collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", options @ ..] => match ServeOptions::parse(options) {
            Ok(options) => options.run(),
            Err(message) => usage(&message),
        },
        ["version"] => {
            println!("strata-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["digest"] => match own_digest() {
            Ok(digest) => {
                println!("{digest}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&format!("the agent's own file cannot be read: {error}")),
        },
        ["undo", path] => fail(&format!(
            "undo {path}: this build keeps no copies of replaced files"
        )),
        ["revert", id] => fail(&format!("revert {id}: this build arms no reverts")),
        _ => usage("unknown or missing verb"),
    }
}

/// What `serve` was asked for.
struct ServeOptions {
    root: PathBuf,
    digest: Option<String>,
}

impl ServeOptions {
    fn parse(mut words: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            root: PathBuf::from("/"),
            digest: None,
        };
        while let [option, rest @ ..] = words {
            let [value, rest @ ..] = rest else {
                return Err(format!("{option} needs a value"));
            };
            match *option {
                "--root" => options.root = PathBuf::from(value),
                "--digest" => options.digest = Some((*value).to_owned()),
                other => return Err(format!("unknown option {other}")),
            }
            words = rest;
        }
        Ok(options)
    }

    fn run(self) -> ExitCode {
        if let Some(wanted) = &self.digest
            && own_digest().ok().as_ref() != Some(wanted)
        {
            eprintln!("strata-agent: this file is not the one that was uploaded");
            return ExitCode::from(EXIT_DAMAGED);
        }
        // The upload's tight mask must not reach the programs that the agent runs: what a package's
        // scripts create has to be readable as on any host. The agent gives every file its mode.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        serve(
            HostPaths::below(self.root),
            converge(),
            std::io::stdin(),
            std::io::stdout(),
        )
    }
}

/// Joins the batch to the resources of this host.
fn converge() -> MakeConverge {
    std::sync::Arc::new(|_paths, _batch, _prove| {
        Box::new(|_item, _mode, _progress| {
            crate::resource::Outcome::Failed(crate::resource::Failure::new(
                "this build of the agent has no resources",
            ))
        })
    })
}

/// SHA-256 of the running program's file, in lower-case hexadecimal.
fn own_digest() -> std::io::Result<String> {
    let bytes = std::fs::read("/proc/self/exe")?;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(&bytes) {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    Ok(text)
}

/// A panic's message may quote what was being worked on; only its place is printed.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map(|at| format!(" at {}:{}", at.file(), at.line()));
        eprintln!("strata-agent: internal error{}", place.unwrap_or_default());
    }));
}

fn fail(message: &str) -> ExitCode {
    eprintln!("strata-agent: {message}");
    ExitCode::FAILURE
}

fn usage(message: &str) -> ExitCode {
    eprintln!("strata-agent: {message}\n{USAGE}");
    ExitCode::from(2)
}
