//! One authenticated SSH connection: TCP, key exchange, the host's identity, ours.

use super::authentication::authenticate;
use super::error::ConnectError;
use super::known_hosts::{HostKeyVerdict, KnownHosts};
use super::prompt_stream::PromptStream;
use super::target::{ConnectOptions, Target};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use russh::{Preferred, cipher, client, kex};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Channel window: the volume that may be under way to us, several times bandwidth × delay.
const WINDOW: u32 = 8 * 1024 * 1024;

/// Key exchanges, fastest safe one first; the library adds sntrup761 to none of them.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// With AES instructions GCM is the fastest by far.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// Host key algorithms that are offered, SHA-1 signatures not among them.
pub(super) const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// A connection that has proved both identities.
pub(super) struct Connection {
    pub(super) handle: client::Handle<HostKeyCheck>,
    /// Half the time of one round trip, as the TCP handshake took.
    pub(super) half_round_trip: Duration,
}

/// What to do with the key that the host presents.
pub(super) enum Trust {
    /// Accept only what is pinned.
    Pinned { known: KnownHosts, names: Vec<String> },
    /// Accept nothing; only look.
    Look,
}

/// Judges the host's key and keeps what was presented.
pub(super) struct HostKeyCheck {
    trust: Trust,
    presented: Presented,
}

/// The key that the host presented and what is wrong with it.
pub(super) type Presented = Arc<Mutex<Option<(PublicKey, Result<HostKeyVerdict, String>)>>>;

impl client::Handler for HostKeyCheck {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        // Certificates are never asked for; one that comes all the same is refused.
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return Ok(false);
        };
        let verdict = match &self.trust {
            Trust::Pinned { known, names } => known.judge(names, key),
            Trust::Look => Ok(HostKeyVerdict::Unknown),
        };
        let trusted = verdict == Ok(HostKeyVerdict::Trusted);
        let mut presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
        *presented = Some((key.clone(), verdict));
        Ok(trusted)
    }
}

/// Connects, checks the host's key and authenticates.
pub(super) async fn establish(
    target: &Target,
    options: &ConnectOptions,
) -> Result<Connection, ConnectError> {
    let known = KnownHosts::read(&options.known_hosts)
        .map_err(|reason| known_hosts_error(target, options, reason))?;
    let names = target.known_hosts_names();
    let preferred = host_key_order(&known.pinned_algorithms(&names));
    let presented = Presented::default();
    let trust = Trust::Pinned { known, names };
    let connected = handshake(target, options, preferred, trust, Arc::clone(&presented)).await;
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(error) => {
            let presented = presented.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(presented
                .and_then(|(key, verdict)| host_key_error(target, options, &key, verdict))
                .unwrap_or(error));
        }
    };
    match timeout(options.auth_timeout, authenticate(&mut connection.handle, target, options)).await
    {
        Ok(result) => result.map(|()| connection),
        Err(_) => Err(timed_out(target, "authentication", options.auth_timeout)),
    }
}

/// TCP and key exchange. The limit covers both.
pub(super) async fn handshake(
    target: &Target,
    options: &ConnectOptions,
    host_keys: Vec<Algorithm>,
    trust: Trust,
    presented: Presented,
) -> Result<Connection, ConnectError> {
    let deadline = Instant::now() + options.connect_timeout;
    let late = |stage| timed_out(target, stage, options.connect_timeout);
    let began = Instant::now();
    let socket = match tokio::time::timeout_at(deadline, TcpStream::connect(target.address)).await {
        Err(_) => return Err(late("TCP connection")),
        Ok(Err(error)) => return Err(tcp_error(target, options, &error)),
        Ok(Ok(socket)) => socket,
    };
    let half_round_trip = began.elapsed() / 2;
    socket.set_nodelay(true).map_err(|error| tcp_error(target, options, &error))?;
    let config = client::Config {
        window_size: WINDOW,
        maximum_packet_size: 65_535,
        channel_buffer_size: 256,
        keepalive_interval: Some(options.keepalive),
        keepalive_max: 3,
        nodelay: true,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Owned(host_keys),
            cipher: Cow::Borrowed(CIPHERS),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    };
    let handler = HostKeyCheck { trust, presented };
    match tokio::time::timeout_at(
        deadline,
        client::connect_stream(Arc::new(config), PromptStream::new(socket), handler),
    )
    .await
    {
        Err(_) => Err(late("SSH key exchange")),
        Ok(Err(error)) => Err(ConnectError::Protocol {
            host: target.name.clone(),
            address: target.address,
            reason: protocol_reason(&error),
        }),
        Ok(Ok(handle)) => Ok(Connection { handle, half_round_trip }),
    }
}

