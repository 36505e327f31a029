//! Certificates of hosts and of logins, made by ssh-keygen and judged by sshd.

use crate::sshd::{Setup, Sshd, run};
use crate::works;
use std::path::Path;
use strata::ssh::{AgentSession, ConnectError};

fn keygen(arguments: &[&str]) {
    run("ssh-keygen", arguments);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A host whose Ed25519 key is certified for these principals and this time.
fn certified(principals: &str, validity: &str) -> Sshd {
    // sshd reads the certificate when a connection comes to it, by the name it has in its
    // configuration: it is put there before the first one.
    let sshd = Sshd::start(Setup { certified: true, ..Setup::default() });
    keygen(&[
        "-q",
        "-s",
        text(&sshd.path("ca")),
        "-I",
        "host",
        "-h",
        "-n",
        principals,
        "-V",
        validity,
        text(&sshd.path("host_ed25519.pub")),
    ]);
    sshd.reload();
    sshd
}

fn trust_authority(sshd: &Sshd, marker: &str, more: &str) {
    let authority = std::fs::read_to_string(sshd.path("ca.pub")).unwrap();
    let line = format!("{marker} [redis-01]:{} {authority}{more}", sshd.address.port());
    std::fs::write(sshd.path("known_hosts"), line).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_vouches_for_hosts_that_it_names() {
    let sshd = certified("redis-01,10.0.0.123", "-1d:+1d");
    trust_authority(&sshd, "@cert-authority", "");
    let session = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap();
    works(&session).await;
    session.close().await;
    // The key itself may be revoked, and so may the authority.
    let key = std::fs::read_to_string(sshd.path("host_ed25519.pub")).unwrap();
    trust_authority(&sshd, "@cert-authority", &format!("@revoked * {key}"));
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::HostKeyRevoked { line: 2, .. }), "{error}");
    let authority = std::fs::read_to_string(sshd.path("ca.pub")).unwrap();
    trust_authority(&sshd, "@cert-authority", &format!("@revoked * {authority}"));
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::HostKeyRevoked { .. }), "{error}");
    // An authority that is not known vouches for nobody; a plain pin is as good as ever.
    std::fs::write(sshd.path("known_hosts"), "").unwrap();
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::HostKeyUnknown { .. }), "{error}");
    sshd.trust().await;
    AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_others_or_of_another_time_is_refused() {
    for (principals, validity, words) in [
        ("redis-02", "-1d:+1d", "other hosts (redis-02)"),
        ("redis-01", "-2d:-1d", "expired"),
        ("redis-01", "+1d:+2d", "not valid yet"),
    ] {
        let sshd = certified(principals, validity);
        trust_authority(&sshd, "@cert-authority", "");
        let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
        assert!(error.is_identity() && error.to_string().contains(words), "{words}: {error}");
        assert_eq!(sshd.log().matches("Accepted publickey").count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_beside_the_key_logs_in() {
    let sshd = Sshd::start(Setup { certified: true, ..Setup::default() });
    sshd.trust().await;
    std::fs::write(sshd.path("authorized_keys"), "").unwrap();
    let key = sshd.path("home/.ssh/id_ed25519");
    let certify = |validity: &str| {
        let (ca, public) = (sshd.path("ca"), sshd.path("home/.ssh/id_ed25519.pub"));
        keygen(&["-q", "-s", text(&ca), "-I", "ops", "-n", "root", "-V", validity, text(&public)]);
    };
    certify("-1d:+1d");
    let session = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap();
    works(&session).await;
    session.close().await;
    let log = sshd.log();
    assert!(log.contains("ED25519-CERT") && log.contains(" ID ops "), "{log}");
    certify("-2d:-1d");
    let error = AgentSession::connect(&sshd.target(), &sshd.options()).await.unwrap_err();
    let ConnectError::Authentication { tried, skipped, .. } = &error else { panic!("{error}") };
    assert_eq!(tried, &[format!("ssh-ed25519 {}", key.display())]);
    assert!(skipped[0].contains("expired at"), "{skipped:?}");
}
