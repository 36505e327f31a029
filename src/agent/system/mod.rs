//! The host as the agent sees it: [`LocalSystem`] implements [`System`] with system calls.
//!
//! Its root is `/` in production. A private root (a directory) stands for a whole simulated host:
//! no path leads out of it, and programs run in it with `chroot` or through a function given by
//! the caller, never on the machine itself.

mod backup;
mod blob;
mod engine;
mod guard;
mod prepared;
mod process;
mod reload;
mod root;
mod syncs;
mod systemd;
mod units;
mod write;

pub use backup::{BACKUP_DIRECTORY, COPIES_KEPT, escape_path, undo};
pub(super) use engine::load_archive;
pub use guard::{GUARD_DIRECTORY, revert};
pub(super) use units::RELOAD;

use crate::agent::hashed::Stamp;
use crate::resource::accounts::Accounts;
use crate::resource::dpkg::Packages;
use crate::resource::{
    BlobPlace, Cache, EngineRequest, EngineResponse, Failure, FileWrite, GuardPlan, GuardedChange,
    LockOwner, Metadata, Output, Program, System, UnitStatus, restore_service_policy,
};
use root::{Root, cannot, reason};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Asks the controller to reach the host over a new connection within the given time; true when it
/// did.
pub type Prove = Box<dyn FnMut(Duration) -> bool + Send>;

/// Runs programs of a simulated host.
pub type Programs = Box<dyn FnMut(&Program) -> Result<Output, Failure> + Send>;

/// Where programs run.
enum Runner {
    /// On this host.
    Here,
    /// In the private root.
    Chroot(PathBuf),
    /// In a function of the caller's.
    Function(Programs),
}

/// The host that the agent runs on, or a simulated one below a private root.
pub struct LocalSystem {
    root: Root,
    runner: Runner,
    prove: Prove,
    serial: u64,
    accounts: Option<Arc<Accounts>>,
    packages: Option<Arc<Packages>>,
    units: BTreeMap<String, UnitStatus>,
    expected_units: Vec<String>,
    /// True once units were enabled or disabled that systemd has not read since.
    reload_deferred: bool,
    /// Units whose file had changed when nothing was deferred. From its release 255 on, systemd says
    /// so of every unit while it has not read which are enabled.
    changed_units: BTreeSet<String>,
    prepared: prepared::Prepared,
    /// The file that was hashed last on its way to its place.
    hashed: Option<(Stamp, String)>,
}

