//! Runs programs for the controller: argv, own process group, bytes on standard input, output in
//! chunks within a credit, a deadline. One thread a program waits for everything about it at once.
//!
//! Another user's identity is taken between fork and exec by three system calls. `setpriv` would
//! make the agent depend on the host, and the standard library can set user and group but drops all
//! supplementary groups.

use super::users;
use super::writer::FrameWriter;
use crate::wire::{CHUNK, EXEC_WINDOW, ExecOutcome, ExecSpec, FromAgent, OutputStream};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where programs are looked up; fixed, so that a login environment changes nothing.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// After the program ended, its output is read until the pipes close, at most this long: a daemon
/// that it started may keep them open for ever.
const DRAIN: Duration = Duration::from_millis(500);

/// The programs of one session.
#[derive(Clone)]
pub struct Programs {
    root: PathBuf,
    writer: FrameWriter,
    running: Arc<Mutex<HashMap<u32, Arc<Control>>>>,
}

/// What the session may do to a running program.
struct Control {
    state: Mutex<ControlState>,
    wake: OwnedFd,
}

struct ControlState {
    credit: u64,
    /// The process group, until the leader is reaped: after that the number may be another's.
    group: Option<Pid>,
    killed: bool,
}

impl Programs {
    /// No programs yet. Users are looked up below `root`.
    pub fn new(root: &Path, writer: FrameWriter) -> Self {
        Self { root: root.to_owned(), writer, running: Arc::default() }
    }

    /// Starts a program; its end is reported, also when it cannot be started.
    pub fn start(&self, id: u32, spec: ExecSpec) {
        let fail = |message: String| {
            let outcome = ExecOutcome::NotStarted(message);
            self.writer.bulk(&FromAgent::ExecDone { id, outcome }).ok();
        };
        let wake = match eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) {
            Ok(wake) => wake,
            Err(error) => return fail(error.to_string()),
        };
        let state = ControlState { credit: u64::from(EXEC_WINDOW), group: None, killed: false };
        let control = Arc::new(Control { state: Mutex::new(state), wake });
        self.lock().insert(id, Arc::clone(&control));
        let programs = self.clone();
        let thread = std::thread::Builder::new().name(format!("exec {id}")).spawn(move || {
            let outcome = programs.run(id, &spec, &control);
            programs.lock().remove(&id);
            programs.writer.bulk(&FromAgent::ExecDone { id, outcome }).ok();
        });
        if let Err(error) = thread {
            self.lock().remove(&id);
            fail(format!("no thread could be started: {error}"));
        }
    }

    /// Allows more output.
    pub fn credit(&self, id: u32, bytes: u32) {
        if let Some(control) = self.lock().get(&id) {
            control.lock().credit += u64::from(bytes);
            control.wake();
        }
    }

    /// Kills a program and its process group.
    pub fn kill(&self, id: u32) {
        if let Some(control) = self.lock().get(&id) {
            control.kill();
        }
    }

    /// Kills all of them.
    pub fn kill_all(&self) {
        for control in self.lock().values() {
            control.kill();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Control>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, id: u32, spec: &ExecSpec, control: &Control) -> ExecOutcome {
        let mut command = match prepare(&self.root, spec) {
            Ok(command) => command,
            Err(message) => return ExecOutcome::NotStarted(message),
        };
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let program = spec.argv.first().map_or("", String::as_str);
                return ExecOutcome::NotStarted(format!("{program}: {error}"));
            }
        };
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        {
            let mut state = control.lock();
            state.group = group;
            if state.killed {
                kill_group(group);
            }
        }
        let mut run = Run {
            id,
            writer: &self.writer,
            control,
            stdin: child.stdin.take(),
            to_write: &spec.stdin,
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        let limit = (spec.timeout_ms > 0)
            .then(|| Instant::now() + Duration::from_millis(u64::from(spec.timeout_ms)));
        let timed_out = run.until_exit(&mut child, group, limit);
        run.drain();
        drop(run);
        let status = child.wait();
        match status {
            _ if timed_out => ExecOutcome::TimedOut,
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => ExecOutcome::Exited(code),
                (None, Some(signal)) => ExecOutcome::Signaled(signal),
                (None, None) => ExecOutcome::NotStarted("its end could not be learned".into()),
            },
            Err(error) => ExecOutcome::NotStarted(format!("its end could not be learned: {error}")),
        }
    }
}

