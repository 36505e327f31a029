//! Bringing a lab up: what is missing is made, what is there is left alone.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::balancer::{self, BalancerPlan};
use super::command::wait_until;
use super::down::join;
use super::enter::{collect, command_beside_host};
use super::error::{At as _, LabError, Result};
use super::grounds::{Bases, Grounds};
use super::host::make_key;
use super::image::{self, Image};
use super::paths::Paths;
use super::spec::{LabHost, LabSpec};
use super::state::{self, HostPlan, HostRecord, HostState, LabFile, Lock, spawn_detached};
use super::supervise::{console_tail, is_supervised};
use super::{fault, machine, network, rootfs};

/// The size of a host's disk unless something else is asked for, in bytes.
const DISK: u64 = 8 << 30;

/// Where the operator host sees the archives of images: beside the site.
const IMAGES_AT: &str = "/opt/keybuzz-installer/images";

/// A file or directory of the machine that a host sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The host.
    pub host: String,
    /// The path on the machine.
    pub source: PathBuf,
    /// The path in the host; it is made if needed.
    pub target: PathBuf,
    /// Whether the host may not write.
    pub read_only: bool,
}

/// How a lab is brought up.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// The hosts to start; none for all of them.
    pub wanted: Option<Vec<String>>,
    /// How many hosts boot at once.
    pub parallel: usize,
    /// Size of each host's (sparse) disk, in bytes.
    pub disk_bytes: u64,
    /// What hosts see of the machine.
    pub binds: Vec<Bind>,
    /// Images that the operator host can hand to the others.
    pub images: Vec<Image>,
    /// The directory of the operator host in which their archives appear.
    pub images_at: PathBuf,
    /// Whether the balancers are started.
    pub balancers: bool,
    /// How long a host may take to become ready.
    pub ready_deadline: Duration,
    /// The program, with its first arguments, that becomes a supervisor: it must end in
    /// [`super::supervisor_entry`] with `lab-supervise KIND LAB NAME`.
    pub supervisor_argv: Vec<OsString>,
}

impl UpOptions {
    /// All hosts and balancers, with a supervisor made of this program.
    #[must_use]
    pub fn new(supervisor_argv: Vec<OsString>) -> Self {
        Self {
            wanted: None,
            parallel: 16,
            disk_bytes: DISK,
            binds: Vec::new(),
            images: Vec::new(),
            images_at: PathBuf::from(IMAGES_AT),
            balancers: true,
            ready_deadline: Duration::from_secs(120),
            supervisor_argv,
        }
    }
}

/// What happens while a lab comes up.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A phase began.
    Started(&'static str),
    /// A phase ended after this many seconds.
    Finished(&'static str, f64),
    /// A host became ready after this many seconds.
    HostReady(String, f64),
    /// Something the operator should know.
    Note(String),
}

/// How long one host took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostTiming {
    /// The host.
    pub name: String,
    /// Seconds until it was ready; none if it was running already.
    pub seconds: Option<f64>,
    /// Whether systemd reports failed units.
    pub degraded: bool,
}

/// What `up` did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UpReport {
    /// Seconds altogether.
    pub seconds: f64,
    /// Seconds of each phase, in order.
    pub phases: Vec<(&'static str, f64)>,
    /// The wanted hosts.
    pub hosts: Vec<HostTiming>,
    /// Programs that had to be installed on the machine.
    pub installed: Vec<&'static str>,
}

