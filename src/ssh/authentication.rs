//! Proving who we are: key files first, in the given order, then the keys of an ssh-agent. An
//! encrypted key file is used through the agent when that holds it.
//!
//! Hardened servers allow three attempts: a key is tried once, and only keys that can sign.

use super::connection::HostKeyCheck;
use super::error::ConnectError;
use super::target::{ConnectOptions, Target};
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::HashAlg;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixStream;

/// A key that can sign.
enum Candidate {
    File { label: String, key: Arc<PrivateKey> },
    Agent { label: String, key: PublicKey },
}

impl Candidate {
    fn label(&self) -> &str {
        match self {
            Self::File { label, .. } | Self::Agent { label, .. } => label,
        }
    }
}

pub(super) async fn authenticate(
    handle: &mut Handle<HostKeyCheck>,
    target: &Target,
    options: &ConnectOptions,
) -> Result<(), ConnectError> {
    let mut skipped = Vec::new();
    let mut agent = match &options.agent_socket {
        None => None,
        Some(socket) => match AgentClient::connect_uds(socket).await {
            Ok(agent) => Some(agent),
            Err(error) => {
                skipped.push(format!("ssh-agent at {} ({error})", socket.display()));
                None
            }
        },
    };
    let candidates = candidates(options, agent.as_mut(), &mut skipped).await;
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
    options: &ConnectOptions,
    agent: Option<&mut AgentClient<UnixStream>>,
    skipped: &mut Vec<String>,
) -> Vec<Candidate> {
    let mut held: Vec<(PublicKey, String)> = Vec::new();
    if let Some(agent) = agent {
        match agent.request_identities().await {
            Ok(identities) => {
                held.extend(identities.into_iter().filter_map(|identity| match identity {
                    AgentIdentity::PublicKey { key, comment } => Some((key, comment)),
                    AgentIdentity::Certificate { .. } => None,
                }))
            }
            Err(error) => skipped.push(format!("ssh-agent ({error})")),
        }
    }
    let mut found = Vec::new();
    for path in &options.identities {
        let key = match load(path) {
            Ok(None) => continue,
            Ok(Some(key)) => key,
            Err(reason) => {
                skipped.push(format!("{} ({reason})", path.display()));
                continue;
            }
        };
        let at = held.iter().position(|(held, _)| held.key_data() == key.public_key().key_data());
        let from_agent = at.map(|at| held.remove(at));
        let label = format!("{} {}", key.algorithm(), path.display());
        match from_agent {
            _ if !key.is_encrypted() => found.push(Candidate::File { label, key: Arc::new(key) }),
            Some((key, _)) => {
                found.push(Candidate::Agent { label: format!("{label} through ssh-agent"), key })
            }
            None => {
                skipped.push(format!("{} (encrypted, and no ssh-agent holds it)", path.display()))
            }
        }
    }
    for (key, comment) in held {
        found.push(Candidate::Agent {
            label: format!("{} {comment} of ssh-agent", key.algorithm()),
            key,
        });
    }
    found
}

/// Reads a key file; `None` when there is none.
fn load(path: &Path) -> Result<Option<PrivateKey>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("mode {:04o} lets others read it", mode & 0o7777));
    }
    // The OpenSSH form is read without decrypting, so that its public half is known; older forms
    // are left to the library.
    match PrivateKey::from_openssh(&text) {
        Ok(key) => Ok(Some(key)),
        Err(_) => match russh::keys::decode_secret_key(&text, None) {
            Ok(key) => Ok(Some(key)),
            Err(russh::keys::Error::KeyIsEncrypted) => Err("encrypted".into()),
            Err(error) => Err(error.to_string()),
        },
    }
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
        (Candidate::Agent { .. }, None) => Err("the ssh-agent is gone".into()),
    }
}
