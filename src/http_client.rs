//! One HTTP/1.1 request over a connection that somebody else made, for example from another host.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Bytes of an answer that are read at most.
pub const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

/// Bytes of a server's own words that an error repeats at most.
const WORDS: usize = 400;

/// What is sent as a request's body.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Why there is no answer, or not one that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The conversation broke.
    #[error("the conversation broke: {0}")]
    Broken(String),
    /// The answer did not come in time.
    #[error("no answer within {0} s")]
    Timeout(u64),
    /// The server answered with another status than success.
    #[error("status {status}{words}")]
    Status {
        /// The status.
        status: u16,
        /// What the server said, after a colon; empty where it said nothing.
        words: String,
    },
    /// The answer is not what was asked for.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
}

/// A request.
pub struct Request {
    method: Method,
    path: String,
    host: String,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

impl Request {
    /// A request without a body; `host` is what the server is called.
    pub fn new(method: Method, host: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            host: host.into(),
            headers: Vec::new(),
            body: Empty::new().map_err(|never| match never {}).boxed_unsync(),
        }
    }

    /// A request for what is there.
    pub fn get(host: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(Method::GET, host, path)
    }

    /// A request with a body of JSON.
    pub fn json(
        method: Method,
        host: impl Into<String>,
        path: impl Into<String>,
        value: &serde_json::Value,
    ) -> Self {
        let full = Full::new(Bytes::from(value.to_string()));
        Self::new(method, host, path)
            .header("Content-Type", "application/json")
            .with_body(full.map_err(|never| match never {}).boxed_unsync())
    }

    /// The same with another body.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The same with one header more.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with a name and a password (basic authentication).
    #[must_use]
    pub fn login(self, user: &str, password: &str) -> Self {
        use base64::Engine;
        let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("Authorization", format!("Basic {both}"))
    }

    /// Sends it over a connection, which ends with the answer.
    ///
    /// # Errors
    /// When no whole answer comes in time; any status is an answer.
    pub async fn send<S>(self, stream: S, limit: Duration) -> Result<Response, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let conversation = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let mut request = hyper::Request::builder()
                .method(self.method)
                .uri(self.path)
                .header("Host", self.host)
                .header("Connection", "close");
            for (name, value) in self.headers {
                request = request.header(name, value);
            }
            let request = request.body(self.body)?;
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
            Ok(Ok((status, body))) => Ok(Response { status: status.as_u16(), body }),
            Ok(Err(error)) => Err(HttpError::Broken(with_cause(error.as_ref()))),
            Err(_) => Err(HttpError::Timeout(limit.as_secs())),
        }
    }
}

impl Response {
    /// True for a status of success.
    pub fn is_success(&self) -> bool {
        StatusCode::from_u16(self.status).is_ok_and(|status| status.is_success())
    }

    /// The same answer if its status is one of success.
    ///
    /// # Errors
    /// The status otherwise, with the server's own words.
    pub fn succeeded(self) -> Result<Self, HttpError> {
        if self.is_success() {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(&self.body);
        let words: String = text.trim().chars().take(WORDS).collect();
        let words = if words.is_empty() { words } else { format!(": {words}") };
        Err(HttpError::Status { status: self.status, words })
    }

    /// Its body, read as JSON.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|error| HttpError::Unreadable(error.to_string()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What a server at the other end reads, and what the client makes of its answer.
    async fn told(
        request: Request,
        answer: &'static [u8],
    ) -> (String, Result<Response, HttpError>) {
        let (near, mut far) = tokio::io::duplex(4096);
        let server = async move {
            let mut heard = vec![0; 4096];
            let length = far.read(&mut heard).await.unwrap();
            far.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&heard[..length]).into_owned()
        };
        let (heard, answer) = tokio::join!(server, request.send(near, Duration::from_secs(5)));
        (heard, answer)
    }

    #[tokio::test]
    async fn a_login_and_json_are_sent_and_read() {
        let request = Request::json(Method::POST, "h", "/p", &serde_json::json!({ "a": 1 }))
            .login("me", "secret");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"b\":22}";
        let (heard, response) = told(request, answer).await;
        assert!(heard.starts_with("POST /p HTTP/1.1\r\n"), "{heard}");
        assert!(heard.to_lowercase().contains("authorization: basic bwu6c2vjcmv0"), "{heard}");
        assert!(heard.ends_with("{\"a\":1}"), "{heard}");
        let value: serde_json::Value = response.unwrap().succeeded().unwrap().read().unwrap();
        assert_eq!(value["b"], 22);
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_servers_words() {
        let answer = b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 9\r\n\r\nno leader";
        let (_, response) = told(Request::get("h", "/p"), answer).await;
        let error = response.unwrap().succeeded().unwrap_err();
        assert_eq!(error.to_string(), "status 412: no leader");
    }

    #[tokio::test]
    async fn half_an_answer_is_none() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf";
        let (_, response) = told(Request::get("h", "/p"), answer).await;
        assert!(matches!(response, Err(HttpError::Broken(_))), "{response:?}");
    }
}