/// Brings the wanted part of a lab up.
pub(super) fn up(
    paths: &Paths,
    spec: &LabSpec,
    options: &UpOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<UpReport> {
    machine::require_root()?;
    spec.validate()?;
    let wanted = wanted_hosts(paths, spec, options)?;
    let _lock =
        Lock::try_take(&paths.lock())?.ok_or_else(|| LabError::Locked(paths.lab().to_owned()))?;
    let mut clock = Clock::new(progress);
    let installed = clock.phase("machine", || {
        let installed = machine::install_programs()?;
        machine::raise_limits()?;
        Ok(installed)
    })?;
    let bases = clock.phase("root filesystem", || Bases::ensure(&wanted))?;
    let grounds = clock.phase("packages", || Grounds::ensure(bases, spec))?;
    for text in grounds.news() {
        progress(Progress::Note(text));
    }
    if !options.images.is_empty() {
        let built = clock.phase("images", || image::provide(&options.images, &paths.images()))?;
        for name in built {
            progress(Progress::Note(format!("the image {name} was built and is cached now")));
        }
    }
    clock.phase("network", || {
        prepare(paths, spec, options)?;
        network::ensure_switch(paths)
    })?;
    let mut binds = options.binds.clone();
    binds.push(Bind {
        host: spec.operator.clone(),
        source: paths.images(),
        target: options.images_at.clone(),
        read_only: true,
    });
    let plan = |host: &LabHost| {
        let ground = grounds.of(host);
        HostPlan {
            host: host.clone(),
            prefix: spec.private_net.prefix_len(),
            operator: host.name == spec.operator,
            base: ground.start.clone(),
            packages: ground.packages.directory.clone(),
            disk: options.disk_bytes,
            binds: binds.iter().filter(|bind| bind.host == host.name).cloned().collect(),
        }
    };
    let hosts = clock.phase("hosts", || {
        if let Err(error) = fault::heal_orphans(paths) {
            progress(Progress::Note(format!("a fault of an earlier run is still there: {error}")));
        }
        let hosts = start_all(paths, options, &wanted, &plan, progress)?;
        write_known_hosts(paths, spec)?;
        Ok(hosts)
    })?;
    if options.balancers && !spec.balancers.is_empty() {
        let base = &grounds.default.base;
        clock.phase("balancers", || start_balancers(paths, spec, options, base))?;
    }
    Ok(UpReport {
        seconds: clock.started.elapsed().as_secs_f64(),
        phases: clock.phases,
        hosts,
        installed,
    })
}

struct Clock<'a> {
    started: Instant,
    phases: Vec<(&'static str, f64)>,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl<'a> Clock<'a> {
    fn new(progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        Self { started: Instant::now(), phases: Vec::new(), progress }
    }

    fn phase<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        (self.progress)(Progress::Started(name));
        let began = Instant::now();
        let done = work()?;
        let seconds = began.elapsed().as_secs_f64();
        self.phases.push((name, seconds));
        (self.progress)(Progress::Finished(name, seconds));
        Ok(done)
    }
}

fn wanted_hosts<'a>(
    paths: &Paths,
    spec: &'a LabSpec,
    options: &UpOptions,
) -> Result<Vec<&'a LabHost>> {
    let Some(names) = &options.wanted else {
        return Ok(spec.hosts.iter().collect());
    };
    names
        .iter()
        .map(|name| {
            spec.host(name).ok_or_else(|| LabError::NoSuchHost {
                lab: paths.lab().to_owned(),
                host: name.clone(),
            })
        })
        .collect()
}

/// The lab's own files. The operator's key stays the same for as long as the lab exists.
fn prepare(paths: &Paths, spec: &LabSpec, options: &UpOptions) -> Result<()> {
    let key = paths.operator_key();
    let directory = key.parent().unwrap_or(&key).to_owned();
    for path in [&directory, &paths.hosts(), &paths.faults(), &paths.images()] {
        fs::create_dir_all(path).at("cannot create", path)?;
    }
    if !key.with_extension("pub").exists() {
        make_key("ed25519", &format!("operator@{}", spec.operator), &key)?;
    }
    state::write(
        &paths.lab_file(),
        &LabFile { spec: spec.clone(), supervisor: options.supervisor_argv.clone() },
    )
}

