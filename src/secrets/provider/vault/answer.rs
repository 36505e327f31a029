//! What the answers of a Vault server mean. Pure: status and body in, meaning out.

use crate::diag::Diagnostic;
use crate::secrets::codes;
use crate::secrets::secret::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Characters of a server's own words that are repeated at most.
const WORDS: usize = 200;

/// What stands at a path.
pub enum Found {
    /// Keys and values of the latest version.
    Values(Values),
    /// Nothing was ever written there, or all of it was removed.
    Nothing,
    /// The latest version was deleted or destroyed.
    Deleted {
        /// Its number.
        version: u64,
    },
}

/// The latest version of what stands at a path. Its debug output tells nothing.
pub struct Values {
    entries: Map<String, Value>,
    /// Its number.
    pub version: u64,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Values").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Values {
    /// The value of a name; `Err` when it is something else than a text.
    pub fn take(&mut self, name: &str) -> Result<Option<Secret<String>>, ()> {
        match self.entries.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Secret::new(text))),
            Some(_) => Err(()),
        }
    }

    /// True when the name has a value.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Everything, to be written again with a change.
    pub fn into_entries(self) -> Map<String, Value> {
        self.entries
    }
}

/// Why the server gave no values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is sealed.
    Sealed,
    /// It is not initialised, or has no leader just now.
    NotReady(String),
    /// The token counts not, or not for this.
    Denied(String),
    /// The login was not accepted.
    LoginRefused(String),
    /// Nothing is mounted there.
    NoEngine(String),
    /// What is mounted there keeps no versions.
    NotVersionTwo,
    /// Somebody else wrote meanwhile.
    ChangedMeanwhile,
    /// A standby that sends its clients elsewhere.
    Elsewhere,
    /// It is asked too much.
    Busy,
    /// Any other status.
    Status(u16, String),
    /// Not what the interface promises.
    Unreadable(String),
}

#[derive(Deserialize, Default)]
struct Envelope {
    #[serde(default)]
    data: Option<Inner>,
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    #[serde(default)]
    auth: Option<Auth>,
}

#[derive(Deserialize, Default)]
struct Inner {
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
}

/// What `GET /v1/MOUNT/data/PATH` found.
pub fn found(status: u16, body: &[u8]) -> Result<Found, Refusal> {
    let envelope = envelope(body);
    match (status, envelope) {
        (200, Ok(Envelope { data: Some(inner), .. })) => match (inner.data, inner.metadata) {
            (Some(entries), Some(Metadata { version })) => {
                Ok(Found::Values(Values { entries, version }))
            }
            _ => Err(Refusal::NotVersionTwo),
        },
        (200, Ok(_)) => Err(Refusal::Unreadable("it holds no `data`".to_owned())),
        (200, Err(error)) => Err(Refusal::Unreadable(error)),
        (404, Ok(envelope)) => {
            let deleted = envelope.data.and_then(|inner| inner.metadata);
            if let Some(Metadata { version }) = deleted {
                return Ok(Found::Deleted { version });
            }
            let said = envelope.warnings.unwrap_or_default();
            if said.iter().any(|text| text.contains("versioned K/V")) {
                return Err(Refusal::NotVersionTwo);
            }
            match envelope.errors.first() {
                // Nothing is said where a path is empty, and something where there is no engine.
                None => Ok(Found::Nothing),
                Some(text) => Err(Refusal::NoEngine(shown(text))),
            }
        }
        (status, envelope) => Err(refusal(status, envelope.ok().as_ref())),
    }
}

/// The token that a login gave.
pub fn token(status: u16, body: &[u8]) -> Result<Secret<String>, Refusal> {
    match (status, envelope(body)) {
        (200, Ok(Envelope { auth: Some(auth), .. })) if !auth.client_token.is_empty() => {
            Ok(Secret::new(auth.client_token))
        }
        (200, _) => Err(Refusal::Unreadable("it holds no token".to_owned())),
        (400 | 403 | 404, envelope) => Err(Refusal::LoginRefused(words(envelope.ok().as_ref()))),
        (status, envelope) => Err(refusal(status, envelope.ok().as_ref())),
    }
}

