//! What resources may do to a host.
//!
//! Every method reports a [`Failure`] that is ready for the operator: what, where and why. Paths
//! are absolute; an implementation resolves them below its own root and never outside.

use super::accounts::Accounts;
use super::dpkg::Packages;
use super::engine::{EngineRequest, EngineResponse};
use super::outcome::Failure;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a path is, without following a final symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}

impl PathKind {
    /// The word that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Link => "link",
            Self::Other => "special file",
        }
    }
}

/// Metadata of a path, without following a final symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: PathKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Last modification, in seconds since 1970.
    pub modified: i64,
}

/// A file to be written in one atomic step.
#[derive(Clone, Copy)]
pub struct FileWrite<'a> {
    /// Absolute path. A symbolic link there is replaced, never followed.
    pub path: &'a str,
    /// The whole content.
    pub content: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// A program that must accept the new file before it takes its name; `{file}` in an argument
    /// stands for the path of the new file.
    pub validate: Option<&'a [String]>,
    /// Whether the file that is replaced is kept as a last-good copy.
    pub keep: bool,
}

impl<'a> FileWrite<'a> {
    /// A file of root's, mode 0644, whose predecessor is kept.
    pub fn of_root(path: &'a str, content: &'a [u8]) -> Self {
        Self { path, content, mode: 0o644, uid: 0, gid: 0, validate: None, keep: true }
    }
}

/// A program to run. It never passes through a shell.
#[derive(Clone)]
pub struct Program {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Bytes for its standard input, which is closed after them.
    pub stdin: Vec<u8>,
    /// Variables added to the small fixed environment (`PATH`, `LANG`, `HOME`).
    pub env: Vec<(String, String)>,
    /// Working directory; `/` without one.
    pub cwd: Option<String>,
    /// User to run as; the agent's own without one.
    pub user: Option<String>,
    /// How long it may take; then its whole process group is killed.
    pub timeout: Duration,
    /// How many bytes of each output stream are kept; the end wins.
    pub output_limit: usize,
}

impl Program {
    /// A program with the usual limits: 60 s, and 64 KiB of each output stream.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            stdin: Vec::new(),
            env: Vec::new(),
            cwd: None,
            user: None,
            timeout: Duration::from_secs(60),
            output_limit: 64 * 1024,
        }
    }

    /// Sets the standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets how long it may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many bytes of each output stream are kept.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// True when it was killed because its time was over.
    pub timed_out: bool,
    /// The end of its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// True for exit code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// How it ended, in words, for example `exit code 2`.
    pub fn ending(&self) -> String {
        match (self.timed_out, self.code, self.signal) {
            (true, _, _) => "it took too long and was killed".to_owned(),
            (false, Some(code), _) => format!("exit code {code}"),
            (false, None, Some(signal)) => format!("killed by signal {signal}"),
            (false, None, None) => "it ended without a status".to_owned(),
        }
    }

    /// Both output streams as text, standard error last.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&self.stderr));
        text
    }

    /// A failure that says what the program was for, how it ended, and shows its last lines.
    pub fn failure(&self, what: &str) -> Failure {
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        let failure = Failure::new(format!("{what}: {}", self.ending()));
        if tail.is_empty() { failure } else { failure.output(tail) }
    }
}

/// State of a systemd unit, as `systemctl show` gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitStatus {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    /// `running`, `exited`, `dead`, …
    pub sub: String,
    /// `enabled`, `disabled`, `static`, `masked`, … or empty.
    pub file: String,
    /// True when the unit's file changed after systemd read it.
    pub needs_reload: bool,
}

/// Who holds a lock on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOwner {
    /// Process id.
    pub pid: i32,
    /// The process' name, where it could be read.
    pub name: String,
}

/// What the host remembers of itself between two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Users and groups.
    Accounts,
    /// Installed packages.
    Packages,
    /// Units.
    Units,
    /// Everything.
    All,
}

/// A step that takes a guarded change back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevertStep {
    /// Puts a file back as it was; `None`: it was not there.
    File {
        /// Absolute path.
        path: String,
        /// What was there.
        was: Option<SavedFile>,
    },
    /// Runs a program.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Its standard input.
        stdin: Vec<u8>,
        /// Whether the change counts as taken back only when the program succeeds. False for a
        /// reload after a file is back: a service that does not run reads it when it starts.
        required: bool,
    },
}

/// A regular file as it was before a guarded change.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// The whole content.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl std::fmt::Debug for SavedFile {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "SavedFile({} bytes, mode {:04o})", self.content.len(), self.mode)
    }
}

/// A change that may lock the operator out, with the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardPlan {
    /// Short name of what is guarded: letters, digits and `-`.
    pub name: String,
    /// How to take the change back, in order.
    pub revert: Vec<RevertStep>,
    /// How long the controller has to reach the host over a new connection.
    pub deadline: Duration,
    /// What to look at when the host could not be reached and the change was taken back.
    pub hint: String,
}

/// A change that runs between arming and proving.
pub type GuardedChange<'a> = dyn FnMut(&mut dyn System) -> Result<(), Failure> + 'a;

/// A file that the controller has brought, and its place.
#[derive(Debug, Clone, Copy)]
pub struct BlobPlace<'a> {
    /// SHA-256 of its content, hexadecimal.
    pub digest: &'a str,
    /// Where it belongs.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The host as resources see it.
