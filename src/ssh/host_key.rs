//! Looking at the keys that a host presents, for an operator to pin.

use super::connection::{HOST_KEYS, HostKeys, Presented, Trust};
use super::dial::handshake;
use super::error::ConnectError;
use super::target::{ConnectOptions, Target};
use russh::keys::ssh_key::{Algorithm, HashAlg};
use std::sync::{Arc, PoisonError};

/// One key that a host presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// For example `ssh-ed25519`.
    pub algorithm: String,
    /// SHA-256 fingerprint as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// The line for known_hosts: names, type and key.
    pub line: String,
}

/// Asks a host for its keys, one connection for each type, Ed25519 first. Nothing is trusted and
/// nothing is sent beyond the key exchange.
///
/// # Errors
/// When the host cannot be reached or presents no key of a type that is offered.
pub async fn scan_host_keys(
    target: &Target,
    options: &ConnectOptions,
) -> Result<Vec<HostKey>, ConnectError> {
    let mut found = Vec::new();
    let mut last = None;
    for algorithm in HOST_KEYS {
        if *algorithm == (Algorithm::Rsa { hash: Some(HashAlg::Sha256) }) {
            // The same key as with SHA-512.
            continue;
        }
        let presented = Presented::default();
        let wanted = HostKeys { plain: vec![algorithm.clone()], certificates: false };
        let outcome = handshake(target, options, wanted, Trust::Look, Arc::clone(&presented)).await;
        let presented = presented.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (presented, outcome) {
            (Some((key, _)), _) => {
                let line = format!("{} {}", target.known_hosts_names().join(","), {
                    let mut bare = key.clone();
                    bare.set_comment("");
                    bare.to_openssh().unwrap_or_default()
                });
                found.push(HostKey {
                    algorithm: key.algorithm().to_string(),
                    fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
                    line: line.trim_end().to_owned(),
                });
            }
            // The server has no key of this type.
            (None, Err(error @ ConnectError::Protocol { .. })) => last = Some(error),
            (None, Err(error)) => return Err(error),
            (None, Ok(_)) => {}
        }
    }
    match last {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}