impl Control {
    fn lock(&self) -> std::sync::MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }

    fn kill(&self) {
        let mut state = self.lock();
        state.killed = true;
        kill_group(state.group);
        drop(state);
        self.wake();
    }
}

fn kill_group(group: Option<Pid>) {
    if let Some(group) = group {
        kill_process_group(group, Signal::KILL).ok();
    }
}

fn prepare(root: &Path, spec: &ExecSpec) -> Result<Command, String> {
    let (program, arguments) = spec.argv.split_first().ok_or("the argument list is empty")?;
    if spec.argv.iter().any(|argument| argument.contains('\0')) {
        return Err("an argument contains a zero byte".into());
    }
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("PATH", PATH).env("LANG", "C.UTF-8").env("HOME", "/root");
    if let Some(name) = &spec.user {
        let account = users::find(root, name)?;
        command.env("HOME", &account.home).env("USER", name).env("LOGNAME", name);
        take_identity(&mut command, &account);
    }
    for (key, value) in &spec.env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!(
                "{key:?} is no name of an environment variable, or its value contains a zero byte"
            ));
        }
        command.env(key, value);
    }
    Ok(command)
}

/// Makes the child take the account's groups, group and user, in this order, before it executes.
fn take_identity(command: &mut Command, account: &users::Account) {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let uid = Uid::from_raw(account.uid);
    let gid = Gid::from_raw(account.gid);
    let groups: Vec<Gid> = account.groups.iter().map(|id| Gid::from_raw(*id)).collect();
    let switch = move || {
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    };
    // SAFETY: the closure runs in the forked child, which has one thread. It makes three raw system
    // calls on values prepared before the fork: no allocation, no lock, no libc state.
    #[expect(unsafe_code, reason = "no safe way sets supplementary groups before exec")]
    unsafe {
        command.pre_exec(switch);
    }
}

