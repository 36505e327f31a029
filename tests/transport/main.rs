//! Sessions with a real OpenSSH server: identities, shells, upload, and everything that a session
//! carries.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside of test functions"
)]

mod certificates;
mod enrol;
mod jump;
mod ramp;
mod sshd;
mod sudo;

use sshd::{Setup, Sshd, run};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use strata::resource::{Batch, Mode, Once};
use strata::ssh::{
    AgentSession, ConnectError, LockError, OpenError, SessionError, Transport, scan_host_keys,
};
use strata::wire::{ExecOutcome, ExecSpec, LockHolder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) fn command(argv: &[&str]) -> ExecSpec {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    ExecSpec { argv, stdin: Vec::new(), env: Vec::new(), user: None, timeout_ms: 20_000 }
}

pub(crate) async fn works(session: &AgentSession) {
    let result = session.exec(command(&["echo", "hello"])).await.unwrap();
    assert_eq!((result.success(), result.stdout.as_slice()), (true, &b"hello\n"[..]));
}

async fn connect(sshd: &Sshd) -> AgentSession {
    AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_uploaded_once_and_the_session_carries_everything() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let session = connect(&sshd).await;
    assert_eq!(session.hello().uid, 0);
    assert!(
        session.clock_skew_ms().abs() < 200,
        "{} ms against the same clock",
        session.clock_skew_ms()
    );
    works(&session).await;
    let mask = session.exec(command(&["sh", "-c", "umask"])).await.unwrap();
    assert_eq!(mask.stdout, b"0022\n", "programs create files as on any host");
    let batch = Batch {
        role: "base".into(),
        mode: Mode::Check,
        items: Vec::new(),
        handlers: Vec::new(),
        once: Once::default(),
    };
    assert!(session.converge(batch, |_| {}).await.unwrap().complete);
    session.close().await;
    let file = sshd.agent_file("one").unwrap();
    let before = std::fs::metadata(&file).unwrap();
    assert_eq!((before.mode() & 0o7777, before.uid()), (0o700, 0));
    let session = connect(&sshd).await;
    works(&session).await;
    session.close().await;
    assert_eq!(std::fs::metadata(&file).unwrap().ino(), before.ino(), "it was not uploaded again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_that_is_not_pinned_is_refused_and_shown() {
    let sshd = Sshd::start(Setup::default());
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    let fingerprint = run("ssh-keygen", &["-lf", sshd.path("host_ed25519.pub").to_str().unwrap()]);
    let fingerprint = fingerprint.split(' ').nth(1).unwrap();
    assert!(
        matches!(&error, ConnectError::HostKeyUnknown { fingerprint: shown, .. } if shown == fingerprint),
        "{error}"
    );
    assert!(error.is_identity() && error.hint().unwrap().contains("strata hosts trust redis-01"));
    let keys = scan_host_keys(&sshd.target(), &sshd.options()).await.unwrap();
    let types: Vec<_> = keys.iter().map(|key| key.algorithm.as_str()).collect();
    assert_eq!(types, ["ssh-ed25519", "ssh-rsa"]);
    assert_eq!(keys[0].fingerprint, fingerprint);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_revoked_hashed_and_rsa_only_pins() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let known_hosts = sshd.path("known_hosts");
    let pinned = std::fs::read_to_string(&known_hosts).unwrap();
    run("ssh-keygen", &["-q", "-H", "-f", known_hosts.to_str().unwrap()]);
    assert!(std::fs::read_to_string(&known_hosts).unwrap().starts_with("|1|"));
    connect(&sshd).await.close().await;

    let rsa: String = pinned.lines().filter(|line| line.contains("ssh-rsa")).collect();
    std::fs::write(&known_hosts, rsa).unwrap();
    connect(&sshd).await.close().await;

    std::fs::write(
        &known_hosts,
        format!(
            "{pinned}@revoked * {}\n",
            std::fs::read_to_string(sshd.path("host_ed25519.pub")).unwrap().trim()
        ),
    )
    .unwrap();
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::HostKeyRevoked { line: 3, .. }), "{error}");

    let other = std::fs::read_to_string(sshd.path("home/.ssh/id_ed25519.pub")).unwrap();
    std::fs::write(&known_hosts, format!("[redis-01]:{} {other}", sshd.address.port())).unwrap();
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::HostKeyChanged { line: 1, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("HAS CHANGED") && text.matches("SHA256:").count() == 2, "{text}");
    let log = std::fs::read_to_string(sshd.path("log")).unwrap();
    let accepted = log.matches("Accepted publickey").count();
    assert_eq!(accepted, 2, "nothing was sent to a host that was not recognised:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_accepted_or_encrypted_are_named_and_an_agent_unlocks_them() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let locked = sshd.path("locked");
    let wrong = sshd.path("wrong");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "passphrase", "-f", locked.to_str().unwrap()]);
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", wrong.to_str().unwrap()]);
    std::fs::copy(sshd.path("locked.pub"), sshd.path("authorized_keys")).unwrap();
    let mut options = sshd.options();
    options.identities = vec![sshd.path("missing"), locked.clone(), wrong.clone()];
    let error = AgentSession::connect(&sshd.target(), &options).await.unwrap_err();
    let ConnectError::Authentication { tried, skipped, .. } = &error else { panic!("{error}") };
    assert_eq!(tried, &[format!("ssh-ed25519 {}", wrong.display())]);
    assert_eq!(skipped, &[format!("{} (encrypted, and no ssh-agent holds it)", locked.display())]);
    assert!(error.hint().unwrap().contains("ssh-add"), "{:?}", error.hint());

    let socket = sshd.path("agent.sock");
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while !socket.exists() {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let askpass = sshd.path("askpass");
    std::fs::write(&askpass, "#!/bin/sh\necho passphrase\n").unwrap();
    run("chmod", &["700", askpass.to_str().unwrap()]);
    let added = Command::new("ssh-add")
        .arg(&locked)
        .env("SSH_AUTH_SOCK", &socket)
        .env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(added.status.success(), "{added:?}");
    options.agent_socket = Some(socket);
    let through_file = AgentSession::connect(&sshd.target(), &options).await;
    options.identities.clear();
    let agent_only = AgentSession::connect(&sshd.target(), &options).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    works(&through_file.unwrap()).await;
    works(&agent_only.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hardened_server_is_enough_for_upload_repair_relay_and_programs() {
    let sshd = Sshd::start(Setup {
        config: "MaxSessions 1\nAllowTcpForwarding no\nX11Forwarding no\nPermitTTY no\nMaxAuthTries 3",
        ..Setup::default()
    });
    sshd.trust().await;
    let first = connect(&sshd).await;
    works(&first).await;
    first.close().await;
    let file = sshd.agent_file("one").unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xFF;
    let half = whole[..whole.len() / 2].to_vec();
    for (what, damaged) in [
        ("flipped", flipped),
        ("truncated", half),
        ("empty", Vec::new()),
        ("a script", b"echo harm > /tmp/strata-harm\n".to_vec()),
    ] {
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, damaged).unwrap();
        run("chmod", &["700", file.to_str().unwrap()]);
        let session = AgentSession::connect(&sshd.target(), &sshd.options())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        works(&session).await;
        session.close().await;
        assert!(std::fs::read(&file).unwrap() == whole, "{what}: the file was not replaced");
    }
    assert!(!std::path::Path::new("/tmp/strata-harm").exists());
    let session = connect(&sshd).await;
    let mut stream = session.open_stream(sshd.address, Duration::from_secs(5)).await.unwrap();
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"SSH-2.0-");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_login_shell_will_do() {
    let banner = "echo Welcome to this host; printf 'no line end'; echo on stderr >&2";
    for (shell, bashrc) in
        [("/usr/bin/fish", ""), ("/usr/bin/tcsh", ""), ("/bin/dash", ""), ("/bin/bash", banner)]
    {
        let sshd = Sshd::start(Setup { shell, bashrc, ..Setup::default() });
        sshd.trust().await;
        for _ in 0..2 {
            let session = AgentSession::connect(&sshd.target(), &sshd.options())
                .await
                .unwrap_or_else(|error| panic!("{shell}: {error}"));
            works(&session).await;
            session.close().await;
        }
    }
    let sshd = Sshd::start(Setup { shell: "/usr/sbin/nologin", ..Setup::default() });
    sshd.trust().await;
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    assert!(error.to_string().contains("not available"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_noexec_directory_is_passed_over() {
    let sshd = Sshd::start(Setup { noexec: true, ..Setup::default() });
    sshd.trust().await;
    let session = connect(&sshd).await;
    works(&session).await;
    session.close().await;
    let file = sshd.agent_file("two").expect("in the second directory");
    let inode = std::fs::metadata(&file).unwrap().ino();
    let session = connect(&sshd).await;
    session.close().await;
    assert_eq!(std::fs::metadata(&file).unwrap().ino(), inode, "found there again");
}

/// `setarch` gives a process, and all that it starts, another answer to `uname -m`: the very server
/// and script of any other test, on what says of itself that it is another machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_an_architecture_without_an_agent_is_named_with_the_way_to_get_one() {
    let sshd = Sshd::start(Setup { wrapper: "setarch i686", ..Setup::default() });
    sshd.trust().await;
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Architecture { architecture, .. } if architecture == "i686"),
        "{error}"
    );
    assert_eq!(error.to_string(), "redis-01: this program carries no agent for i686");
    let hint = error.hint().unwrap();
    assert!(hint.contains("agents/README.md") && hint.contains("--host '!redis-01'"), "{hint}");
    assert!(sshd.agent_file("one").is_none() && sshd.agent_file("two").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_and_a_closed_port_are_told_apart_in_time() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let mut options = sshd.options();
    options.connect_timeout = Duration::from_millis(700);
    run("kill", &["-STOP", &sshd.child.id().to_string()]);
    let began = Instant::now();
    let error = AgentSession::connect(&sshd.target(), &options).await.unwrap_err();
    run("kill", &["-CONT", &sshd.child.id().to_string()]);
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3));
    let mut target = sshd.target();
    target.address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = AgentSession::connect(&target, &options).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_waits_learns_that_the_agent_died() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let session = connect(&sshd).await;
    let sleeping = session.exec(command(&["sleep", "600"]));
    let killing = session.exec(command(&["sh", "-c", "kill -9 $PPID"]));
    let (slept, killed) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(sleeping, killing) })
            .await
            .unwrap();
    for result in [slept, killed] {
        let error = result.unwrap_err();
        assert!(
            matches!(&error, SessionError::LinkLost { host, .. } if host == "redis-01"),
            "{error}"
        );
        assert!(error.to_string().contains("KILL"), "{error}");
    }
    assert!(session.exec(command(&["true"])).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_programs_that_nobody_reads_hold_up_nothing() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let session = connect(&sshd).await;
    let flood = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = flood.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut peer, _) = flood.accept().await.unwrap();
        while peer.write_all(&[1; 65_536]).await.is_ok() {}
    });
    let unread = session.open_stream(to, Duration::from_secs(5)).await.unwrap();
    let endless = session.exec_streaming(command(&["cat", "/dev/zero"])).unwrap();
    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = echo.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut peer, _) = echo.accept().await.unwrap();
        let (mut read, mut write) = peer.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let stream = session.open_stream(to, Duration::from_secs(5)).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 253) as u8).collect();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), read.read_to_end(&mut back))
        .await
        .unwrap()
        .unwrap();
    writing.await.unwrap();
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
    works(&session).await;
    drop((unread, endless));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = session.open_stream(closed, Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Refused { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_a_host_too_and_its_lock_is_exclusive() {
    let sshd = Sshd::start(Setup::default());
    let mut target = sshd.target();
    target.transport = Transport::Local;
    let first = AgentSession::connect(&target, &sshd.options()).await.unwrap();
    let second = AgentSession::connect(&target, &sshd.options()).await.unwrap();
    works(&first).await;
    let holder = LockHolder {
        owner: "root@test".into(),
        purpose: "a test".into(),
        run: "r1".into(),
        since_unix_ms: 1,
    };
    first.lock(holder.clone()).await.unwrap();
    let refused = second.lock(holder.clone()).await.unwrap_err();
    assert!(
        matches!(&refused, LockError::Held { holder: Some(by), .. } if *by == holder),
        "{refused}"
    );
    first.close().await;
    second.lock(holder.clone()).await.unwrap();
    let killed =
        second.exec(ExecSpec { timeout_ms: 100, ..command(&["sleep", "600"]) }).await.unwrap();
    assert_eq!(killed.outcome, ExecOutcome::TimedOut);
    // A session that is only dropped lets go as well: here, and over SSH, even with a program on.
    drop(second);
    sshd.trust().await;
    let third = connect(&sshd).await;
    taken_soon(&third, &holder).await;
    let program = third.exec_streaming(command(&["sleep", "600"])).unwrap();
    drop(third);
    let fourth = connect(&sshd).await;
    taken_soon(&fourth, &holder).await;
    drop(program);
    fourth.close().await;
}

/// Ten seconds of real time: the agent does not run, so nothing else can end the wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs_does_not_hold_up_a_request_for_the_lock() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let session = connect(&sshd).await;
    let agent = session.exec(command(&["sh", "-c", "echo $PPID"])).await.unwrap().stdout;
    let agent = String::from_utf8(agent).unwrap();
    let signal = |name: &str| {
        let kill = std::process::Command::new("kill").args([name, agent.trim()]).status();
        assert!(kill.unwrap().success(), "{name}");
    };
    signal("-STOP");
    let holder = LockHolder {
        owner: "root@test".into(),
        purpose: "a test".into(),
        run: "r1".into(),
        since_unix_ms: 1,
    };
    let began = Instant::now();
    let error = session.lock(holder).await.unwrap_err().to_string();
    let took = began.elapsed();
    signal("-KILL");
    assert!(error.contains("gave no answer about the lock within 10 s"), "{error}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

/// Takes the lock as soon as the session that held it is gone.
async fn taken_soon(session: &AgentSession, holder: &LockHolder) {
    let until = Instant::now() + Duration::from_secs(5);
    while let Err(error) = session.lock(holder.clone()).await {
        assert!(Instant::now() < until, "not free within 5 s: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prints what a warm session costs; `--no-capture` shows it.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_sessions_at_once() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    connect(&sshd).await.close().await;
    let mut single = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        let session = connect(&sshd).await;
        single.push(began.elapsed());
        session.close().await;
    }
    single.sort();
    let began = Instant::now();
    let sessions = futures::future::join_all((0..20).map(|_| connect(&sshd))).await;
    let all = began.elapsed();
    for session in &sessions {
        works(session).await;
    }
    println!(
        "one warm session: median {:?}, best {:?}; twenty at once: {all:?}",
        single[5], single[0]
    );
    assert!(all < Duration::from_secs(20));
}
