//! The handle by which the command line works on a lab.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use super::enter;
use super::error::{LabError, Result};
use super::fault::{self, Fault, FaultId};
use super::paths::Paths;
use super::spec::{LabSpec, check_lab_name};
use super::state::{self, LabFile, address_of, remove_tree};
use super::status::{LabStatus, status};
use super::supervise::is_supervised;
use super::up::{Progress, UpOptions, UpReport, known_hosts, up};
use super::{down, machine};

/// A lab, up or not.
#[derive(Debug, Clone)]
pub struct Lab {
    paths: Paths,
}

impl Lab {
    /// The lab of this name. Nothing is read or made yet.
    ///
    /// # Errors
    /// [`LabError::InvalidSpec`] if the name is not made of up to 24 of `a-z`, `0-9` and `-`.
    pub fn open(name: &str) -> Result<Self> {
        check_lab_name(name)?;
        Ok(Self { paths: Paths::new(name) })
    }

    /// The names of the labs that have state on this machine.
    #[must_use]
    pub fn all() -> Vec<String> {
        Paths::all_labs()
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.paths.lab()
    }

    /// Starts what is missing of the wanted hosts, and waits until all of them are ready.
    ///
    /// # Errors
    /// The first phase that failed; hosts that came up stay up.
    pub fn up(
        &self,
        spec: &LabSpec,
        options: &UpOptions,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<UpReport> {
        up(&self.paths, spec, options, progress)
    }

    /// Removes everything of the lab: hosts with their disks, networks, faults, state. The caches
    /// of root filesystems and packages stay.
    ///
    /// # Errors
    /// What could not be removed, and why. Calling it again goes on from there.
    pub fn down(&self) -> Result<()> {
        machine::require_root()?;
        down::down(&self.paths)
    }

    /// What the lab is doing.
    ///
    /// # Errors
    /// [`LabError::NoSuchLab`] if it was never brought up.
    pub fn status(&self) -> Result<LabStatus> {
        status(&self.paths)
    }

    /// What the lab consists of.
    ///
    /// # Errors
    /// [`LabError::NoSuchLab`] if it was never brought up.
    pub fn spec(&self) -> Result<LabSpec> {
        Ok(self.file()?.spec)
    }

    /// Runs a command in a host (or in [`super::OUTSIDE`], the internet's end of the public
    /// network) with this process's own standard input, output and error; returns its exit code.
    /// `terminal` is the value of `TERM` for a command on a terminal; none for any other.
    ///
    /// # Errors
    /// Where the host does not run.
    pub fn exec(&self, host: &str, argv: &[OsString], terminal: Option<&OsStr>) -> Result<i32> {
        self.require_member(host)?;
        let mut command = enter::command_in(&self.paths, host, argv)?;
        if let Some(terminal) = terminal {
            command.env("TERM", terminal);
        }
        enter::pass_through(&mut command)
    }

    /// Runs a command in a host or outside, with the given standard input, and keeps its output.
    ///
    /// # Errors
    /// Where the host does not run. A command that fails is not an error here.
    pub fn run(&self, host: &str, argv: &[OsString], stdin: &[u8]) -> Result<Output> {
        self.require_member(host)?;
        let mut command = enter::command_in(&self.paths, host, argv)?;
        enter::collect(&mut command, stdin)
    }

    /// The command line that opens an ssh session to a host from the operator's place in the
    /// private network, with the operator's key and the host's pinned key.
    ///
    /// # Errors
    /// Where there is no such host.
    pub fn ssh_argv(&self, host: &str, argv: &[OsString]) -> Result<Vec<OsString>> {
        let file = self.file()?;
        let address = address_of(&file.spec, host).ok_or_else(|| self.no_such_host(host))?;
        let namespace = self.paths.namespace_file(&file.spec.operator);
        let mut known_hosts = OsString::from("UserKnownHostsFile=");
        known_hosts.push(self.paths.known_hosts());
        let mut words: Vec<OsString> = vec!["nsenter".into(), enter::net_option(&namespace)];
        words.extend(
            ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=yes", "-o"].map(OsString::from),
        );
        words.push(known_hosts);
        words.extend(["-o", "IdentitiesOnly=yes", "-i"].map(OsString::from));
        words.push(self.paths.operator_key().into());
        words.push(format!("root@{address}").into());
        words.extend_from_slice(argv);
        Ok(words)
    }

    /// A host's public ed25519 key, as `ssh-ed25519 …`.
    ///
    /// # Errors
    /// Where there is no such host, or it was never started.
    pub fn host_public_key(&self, host: &str) -> Result<String> {
        let path = self.paths.host(host).host_key();
        let text = std::fs::read_to_string(&path).map_err(|_| self.no_such_host(host))?;
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    /// The host keys of all hosts that were ever started, in the form of a `known_hosts` file.
    ///
    /// # Errors
    /// [`LabError::NoSuchLab`] if it was never brought up.
    pub fn hostkeys(&self) -> Result<Vec<String>> {
        let lines = known_hosts(&self.paths, &self.file()?.spec);
        Ok(lines.iter().map(|line| line.trim_end().to_owned()).collect())
    }

    /// Copies what a directory of the machine contains into a directory of a running host.
    ///
    /// # Errors
    /// Where the host does not run, or a file cannot be read or written.
    pub fn copy_in(&self, host: &str, source: &Path, target: &Path) -> Result<()> {
        self.require_member(host)?;
        enter::copy_in(&self.paths, host, source, target)
    }

    /// Injects a fault that heals itself after `duration`, whatever happens to this process.
    /// Returns when the fault is in effect.
    ///
    /// # Errors
    /// [`LabError::Fault`] if it could not be injected; it is not active then.
    pub fn fault(&self, fault: &Fault, duration: Duration) -> Result<FaultId> {
        fault::inject(&self.paths, &self.file()?, fault, duration)
    }

    /// Removes the disk of a host that is off: its next start is the first one of a new machine of
    /// the same name, with keys of its own.
    ///
    /// # Errors
    /// [`LabError::StillRuns`] if it does.
    pub fn wipe(&self, host: &str) -> Result<()> {
        self.require_member(host)?;
        let own = self.paths.host(host);
        if is_supervised(&own.supervisor_lock()) {
            return Err(LabError::StillRuns(host.to_owned()));
        }
        remove_tree(&own.image())
    }

    /// Ends a fault before its deadline.
    ///
    /// # Errors
    /// Where it is not active, or cannot be undone.
    pub fn heal(&self, id: &FaultId) -> Result<()> {
        fault::heal(&self.paths, id)
    }

    /// Ends all faults; returns those that were active.
    ///
    /// # Errors
    /// The first that cannot be undone.
    pub fn heal_all(&self) -> Result<Vec<FaultId>> {
        fault::heal_all(&self.paths)
    }

    fn file(&self) -> Result<LabFile> {
        state::read(&self.paths.lab_file())?
            .ok_or_else(|| LabError::NoSuchLab(self.paths.lab().to_owned()))
    }

    fn require_member(&self, name: &str) -> Result<()> {
        if name == enter::OUTSIDE || self.file()?.spec.host(name).is_some() {
            Ok(())
        } else {
            Err(self.no_such_host(name))
        }
    }

    fn no_such_host(&self, host: &str) -> LabError {
        LabError::NoSuchHost { lab: self.paths.lab().to_owned(), host: host.to_owned() }
    }
}
