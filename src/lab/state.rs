//! The lab's files: what it consists of, what supervisors last saw, and the locks that tell who
//! lives.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{At as _, LabError, Result};
use super::spec::{LabHost, LabSpec};
use super::up::Bind;

/// What a lab consists of, as written by `up`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LabFile {
    pub(super) spec: LabSpec,
    /// The program, with its first arguments, that becomes a supervisor.
    pub(super) supervisor: Vec<OsString>,
}

/// All that a supervisor needs to boot one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostPlan {
    pub(super) host: LabHost,
    /// Prefix length of the private network.
    pub(super) prefix: u8,
    /// Whether it gets the operator's private key.
    pub(super) operator: bool,
    /// The root filesystem it starts from.
    pub(super) base: PathBuf,
    /// The package repository.
    pub(super) packages: PathBuf,
    /// Size of its disk, in bytes.
    pub(super) disk: u64,
    pub(super) binds: Vec<Bind>,
}

impl HostPlan {
    /// Refuses to boot a host with another release than the one that its disk was made from.
    pub(super) fn same_release(&self, next: &Self) -> Result<()> {
        let (was, wanted) = (self.host.release.name(), next.host.release.name());
        if was == wanted {
            return Ok(());
        }
        Err(LabError::InvalidSpec(format!(
            "{} was made of {was} and is to be {wanted}: bring the lab down first",
            self.host.name
        )))
    }
}

/// What a host is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// Its supervisor is preparing or booting it.
    Booting,
    /// It has booted.
    Running,
    /// It was switched off, or lost its power.
    Stopped,
}

impl std::fmt::Display for HostState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Stopped => "stopped",
        })
    }
}

/// What a supervisor last saw of its host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HostRecord {
    pub(super) state: HostState,
    /// Process id of the host's first process, on the machine.
    pub(super) leader: Option<u32>,
    /// Seconds since 1970 at which this state began.
    pub(super) since: u64,
    /// How often it has booted since the lab came up.
    pub(super) boots: u32,
    /// Why it is in this state.
    pub(super) reason: String,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Reads a JSON file; none if there is no such file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at("cannot read", path),
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(LabError::State { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// Writes a JSON file whole or not at all.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| LabError::State { path: path.to_owned(), reason: error.to_string() })?;
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&temporary, text).at("cannot write", &temporary)?;
    fs::rename(&temporary, path).at("cannot write", path)
}

/// Removes a file or a whole tree; what is not there needs no removal.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.at("cannot remove", path)
}

/// An exclusive lock on a file, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for whoever holds it.
    pub(super) fn wait(path: &Path) -> Result<Self> {
        loop {
            let file = Self::open(path)?;
            file.lock().at("cannot lock", path)?;
            if is_same(&file, path) {
                return Ok(Self { _file: file });
            }
        }
    }

    /// Takes the lock, or nothing if another process keeps holding it. Asking whether it is held
    /// holds it for an instant, so that one refusal proves nothing.
    pub(super) fn try_take(path: &Path) -> Result<Option<Self>> {
        let started = Instant::now();
        loop {
            let file = Self::open(path)?;
            match file.try_lock() {
                Ok(()) if is_same(&file, path) => return Ok(Some(Self { _file: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if started.elapsed() > HELD_FOR_GOOD => {
                    return Ok(None);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::Error(error)) => return Err(error).at("cannot lock", path),
            }
        }
    }

    /// Whether some process holds the lock.
    pub(super) fn is_held(path: &Path) -> bool {
        File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn open(path: &Path) -> Result<File> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("cannot create", parent)?;
        }
        File::options().create(true).truncate(false).write(true).open(path).at("cannot open", path)
    }
}

/// Whether the path still leads to the locked file: its last holder may have removed it.
fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(found)) => held.ino() == found.ino() && held.dev() == found.dev(),
        _ => false,
    }
}

/// Starts a process that outlives this one. It leaves this process's session by itself.
pub(super) fn spawn_detached(
    supervisor: &[OsString],
    arguments: &[&str],
    log: &Path,
) -> Result<u32> {
    let (Some(program), first) = (supervisor.first(), supervisor.get(1..).unwrap_or_default())
    else {
        return Err(LabError::InvalidSpec("there is no supervisor program".into()));
    };
    let output = File::options().create(true).append(true).open(log).at("cannot open", log)?;
    let errors = output.try_clone().at("cannot open", log)?;
    let mut child = Command::new(program)
        .args(first)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .at("cannot start", Path::new(program))?;
    let pid = child.id();
    // Somebody has to take note of its end for as long as this process lives.
    std::thread::spawn(move || child.wait());
    Ok(pid)
}

/// The address by which hosts of the lab reach another one.
pub(super) fn address_of(spec: &LabSpec, name: &str) -> Option<Ipv4Addr> {
    spec.host(name).map(|host| host.private)
}

/// After this long, a refused lock is one that its holder keeps.
const HELD_FOR_GOOD: Duration = Duration::from_millis(200);
