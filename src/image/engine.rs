//! The container engine of a host, asked from here through the host's session.

use crate::http_client::{HttpError, Request, Response};
use crate::ssh::{AgentSession, OpenError};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use std::time::Duration;

/// Where the engine listens on a host.
const SOCKET: &str = "/var/run/docker.sock";

/// How long the engine may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the engine may take for what costs it no work.
const QUICK: Duration = Duration::from_secs(60);

/// How long a registry may take to answer the engine.
const REGISTRY: Duration = Duration::from_secs(90);

/// How long an image may take from the registry to the host.
const PULL: Duration = Duration::from_secs(3600);

/// Why the engine gave no answer, or not the one that was hoped for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine's socket cannot be opened.
    #[error("the container engine cannot be reached: {0}")]
    Unreachable(#[from] OpenError),
    /// The conversation broke.
    #[error("{host}: the container engine: {reason}")]
    Broken {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// It did not answer in time.
    #[error("{host}: the container engine gave no answer within {seconds} s")]
    Timeout {
        /// The host.
        host: String,
        /// The limit.
        seconds: u64,
    },
    /// It refused.
    #[error("{host}: the container engine refused: {reason}")]
    Refused {
        /// The host.
        host: String,
        /// In its own words.
        reason: String,
    },
}

/// The container engine of one host.
pub struct Engine<'a> {
    session: &'a AgentSession,
}

/// An image that a host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Digests of the manifests with which it came from registries.
    pub digests: Vec<String>,
    /// Its layers, the lowest first, by the digests of their content.
    pub layers: Vec<String>,
}

#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "RepoDigests")]
    digests: Option<Vec<String>>,
    #[serde(rename = "RootFS")]
    root: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "Layers")]
    layers: Option<Vec<String>>,
}

impl From<Inspected> for Found {
    fn from(inspected: Inspected) -> Self {
        let digests = inspected.digests.unwrap_or_default();
        let digest = |name: String| name.rsplit_once('@').map(|(_, digest)| digest.to_owned());
        Self {
            id: inspected.id,
            digests: digests.into_iter().filter_map(digest).collect(),
            layers: inspected.root.and_then(|root| root.layers).unwrap_or_default(),
        }
    }
}

impl<'a> Engine<'a> {
    /// The engine of the session's host.
    pub const fn new(session: &'a AgentSession) -> Self {
        Self { session }
    }

    /// An image by its name or id; `None` where the host does not have it.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn find(&self, name: &str) -> Result<Option<Found>, EngineError> {
        let path = format!("/images/{name}/json");
        let response = self.ask(Method::GET, &path, QUICK).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.succeeded(&response)?;
        self.read::<Inspected>(&response).map(|inspected| Some(inspected.into()))
    }

    /// The layers of every image of the host.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn layers(&self) -> Result<Vec<Vec<String>>, EngineError> {
        #[derive(Deserialize)]
        struct Listed {
            #[serde(rename = "Id")]
            id: String,
        }
        let response = self.ask(Method::GET, "/images/json", QUICK).await?;
        self.succeeded(&response)?;
        let mut layers = Vec::new();
        for image in self.read::<Vec<Listed>>(&response)? {
            layers.extend(self.find(&image.id).await?.map(|found| found.layers));
        }
        Ok(layers)
    }

    /// What a registry says that a name with tag or digest stands for: the digest of its manifest, or
    /// the refusal in the engine's words. The engine asks, with its mirrors, proxies and
    /// certificates.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn in_registry(&self, name: &str) -> Result<Result<String, String>, EngineError> {
        #[derive(Deserialize)]
        struct Distribution {
            #[serde(rename = "Descriptor")]
            descriptor: Descriptor,
        }
        #[derive(Deserialize)]
        struct Descriptor {
            digest: String,
        }
        let path = format!("/distribution/{name}/json");
        let response = self.ask(Method::GET, &path, REGISTRY).await?;
        match self.succeeded(&response) {
            Ok(()) => Ok(Ok(self.read::<Distribution>(&response)?.descriptor.digest)),
            Err(EngineError::Refused { reason, .. }) => Ok(Err(reason)),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image by its digest.
    ///
    /// # Errors
    /// When the engine cannot be asked, or the registry refuses.
    pub async fn pull(&self, repository: &str, digest: &str) -> Result<(), EngineError> {
        let path = format!("/images/create?fromImage={repository}&tag={digest}");
        let response = self.ask(Method::POST, &path, PULL).await?;
        self.succeeded(&response)?;
        match refusal(&response.body) {
            Some(reason) => Err(EngineError::Refused { host: self.session.host().into(), reason }),
            None => Ok(()),
        }
    }

    /// Gives an image that the host has another name.
    ///
    /// # Errors
    /// When the engine cannot be asked, or refuses.
    pub async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let path = format!("/images/{image}/tag?repo={repository}&tag={tag}");
        let response = self.ask(Method::POST, &path, QUICK).await?;
        self.succeeded(&response)
    }

    /// One request on a connection of its own, which ends with the answer.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        limit: Duration,
    ) -> Result<Response, EngineError> {
        let stream = self.session.open_unix(SOCKET, CONNECT).await?;
        let request = Request::new(method, "docker", path);
        request.send(stream, limit).await.map_err(|error| match error {
            HttpError::Timeout(seconds) => {
                EngineError::Timeout { host: self.session.host().to_owned(), seconds }
            }
            other => self.broken(other.to_string()),
        })
    }

    fn succeeded(&self, response: &Response) -> Result<(), EngineError> {
        if response.is_success() {
            return Ok(());
        }
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        let reason = response
            .read::<Message>()
            .map_or_else(|_| format!("status {}", response.status), |message| message.message);
        Err(EngineError::Refused { host: self.session.host().to_owned(), reason })
    }

    fn read<T: serde::de::DeserializeOwned>(&self, response: &Response) -> Result<T, EngineError> {
        response.read().map_err(|error| self.broken(error.to_string()))
    }

    fn broken(&self, reason: String) -> EngineError {
        EngineError::Broken { host: self.session.host().to_owned(), reason }
    }
}

/// What went wrong with a pull that began well: the engine says so in its progress messages, one
/// JSON object a line.
fn refusal(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        error: Option<String>,
    }
    serde_json::Deserializer::from_slice(answer)
        .into_iter::<Line>()
        .map_while(Result::ok)
        .find_map(|line| line.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_that_fails_halfway_is_seen() {
        for (answer, reason) in [
            (&b"{\"stream\":\"Pulling from a\\n\"}\n"[..], None),
            (b"", None),
            (b"not json", None),
            (
                b"{\"stream\":\"x\"}\r\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n",
                Some("no space"),
            ),
        ] {
            assert_eq!(refusal(answer).as_deref(), reason);
        }
    }
}