/// One running program's pipes.
struct Run<'a> {
    id: u32,
    writer: &'a FrameWriter,
    control: &'a Control,
    stdin: Option<ChildStdin>,
    to_write: &'a [u8],
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Run<'_> {
    /// Moves bytes until the program ends (it is then a zombie, so that its group's number stays
    /// its own until the caller reaps it). True when the deadline killed it.
    fn until_exit(
        &mut self,
        child: &mut Child,
        group: Option<Pid>,
        limit: Option<Instant>,
    ) -> bool {
        let pidfd = group.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut timed_out = false;
        loop {
            // Kernels before 5.3 have no pidfd: look every 20 ms instead.
            let longest =
                if pidfd.is_some() { Duration::from_secs(60) } else { Duration::from_millis(20) };
            let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) && !timed_out {
                timed_out = true;
                self.control.kill();
            }
            let wait =
                if timed_out { longest } else { left.map_or(longest, |left| left.min(longest)) };
            let ended = self.turn(pidfd.as_ref(), wait);
            if ended || (pidfd.is_none() && has_ended(child)) {
                // A finished program keeps no hold on its group: from here on the number is free.
                let mut state = self.control.lock();
                if timed_out || state.killed {
                    kill_group(state.group);
                }
                state.group = None;
                return timed_out;
            }
        }
    }

    /// Reads what is left of the output.
    fn drain(&mut self) {
        self.stdin = None;
        let until = Instant::now() + DRAIN;
        while self.stdout.is_some() || self.stderr.is_some() {
            // Waiting for credit is the controller's time, not the program's.
            let no_credit = self.control.lock().credit == 0;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && !no_credit {
                return;
            }
            if self.control.lock().killed && left.is_zero() {
                return;
            }
            self.turn(None, if no_credit { Duration::from_millis(200) } else { left });
        }
    }

    /// Waits for one event and serves it; true when the pidfd says that the program ended.
    fn turn(&mut self, pidfd: Option<&OwnedFd>, wait: Duration) -> bool {
        let may_read = self.control.lock().credit > 0;
        let mut fds = Vec::with_capacity(5);
        let mut roles = Vec::with_capacity(5);
        fds.push(PollFd::new(&self.control.wake, PollFlags::IN));
        roles.push(Role::Wake);
        if let Some(pidfd) = pidfd {
            fds.push(PollFd::new(pidfd, PollFlags::IN));
            roles.push(Role::Exit);
        }
        if let Some(stdin) = &self.stdin {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT));
            roles.push(Role::Stdin);
        }
        if let (Some(stdout), true) = (&self.stdout, may_read) {
            fds.push(PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN));
            roles.push(Role::Stdout);
        }
        if let (Some(stderr), true) = (&self.stderr, may_read) {
            fds.push(PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN));
            roles.push(Role::Stderr);
        }
        let timeout = Timespec::try_from(wait).ok();
        let ready: Vec<Role> = match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => fds
                .iter()
                .zip(&roles)
                .filter(|(fd, _)| !fd.revents().is_empty())
                .map(|(_, role)| *role)
                .collect(),
            Err(_) => Vec::new(),
        };
        drop(fds);
        let mut ended = false;
        for role in ready {
            match role {
                Role::Wake => {
                    rustix::io::read(&self.control.wake, &mut [0_u8; 8]).ok();
                }
                Role::Exit => ended = true,
                Role::Stdin => self.feed(),
                Role::Stdout => {
                    let stdout = self.stdout.take();
                    self.stdout = self.pass_on(stdout, OutputStream::Stdout);
                }
                Role::Stderr => {
                    let stderr = self.stderr.take();
                    self.stderr = self.pass_on(stderr, OutputStream::Stderr);
                }
            }
        }
        ended
    }

    /// Writes a piece of standard input; a pipe takes 4 KiB without blocking when it polls ready.
    fn feed(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        let (piece, rest) = self.to_write.split_at(self.to_write.len().min(PIPE_ATOMIC));
        let written = if piece.is_empty() { Ok(0) } else { stdin.write(piece) };
        match written {
            Ok(n) if n == piece.len() => self.to_write = rest,
            Ok(n) => self.to_write = &self.to_write[n..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.to_write = &[],
        }
        if self.to_write.is_empty() {
            self.stdin = None;
        }
    }

    /// Reads once and sends it; gives the pipe back unless it is closed.
    fn pass_on<P: Read>(&self, pipe: Option<P>, stream: OutputStream) -> Option<P> {
        let mut pipe = pipe?;
        let credit = usize::try_from(self.control.lock().credit).unwrap_or(usize::MAX);
        if credit == 0 {
            return Some(pipe);
        }
        let mut buffer = vec![0; CHUNK.min(credit)];
        match pipe.read(&mut buffer) {
            Ok(0) => None,
            Ok(n) => {
                buffer.truncate(n);
                self.control.lock().credit -= n as u64;
                let message = FromAgent::ExecOutput { id: self.id, stream, bytes: buffer };
                self.writer.bulk(&message).ok().map(|()| pipe)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(pipe),
            Err(_) => None,
        }
    }
}

/// `PIPE_BUF`: a pipe that polls writable takes this many bytes without blocking.
const PIPE_ATOMIC: usize = 4096;

#[derive(Clone, Copy)]
enum Role {
    Wake,
    Exit,
    Stdin,
    Stdout,
    Stderr,
}

/// Whether the program is a zombie, without reaping it.
fn has_ended(child: &Child) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    text.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}