///
/// # Errors
/// Every method fails with a [`Failure`] that names the path or program and the kernel's reason.
pub trait System {
    /// Metadata of a path; `None` where nothing is.
    fn metadata(&mut self, path: &str) -> Result<Option<Metadata>, Failure>;
    /// Content of a file, links followed; `None` where nothing is. More than `limit` bytes is a
    /// failure.
    fn read(&mut self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Failure>;
    /// Target of a symbolic link; `None` where no link is.
    fn read_link(&mut self, path: &str) -> Result<Option<String>, Failure>;
    /// Names in a directory, sorted; `None` where nothing is.
    fn list(&mut self, path: &str) -> Result<Option<Vec<String>>, Failure>;
    /// Writes a file atomically: the name shows the old file or the whole new one, never less.
    fn write(&mut self, file: &FileWrite<'_>) -> Result<(), Failure>;
    /// SHA-256 of a regular file's content, hexadecimal; `None` where nothing is. A file that was
    /// found to have the wanted digest a moment ago is not hashed again.
    fn digest(&mut self, path: &str, wanted: &str) -> Result<Option<String>, Failure>;
    /// Puts a file that the controller has brought where it belongs, atomically; what was brought
    /// is used up. A failure where it was not brought, or has another digest.
    fn place_blob(&mut self, blob: &BlobPlace<'_>) -> Result<(), Failure>;
    /// Prepares a write that is about to come: the same [`write`](Self::write) then costs little,
    /// any other is as if nothing had been prepared. What is not used leaves no trace.
    fn prepare(&mut self, file: &FileWrite<'_>);
    /// Writes a kernel variable in place, below `/proc` or `/sys`.
    fn write_kernel(&mut self, path: &str, value: &str) -> Result<(), Failure>;
    /// Makes one directory; its parent must exist.
    fn make_directory(&mut self, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), Failure>;
    /// Makes a symbolic link atomically, in place of a file or link that may be there.
    fn make_link(&mut self, path: &str, target: &str) -> Result<(), Failure>;
    /// Removes a file or link; a regular file leaves a last-good copy when `keep` is set.
    fn remove_file(&mut self, path: &str, keep: bool) -> Result<(), Failure>;
    /// Removes an empty directory.
    fn remove_directory(&mut self, path: &str) -> Result<(), Failure>;
    /// Sets permission bits of a file or directory.
    fn set_mode(&mut self, path: &str, mode: u32) -> Result<(), Failure>;
    /// Sets owner and group; a symbolic link is not followed.
    fn set_owner(&mut self, path: &str, uid: u32, gid: u32) -> Result<(), Failure>;
    /// Runs a program to its end. A program that cannot be started is a failure, one that exits
    /// with another code than 0 is not.
    fn run(&mut self, program: &Program) -> Result<Output, Failure>;
    /// Users and groups.
    fn accounts(&mut self) -> Result<Arc<Accounts>, Failure>;
    /// Installed packages.
    fn packages(&mut self) -> Result<Arc<Packages>, Failure>;
    /// Says which units will be asked for, so that one question can answer them all.
    fn expect_units(&mut self, names: Vec<String>);
    /// State of a unit; the name has its suffix.
    fn unit(&mut self, name: &str) -> Result<UnitStatus, Failure>;
    /// Notes that systemd has yet to read which units are enabled: units in a row share that reading.
    fn defer_daemon_reload(&mut self);
    /// Has systemd read its units where that was deferred.
    fn end_row_of_units(&mut self) -> Result<(), Failure>;
    /// Has systemd read all units again.
    fn daemon_reload(&mut self) -> Result<(), Failure>;
    /// Forgets what was remembered.
    fn invalidate(&mut self, cache: Cache);
    /// Who holds a POSIX lock on a file.
    fn lock_owner(&mut self, path: &str) -> Result<Option<LockOwner>, Failure>;
    /// The kernel's host name; `None` where the host has no kernel of its own.
    fn hostname(&mut self) -> Result<Option<String>, Failure>;
    /// Sets the kernel's host name.
    fn set_hostname(&mut self, name: &str) -> Result<(), Failure>;
    /// Tries a TCP connection from this host; the error is the reason in words.
    fn connect(&mut self, to: SocketAddr, timeout: Duration) -> Result<(), String>;
    /// Sends `GET target` and returns the status code; the error is the reason in words.
    fn http_status(&mut self, to: SocketAddr, target: &str, wait: Duration) -> Result<u16, String>;
    /// Asks the host's container engine. An answer of any status is an answer; an engine that is
    /// not there or does not answer in time is a failure.
    fn engine(&mut self, request: &EngineRequest) -> Result<EngineResponse, Failure>;
    /// Waits before a condition is looked at again.
    fn pause(&mut self, time: Duration);
    /// Makes a change that may lock the operator out: records the way back, arms a dead-man timer,
    /// runs `change`, and keeps it only when the controller reaches the host over a new
    /// connection; else takes it back and fails.
    fn guarded(&mut self, plan: &GuardPlan, change: &mut GuardedChange<'_>) -> Result<(), Failure>;
}

/// Runs a program that must succeed; `what` says what it is for, for example `cannot reload ssh`.
///
/// # Errors
/// When it cannot be started or exits with another code than 0.
pub fn run_checked(
    system: &mut dyn System,
    program: &Program,
    what: &str,
) -> Result<Output, Failure> {
    let output = system.run(program)?;
    if output.success() { Ok(output) } else { Err(output.failure(what)) }
}

/// Reads a text file that a resource edits: at most 4 MiB, an absent one is `None`.
///
/// # Errors
/// When it cannot be read.
pub fn read_text(system: &mut dyn System, path: &str) -> Result<Option<Vec<u8>>, Failure> {
    system.read(path, 4 * 1024 * 1024)
}
