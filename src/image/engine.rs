//! The container engine of a host, asked from here through the host's session.

use crate::ssh::{AgentSession, OpenError};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

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

/// Bytes of an answer that are read at most.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Why the engine gave no answer, or not the one that was hoped for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine's socket cannot be opened.
    #[error("the container engine cannot be reached: {0}")]
    Unreachable(#[from] OpenError),
    /// The conversation broke.
    #[error("{host}: the conversation with the container engine broke: {reason}")]
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
        let (status, body) = self.ask(Method::GET, &path, empty(), QUICK).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.succeeded(status, &body)?;
        self.read::<Inspected>(&body).map(|inspected| Some(inspected.into()))
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
        let (status, body) = self.ask(Method::GET, "/images/json", empty(), QUICK).await?;
        self.succeeded(status, &body)?;
        let mut layers = Vec::new();
        for image in self.read::<Vec<Listed>>(&body)? {
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
        let (status, body) = self.ask(Method::GET, &path, empty(), REGISTRY).await?;
        match self.succeeded(status, &body) {
            Ok(()) => Ok(Ok(self.read::<Distribution>(&body)?.descriptor.digest)),
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
        let (status, answer) = self.ask(Method::POST, &path, empty(), PULL).await?;
        self.succeeded(status, &answer)?;
        match refusal(&answer) {
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
        let (status, body) = self.ask(Method::POST, &path, empty(), QUICK).await?;
        self.succeeded(status, &body)
    }

    /// One request on a connection of its own, which ends with the answer.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Body,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), EngineError> {
        let stream = self.session.open_unix(SOCKET, CONNECT).await?;
        let conversation = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("Host", "docker")
                .header("Connection", "close")
                .body(body)?;
            let answer = async {
                let response = sender.send_request(request).await?;
                let status = response.status();
                let bytes = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, bytes.to_bytes()))
            };
            // The connection moves the bytes; it may end before the answer has been taken.
            tokio::pin!(answer);
            tokio::select! {
                answer = &mut answer => answer,
                ended = connection => match ended {
                    Ok(()) => answer.await,
                    Err(error) => Err(error.into()),
                },
            }
        };
        match timeout(limit, conversation).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.broken(with_cause(error.as_ref()))),
            Err(_) => Err(EngineError::Timeout {
                host: self.session.host().to_owned(),
                seconds: limit.as_secs(),
            }),
        }
    }

    fn succeeded(&self, status: StatusCode, body: &[u8]) -> Result<(), EngineError> {
        if status.is_success() {
            return Ok(());
        }
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        let reason = serde_json::from_slice::<Message>(body)
            .map_or_else(|_| format!("status {status}"), |message| message.message);
        Err(EngineError::Refused { host: self.session.host().to_owned(), reason })
    }

    fn read<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, EngineError> {
        serde_json::from_slice(body)
            .map_err(|error| self.broken(format!("its answer cannot be read: {error}")))
    }

    fn broken(&self, reason: String) -> EngineError {
        EngineError::Broken { host: self.session.host().to_owned(), reason }
    }
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// An error with everything that led to it: the outermost alone says little.
fn with_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
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
