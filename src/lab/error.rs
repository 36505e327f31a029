//! What can go wrong in the lab, in words that say what, where, why and what to do.

use std::path::PathBuf;

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The process lacks the rights to make namespaces and mounts.
    #[error("the lab needs root: it makes namespaces, mounts and cgroups; run it as root")]
    NotRoot,
    /// The machine is not one the lab can run on.
    #[error("this machine cannot run a lab: {0}")]
    Machine(String),
    /// The specification contradicts itself.
    #[error("the lab cannot be built: {0}; correct the inventory")]
    InvalidSpec(String),
    /// No lab of this name is up.
    #[error("no lab named {0} is up; start it with `strata lab up`")]
    NoSuchLab(String),
    /// The lab has no such host.
    #[error("lab {lab} has no host {host}; `strata lab status` lists its hosts")]
    NoSuchHost {
        /// The lab.
        lab: String,
        /// The name that was asked for.
        host: String,
    },
    /// The host exists but does not run.
    #[error("host {host} does not run ({state}); start it with `strata lab up`")]
    NotRunning {
        /// The host.
        host: String,
        /// The state it is in.
        state: String,
    },
    /// Another process is changing this lab.
    #[error("lab {0} is being changed by another process; wait for it to end and try again")]
    Locked(String),
    /// A program of the machine failed.
    #[error("{what}: `{program}` failed ({status}): {stderr}")]
    Tool {
        /// What was being done.
        what: String,
        /// The program and its first arguments.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it wrote on standard error.
        stderr: String,
    },
    /// A file or system call failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was being done, as a verb phrase.
        what: &'static str,
        /// The path concerned.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file of the lab's own state cannot be understood.
    #[error("the lab's state file {path} cannot be read: {reason}; `strata lab down` removes it")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Hosts did not become ready in time.
    #[error("{host} was not ready after {seconds} s: {reason}; its console is {console}")]
    NotReady {
        /// The host.
        host: String,
        /// Seconds waited.
        seconds: u64,
        /// The last reason.
        reason: String,
        /// The file with what it printed while booting.
        console: PathBuf,
    },
    /// Several hosts failed.
    #[error("{} hosts failed:\n{}", .0.len(), .0.iter().map(|error| format!("  {error}")).collect::<Vec<_>>().join("\n"))]
    Several(Vec<LabError>),
    /// A condition did not come true in time.
    #[error("{what} did not happen within {seconds} s: {reason}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// Seconds waited.
        seconds: u64,
        /// The last reason.
        reason: String,
    },
    /// A fault could not be injected.
    #[error("fault {id} could not be injected: {reason}")]
    Fault {
        /// The fault.
        id: String,
        /// Why.
        reason: String,
    },
    /// A host must be off for what was asked.
    #[error("{0} runs: switch it off first")]
    StillRuns(String),
    /// No such fault is active.
    #[error("no active fault {0}; `strata lab status` lists them")]
    NoSuchFault(String),
}

/// The result of the lab's functions.
pub(super) type Result<T> = std::result::Result<T, LabError>;

/// Gives an input/output error its place.
pub(super) trait At<T> {
    /// Says what was being done, and to which path.
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|error| LabError::Io { what, path: path.into(), source: error.into() })
    }
}