impl LocalSystem {
    /// The host whose root directory is `root`: `/` in production. Programs of any other root run
    /// in it with `chroot`.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn new(root: &Path, prove: Prove) -> Result<Self, Failure> {
        let runner =
            if root == Path::new("/") { Runner::Here } else { Runner::Chroot(root.to_owned()) };
        Self::with_runner(root, runner, prove)
    }

    /// A simulated host: files below `root`, programs answered by a function.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn simulated(root: &Path, programs: Programs, prove: Prove) -> Result<Self, Failure> {
        Self::with_runner(root, Runner::Function(programs), prove)
    }

    fn with_runner(root: &Path, runner: Runner, prove: Prove) -> Result<Self, Failure> {
        Ok(Self {
            root: Root::open(root)?,
            runner,
            prove,
            serial: 0,
            accounts: None,
            packages: None,
            units: BTreeMap::new(),
            expected_units: Vec::new(),
            reload_deferred: false,
            changed_units: BTreeSet::new(),
            prepared: prepared::Prepared::default(),
            hashed: None,
        })
    }

    /// Puts right what an agent that was killed left behind: guarded changes that were never
    /// proved are reverted, prepared files are removed, and packages may start services again.
    /// Called after the host's lock was taken and before the first batch. Returns what was done,
    /// one line each.
    ///
    /// # Errors
    /// When something was left and cannot be put right.
    pub fn recover(&mut self) -> Result<Vec<String>, Failure> {
        let mut done = self.revert_stale_guards()?;
        let removed = self.remove_prepared()?;
        if removed > 0 {
            done.push(format!("removed {removed} files that were prepared and not used"));
        }
        if restore_service_policy(self)? {
            done.push("removed a policy-rc.d of an interrupted package step".to_owned());
        }
        Ok(done)
    }

    /// True when this is the host itself and no simulated one.
    fn is_host(&self) -> bool {
        matches!(self.runner, Runner::Here)
    }

    fn text(&self, path: &str) -> Result<String, Failure> {
        let bytes = self.root.read(path, 256 * 1024 * 1024)?.unwrap_or_default();
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

impl System for LocalSystem {
    fn metadata(&mut self, path: &str) -> Result<Option<Metadata>, Failure> {
        self.root.metadata(path)
    }

    fn read(&mut self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.root.read(path, limit)
    }

    fn read_link(&mut self, path: &str) -> Result<Option<String>, Failure> {
        self.root.read_link(path)
    }

    fn list(&mut self, path: &str) -> Result<Option<Vec<String>>, Failure> {
        self.root.list(path)
    }

    fn write(&mut self, file: &FileWrite<'_>) -> Result<(), Failure> {
        self.write_file(file)
    }

    fn digest(&mut self, path: &str, wanted: &str) -> Result<Option<String>, Failure> {
        self.file_digest(path, wanted)
    }

    fn place_blob(&mut self, blob: &BlobPlace<'_>) -> Result<(), Failure> {
        self.place_received(blob)
    }

    fn prepare(&mut self, file: &FileWrite<'_>) {
        self.prepare_file(file);
    }

    fn write_kernel(&mut self, path: &str, value: &str) -> Result<(), Failure> {
        let fail = |error| cannot("set", path, error);
        let handle = self.root.open_path(path, OFlags::WRONLY | OFlags::TRUNC).map_err(fail)?;
        File::from(handle)
            .write_all(value.as_bytes())
            .map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }

    fn make_directory(&mut self, path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), Failure> {
        self.root.make_directory(path, mode, uid, gid)
    }

    fn make_link(&mut self, path: &str, target: &str) -> Result<(), Failure> {
        self.place_link(path, target)
    }

    fn remove_file(&mut self, path: &str, keep: bool) -> Result<(), Failure> {
        if keep {
            self.keep_copy(path)?;
        }
        self.root.remove(path, false)
    }

    fn remove_directory(&mut self, path: &str) -> Result<(), Failure> {
        self.root.remove(path, true)
    }

    fn set_mode(&mut self, path: &str, mode: u32) -> Result<(), Failure> {
        self.root.set_mode(path, mode)
    }

    fn set_owner(&mut self, path: &str, uid: u32, gid: u32) -> Result<(), Failure> {
        self.root.set_owner(path, uid, gid)
    }

    fn run(&mut self, program: &Program) -> Result<Output, Failure> {
        match &mut self.runner {
            Runner::Here => process::run(program, None),
            Runner::Chroot(root) => process::run(program, Some(root)),
            Runner::Function(programs) => programs(program),
        }
    }

    fn accounts(&mut self) -> Result<Arc<Accounts>, Failure> {
        if let Some(known) = &self.accounts {
            return Ok(Arc::clone(known));
        }
        let accounts = Arc::new(Accounts::parse(
            &self.text("/etc/passwd")?,
            &self.text("/etc/group")?,
            &self.text("/etc/shadow")?,
        ));
        self.accounts = Some(Arc::clone(&accounts));
        Ok(accounts)
    }

    fn packages(&mut self) -> Result<Arc<Packages>, Failure> {
        if let Some(known) = &self.packages {
            return Ok(Arc::clone(known));
        }
        let packages = Arc::new(Packages::parse(&self.text("/var/lib/dpkg/status")?));
        self.packages = Some(Arc::clone(&packages));
        Ok(packages)
    }

    fn expect_units(&mut self, names: Vec<String>) {
        self.expected_units.extend(names);
        self.expected_units.sort_unstable();
        self.expected_units.dedup();
    }

    fn unit(&mut self, name: &str) -> Result<UnitStatus, Failure> {
        self.find_unit(name)
    }

    fn defer_daemon_reload(&mut self) {
        self.reload_deferred = true;
    }

    fn end_row_of_units(&mut self) -> Result<(), Failure> {
        if self.reload_deferred { self.reload_daemon() } else { Ok(()) }
    }

    fn daemon_reload(&mut self) -> Result<(), Failure> {
        self.reload_daemon()
    }

    fn invalidate(&mut self, cache: Cache) {
        if matches!(cache, Cache::Accounts | Cache::All) {
            self.accounts = None;
        }
        if matches!(cache, Cache::Packages | Cache::All) {
            self.packages = None;
        }
        if matches!(cache, Cache::Units | Cache::All) {
            self.units.clear();
        }
    }

    fn lock_owner(&mut self, path: &str) -> Result<Option<LockOwner>, Failure> {
        let handle = match self.root.open_path(path, OFlags::RDONLY) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(cannot("open", path, error)),
        };
        let lock = fcntl_getlk(&handle, &Flock::from(FlockType::WriteLock))
            .map_err(|error| cannot("ask for the lock of", path, error))?;
        let Some(pid) = lock.and_then(|lock| lock.pid) else {
            return Ok(None);
        };
        let pid = pid.as_raw_nonzero().get();
        let name = self.root.read(&format!("/proc/{pid}/comm"), 4096)?.unwrap_or_default();
        Ok(Some(LockOwner { pid, name: String::from_utf8_lossy(&name).trim().to_owned() }))
    }

    fn hostname(&mut self) -> Result<Option<String>, Failure> {
        if !self.is_host() {
            return Ok(None);
        }
        Ok(Some(rustix::system::uname().nodename().to_string_lossy().into_owned()))
    }

    fn set_hostname(&mut self, name: &str) -> Result<(), Failure> {
        if !self.is_host() {
            return Ok(());
        }
        rustix::system::sethostname(name.as_bytes())
            .map_err(|error| cannot("set the host name to", name, error))
    }

    fn connect(&mut self, to: SocketAddr, timeout: Duration) -> Result<(), String> {
        TcpStream::connect_timeout(&to, timeout).map(|_| ()).map_err(|error| words(&error))
    }

    fn http_status(&mut self, to: SocketAddr, target: &str, wait: Duration) -> Result<u16, String> {
        let deadline = Instant::now() + wait;
        let left = || {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() { Err("no complete answer in time".to_owned()) } else { Ok(left) }
        };
        let mut stream = TcpStream::connect_timeout(&to, wait).map_err(|error| words(&error))?;
        stream.set_write_timeout(Some(left()?)).map_err(|error| words(&error))?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: strata-agent\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(|error| words(&error))?;
        let mut head = Vec::new();
        let mut buffer = [0; 4096];
        while head.len() < 64 * 1024 {
            stream.set_read_timeout(Some(left()?)).map_err(|error| words(&error))?;
            let count = stream.read(&mut buffer).map_err(|error| words(&error))?;
            if count == 0 {
                return Err("the connection closed before a complete answer".to_owned());
            }
            head.extend_from_slice(&buffer[..count]);
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(&head) {
                Ok(_) if response.code.is_some() => return Ok(response.code.unwrap_or_default()),
                Ok(_) => {}
                Err(error) => return Err(format!("the answer is not HTTP: {error}")),
            }
        }
        Err("the answer has no end of its head".to_owned())
    }

    fn engine(&mut self, request: &EngineRequest) -> Result<EngineResponse, Failure> {
        self.ask_engine(request)
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn guarded(&mut self, plan: &GuardPlan, change: &mut GuardedChange<'_>) -> Result<(), Failure> {
        self.run_guarded(plan, change)
    }
}

fn words(error: &std::io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => "no answer in time".to_owned(),
        Some(errno) => reason(errno),
        None if error.kind() == std::io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
