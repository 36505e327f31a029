//! Hosts behind jump hosts.

use crate::ramp::patient;
use crate::sshd::{Setup, Sshd, run};
use crate::works;
use std::time::{Duration, Instant};
use strata::ssh::{
    AgentSession, ConnectError, ConnectOptions, Hop, Target, append_known_host, scan_host_keys,
};

/// Forwards connections and nothing else, few logins at a time, no session at all.
const JUMP: Setup<'_> = Setup {
    wrapper: "",
    shell: "/usr/sbin/nologin",
    config: "MaxStartups 3\nMaxSessions 0\nAllowTcpForwarding local",
    bashrc: "",
    noexec: false,
    sudoers: None,
    certified: false,
};

fn hop(jump: &Sshd) -> Hop {
    Hop {
        name: "bastion-01".into(),
        host: jump.address.ip().to_string(),
        port: jump.address.port(),
        user: "root".into(),
        keys: None,
    }
}

/// A host behind the jump hosts, under another name each.
fn behind(host: &Sshd, number: usize, jump: &[Hop]) -> Target {
    Target { name: format!("host-{number:02}"), jump: jump.to_vec(), ..host.target() }
}

/// The keys for both, and the pins of the jump host.
async fn options(host: &Sshd, jump: &Sshd) -> ConnectOptions {
    let mut options = patient(host.options());
    options.identities.push(jump.path("home/.ssh/id_ed25519"));
    let target = Target { name: "bastion-01".into(), ..jump.target() };
    for key in scan_host_keys(&target, &options).await.unwrap() {
        append_known_host(&options.known_hosts, &key.line).unwrap();
    }
    options
}

fn logins(sshd: &Sshd) -> usize {
    sshd.log().matches("Accepted publickey").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_hosts_share_one_connection_to_a_narrow_jump_host() {
    let (jump, host) = (Sshd::start(JUMP), Sshd::start(Setup::default()));
    host.trust().await;
    let options = options(&host, &jump).await;
    let hops = [hop(&jump)];
    let connect = |number| {
        let (target, options) = (behind(&host, number, &hops), options.clone());
        async move { AgentSession::connect(&target, &options).await }
    };
    let began = Instant::now();
    let sessions = futures::future::join_all((0..10).map(connect)).await;
    let took = began.elapsed();
    for session in &sessions {
        works(session.as_ref().unwrap()).await;
    }
    println!("ten hosts behind one jump host: {took:?}");
    assert_eq!((logins(&jump), logins(&host)), (1, 10), "{}", jump.log());
    assert!(!jump.log().contains("Exceeded MaxStartups"), "{}", jump.log());
    for session in sessions {
        session.unwrap().close().await;
    }
    let again = connect(11).await.unwrap();
    works(&again).await;
    assert_eq!(logins(&jump), 1, "one connection for the whole run");
    // A jump host whose connection broke is connected anew by the next host that needs it.
    run("pkill", &["-KILL", "-P", &jump.child.id().to_string()]);
    tokio::time::timeout(Duration::from_secs(10), again.lost()).await.unwrap();
    works(&connect(12).await.unwrap()).await;
    assert_eq!(logins(&jump), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_followed_and_each_key_in_it_is_judged() {
    let (outer, inner) = (Sshd::start(JUMP), Sshd::start(JUMP));
    let host = Sshd::start(Setup::default());
    host.trust().await;
    let mut options = options(&host, &outer).await;
    options.identities.push(inner.path("home/.ssh/id_ed25519"));
    let second = Hop { name: "bastion-02".into(), ..hop(&inner) };
    let target = behind(&host, 1, &[hop(&outer), second.clone()]);
    let error = AgentSession::connect(&target, &options).await.unwrap_err();
    assert!(error.is_identity(), "{error}");
    assert!(error.to_string().contains("bastion-02"), "{error}");
    assert!(error.hint().unwrap().contains("trust --jump"), "{:?}", error.hint());
    assert_eq!(logins(&host), 0);
    let through = Target { name: second.name, jump: vec![hop(&outer)], ..inner.target() };
    for key in scan_host_keys(&through, &options).await.unwrap() {
        append_known_host(&options.known_hosts, &key.line).unwrap();
    }
    // An identity that was not as pinned is not asked for again in the same run.
    let options = ConnectOptions { jumps: Default::default(), ..options };
    works(&AgentSession::connect(&target, &options).await.unwrap()).await;
    assert_eq!((logins(&outer), logins(&inner), logins(&host)), (2, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_at_the_jump_host_is_tried_once_for_all() {
    let (jump, host) = (Sshd::start(JUMP), Sshd::start(Setup::default()));
    host.trust().await;
    let mut options = options(&host, &jump).await;
    options.identities.truncate(1);
    let hops = [hop(&jump)];
    let targets: Vec<Target> = (0..5).map(|number| behind(&host, number, &hops)).collect();
    let results =
        futures::future::join_all(targets.iter().map(|t| AgentSession::connect(t, &options))).await;
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(&error, ConnectError::Jump { .. }) && error.is_final(), "{error}");
        assert!(error.to_string().contains("accepted no key"), "{error}");
    }
    assert_eq!(jump.log().matches("Failed publickey").count(), 1, "{}", jump.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_jump_host_forbids_or_cannot_reach_is_told_apart() {
    let closed = Setup { config: "AllowTcpForwarding no", ..JUMP };
    let host = Sshd::start(Setup::default());
    host.trust().await;
    // Both at once: a port that is free again may be the other's, whose key is another.
    let (closed, open) = (Sshd::start(closed), Sshd::start(JUMP));
    for (jump, words) in [(closed, "forbids connections"), (open, "gets no connection")] {
        let options = options(&host, &jump).await;
        let mut target = behind(&host, 1, &[hop(&jump)]);
        if words == "gets no connection" {
            target.address.set_port(1);
        }
        let error = AgentSession::connect(&target, &options).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint().is_some() && !error.is_final());
    }
}
