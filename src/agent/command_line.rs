//! The agent's verbs. The controller uses `serve`; the others are for a person on the host.

use super::batch::{Hands, Settle};
use super::blobs;
use super::paths::HostPaths;
use super::probe;
use super::seal;
use super::serve::{MakeConverge, Prove, serve};
use super::system::{LocalSystem, revert, undo};
use crate::resource::{self, Batch, Failure, Item, Mode, Outcome, Output, Program, System};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status of an agent whose own file is not what the controller uploaded. The controller then
/// replaces the file.
pub const EXIT_DAMAGED: u8 = 126;

const USAGE: &str = "usage: strata-agent serve [--root DIR] [--digest SHA256]
       strata-agent version
       strata-agent digest
       strata-agent undo PATH
       strata-agent revert ID
       strata-agent park
       strata-agent blobs SOCKET
       ";

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
        ["undo", path] => done(undo(Path::new("/"), path)),
        ["revert", id] => done(revert(Path::new("/"), id)),
        ["park"] => park(),
        ["blobs", socket] => match blobs::run(Path::new(socket)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => fail(&message),
        },
        ["probe", words @ ..] => match probe::run(words) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(Some(message)) => fail(&message),
            Err(None) => usage("this probe is not understood"),
        },
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
        let mut options = Self { root: PathBuf::from("/"), digest: None };
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
            && !is_as_uploaded(wanted).unwrap_or(false)
        {
            eprintln!("strata-agent: this file is not the one that was uploaded");
            return ExitCode::from(EXIT_DAMAGED);
        }
        // The upload's tight mask must not reach the programs that the agent runs: what a package's
        // scripts create has to be readable as on any host. The agent gives every file its mode.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let converge = converge(LocalSystem::new);
        serve(HostPaths::below(self.root), converge, std::io::stdin(), std::io::stdout())
    }
}

/// Serves one controller as the agent of a simulated host: everything below `root` is its own, and
/// its programs are answered by a function. Several hosts may live in one process.
pub fn serve_simulated(
    root: &Path,
    programs: fn(&Program) -> Result<Output, Failure>,
    input: impl Read + AsFd,
    output: impl Write + Send + 'static,
) -> ExitCode {
    let open = move |root: &Path, prove| LocalSystem::simulated(root, Box::new(programs), prove);
    serve(HostPaths::below(root), converge(open), input, output)
}

/// Joins a batch to the resources of the host that `open` gives.
fn converge(
    open: impl Fn(&Path, Prove) -> Result<LocalSystem, Failure> + Send + Sync + 'static,
) -> MakeConverge {
    std::sync::Arc::new(move |paths, batch, prove| {
        Box::new(Ready(open(paths.root(), prove).and_then(|system| put_right(system, batch))))
    })
}

/// A host that is ready for a batch, or why it is not.
struct Ready(Result<LocalSystem, Failure>);

impl Hands for Ready {
    fn converge(&mut self, item: &Item, mode: Mode, progress: &mut dyn FnMut(String)) -> Outcome {
        match &mut self.0 {
            Ok(system) => resource::converge(&item.resource, item.secret, mode, system, progress),
            Err(failure) => Outcome::Failed(failure.clone()),
        }
    }

    fn prepare(&mut self, item: &Item) {
        if let Ok(system) = &mut self.0 {
            resource::prepare(&item.resource, system);
        }
    }

    fn end_row_of_units(&mut self) -> Result<(), Failure> {
        // Where the host is not ready nothing was done.
        let Ok(system) = &mut self.0 else { return Ok(()) };
        system.end_row_of_units()
    }

    fn settle(&mut self, at: Settle) -> Result<(), Failure> {
        let Ok(system) = &mut self.0 else { return Ok(()) };
        if at == Settle::End {
            // A row that was cut short.
            system.end_row_of_units().ok();
        }
        if at != Settle::Within {
            system.drop_prepared();
        }
        let settled = system.settle();
        if at == Settle::End {
            system.forget_prepared();
        }
        settled
    }
}

/// The host, put right where an agent that was killed left something behind.
fn put_right(mut system: LocalSystem, batch: &Batch) -> Result<LocalSystem, Failure> {
    if batch.mode == Mode::Apply {
        system.recover()?;
    }
    let items = batch.items.iter().chain(&batch.handlers);
    resource::expect_units(items.map(|item| &item.resource), &mut system);
    Ok(system)
}

/// True when the running program's file is the one of this digest, by its name, and whole, by its
/// seal. An upload compares the digest itself.
fn is_as_uploaded(digest: &str) -> std::io::Result<bool> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let named = path.to_string_lossy().contains(digest);
    let mut file = std::fs::File::open("/proc/self/exe")?;
    let length = file.metadata()?.len().saturating_sub(seal::LENGTH as u64);
    let wanted = seal::seal((&mut file).take(length))?;
    let mut found = [0; seal::LENGTH];
    file.read_exact(&mut found)?;
    Ok(named && found == wanted)
}

/// SHA-256 of the running program's file, in lower-case hexadecimal.
fn own_digest() -> std::io::Result<String> {
    resource::sha256(std::fs::File::open("/proc/self/exe")?, |_| Ok(()))
}

/// A panic's message may quote what was being worked on; only its place is printed.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line()));
        eprintln!("strata-agent: internal error{}", place.unwrap_or_default());
    }));
}

/// Prints what was done, or why it was not.
fn done(result: Result<String, Failure>) -> ExitCode {
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let hint = failure.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            fail(&format!("{}{hint}", failure.message))
        }
    }
}

/// Waits for ever: the program of the container that a gate starts, and removes by force.
fn park() -> ExitCode {
    use rustix::event::{PollFd, PollFlags, poll};
    match rustix::pipe::pipe() {
        Ok((reader, _writer)) => loop {
            let mut waiting = [PollFd::new(&reader, PollFlags::IN)];
            if poll(&mut waiting, None).is_ok() {
                return ExitCode::SUCCESS;
            }
        },
        Err(error) => fail(&format!("park: {error}")),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("strata-agent: {message}");
    ExitCode::FAILURE
}

fn usage(message: &str) -> ExitCode {
    eprintln!("strata-agent: {message}\n{USAGE}{}", probe::USAGE);
    ExitCode::from(2)
}