/// Whether a value was written.
pub fn written(status: u16, body: &[u8]) -> Result<(), Refusal> {
    match status {
        200 | 204 => Ok(()),
        status => {
            let envelope = envelope(body).ok();
            match envelope.as_ref().and_then(|envelope| envelope.errors.first()) {
                Some(text) if status == 400 && text.contains("check-and-set") => {
                    Err(Refusal::ChangedMeanwhile)
                }
                Some(text) if status == 404 => Err(Refusal::NoEngine(shown(text))),
                _ => Err(refusal(status, envelope.as_ref())),
            }
        }
    }
}

fn refusal(status: u16, envelope: Option<&Envelope>) -> Refusal {
    let words = words(envelope);
    match status {
        500..=504 if words.contains("sealed") => Refusal::Sealed,
        500 | 502..=504 => Refusal::NotReady(words),
        400 if words.contains("missing client token") => Refusal::Denied(words),
        401 | 403 => Refusal::Denied(words),
        429 => Refusal::Busy,
        301 | 302 | 307 | 308 | 472 | 473 => Refusal::Elsewhere,
        status => Refusal::Status(status, words),
    }
}

fn envelope(body: &[u8]) -> Result<Envelope, String> {
    // Its own text could quote a part of the answer, so only the place is told.
    serde_json::from_slice(body).map_err(|error| {
        format!("no answer of Vault at line {}, column {}", error.line(), error.column())
    })
}

fn words(envelope: Option<&Envelope>) -> String {
    envelope.map(|envelope| shown(&envelope.errors.join("; "))).unwrap_or_default()
}

/// A server's words on one line.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WORDS).collect()
}

