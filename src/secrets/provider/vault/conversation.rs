//! Requests to the server: login, reading, writing. Everything together has one deadline.

use super::answer::{self, Found, Refusal};
use super::connection::{Connector, unreachable};
use super::{Login, Vault, from_file};
use crate::diag::{Diagnostic, Diagnostics};
use crate::http_client::{HttpError, Request, Response};
use crate::secrets::codes;
use crate::secrets::redact::Redactor;
use crate::secrets::secret::Secret;
use futures::future::join_all;
use hyper::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// What was found, brick by brick.
pub type Bricks = Vec<(String, Found)>;

/// Secrets that were shown the server, by what they are called when they are masked.
pub type Shown = Vec<(String, Secret<String>)>;

/// A server that strata has shown who it is.
pub struct Conversation<'a> {
    vault: &'a Vault,
    connector: Connector,
    deadline: Instant,
    token: Secret<String>,
    shown: Shown,
}

/// Reads bricks, all at the same time.
///
/// # Errors
/// Every one of them that cannot be read; the same trouble is told once.
pub fn read(vault: &Vault, bricks: &[String]) -> Result<(Bricks, Shown), Diagnostics> {
    on_a_thread(|| async {
        let conversation = Conversation::begin(vault).await.map_err(one)?;
        let reads = bricks.iter().map(|brick| conversation.found(brick));
        let mut problems = Diagnostics::new();
        let mut found = Vec::new();
        for (brick, read) in bricks.iter().zip(join_all(reads).await) {
            match read {
                Ok(read) => found.push((brick.clone(), read)),
                Err(problem) => {
                    if !problems.iter().any(|told| told.message == problem.message) {
                        problems.push(problem);
                    }
                }
            }
        }
        let shown = conversation.end().await;
        match problems.has_errors() {
            true => Err(problems),
            false => Ok((found, shown)),
        }
    })
}

/// Does something with a server that strata has shown who it is.
///
/// # Errors
/// What `work` ends with, and whatever keeps the server away.
pub fn run<T: Send>(
    vault: &Vault,
    work: impl AsyncFnOnce(&Conversation<'_>) -> Result<T, Diagnostic> + Send,
) -> Result<T, Diagnostics> {
    on_a_thread(|| async {
        let conversation = Conversation::begin(vault).await.map_err(one)?;
        let result = work(&conversation).await;
        conversation.end().await;
        result.map_err(one)
    })
}

/// Runs a future on a thread of its own: whoever asks may be inside a runtime already.
fn on_a_thread<T: Send, F: Future<Output = Result<T, Diagnostics>>>(
    work: impl FnOnce() -> F + Send,
) -> Result<T, Diagnostics> {
    let failed = |reason: String| {
        one(Diagnostic::error(codes::VAULT_UNREACHABLE, format!("the runtime: {reason}")))
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(work()),
                Err(error) => Err(failed(error.to_string())),
            }
        });
        thread.join().unwrap_or_else(|_| Err(failed("it ended before its work".to_owned())))
    })
}

impl<'a> Conversation<'a> {
    async fn begin(vault: &'a Vault) -> Result<Self, Diagnostic> {
        let mut conversation = Self {
            vault,
            connector: Connector::new(&vault.server)?,
            deadline: Instant::now() + vault.timeout,
            token: Secret::new(String::new()),
            shown: Vec::new(),
        };
        conversation.token = match &vault.login {
            Login::Token { given: Some(token), .. } => token.clone(),
            Login::Token { given: None, file: Some(file) } => {
                from_file(file, "a token", "token_file")?
            }
            Login::Token { given: None, file: None } => {
                return Err(Diagnostic::error(
                    codes::VAULT_LOGIN,
                    format!("there is no token for {}", vault.server),
                )
                .hint("give it as VAULT_TOKEN, or name a file of mode 0600 as `token_file` under [secrets]; what runs unattended uses auth = \"approle\""));
            }
            Login::AppRole { mount, role_id, secret_id_file } => {
                let secret_id = from_file(secret_id_file, "a secret id", "secret_id_file")?;
                conversation.shown.push(("VAULT_SECRET_ID".to_owned(), secret_id.clone()));
                conversation.log_in(mount, role_id, &secret_id).await?
            }
        };
        let token = conversation.token.clone();
        conversation.shown.push(("VAULT_TOKEN".to_owned(), token));
        Ok(conversation)
    }

