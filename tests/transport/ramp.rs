//! Many connections at once, servers that turn some away, and peers that died.

use crate::sshd::{Setup, Sshd, run};
use crate::works;
use std::io::Read;
use std::time::{Duration, Instant};
use strata::ssh::{AgentSession, ConnectError, ConnectOptions, Ramp};

/// Somebody who connects, is greeted, and does not log in.
fn stranger(sshd: &Sshd) -> std::net::TcpStream {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let mut stream = std::net::TcpStream::connect(sshd.address).unwrap();
        let mut greeting = [0; 4];
        if stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-" {
            return stream;
        }
        assert!(Instant::now() < until, "the place was never free");
    }
}

/// Limits for a busy machine: what is looked at here is what happens, not how soon.
pub(crate) fn patient(mut options: ConnectOptions) -> ConnectOptions {
    options.connect_timeout = Duration::from_secs(90);
    options.auth_timeout = Duration::from_secs(90);
    options.start_timeout = Duration::from_secs(120);
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_a_server_turns_away_are_made_again() {
    let sshd =
        Sshd::start(Setup { config: "MaxStartups 3:100:3\nLoginGraceTime 5", ..Setup::default() });
    sshd.trust().await;
    let options = patient(sshd.options());
    let began = Instant::now();
    let targets: Vec<_> = (0..20).map(|_| sshd.target()).collect();
    let sessions =
        futures::future::join_all(targets.iter().map(|t| AgentSession::connect(t, &options))).await;
    let took = began.elapsed();
    for session in &sessions {
        works(session.as_ref().unwrap()).await;
    }
    let dropped = sshd.log().matches("drop connection").count();
    println!("20 sessions with MaxStartups 3: {took:?}, {dropped} turned away in between");
    assert!(dropped > 0, "the server never turned one away: {}", sshd.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_turns_everything_away_is_given_up_in_time_with_a_hint() {
    let sshd = Sshd::start(Setup { config: "MaxStartups 1:100:1", ..Setup::default() });
    sshd.trust().await;
    // A stranger holds the only place.
    let stranger = stranger(&sshd);
    let mut options = sshd.options();
    options.connect_timeout = Duration::from_secs(3);
    let error = AgentSession::connect(&sshd.target(), &options).await.unwrap_err();
    let ConnectError::TurnedAway { attempts, after, said, .. } = &error else { panic!("{error}") };
    assert!(*attempts > 1, "{error}");
    assert!(*after < Duration::from_secs(10), "{error}");
    assert!(said.is_empty() || said.contains("Exceeded MaxStartups"), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("MaxStartups") && hint.contains("PerSourcePenalties"), "{hint}");
    drop(stranger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_never_tried_again() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    std::fs::write(sshd.path("authorized_keys"), "").unwrap();
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    assert!(error.is_final(), "{error}");
    assert_eq!(sshd.log().matches("Failed publickey").count(), 1, "{}", sshd.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handful_of_turns_is_enough_for_many_hosts() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let mut options = patient(sshd.options());
    options.ramp = Ramp::new(2);
    // Waiting for a turn does not count against the limit of a connection.
    options.connect_timeout = Duration::from_secs(10);
    let targets: Vec<_> = (0..20).map(|_| sshd.target()).collect();
    let sessions =
        futures::future::join_all(targets.iter().map(|t| AgentSession::connect(t, &options))).await;
    for session in sessions {
        works(&session.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_is_found_by_its_silence() {
    let sshd = Sshd::start(Setup::default());
    sshd.trust().await;
    let mut options = sshd.options();
    options.keepalive = Duration::from_millis(300);
    let session = AgentSession::connect(&sshd.target(), &options).await.unwrap();
    works(&session).await;
    let parent = sshd.child.id().to_string();
    run("pkill", &["-STOP", "-P", &parent]);
    let began = Instant::now();
    let lost = tokio::time::timeout(Duration::from_secs(10), session.lost()).await;
    let took = began.elapsed();
    run("pkill", &["-CONT", "-P", &parent]);
    println!("silence of a peer was noticed after {took:?}: {}", lost.unwrap());
    assert!(took < Duration::from_secs(5), "{took:?}");
}
