//! One authenticated SSH connection: TCP, key exchange, the host's identity, ours.

use super::authentication::authenticate;
use super::dial::{handshake, timed_out};
use super::error::ConnectError;
use super::known_hosts::{HostKeyVerdict, KnownHosts};
use super::target::{ConnectOptions, Target};
use russh::client;
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

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
    /// The jump host's connection that carries this one.
    pub(super) _way: Option<Arc<Connection>>,
}

/// What to do with the key that the host presents.
#[derive(Clone)]
pub(super) enum Trust {
    /// Accept only what is pinned.
    Pinned { known: Arc<KnownHosts>, names: Vec<String> },
    /// Accept nothing; only look.
    Look,
}

/// Judges the host's key and keeps what was presented.
pub(super) struct HostKeyCheck {
    pub(super) trust: Trust,
    pub(super) presented: Presented,
}

/// The key that the host presented and what is wrong with it.
pub(super) type Presented = Arc<Mutex<Option<(PublicKey, Result<HostKeyVerdict, String>)>>>;

impl client::Handler for HostKeyCheck {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let verdict = match (&self.trust, key) {
            (Trust::Look, _) => Ok(HostKeyVerdict::Unknown),
            (Trust::Pinned { known, names }, PublicKeyOrCertificate::PublicKey { key, .. }) => {
                known.judge(names, key)
            }
            (Trust::Pinned { known, names }, PublicKeyOrCertificate::Certificate(certificate)) => {
                known.judge_certificate(names, certificate, seconds_now())
            }
        };
        let key = key.public_key();
        let trusted = verdict == Ok(HostKeyVerdict::Trusted);
        let mut presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
        *presented = Some((key, verdict));
        Ok(trusted)
    }
}

/// What a host is asked to prove its identity with.
#[derive(Clone)]
pub(super) struct HostKeys {
    /// Key algorithms, in order of preference.
    pub(super) plain: Vec<Algorithm>,
    /// True when certificates come first: an authority is known that may vouch for the host.
    pub(super) certificates: bool,
}

pub(super) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Connects, checks the host's key and authenticates.
pub(super) async fn establish(
    target: &Target,
    options: &ConnectOptions,
) -> Result<Connection, ConnectError> {
    let mut connection = identified(target, options).await?;
    match timeout(options.auth_timeout, authenticate(&mut connection.handle, target, options)).await
    {
        Ok(result) => result.map(|()| connection),
        Err(_) => Err(timed_out(target, "authentication", options.auth_timeout)),
    }
}

/// Connects and checks the host's key.
pub(super) async fn identified(
    target: &Target,
    options: &ConnectOptions,
) -> Result<Connection, ConnectError> {
    let known = options
        .pinned
        .read(&options.known_hosts)
        .map_err(|reason| known_hosts_error(target, options, reason))?;
    let names = target.known_hosts_names();
    let offered = HostKeys {
        plain: host_key_order(&known.pinned_algorithms(&names)),
        certificates: known.has_authority(&names),
    };
    let presented = Presented::default();
    let trust = Trust::Pinned { known, names };
    let connected = handshake(target, options, offered, trust, Arc::clone(&presented)).await;
    connected.map_err(|error| {
        let presented = presented.lock().unwrap_or_else(PoisonError::into_inner).take();
        presented
            .and_then(|(key, verdict)| host_key_error(target, options, &key, verdict))
            .unwrap_or(error)
    })
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
        Ok(HostKeyVerdict::BadCertificate { reason }) => {
            ConnectError::HostCertificate { host, address, fingerprint, reason }
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