/// The library's reason, with the two that say too little spelled out.
fn protocol_reason(error: &russh::Error) -> String {
    match error {
        russh::Error::Disconnect | russh::Error::HUP => {
            "the server ended the connection during the key exchange".into()
        }
        other => other.to_string(),
    }
}

/// All offered algorithms, those of pinned keys first.
fn host_key_order(pinned: &[Algorithm]) -> Vec<Algorithm> {
    let is_pinned = |offered: &Algorithm| {
        pinned.iter().any(|pinned| match (pinned, offered) {
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
            (pinned, offered) => pinned == offered,
        })
    };
    let (first, rest): (Vec<_>, Vec<_>) = HOST_KEYS.iter().cloned().partition(is_pinned);
    [first, rest].concat()
}

fn tcp_error(target: &Target, options: &ConnectOptions, error: &std::io::Error) -> ConnectError {
    let (host, address) = (target.name.clone(), target.address);
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ConnectError::Refused { host, address },
        std::io::ErrorKind::TimedOut => {
            timed_out(target, "TCP connection", options.connect_timeout)
        }
        _ => ConnectError::Unreachable { host, address, reason: error.to_string() },
    }
}

fn timed_out(target: &Target, stage: &'static str, after: Duration) -> ConnectError {
    ConnectError::Timeout { host: target.name.clone(), address: target.address, stage, after }
}

fn known_hosts_error(target: &Target, options: &ConnectOptions, reason: String) -> ConnectError {
    let known_hosts = options.known_hosts.clone();
    ConnectError::KnownHosts { host: target.name.clone(), known_hosts, reason }
}

fn host_key_error(
    target: &Target,
    options: &ConnectOptions,
    key: &PublicKey,
    verdict: Result<HostKeyVerdict, String>,
) -> Option<ConnectError> {
    let (host, address) = (target.name.clone(), target.address);
    let algorithm = key.algorithm().to_string();
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    let known_hosts = options.known_hosts.clone();
    Some(match verdict {
        Ok(HostKeyVerdict::Trusted) => return None,
        Ok(HostKeyVerdict::Unknown) => {
            ConnectError::HostKeyUnknown { host, address, algorithm, fingerprint }
        }
        Ok(HostKeyVerdict::Changed { pinned, line }) => {
            let pinned = pinned.join(", ");
            ConnectError::HostKeyChanged {
                host,
                address,
                algorithm,
                fingerprint,
                pinned,
                known_hosts,
                line,
            }
        }
        Ok(HostKeyVerdict::Revoked { line }) => ConnectError::HostKeyRevoked {
            host,
            address,
            algorithm,
            fingerprint,
            known_hosts,
            line,
        },
        Err(reason) => ConnectError::KnownHosts { host, known_hosts, reason },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_known_by_its_rsa_key_is_asked_for_that_one_first() {
        let order = host_key_order(&[Algorithm::Rsa { hash: None }]);
        assert_eq!(order[0], Algorithm::Rsa { hash: Some(HashAlg::Sha512) });
        assert_eq!(order.len(), HOST_KEYS.len());
        assert_eq!(host_key_order(&[]), HOST_KEYS);
    }
}
