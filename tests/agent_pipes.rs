//! The agent over plain pipes, without SSH: what it does with programs, streams, locks and the end
//! of its input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside of test functions"
)]

#[path = "agent_pipes/files.rs"]
mod files;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use strata::resource::{
    Batch, Change, File, Item, ItemEvent, ItemReport, ItemSlot, Mode, Once, Outcome, Resource,
};
use strata::wire::{
    EXEC_WINDOW, ExecOutcome, ExecSpec, FromAgent, Hello, LockHolder, OutputStream, PREAMBLE,
    PROTOCOL, RelayTarget, STREAM_WINDOW, ToAgent, encode_frame, read_frame,
};

struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Agent {
    fn start(root: &Path) -> Self {
        Self::greeted(Command::new(env!("CARGO_BIN_EXE_strata-agent")), root).0
    }

    /// Starts the agent with a command that lacks only the agent's own words; takes its greeting.
    fn greeted(mut command: Command, root: &Path) -> (Self, Box<Hello>) {
        let mut child = command
            .args(["serve", "--root"])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut stdout = child.stdout.take().unwrap();
        let mut preamble = [0; 16];
        stdout.read_exact(&mut preamble).unwrap();
        assert_eq!(preamble, PREAMBLE);
        let Some(FromAgent::Hello(hello)) = read_frame(&mut stdout).unwrap() else {
            panic!("hello")
        };
        assert_eq!(hello.protocol, PROTOCOL);
        assert!(hello.facts.interfaces.iter().any(|interface| interface.name == "lo"));
        (Self { child, stdin, stdout }, hello)
    }

    fn send(&mut self, message: &ToAgent) {
        self.stdin.as_mut().unwrap().write_all(&encode_frame(message).unwrap()).unwrap();
    }

    fn receive(&mut self) -> FromAgent {
        read_frame(&mut self.stdout).unwrap().expect("the agent is still there")
    }

    fn exec(&mut self, id: u32, argv: &[&str], stdin: &[u8], user: Option<&str>, timeout_ms: u32) {
        let spec = ExecSpec {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            stdin: stdin.to_vec(),
            env: vec![("GREETING".into(), "hello".into())],
            user: user.map(String::from),
            timeout_ms,
        };
        self.send(&ToAgent::Exec { id, spec });
    }

    /// Sends a batch of files.
    fn begin(&mut self, files: &[File], mode: Mode) {
        let item = |file: &File| Item {
            name: "a step".into(),
            resource: Resource::File(file.clone()),
            notify: Vec::new(),
            secret: false,
            timeout_ms: 60_000,
        };
        let work = Batch {
            role: "base".into(),
            mode,
            items: files.iter().map(|file| item(file).into()).collect(),
            handlers: Vec::new(),
            once: Once::default(),
        };
        self.send(&ToAgent::Converge { batch: 7, work });
    }

    /// Converges one step and gives its outcome.
    fn converge(&mut self, resource: &File, mode: Mode) -> Outcome {
        self.begin(std::slice::from_ref(resource), mode);
        let mut last = None;
        loop {
            match self.receive() {
                FromAgent::Item { batch: 7, report } => {
                    let ItemReport { slot: ItemSlot::Step(0), event } = report else {
                        panic!("{report:?}")
                    };
                    if let ItemEvent::Finished { outcome, .. } = event {
                        last = Some(outcome);
                    }
                }
                FromAgent::BatchDone { batch: 7, complete, .. } => {
                    assert!(complete, "{last:?}");
                    return last.unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Output and end of one program, giving credit for all of it.
    fn finish(&mut self, id: u32) -> (String, String, ExecOutcome) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.receive() {
                FromAgent::ExecOutput { id: of, stream, bytes } if of == id => {
                    let count = u32::try_from(bytes.len()).unwrap();
                    self.send(&ToAgent::ExecCredit { id, bytes: count });
                    match stream {
                        OutputStream::Stdout => stdout.extend(bytes),
                        OutputStream::Stderr => stderr.extend(bytes),
                    }
                }
                FromAgent::ExecDone { id: of, outcome } if of == id => {
                    let text = |bytes| String::from_utf8(bytes).unwrap();
                    return (text(stdout), text(stderr), outcome);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < until, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_gets_its_input_and_a_fixed_environment() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path());
    let script = "cat; echo $GREETING $PATH $EDITOR >&2; exit 7";
    agent.exec(1, &["sh", "-c", script], b"from stdin", None, 0);
    let (stdout, stderr, outcome) = agent.finish(1);
    assert_eq!((stdout.as_str(), outcome), ("from stdin", ExecOutcome::Exited(7)));
    assert_eq!(stderr, "hello /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    agent.exec(2, &["/no/such/program"], b"", None, 0);
    let (.., outcome) = agent.finish(2);
    assert!(matches!(&outcome, ExecOutcome::NotStarted(why) if why.contains("/no/such/program")));
    agent.exec(3, &["sh", "-c", "kill -TERM $$"], b"", None, 0);
    assert_eq!(agent.finish(3).2, ExecOutcome::Signaled(15));
    let large = "0123456789abcdef".repeat(512 * 1024);
    agent.exec(4, &["cat"], large.as_bytes(), None, 60_000);
    assert!(agent.finish(4).0 == large, "8 MiB there and back");
}

#[test]
fn timeouts_and_kills_end_the_whole_group_and_daemons_hold_nothing_up() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path());
    agent.exec(1, &["sh", "-c", "sleep 600 & echo $!; wait"], b"", None, 300);
    let (sleeper, _, outcome) = agent.finish(1);
    assert_eq!(outcome, ExecOutcome::TimedOut);
    wait_until("the grandchild is dead", || !alive(&sleeper));
    agent.exec(2, &["sleep", "600"], b"", None, 0);
    agent.send(&ToAgent::ExecKill { id: 2 });
    assert_eq!(agent.finish(2).2, ExecOutcome::Signaled(9));
    let began = Instant::now();
    agent.exec(3, &["sh", "-c", "setsid sleep 30 & echo $!"], b"", None, 0);
    let (daemon, _, outcome) = agent.finish(3);
    assert_eq!(outcome, ExecOutcome::Exited(0));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(alive(&daemon), "what left the group was meant to stay");
    Command::new("kill").arg(daemon.trim()).status().unwrap();
}

#[test]
fn another_user_has_all_its_groups_and_no_others() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    let passwd = "someone:x:4001:4002::/nonexistent:/bin/sh\n";
    std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
    std::fs::write(root.path().join("etc/group"), "a:x:4002:\nb:x:4003:someone\n").unwrap();
    let mut agent = Agent::start(root.path());
    let script = "id -u; id -g; id -G; echo $HOME";
    agent.exec(1, &["sh", "-c", script], b"", Some("someone"), 0);
    assert_eq!(agent.finish(1).0, "4001\n4002\n4002 4003\n/nonexistent\n");
    agent.exec(2, &["true"], b"", Some("stranger"), 0);
    let (.., outcome) = agent.finish(2);
    assert!(matches!(&outcome, ExecOutcome::NotStarted(why) if why.contains("stranger")));
}

#[test]
fn a_stalled_stream_holds_up_no_other_stream_and_no_program() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path());
    let stalled = TcpListener::bind("127.0.0.1:0").unwrap();
    let lively = TcpListener::bind("127.0.0.1:0").unwrap();
    for (stream, listener) in [(1, &stalled), (2, &lively)] {
        let to = listener.local_addr().unwrap();
        agent.send(&ToAgent::Open { stream, to: RelayTarget::Tcp(to), timeout_ms: 5_000 });
        assert!(
            matches!(agent.receive(), FromAgent::Opened { stream: opened } if opened == stream)
        );
    }
    // A peer that writes without end to a controller that gives no credit, and reads nothing.
    let (mut peer, _) = stalled.accept().unwrap();
    std::thread::spawn(move || while peer.write_all(&[7; 65536]).is_ok() {});
    agent.send(&ToAgent::Data { stream: 1, bytes: vec![0; STREAM_WINDOW as usize] });
    let mut received = 0;
    while received < STREAM_WINDOW as usize {
        match agent.receive() {
            FromAgent::Data { stream: 1, bytes } => received += bytes.len(),
            FromAgent::Credit { stream: 1, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, STREAM_WINDOW as usize, "the credit is exact");
    let (mut echo, _) = lively.accept().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = echo.read(&mut buffer) {
            echo.write_all(&buffer[..n]).unwrap();
        }
    });
    for round in 0..50_u8 {
        agent.send(&ToAgent::Data { stream: 2, bytes: vec![round; 100] });
        let mut back = Vec::new();
        while back.len() < 100 {
            match agent.receive() {
                FromAgent::Data { stream: 2, bytes } => back.extend(bytes),
                FromAgent::Credit { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(back, vec![round; 100]);
    }
    // Half a close reaches the peer, whose end comes back as the end of the stream.
    agent.send(&ToAgent::Close { stream: 2 });
    loop {
        match agent.receive() {
            FromAgent::Closed { stream: 2, error: None } => break,
            FromAgent::Credit { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    agent.exec(3, &["echo", "still here"], b"", None, 0);
    assert_eq!(agent.finish(3).0, "still here\n");
}

#[test]
fn a_refusal_is_told_from_silence() {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    agent.send(&ToAgent::Open { stream: 1, to: RelayTarget::Tcp(free), timeout_ms: 5_000 });
    assert!(matches!(agent.receive(), FromAgent::OpenFailed { stream: 1, refused: true, .. }));
    // A listener whose queue is full drops what comes: the only silence that needs no network.
    let full = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&full, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    listen(&full, 0).unwrap();
    let to = SocketAddr::try_from(getsockname(&full).unwrap()).unwrap();
    let _first = std::net::TcpStream::connect(to).unwrap();
    let began = Instant::now();
    agent.send(&ToAgent::Open { stream: 2, to: RelayTarget::Tcp(to), timeout_ms: 300 });
    let answer = agent.receive();
    assert!(
        matches!(answer, FromAgent::OpenFailed { stream: 2, refused: false, .. }),
        "{answer:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_socket_of_the_host_is_reached_by_its_path() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path());
    let path = root.path().join("echo.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let open = |path: &Path| {
        let to = RelayTarget::Unix(path.to_str().unwrap().to_owned());
        ToAgent::Open { stream: 1, to, timeout_ms: 5_000 }
    };
    agent.send(&open(&path));
    assert!(matches!(agent.receive(), FromAgent::Opened { stream: 1 }));
    let (mut peer, _) = listener.accept().unwrap();
    let echo = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        peer.write_all(&all).unwrap();
    });
    agent.send(&ToAgent::Data { stream: 1, bytes: b"hello".to_vec() });
    agent.send(&ToAgent::Close { stream: 1 });
    let mut back = Vec::new();
    loop {
        match agent.receive() {
            FromAgent::Data { stream: 1, bytes } => back.extend(bytes),
            FromAgent::Closed { stream: 1, error: None } => break,
            FromAgent::Credit { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back, b"hello");
    echo.join().unwrap();
    drop(listener);
    agent.send(&open(&path));
    assert!(matches!(agent.receive(), FromAgent::OpenFailed { refused: true, .. }));
    for gone in [root.path().join("nothing"), root.path().join("x".repeat(200))] {
        agent.send(&open(&gone));
        assert!(matches!(agent.receive(), FromAgent::OpenFailed { refused: false, .. }));
    }
}

#[test]
fn the_end_of_the_input_ends_programs_streams_and_the_agent() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path());
    agent.exec(1, &["sh", "-c", "echo $$; exec sleep 600"], b"", None, 0);
    let FromAgent::ExecOutput { bytes, .. } = agent.receive() else { panic!("output") };
    let program = String::from_utf8(bytes).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    agent.send(&ToAgent::Open { stream: 1, to: RelayTarget::Tcp(to), timeout_ms: 5_000 });
    let (mut peer, _) = listener.accept().unwrap();
    agent.stdin = None;
    wait_until("the agent has ended", || agent.child.try_wait().unwrap().is_some());
    assert!(agent.child.wait().unwrap().success());
    wait_until("the program is dead", || !alive(&program));
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn garbage_ends_the_agent() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path());
    agent.stdin.as_mut().unwrap().write_all(&[0xFF; 64]).unwrap();
    wait_until("the agent has ended", || agent.child.try_wait().unwrap().is_some());
    assert_eq!(agent.child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_lock_is_exclusive_names_its_holder_and_dies_with_the_agent() {
    let root = tempfile::tempdir().unwrap();
    let holder = |owner: &str| LockHolder {
        owner: owner.into(),
        purpose: "install --layer base".into(),
        run: "r1".into(),
        since_unix_ms: 1,
    };
    let mut first = Agent::start(root.path());
    let mut second = Agent::start(root.path());
    first.send(&ToAgent::Lock { holder: holder("first") });
    assert!(matches!(first.receive(), FromAgent::Locked));
    second.send(&ToAgent::Lock { holder: holder("second") });
    let FromAgent::LockRefused { holder: Some(by) } = second.receive() else { panic!("refused") };
    assert_eq!(by, holder("first"));
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    second.send(&ToAgent::Lock { holder: holder("second") });
    assert!(matches!(second.receive(), FromAgent::Locked));
}

#[test]
fn output_without_credit_stops_at_its_window_and_delays_no_answer() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path());
    agent.exec(1, &["cat", "/dev/zero"], b"", None, 0);
    let mut received = 0;
    while received < EXEC_WINDOW as usize {
        let FromAgent::ExecOutput { bytes, .. } = agent.receive() else { panic!("output") };
        received += bytes.len();
    }
    assert_eq!(received, EXEC_WINDOW as usize);
    agent.exec(2, &["echo", "hello"], b"", None, 0);
    assert_eq!(agent.finish(2).0, "hello\n");
}

/// What an agent of another architecture must do like this one: greet with facts, look, change and
/// run programs. Everything crosses the wire in both directions, so that a difference in width or
/// byte order would show.
fn looks_changes_and_runs(mut agent: Agent, root: &Path) {
    let text = "of another architecture: \u{e9}\n".repeat(5_000);
    let file: File = serde_json::from_value(serde_json::json!({
        "path": "/etc/motd", "content": text, "mode": "0640", "owner": "0", "group": "0"
    }))
    .unwrap();
    let Outcome::Changed(changes) = agent.converge(&file, Mode::Check) else { panic!("differs") };
    assert!(changes.iter().any(|change: &Change| change.from.is_none()), "{changes:?}");
    let path = root.join("etc/motd");
    assert!(!path.exists(), "a look changes nothing");
    assert!(matches!(agent.converge(&file, Mode::Apply), Outcome::Changed(_)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(agent.converge(&file, Mode::Apply), Outcome::Unchanged);
    let large = "0123456789abcdef".repeat(64 * 1024);
    agent.exec(1, &["cat"], large.as_bytes(), None, 60_000);
    let (stdout, _, outcome) = agent.finish(1);
    assert!(stdout == large && outcome == ExecOutcome::Exited(0), "1 MiB there and back");
    agent.exec(2, &["sh", "-c", "echo $GREETING; exit 7"], b"", None, 0);
    assert_eq!(agent.finish(2), ("hello\n".into(), String::new(), ExecOutcome::Exited(7)));
    agent.exec(3, &["sleep", "600"], b"", None, 300);
    assert_eq!(agent.finish(3).2, ExecOutcome::TimedOut);
    agent.stdin = None;
    wait_until("the agent has ended", || agent.child.try_wait().unwrap().is_some());
    assert!(agent.child.wait().unwrap().success());
}

fn private_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    root
}

#[test]
fn this_architectures_agent_looks_changes_and_runs() {
    let root = private_root();
    let program = Command::new(env!("CARGO_BIN_EXE_strata-agent"));
    let (agent, hello) = Agent::greeted(program, root.path());
    assert_eq!(hello.facts.architecture, std::env::consts::ARCH);
    looks_changes_and_runs(agent, root.path());
}

/// Builds the agent for ARM servers from these sources and runs it under emulation. By hand
/// (CONTRIBUTING.md): the toolchain is unpacked for it, which takes minutes.
#[test]
#[ignore = "unpacks a toolchain and builds with it: some minutes"]
fn campaign_the_agent_for_aarch64_is_built_and_does_the_same_under_emulation() {
    // Before 9.2 qemu does not know openat2, which the agent opens every path with.
    let qemu = std::env::var_os("QEMU_AARCH64").unwrap_or_else(|| "/usr/bin/qemu-aarch64".into());
    let qemu = Path::new(&qemu);
    assert!(
        qemu.exists(),
        "{} is missing: Debian 13's qemu-user has it, or QEMU_AARCH64 names one from 9.2 on",
        qemu.display()
    );
    let output = tempfile::tempdir().unwrap();
    let built = Command::new("sh")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/agent-aarch64"))
        .env("STRATA_EXTRA_AGENTS", output.path())
        .status()
        .unwrap();
    assert!(built.success(), "tools/agent-aarch64: {built}");
    let agent = output.path().join("strata-agent-aarch64");
    let size = std::fs::metadata(&agent).unwrap().len();
    assert!(size <= 3 * 1024 * 1024, "{size} bytes");
    let root = private_root();
    let mut program = Command::new(qemu);
    program.arg(&agent);
    let (agent, hello) = Agent::greeted(program, root.path());
    assert_eq!(hello.facts.architecture, "aarch64");
    looks_changes_and_runs(agent, root.path());
}