fn start_all(
    paths: &Paths,
    options: &UpOptions,
    wanted: &[&LabHost],
    plan: &(dyn Fn(&LabHost) -> HostPlan + Sync),
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<HostTiming>> {
    let queue: Mutex<VecDeque<&LabHost>> = Mutex::new(wanted.iter().copied().collect());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    let workers = options.parallel.clamp(1, wanted.len().max(1));
    let results: Vec<Result<HostTiming>> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            while let Some(host) = next() {
                let timing = start_host(paths, options, &plan(host));
                if let Ok(HostTiming { name, seconds: Some(seconds), .. }) = &timing {
                    progress(Progress::HostReady(name.clone(), *seconds));
                }
                done.push(timing);
            }
            Ok(done)
        };
        let tasks: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        tasks
            .into_iter()
            .flat_map(|task| join(task).unwrap_or_else(|error| vec![Err(error)]))
            .collect()
    });
    let (mut timings, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(timing) => timings.push(timing),
            Err(error) => errors.push(error),
        }
    }
    timings.sort_by(|a, b| a.name.cmp(&b.name));
    match errors.len() {
        0 => Ok(timings),
        1 => Err(errors.remove(0)),
        _ => Err(LabError::Several(errors)),
    }
}

/// Starts one host unless it runs, and waits until it is ready.
fn start_host(paths: &Paths, options: &UpOptions, plan: &HostPlan) -> Result<HostTiming> {
    let own = paths.host(&plan.host.name);
    let started = Instant::now();
    fs::create_dir_all(own.directory()).at("cannot create", own.directory())?;
    let running = is_supervised(&own.supervisor_lock());
    if !running {
        // A host keeps the tree it was made from: its disk holds only the differences.
        let mut plan = plan.clone();
        if own.image().exists()
            && let Some(first) = state::read::<HostPlan>(&own.plan())?
        {
            first.same_release(&plan)?;
            plan.base = first.base;
        }
        for bind in &plan.binds {
            if !bind.source.exists() {
                return Err(LabError::InvalidSpec(format!(
                    "{} is to see {}, which does not exist",
                    plan.host.name,
                    bind.source.display()
                )));
            }
        }
        state::write(&own.plan(), &plan)?;
        state::remove_tree(&own.state())?;
    }
    start_supervisor(paths, &options.supervisor_argv, &plan.host.name)?;
    let degraded = wait_ready(paths, &plan.host, options.ready_deadline)?;
    Ok(HostTiming {
        name: plan.host.name.clone(),
        seconds: (!running).then(|| started.elapsed().as_secs_f64()),
        degraded,
    })
}

/// Starts a host's supervisor unless it lives.
pub(super) fn start_supervisor(paths: &Paths, supervisor: &[OsString], host: &str) -> Result<()> {
    let own = paths.host(host);
    if !is_supervised(&own.supervisor_lock()) {
        spawn_detached(supervisor, &["host", paths.lab(), host], &own.supervisor_log())?;
    }
    Ok(())
}

/// Waits until a host has booted and its sshd answers; returns whether systemd reports failures.
pub(super) fn wait_ready(paths: &Paths, host: &LabHost, deadline: Duration) -> Result<bool> {
    let own = paths.host(&host.name);
    let mut degraded = false;
    let mut stopped = false;
    let began = Instant::now();
    let waited = wait_until("readiness", deadline, Duration::from_millis(40), || {
        let record: Option<HostRecord> = state::read(&own.state()).map_err(|e| e.to_string())?;
        let Some(record) = record else {
            return Err("its supervisor has not begun".to_owned());
        };
        match record.state {
            HostState::Running => {}
            HostState::Booting => return Err(format!("it is booting: {}", record.reason)),
            HostState::Stopped => {
                // Nothing starts it again: waiting on would only hide the reason.
                stopped = true;
                return Ok(());
            }
        }
        answers_ssh(paths, host)?;
        degraded = system_state(paths, &host.name)?;
        Ok(())
    });
    let reason = match waited {
        Ok(()) if !stopped => return Ok(degraded),
        Ok(()) => state::read::<HostRecord>(&own.state())?.map_or_else(
            || "it stopped".to_owned(),
            |record| format!("it stopped: {}", record.reason),
        ),
        Err(LabError::Deadline { reason, .. }) => reason,
        Err(error) => return Err(error),
    };
    Err(LabError::NotReady {
        host: host.name.clone(),
        seconds: began.elapsed().as_secs(),
        reason: format!("{reason}; last output: {}", console_tail(&own.console())),
        console: own.console(),
    })
}

