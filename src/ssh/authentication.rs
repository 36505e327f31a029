//! Proving who we are: key files first, in the given order, then the keys of an ssh-agent. An
//! encrypted key file is used through the agent when that holds it.
//!
//! Hardened servers allow three attempts: a key is tried once, and only keys that can sign.

use super::connection::{HostKeyCheck, seconds_now};
use super::error::ConnectError;
use super::key_files::KeyFiles;
use super::known_hosts::jiff_text;
use super::target::{ConnectOptions, Keys, Target};
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::HashAlg;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixStream;

/// A key that can sign.
enum Candidate {
    File { label: String, key: Arc<PrivateKey> },
    Agent { label: String, key: PublicKey },
    Certificate { label: String, key: Arc<PrivateKey>, certificate: Box<Certificate> },
    AgentCertificate { label: String, certificate: Box<Certificate> },
}

impl Candidate {
    fn label(&self) -> &str {
        match self {
            Self::File { label, .. }
            | Self::Agent { label, .. }
            | Self::Certificate { label, .. }
            | Self::AgentCertificate { label, .. } => label,
        }
    }
}

pub(super) async fn authenticate(
    handle: &mut Handle<HostKeyCheck>,
    target: &Target,
    options: &ConnectOptions,
) -> Result<(), ConnectError> {
    let mut skipped = Vec::new();
    let everywhere = Keys {
        identities: options.identities.clone(),
        certificates: Vec::new(),
        agent_socket: options.agent_socket.clone(),
        only: false,
    };
    let keys = target.keys.as_ref().unwrap_or(&everywhere);
    let mut agent = match &keys.agent_socket {
        None => None,
        Some(socket) => match AgentClient::connect_uds(socket).await {
            Ok(agent) => Some(agent),
            Err(error) => {
                skipped.push(format!("ssh-agent at {} ({error})", socket.display()));
                None
            }
        },
    };
    let files = &options.key_files;
    let candidates = candidates(keys, files, agent.as_mut(), &mut skipped).await;
    let mut tried = Vec::new();
    for candidate in candidates {
        tried.push(candidate.label().to_owned());
        match attempt(handle, &target.user, &candidate, agent.as_mut()).await {
            Ok(AuthResult::Success) => {
                tracing::debug!(host = %target.name, ?tried, ?skipped, "logged in with the last");
                return Ok(());
            }
            Ok(AuthResult::Failure { partial_success: false, .. }) => {}
            Ok(AuthResult::Failure { partial_success: true, .. }) => {
                note(&mut tried, "accepted, but the server wants a second proof");
            }
            Err(reason) => {
                note(&mut tried, &reason);
                if handle.is_closed() {
                    break;
                }
            }
        }
    }
    Err(ConnectError::Authentication {
        host: target.name.clone(),
        address: target.address,
        user: target.user.clone(),
        tried,
        skipped,
    })
}

fn note(tried: &mut [String], reason: &str) {
    if let Some(last) = tried.last_mut() {
        *last = format!("{last} ({reason})");
    }
}

async fn candidates(
    keys: &Keys,
    files: &KeyFiles,
    agent: Option<&mut AgentClient<UnixStream>>,
    skipped: &mut Vec<String>,
) -> Vec<Candidate> {
    let mut held: Vec<(PublicKey, String)> = Vec::new();
    let mut held_certificates: Vec<(Certificate, String)> = Vec::new();
    if let Some(agent) = agent {
        match agent.request_identities().await {
            Ok(identities) => {
                for identity in identities {
                    match identity {
                        AgentIdentity::PublicKey { key, comment } => held.push((key, comment)),
                        AgentIdentity::Certificate { certificate, comment } => {
                            held_certificates.push((certificate, comment));
                        }
                    }
                }
            }
            Err(error) => skipped.push(format!("ssh-agent ({error})")),
        }
    }
    let mut found = Vec::new();
    for (certificate, comment) in held_certificates {
        let label = format!("certificate {} of ssh-agent ({comment})", certificate.key_id());
        match login_fault(&certificate) {
            Some(fault) => skipped.push(format!("{label} ({fault})")),
            None => found
                .push(Candidate::AgentCertificate { label, certificate: Box::new(certificate) }),
        }
    }
    for path in &keys.identities {
        let key = match files.read(path) {
            // The agent may hold a key of which only the public half is here.
            Ok(None) => {
                if let Some(at) = public_half(path).and_then(|half| {
                    held.iter().position(|(held, _)| held.key_data() == half.key_data())
                }) {
                    let (key, _) = held.remove(at);
                    let label = format!("{} {} through ssh-agent", key.algorithm(), path.display());
                    found.push(Candidate::Agent { label, key });
                }
                continue;
            }
            Ok(Some(key)) => key,
            Err(reason) => {
                skipped.push(format!("{} ({reason})", path.display()));
                continue;
            }
        };
        let at = held.iter().position(|(held, _)| held.key_data() == key.public_key().key_data());
        let from_agent = at.map(|at| held.remove(at));
        let label = format!("{} {}", key.algorithm(), path.display());
        if !key.is_encrypted() {
            for (certificate, at) in certificates_of(path, &key, &keys.certificates, skipped) {
                let key = Arc::clone(&key);
                let certificate = Box::new(certificate);
                let label = format!("certificate {}", at.display());
                found.push(Candidate::Certificate { label, key, certificate });
            }
        }
        match from_agent {
            _ if !key.is_encrypted() => found.push(Candidate::File { label, key }),
            Some((key, _)) => {
                found.push(Candidate::Agent { label: format!("{label} through ssh-agent"), key })
            }
            None => {
                skipped.push(format!("{} (encrypted, and no ssh-agent holds it)", path.display()))
            }
        }
    }
    for (key, comment) in held.into_iter().filter(|_| !keys.only) {
        found.push(Candidate::Agent {
            label: format!("{} {comment} of ssh-agent", key.algorithm()),
            key,
        });
    }
    found
}

