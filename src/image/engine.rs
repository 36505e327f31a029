//! The container engine of a host, asked from here through the host's session.

use super::bundle::Bundle;
use crate::ssh::{AgentSession, OpenError};
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Limited, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Where the engine listens on a host.
const SOCKET: &str = "/var/run/docker.sock";

/// How long the engine may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the engine may take for what costs it no work.
const QUICK: Duration = Duration::from_secs(60);

/// How long an archive may take from its first byte to the engine's last word.
const LOAD: Duration = Duration::from_secs(3600);

/// Bytes of an answer that are read at most.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

/// Bytes of an archive that are sent at once.
const PIECE: usize = 128 * 1024;

/// Is told how many bytes of an archive were sent so far.
pub type Sent = Arc<dyn Fn(u64) + Send + Sync>;

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
    /// The archive could not be read any further.
    #[error("the archive {path} cannot be read: {reason}")]
    Archive {
        /// The archive.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The container engine of one host.
pub struct Engine<'a> {
    session: &'a AgentSession,
}

#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "Id")]
    id: String,
}

impl<'a> Engine<'a> {
    /// The engine of the session's host.
    pub const fn new(session: &'a AgentSession) -> Self {
        Self { session }
    }

    /// The id of an image; `None` where the host does not have it.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn image_id(&self, name: &str) -> Result<Option<String>, EngineError> {
        let path = format!("/images/{name}/json");
        let (status, body) = self.ask(Method::GET, &path, empty(), QUICK).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.succeeded(status, &body)?;
        let inspected: Inspected = serde_json::from_slice(&body)
            .map_err(|error| self.broken(format!("its answer cannot be read: {error}")))?;
        Ok(Some(inspected.id))
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

    /// Sends an archive.
    ///
    /// # Errors
    /// When the archive cannot be read, the conversation breaks, or the engine refuses.
    pub async fn load(&self, bundle: &Bundle, sent: Sent) -> Result<(), EngineError> {
        let unreadable = |error: io::Error| EngineError::Archive {
            path: bundle.path.display().to_string(),
            reason: error.to_string(),
        };
        let file = tokio::fs::File::open(&bundle.path).await.map_err(unreadable)?;
        let pieces =
            stream::try_unfold((file, 0_u64, sent), |(mut file, before, sent)| async move {
                let mut piece = vec![0; PIECE];
                let count = file.read(&mut piece).await?;
                if count == 0 {
                    return Ok(None);
                }
                piece.truncate(count);
                let total = before + count as u64;
                sent(total);
                Ok(Some((Frame::data(Bytes::from(piece)), (file, total, sent))))
            });
        let body = StreamBody::new(pieces).boxed_unsync();
        let (status, answer) = self.ask(Method::POST, "/images/load?quiet=1", body, LOAD).await?;
        self.succeeded(status, &answer)?;
        match refusal(&answer) {
            Some(reason) => Err(EngineError::Refused { host: self.session.host().into(), reason }),
            None => Ok(()),
        }
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
                .header("Content-Type", "application/x-tar")
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

/// What went wrong with a load that began well: the engine says so in its progress messages, one
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
    fn a_load_that_fails_halfway_is_seen() {
        for (answer, reason) in [
            (&b"{\"stream\":\"Loaded image: a:1\\n\"}\n"[..], None),
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
