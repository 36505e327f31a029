//! Questions to the host's container engine, and what its answers say. How they travel is the
//! business of [`System::engine`].

use super::outcome::Failure;
use super::system::System;
use serde_json::Value;
use std::time::Duration;

/// Where the engine listens.
pub const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// Where the engine keeps images and containers.
const ENGINE_DATA: &str = "/var/lib/docker/containers";

/// How long the engine may take for what costs it no work.
const QUICK: Duration = Duration::from_secs(60);

/// One HTTP request to the container engine. Secrets stand in the body only, which `Debug` hides.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineRequest {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Path and query, each part already encoded.
    pub path: String,
    /// A JSON text.
    pub body: Option<Vec<u8>>,
    /// How long the whole answer may take.
    pub deadline: Duration,
}

impl EngineRequest {
    /// A question.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), body: None, deadline: QUICK }
    }

    /// An order without a body.
    pub fn post(path: impl Into<String>) -> Self {
        Self { method: "POST", ..Self::get(path) }
    }

    /// An order to remove.
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: "DELETE", ..Self::get(path) }
    }

    /// Adds a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self
    }

    /// Sets how long the whole answer may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl std::fmt::Debug for EngineRequest {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = self.body.as_ref().map_or(0, Vec::len);
        write!(to, "EngineRequest({} {}, {body} bytes)", self.method, self.path)
    }
}

/// The engine's answer.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineResponse {
    /// HTTP status.
    pub status: u16,
    /// The whole body, with the transfer's encoding taken off.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for EngineResponse {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "EngineResponse({}, {} bytes)", self.status, self.body.len())
    }
}

impl EngineResponse {
    /// True for 200 to 299, and for 304: it was so already.
    pub fn success(&self) -> bool {
        (200..300).contains(&self.status) || self.status == 304
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::new(format!("the container engine's answer cannot be read: {error}"))
        })
    }

    /// What the engine says in an answer that is no success: its `message`, one line.
    pub fn message(&self) -> String {
        let value = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        let text = match value.get("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(&self.body).chars().take(300).collect(),
        };
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() { format!("status {}", self.status) } else { line }
    }
}

/// Sends a request that must succeed; `what` says what it is for, for example `cannot start redis`.
///
/// # Errors
/// When the engine cannot be asked, or answers with something else than success.
pub(super) fn ask(
    system: &mut dyn System,
    request: &EngineRequest,
    what: &str,
) -> Result<EngineResponse, Failure> {
    let response = system.engine(request)?;
    if response.success() {
        return Ok(response);
    }
    Err(Failure::new(format!("{what}: {}", response.message())))
}

/// Sends a question for something that need not exist: `None` when it does not.
///
/// # Errors
/// When the engine cannot be asked, or answers with something else than success or 404.
pub(super) fn look_up(
    system: &mut dyn System,
    path: String,
    what: &str,
) -> Result<Option<Value>, Failure> {
    let response = system.engine(&EngineRequest::get(path))?;
    match response.status {
        404 => Ok(None),
        _ if response.success() => response.json().map(Some),
        _ => Err(Failure::new(format!("{what}: {}", response.message()))),
    }
}

/// The id of an image on the host.
///
/// # Errors
/// When the engine cannot be asked.
pub(super) fn image_id(system: &mut dyn System, name: &str) -> Result<Option<String>, Failure> {
    let what = format!("cannot look at the image {name}");
    let found = look_up(system, format!("/images/{name}/json"), &what)?;
    Ok(found.and_then(|image| image.get("Id")?.as_str().map(str::to_owned)))
}

/// True when the host has an engine at all, running or not: an earlier step may be about to
/// install it. One that does not run is installed all the same, and what it keeps is not known.
///
/// # Errors
/// When a path cannot be looked at.
pub(super) fn is_installed(system: &mut dyn System) -> Result<bool, Failure> {
    Ok(system.metadata(ENGINE_SOCKET)?.is_some() || system.metadata(ENGINE_DATA)?.is_some())
}

/// True for a reference to an image that names exactly what is meant: `repository:tag` or
/// `repository@sha256:…`, never `latest`.
pub(super) fn is_pinned(name: &str) -> bool {
    let plain = !name.is_empty()
        && name.len() <= 250
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
        && !name.contains("//")
        && !name.contains("..");
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = last.split_once(':').is_some_and(|(_, tag)| !tag.is_empty() && tag != "latest");
    plain && tagged
}

/// The text of a container's log as the engine sends it: frames of an eight-byte head (stream,
/// three zeros, length) where the container has no terminal, plain bytes where it has one.
pub(super) fn log_text(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    let mut rest = bytes;
    while let [0..=2, 0, 0, 0, a, b, c, d, tail @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let length = length.min(tail.len());
        text.extend_from_slice(&tail[..length]);
        rest = &tail[length..];
    }
    text.extend_from_slice(rest);
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_image_is_named_exactly() {
        for good in [
            "redis:7.2.5",
            "minio/minio:RELEASE.2024-10-02T17-50-41Z",
            "localhost:5000/redis:7",
            "quay.io/a/b@sha256:0123",
        ] {
            assert!(is_pinned(good), "{good}");
        }
        for bad in [
            "",
            "redis",
            "redis:",
            "redis:latest",
            "localhost:5000/redis",
            "a b:1",
            "-a:1",
            "a:1?x",
        ] {
            assert!(!is_pinned(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn logs_come_in_frames(lines in proptest::collection::vec("[a-z]{0,20}\n", 0..5)) {
            let mut bytes = Vec::new();
            for (index, line) in lines.iter().enumerate() {
                bytes.extend_from_slice(&[1 + u8::from(index % 2 == 0), 0, 0, 0]);
                bytes.extend_from_slice(&u32::try_from(line.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(line.as_bytes());
            }
            let text = lines.concat();
            prop_assert_eq!(log_text(&bytes), text.trim_end());
        }

        #[test]
        fn no_log_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            log_text(&bytes);
        }
    }

    #[test]
    fn a_refusal_is_one_line() {
        let response = |body: &str| EngineResponse { status: 409, body: body.into() };
        assert_eq!(response("{\"message\":\"in\\n use\"}").message(), "in use");
        assert_eq!(response("plain").message(), "plain");
        assert_eq!(response("").message(), "status 409");
    }
}