    async fn log_in(
        &self,
        mount: &str,
        role_id: &str,
        secret_id: &Secret<String>,
    ) -> Result<Secret<String>, Diagnostic> {
        let body = json!({ "role_id": role_id, "secret_id": secret_id.expose() });
        let path = format!("/v1/auth/{mount}/login");
        let response = self.ask(Method::POST, &path, Some(&body)).await?;
        answer::token(response.status, &response.body)
            .map_err(|refusal| self.told(&refusal, &format!("auth/{mount}")))
    }

    /// Ends what it began: a token that was made for this run serves nobody after it.
    async fn end(self) -> Shown {
        if matches!(self.vault.login, Login::AppRole { .. }) {
            // Its lifetime ends it where this does not; a run does not fail for that.
            let _ = self.ask(Method::POST, "/v1/auth/token/revoke-self", Some(&json!({}))).await;
        }
        self.shown
    }

    /// What stands at a brick's place.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn found(&self, brick: &str) -> Result<Found, Diagnostic> {
        let response = self.ask(Method::GET, &self.data(brick), None).await?;
        answer::found(response.status, &response.body)
            .map_err(|refusal| self.told(&refusal, &self.vault.place_of(brick)))
    }

    /// Writes a brick anew, if `version` is still the latest.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn write(
        &self,
        brick: &str,
        entries: Map<String, Value>,
        version: u64,
    ) -> Result<(), Diagnostic> {
        let body = json!({ "options": { "cas": version }, "data": entries });
        let response = self.ask(Method::POST, &self.data(brick), Some(&body)).await?;
        answer::written(response.status, &response.body)
            .map_err(|refusal| self.told(&refusal, &self.vault.place_of(brick)))
    }

    fn data(&self, brick: &str) -> String {
        format!("/v1/{}/data/{}", self.vault.mount, self.vault.path_of(brick))
    }

    /// A refusal for the operator. Whatever the server repeats of what it was shown is masked: the
    /// filter of the process does not know it yet.
    fn told(&self, refusal: &Refusal, what: &str) -> Diagnostic {
        let mut problem = refusal.diagnostic(&self.vault.server.to_string(), what);
        let token = ("VAULT_TOKEN", &self.token);
        let shown = self.shown.iter().map(|(name, value)| (name.as_str(), value));
        let redactor = Redactor::new(shown.chain([token]));
        problem.message = redactor.redact(&problem.message).into_owned();
        problem
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, Diagnostic> {
        let server = &self.vault.server;
        let late = || {
            let limit = self.vault.timeout.as_secs();
            unreachable(server, &format!("no answer within {limit} s"))
                .hint("`timeout` under [secrets] is for login and all values together")
        };
        let stream = tokio::time::timeout_at(self.deadline, self.connector.connect())
            .await
            .map_err(|_| late())??;
        let host = server.to_string().split("://").nth(1).unwrap_or_default().to_owned();
        let mut request = match body {
            Some(body) => Request::json(method, host, path, body),
            None => Request::new(method, host, path),
        };
        // Proxies of Vault's own ask for it: no page in a browser can send it.
        request = request.header("X-Vault-Request", "true");
        if let Some(namespace) = &self.vault.namespace {
            request = request.header("X-Vault-Namespace", namespace.as_str());
        }
        if !self.token.expose().is_empty() {
            request = request.header("X-Vault-Token", self.token.expose().as_str());
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        request.send(stream, left.max(Duration::from_millis(1))).await.map_err(|error| match error
        {
            HttpError::Timeout(_) => late(),
            other => unreachable(server, &other.to_string())
                .hint("is that address a Vault server? A server that speaks TLS only breaks what comes to it as http://"),
        })
    }
}

fn one(problem: Diagnostic) -> Diagnostics {
    let mut problems = Diagnostics::new();
    problems.push(problem);
    problems
}