/// Whether sshd greets, seen from the host's own namespace.
fn answers_ssh(paths: &Paths, host: &LabHost) -> std::result::Result<(), String> {
    let address = SocketAddr::from((host.private, 22));
    // The thread changes its namespace, and ends with it.
    let asked = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                network::enter(paths, &host.name).map_err(|error| error.to_string())?;
                let timeout = Duration::from_secs(2);
                let mut stream = TcpStream::connect_timeout(&address, timeout)
                    .map_err(|error| format!("port 22 does not answer: {error}"))?;
                let mut greeting = [0_u8; 4];
                stream
                    .set_read_timeout(Some(timeout))
                    .and_then(|()| stream.read_exact(&mut greeting))
                    .map_err(|error| format!("port 22 does not greet: {error}"))?;
                if &greeting == b"SSH-" {
                    Ok(())
                } else {
                    Err("port 22 greets, but not as an ssh server".to_owned())
                }
            })
            .join()
    });
    asked.unwrap_or_else(|_| Err("the probe ended abnormally".to_owned()))
}

/// Whether systemd reports failed units; an error while it is still starting.
fn system_state(paths: &Paths, host: &str) -> std::result::Result<bool, String> {
    let words = ["systemctl", "is-system-running"].map(OsString::from);
    let output = command_beside_host(paths, host, &words)
        .and_then(|mut command| collect(&mut command, &[]))
        .map_err(|error| error.to_string())?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "running" => Ok(false),
        "degraded" => Ok(true),
        other => Err(format!("systemd says {other}")),
    }
}

fn write_known_hosts(paths: &Paths, spec: &LabSpec) -> Result<()> {
    let path = paths.known_hosts();
    let text = known_hosts(paths, spec).concat();
    fs::write(&path, text).at("cannot write", path)
}

/// One line for each host that has a key: `name,fqdn,addresses ssh-ed25519 …`.
pub(super) fn known_hosts(paths: &Paths, spec: &LabSpec) -> Vec<String> {
    let mut lines = Vec::new();
    for host in &spec.hosts {
        let Ok(key) = fs::read_to_string(paths.host(&host.name).host_key()) else {
            continue;
        };
        let mut words = key.split_whitespace();
        let (Some(kind), Some(blob)) = (words.next(), words.next()) else {
            continue;
        };
        let mut names = vec![host.name.clone(), host.fqdn.clone(), host.private.to_string()];
        names.extend(host.public.map(|address| address.to_string()));
        lines.push(format!("{} {kind} {blob}\n", names.join(",")));
    }
    lines
}

fn start_balancers(
    paths: &Paths,
    spec: &LabSpec,
    options: &UpOptions,
    base: &rootfs::RootFilesystem,
) -> Result<()> {
    let layers = balancer::layers(base)?;
    for balancer in &spec.balancers {
        let name = &balancer.name;
        let lock = balancer::lock_file(paths, name);
        if is_supervised(&lock) {
            continue;
        }
        let directory = paths.balancer(name);
        fs::create_dir_all(&directory).at("cannot create", &directory)?;
        let plan = BalancerPlan {
            balancer: balancer.clone(),
            prefix: spec.private_net.prefix_len(),
            layers: layers.clone(),
        };
        state::write(&directory.join("plan.json"), &plan)?;
        let log = directory.join("keeper.log");
        spawn_detached(&options.supervisor_argv, &["balancer", paths.lab(), name], &log)?;
        let Some(port) = balancer.listeners.first().map(|listener| listener.port) else {
            continue;
        };
        let address = SocketAddr::from((balancer.address, port));
        wait_until(
            &format!("the start of the balancer {name}"),
            Duration::from_secs(20),
            Duration::from_millis(30),
            || answers(paths, name, address),
        )?;
    }
    Ok(())
}

fn answers(paths: &Paths, member: &str, address: SocketAddr) -> std::result::Result<(), String> {
    let asked = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                network::enter(paths, member).map_err(|error| error.to_string())?;
                TcpStream::connect_timeout(&address, Duration::from_secs(1))
                    .map(drop)
                    .map_err(|error| format!("{address} does not answer: {error}"))
            })
            .join()
    });
    asked.unwrap_or_else(|_| Err("the probe ended abnormally".to_owned()))
}