/// The certificates for a key: beside it as `<key>-cert.pub`, and among those that are named.
fn certificates_of(
    path: &Path,
    key: &PrivateKey,
    named: &[PathBuf],
    skipped: &mut Vec<String>,
) -> Vec<(Certificate, PathBuf)> {
    let mut beside = path.as_os_str().to_owned();
    beside.push("-cert.pub");
    let mut found: Vec<(Certificate, PathBuf)> = Vec::new();
    for path in std::iter::once(&PathBuf::from(beside)).chain(named) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                skipped.push(format!("{} ({error})", path.display()));
                continue;
            }
        };
        let certificate = match Certificate::from_openssh(text.trim()) {
            Ok(certificate) => certificate,
            Err(error) => {
                skipped.push(format!("{} ({error})", path.display()));
                continue;
            }
        };
        // Another key's certificate is that key's business.
        if certificate.public_key() != key.public_key().key_data()
            || found.iter().any(|(other, _)| *other == certificate)
        {
            continue;
        }
        match login_fault(&certificate) {
            Some(fault) => skipped.push(format!("{} ({fault})", path.display())),
            None => found.push((certificate, path.clone())),
        }
    }
    found
}

/// Why a certificate is of no use for a login: offering it would cost one of few attempts.
fn login_fault(certificate: &Certificate) -> Option<String> {
    let now = seconds_now();
    if certificate.cert_type() != CertType::User {
        return Some("a certificate for hosts, not for logins".into());
    }
    if now < certificate.valid_after() {
        return Some("not valid yet; compare the clocks".into());
    }
    (now >= certificate.valid_before()).then(|| match jiff_text(certificate.valid_before()) {
        Some(when) => format!("expired at {when}"),
        None => "expired".into(),
    })
}

/// The public key beside a key file that is not there, or in the file that was named.
fn public_half(path: &Path) -> Option<PublicKey> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let text = std::fs::read_to_string(beside).ok()?;
    PublicKey::from_openssh(text.trim()).ok()
}

async fn attempt(
    handle: &mut Handle<HostKeyCheck>,
    user: &str,
    candidate: &Candidate,
    agent: Option<&mut AgentClient<UnixStream>>,
) -> Result<AuthResult, String> {
    let is_rsa = match candidate {
        Candidate::File { key, .. } => key.algorithm().is_rsa(),
        Candidate::Agent { key, .. } => key.algorithm().is_rsa(),
        Candidate::Certificate { certificate, .. }
        | Candidate::AgentCertificate { certificate, .. } => certificate.algorithm().is_rsa(),
    };
    let hash = if is_rsa {
        // A server that does not say gets SHA-512, never SHA-1.
        let supported =
            handle.best_supported_rsa_hash().await.map_err(|error| error.to_string())?;
        Some(supported.flatten().unwrap_or(HashAlg::Sha512))
    } else {
        None
    };
    match (candidate, agent) {
        (Candidate::File { key, .. }, _) => {
            let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
            handle.authenticate_publickey(user, key).await.map_err(|error| error.to_string())
        }
        (Candidate::Agent { key, .. }, Some(agent)) => handle
            .authenticate_publickey_with(user, key.clone(), hash, agent)
            .await
            .map_err(|error| error.to_string()),
        (Candidate::Certificate { key, certificate, .. }, _) => handle
            .authenticate_openssh_cert(user, Arc::clone(key), certificate.as_ref().clone())
            .await
            .map_err(|error| error.to_string()),
        (Candidate::AgentCertificate { certificate, .. }, Some(agent)) => handle
            .authenticate_certificate_with(user, certificate.as_ref().clone(), hash, agent)
            .await
            .map_err(|error| error.to_string()),
        (Candidate::Agent { .. } | Candidate::AgentCertificate { .. }, None) => {
            Err("the ssh-agent is gone".into())
        }
    }
}
