//! The supervisor: one detached process per host. It mounts the host's disk, makes its network,
//! boots it, boots it again when it asked for a reboot, and cleans up when it stopped.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use super::cgroup::{Cgroups, signal};
use super::error::{At as _, LabError, Result};
use super::host::{boot_command, give_identity};
use super::network;
use super::paths::Paths;
use super::state::{self, HostPlan, HostRecord, HostState, Lock, now};
use super::storage;

/// How a container ends that asked for a reboot.
const REBOOT: i32 = 133;

/// Looks after one host until it stops. Returns at once if another supervisor does.
pub(super) fn supervise(lab: &str, host: &str) -> Result<()> {
    let paths = Paths::new(lab);
    let own = paths.host(host);
    let Some(_lock) = Lock::try_take(&own.supervisor_lock())? else {
        return Ok(());
    };
    let plan: HostPlan = state::read(&own.plan())?
        .ok_or_else(|| LabError::NoSuchHost { lab: lab.to_owned(), host: host.to_owned() })?;
    let supervisor = Supervisor { cgroups: Cgroups::detect()?, paths, plan };
    let ended = supervisor.run();
    let reason = match &ended {
        Ok(reason) => reason.clone(),
        Err(error) => error.to_string(),
    };
    supervisor.clean_up()?;
    supervisor.record(HostState::Stopped, None, 0, &reason)?;
    ended.map(drop)
}

struct Supervisor {
    cgroups: Cgroups,
    paths: Paths,
    plan: HostPlan,
}

impl Supervisor {
    fn name(&self) -> &str {
        &self.plan.host.name
    }

    /// Boots the host until it stops for good; returns why.
    fn run(&self) -> Result<String> {
        let own = self.paths.host(self.name());
        let group = self.paths.host_group(self.name());
        self.record(HostState::Booting, None, 1, "preparing")?;
        // What a killed supervisor left running.
        self.cgroups.kill_all(&group)?;
        storage::mount(&own, &self.plan)?;
        give_identity(&self.paths, &self.plan, self.cgroups.is_v1())?;
        for boots in 1.. {
            network::make_host(&self.paths, &self.plan.host, self.plan.prefix)?;
            self.cgroups.create(&group)?;
            let status = self.boot(boots)?;
            self.cgroups.kill_all(&group)?;
            self.cgroups.remove(&group)?;
            if status.code() != Some(REBOOT) {
                return Ok(describe(status));
            }
            self.record(HostState::Booting, None, boots + 1, "rebooting")?;
        }
        Ok("it rebooted too often".to_owned())
    }

    /// One boot, from power-on to power-off.
    fn boot(&self, boots: u32) -> Result<ExitStatus> {
        let own = self.paths.host(self.name());
        let socket_path = own.notify_socket();
        state::remove_tree(&socket_path)?;
        let socket = UnixDatagram::bind(&socket_path).at("cannot listen at", &socket_path)?;
        let console = File::options()
            .create(true)
            .append(true)
            .open(own.console())
            .at("cannot open", own.console())?;
        let errors = console.try_clone().at("cannot open", own.console())?;
        let entrances = self.cgroups.entrances(&self.paths.host_group(self.name()));
        let foreign = storage::foreign_mounts(&self.paths, self.name())?;
        let v1 = self.cgroups.is_v1();
        let mut child = boot_command(&self.paths, &self.plan, &entrances, &foreign, v1)
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors)
            .spawn()
            .at("cannot start", "systemd-nspawn")?;
        let status = std::thread::scope(|scope| {
            scope.spawn(|| self.listen(&socket, boots));
            let status = child.wait();
            // The empty message ends the listener.
            let _ended =
                UnixDatagram::unbound().and_then(|sender| sender.send_to(b"END", &socket_path));
            status
        });
        status.at("cannot wait for", "systemd-nspawn")
    }

    /// Notes what the container tells: its first process, and that it has booted.
    fn listen(&self, socket: &UnixDatagram, boots: u32) {
        let mut buffer = [0_u8; 4096];
        let mut leader = None;
        let mut ready = false;
        while let Ok(length) = socket.recv(&mut buffer) {
            let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            let (mut news, mut end) = (false, false);
            for line in message.lines() {
                if line == "END" {
                    end = true;
                } else if line == "READY=1" {
                    news |= !std::mem::replace(&mut ready, true);
                } else if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    leader = pid.parse().ok();
                    news = true;
                }
            }
            if end {
                return;
            }
            if !news {
                continue;
            }
            let recorded = match (ready, leader) {
                (true, Some(_)) => self.record(HostState::Running, leader, boots, "booted"),
                _ => self.record(HostState::Booting, leader, boots, "booting"),
            };
            if let Err(error) = recorded {
                log(&error.to_string());
            }
        }
    }

    fn record(
        &self,
        state: HostState,
        leader: Option<u32>,
        boots: u32,
        reason: &str,
    ) -> Result<()> {
        state::write(
            &self.paths.host(self.name()).state(),
            &HostRecord { state, leader, since: now(), boots, reason: reason.to_owned() },
        )
    }

    fn clean_up(&self) -> Result<()> {
        let own = self.paths.host(self.name());
        let group = self.paths.host_group(self.name());
        self.cgroups.kill_all(&group)?;
        self.cgroups.remove(&group)?;
        network::remove_member(&self.paths, self.name())?;
        storage::unmount_below(own.directory())
    }
}

/// Sends SIGKILL to a host's first process: the kernel takes all others with it. That is as close
/// to a power cut as a container gets; what was written stays in the machine's page cache.
pub(super) fn cut_power(paths: &Paths, host: &str) -> Result<()> {
    let cgroups = Cgroups::detect()?;
    let group = paths.host_group(host);
    let pid = cgroups.leader(&group).ok_or_else(|| LabError::NotRunning {
        host: host.to_owned(),
        state: HostState::Stopped.to_string(),
    })?;
    signal(pid, rustix::process::Signal::KILL);
    // A frozen process dies when it is thawed.
    cgroups.freeze(&group, false)
}

/// Leaves the caller's session and cgroups, so that nothing that happens to the caller happens to
/// this process.
pub(super) fn detach(paths: &Paths) -> Result<()> {
    let _already_leader = rustix::process::setsid();
    Cgroups::detect()?.enter(&paths.control_group())
}

/// One line into this process's log.
pub(super) fn log(line: &str) {
    use std::io::Write as _;
    let _lost = writeln!(std::io::stderr(), "{} {line}", now());
}

/// Whether a supervisor looks after the host.
pub(super) fn is_supervised(lock: &Path) -> bool {
    Lock::is_held(lock)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "it was switched off".to_owned(),
        (Some(code), _) => format!("its container ended with status {code}"),
        (None, Some(signal)) => format!("its container was killed by signal {signal}"),
        (None, None) => "its container ended".to_owned(),
    }
}

/// What the host printed last.
pub(super) fn console_tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" | ")
}