impl Refusal {
    /// What is told the operator; `server` is its address, `what` the request in a few words.
    pub fn diagnostic(&self, server: &str, what: &str) -> Diagnostic {
        let said = |words: &str| match words.is_empty() {
            true => String::new(),
            false => format!(" ({words})"),
        };
        let error = Diagnostic::error;
        match self {
            Self::Sealed => error(codes::VAULT_NOT_READY, format!("{server} is sealed"))
                .hint("nobody reads anything from it until its keepers have unsealed it: `vault operator unseal`"),
            Self::NotReady(words) => error(
                codes::VAULT_NOT_READY,
                format!("{server} is not ready{}", said(words)),
            )
            .hint("`vault status` says why: not initialised, no leader, or its storage is away"),
            Self::Busy => error(codes::VAULT_NOT_READY, format!("{server} is asked too much just now"))
                .hint("wait, or raise its quota for this path (`vault read sys/quotas/config`)"),
            Self::Elsewhere => error(
                codes::VAULT_NOT_READY,
                format!("{server} is a standby that sends its clients elsewhere"),
            )
            .hint("a token is not sent to an address that the site does not name: name the active node, or a balancer in front of it, in `address` under [secrets]"),
            Self::Denied(words) => error(
                codes::VAULT_DENIED,
                format!("{server} does not allow {what}{}", said(words)),
            )
            .hint("the token is wrong, at its end, or its policies do not hold this path: `vault token lookup`, `vault token capabilities PATH`"),
            Self::LoginRefused(words) => error(
                codes::VAULT_DENIED,
                format!("{server} refuses the login: {what}{}", said(words)),
            )
            .hint("`role_id` or the secret id is wrong or used up, or nothing is mounted at `approle_mount`: give the role a new secret id and put it into `secret_id_file`"),
            Self::NoEngine(words) => error(
                codes::VAULT_ANSWER,
                format!("{server} has nothing mounted for {what}{}", said(words)),
            )
            .hint("`mount` under [secrets] names the engine for keys and values, and `namespace` the namespace that it is in: `vault secrets list`"),
            Self::NotVersionTwo => error(
                codes::VAULT_ANSWER,
                format!("the engine behind {what} on {server} keeps no versions"),
            )
            .hint("strata reads version 2 of the engine for keys and values: `vault kv enable-versioning MOUNT`"),
            Self::ChangedMeanwhile => error(
                codes::CHANGED_MEANWHILE,
                format!("somebody else wrote meanwhile: {what}"),
            )
            .hint("nothing was written; run the command again"),
            Self::Status(status, words) => error(
                codes::VAULT_ANSWER,
                format!("{server} answers {status} to {what}{}", said(words)),
            )
            .hint("is that address a Vault server, and not something in front of it?"),
            Self::Unreadable(reason) => error(
                codes::VAULT_ANSWER,
                format!("the answer of {server} to {what} cannot be read: {reason}"),
            )
            .hint("is that address a Vault server, and not something in front of it?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_version_is_taken_and_what_is_no_text_is_not() {
        let body = br#"{"request_id":"x","data":{"data":{"A":"alpha","N":7},"metadata":{"created_time":"2026-01-01T00:00:00Z","deletion_time":"","destroyed":false,"version":3}}}"#;
        let Ok(Found::Values(mut values)) = found(200, body) else { unreachable!() };
        assert_eq!(values.version, 3);
        assert_eq!(format!("{values:?}"), "Values { version: 3, .. }");
        assert_eq!(values.take("A").unwrap().unwrap().expose(), "alpha");
        assert!(values.take("N").is_err());
        assert!(values.take("B").unwrap().is_none());
    }

    #[test]
    fn every_answer_has_its_meaning() {
        let deleted = br#"{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z","destroyed":false,"version":2}}}"#;
        assert!(matches!(found(404, deleted), Ok(Found::Deleted { version: 2 })));
        assert!(matches!(found(404, br#"{"errors":[]}"#), Ok(Found::Nothing)));
        let no_route =
            br#"{"errors":["no handler for route \"kv/data/x\". route entry not found."]}"#;
        let wrong = |status, body: &[u8]| found(status, body).err();
        assert!(matches!(wrong(404, no_route), Some(Refusal::NoEngine(_))));
        let version_one = br#"{"data":{"A":"alpha"}}"#;
        assert_eq!(wrong(200, version_one), Some(Refusal::NotVersionTwo));
        assert_eq!(wrong(503, br#"{"errors":["Vault is sealed"]}"#), Some(Refusal::Sealed));
        assert_eq!(wrong(500, br#"{"errors":["RustyVault is sealed."]}"#), Some(Refusal::Sealed));
        assert!(matches!(
            wrong(403, br#"{"errors":["permission denied"]}"#),
            Some(Refusal::Denied(_))
        ));
        assert_eq!(wrong(307, b""), Some(Refusal::Elsewhere));
        assert!(
            matches!(wrong(200, b"<html>hunter2"), Some(Refusal::Unreadable(text)) if !text.contains("hunter2"))
        );
        assert_eq!(wrong(418, b"<html>"), Some(Refusal::Status(418, String::new())));
        let cas = br#"{"errors":["check-and-set parameter did not match the current version"]}"#;
        assert_eq!(written(400, cas), Err(Refusal::ChangedMeanwhile));
        assert!(matches!(
            token(400, br#"{"errors":["invalid role or secret ID"]}"#),
            Err(Refusal::LoginRefused(_))
        ));
        assert_eq!(token(200, br#"{"auth":{"client_token":"s.x"}}"#).unwrap().expose(), "s.x");
    }

    #[test]
    fn whatever_a_server_says_it_stays_short_and_on_one_line() {
        let body = serde_json::json!({ "errors": [format!("a\n\u{1b}[31m{}", "b".repeat(5000))] });
        let Some(Refusal::Denied(words)) = found(403, body.to_string().as_bytes()).err() else {
            unreachable!()
        };
        assert!(words.chars().count() <= WORDS && !words.chars().any(char::is_control), "{words}");
    }
}
