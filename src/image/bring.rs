//! Bringing one thing to one host, wherever it comes from.

use super::artifact::{Packed, send};
use super::delivery::{SentBytes, deliver};
use super::engine::{Engine, EngineError, Found};
use super::layers::Parcel;
use super::registry::{explain, repository, tag};
use super::supply::{Locked, Pull, SupplyProblem};
use crate::ssh::AgentSession;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is brought, and where it is brought from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file of the site.
    File(Arc<Packed>),
    /// An image, from an archive.
    Archive(Arc<Parcel>),
    /// An image, from a registry.
    Registry(Pull),
}

impl Source {
    /// The image's name, or the file's path.
    pub fn name(&self) -> String {
        match self {
            Self::File(packed) => packed.file.place.display().to_string(),
            Self::Archive(parcel) => parcel.bundle.image.clone(),
            Self::Registry(pull) => pull.image.clone(),
        }
    }

    /// Where it comes from, in words.
    pub const fn origin(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Archive(_) => "archive",
            Self::Registry(_) => "registry",
        }
    }

    /// That a host does not get it.
    pub fn missing(&self, host: &str, reason: String) -> SupplyProblem {
        let (host, name) = (host.to_owned(), self.name());
        match self {
            Self::File(_) => SupplyProblem::File { host, file: name, reason },
            _ => SupplyProblem::Missing { host, image: name, reason },
        }
    }
}

/// What was brought to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// An image's id, looked up on the host afterwards; a file's digest.
    pub id: String,
    /// How long it took.
    pub took: Duration,
}

/// Brings an image to a host and looks whether it is there, or a file that gets its place later. What strata itself sends is counted in
/// `sent`; a registry's bytes are the engine's.
///
/// # Errors
/// When it cannot be sent or pulled, the engine refuses it, or it is another one afterwards.
pub async fn bring(
    session: &AgentSession,
    source: &Source,
    sent: &SentBytes,
) -> Result<Brought, SupplyProblem> {
    let (begin, engine) = (Instant::now(), Engine::new(session));
    let name = source.name();
    let image = name.as_str();
    let not_brought = |found: Option<Found>, wanted: &str| SupplyProblem::NotBrought {
        host: session.host().to_owned(),
        image: image.to_owned(),
        found: found.map_or_else(|| "not there".to_owned(), |found| found.id),
        wanted: wanted.to_owned(),
    };
    let wanted = match source {
        Source::File(packed) => {
            send(session, packed, sent).await?;
            return Ok(Brought { id: packed.file.sha256.clone(), took: begin.elapsed() });
        }
        Source::Archive(parcel) => {
            deliver(session, parcel, sent).await?;
            parcel.bundle.id.clone()
        }
        Source::Registry(pull) => {
            engine.pull(&pull.repository, &pull.digest).await.map_err(|error| match error {
                EngineError::Refused { host, reason } => {
                    let reason = explain(&format!("{}@{}", pull.repository, pull.digest), &reason);
                    EngineError::Refused { host, reason }
                }
                error => error,
            })?;
            let exact = format!("{}@{}", pull.repository, pull.digest);
            let found = engine.find(&exact).await?;
            let wanted = pull.id.as_deref().unwrap_or(&pull.digest);
            let locked = Locked { id: pull.id.clone(), ..Locked::default() };
            let right = |found: &Found| pull.id.is_none() || locked.is(found);
            let Some(found) = found.clone().filter(right) else {
                // It gets the name only when it is what the name means.
                return Err(not_brought(found, wanted));
            };
            engine.tag(&found.id, repository(image), tag(image)).await?;
            found.id
        }
    };
    match engine.find(image).await? {
        Some(found) if found.id == wanted => Ok(Brought { id: found.id, took: begin.elapsed() }),
        found => Err(not_brought(found, &wanted)),
    }
}
