//! A contract double of a Vault server, for tests: NOT Vault. It keeps what the public documentation
//! of Vault's HTTP interface promises of the engine for keys and values (versions, check-and-set,
//! deletion), of tokens with policies by path, of AppRole and of the seal, in the fewest lines. What
//! it is asked is written down, so that tests can say what was not asked.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One version of what stands at a path.
#[derive(Clone)]
struct Version {
    data: Map<String, Value>,
    deleted: bool,
}

/// What the double knows.
#[derive(Default)]
pub struct State {
    /// Tokens, and the beginnings of paths that each may use.
    pub tokens: BTreeMap<String, Vec<String>>,
    /// Role id, secret id, and the token that a login gives.
    pub approle: Option<(String, String, String)>,
    pub sealed: bool,
    /// A namespace that must be named.
    pub namespace: Option<String>,
    /// Another writer's change, made before the next write is looked at.
    pub overtaken_by: Option<(String, Map<String, Value>)>,
    /// An answer to everything, as it goes over the wire.
    pub says: Option<Vec<u8>>,
    /// Silence for this long before an answer.
    pub thinks: Duration,
    /// Methods and paths in the order of requests.
    pub asked: Vec<String>,
    /// The most requests that were in hand at one time.
    pub most: usize,
    in_hand: usize,
    secrets: BTreeMap<String, Vec<Version>>,
}

/// A running double.
pub struct Double {
    pub port: u16,
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl Double {
    /// Listens on a free port of this machine; over TLS with a certificate and its key in PEM form.
    pub fn start(tls: Option<(&Path, &Path)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let acceptor = tls.map(|(certificate, key)| {
            let chain = CertificateDer::pem_file_iter(certificate).unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    chain.map(Result::unwrap).collect(),
                    PrivateKeyDer::from_pem_file(key).unwrap(),
                )
                .unwrap();
            TlsAcceptor::from(Arc::new(config))
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (Arc::clone(&shared), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &state).await,
                        // Who hangs up in the handshake has asked nothing.
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, &state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, state, _runtime: runtime }
    }

    /// Changes or reads what it knows.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Writes a version, as its keeper would.
    pub fn put(&self, path: &str, data: &Value) {
        self.with(|state| state.put(path, data.as_object().unwrap().clone()));
    }

    /// The latest version.
    pub fn latest(&self, path: &str) -> Value {
        self.with(|state| Value::Object(state.secrets[path].last().unwrap().data.clone()))
    }

    /// Deletes the latest version.
    pub fn delete(&self, path: &str) {
        self.with(|state| {
            state.secrets.get_mut(path).unwrap().last_mut().unwrap().deleted = true;
        });
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.asked))
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: &Mutex<State>) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(length)) = request.parse(&bytes) {
            let header = |name: &str| {
                let found = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
                found.map(|header| String::from_utf8_lossy(header.value).into_owned())
            };
            let head = Head {
                method: request.method.unwrap().to_owned(),
                path: request.path.unwrap().to_owned(),
                token: header("X-Vault-Token"),
                namespace: header("X-Vault-Namespace"),
                marked: header("X-Vault-Request").as_deref() == Some("true"),
                body: header("Content-Length").and_then(|n| n.parse().ok()).unwrap_or(0),
            };
            break (head, length);
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    while bytes.len() < length + head.body {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let thinks = {
        let mut state = state.lock().unwrap();
        state.in_hand += 1;
        state.most = state.most.max(state.in_hand);
        state.asked.push(format!("{} {}", head.method, head.path));
        state.thinks
    };
    tokio::time::sleep(thinks).await;
    let answer = {
        let mut state = state.lock().unwrap();
        state.in_hand -= 1;
        match state.says.clone() {
            Some(bytes) => bytes,
            None => {
                let (status, body) = state.answer(&head, &bytes[length..]);
                let body = body.map(|body| body.to_string()).unwrap_or_default();
                format!(
                    "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes()
            }
        }
    };
    // Who hung up does not want it.
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

struct Head {
    method: String,
    path: String,
    token: Option<String>,
    namespace: Option<String>,
    marked: bool,
    body: usize,
}

fn errors(status: u16, texts: &[&str]) -> (u16, Option<Value>) {
    (status, Some(json!({ "errors": texts })))
}

impl State {
    fn put(&mut self, path: &str, data: Map<String, Value>) {
        self.secrets.entry(path.to_owned()).or_default().push(Version { data, deleted: false });
    }

    fn answer(&mut self, head: &Head, body: &[u8]) -> (u16, Option<Value>) {
        if self.sealed {
            return errors(503, &["Vault is sealed"]);
        }
        if !head.marked {
            return errors(412, &["missing required header `X-Vault-Request`"]);
        }
        if head.namespace != self.namespace {
            return errors(404, &["no handler for route. route entry not found."]);
        }
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if head.path == "/v1/auth/approle/login" {
            return match &self.approle {
                Some((role, secret, token))
                    if body["role_id"] == **role && body["secret_id"] == **secret =>
                {
                    (200, Some(json!({ "auth": { "client_token": token } })))
                }
                _ => errors(400, &["invalid role or secret ID"]),
            };
        }
        let Some(token) = &head.token else { return errors(400, &["missing client token"]) };
        if head.path == "/v1/auth/token/revoke-self" {
            self.tokens.remove(token);
            return (204, None);
        }
        let path = head.path.trim_start_matches("/v1/");
        let allowed = self.tokens.get(token);
        if !allowed.is_some_and(|paths| paths.iter().any(|allowed| path.starts_with(allowed))) {
            return errors(403, &["permission denied"]);
        }
        if let Some(path) = path.strip_prefix("old/") {
            // An engine of version 1: what was written is the data.
            let found = self.secrets.get(path).and_then(|versions| versions.last());
            return match found {
                Some(version) => (200, Some(json!({ "data": version.data }))),
                None => errors(404, &[]),
            };
        }
        let Some(path) = path.strip_prefix("secret/data/") else {
            return errors(404, &["no handler for route. route entry not found."]);
        };
        match head.method.as_str() {
            "GET" => self.read(path),
            "POST" => self.write(path, &body),
            _ => errors(405, &[]),
        }
    }

    fn read(&self, path: &str) -> (u16, Option<Value>) {
        let Some(versions) = self.secrets.get(path) else { return errors(404, &[]) };
        let Some(latest) = versions.last() else { return errors(404, &[]) };
        let deleted = if latest.deleted { "2026-11-22T00:00:00Z" } else { "" };
        let metadata = json!({
            "created_time": "2026-11-21T00:00:00Z", "custom_metadata": null,
            "deletion_time": deleted, "destroyed": false, "version": versions.len(),
        });
        let data = if latest.deleted { Value::Null } else { json!(latest.data) };
        let status = if latest.deleted { 404 } else { 200 };
        (status, Some(json!({ "data": { "data": data, "metadata": metadata } })))
    }

    fn write(&mut self, path: &str, body: &Value) -> (u16, Option<Value>) {
        if let Some((path, data)) = self.overtaken_by.take() {
            self.put(&path, data);
        }
        let latest = self.secrets.get(path).map_or(0, Vec::len);
        if body["options"]["cas"] != json!(latest) {
            let text = "check-and-set parameter did not match the current version";
            return errors(400, &[text]);
        }
        let Some(data) = body["data"].as_object() else { return errors(400, &["no data"]) };
        self.put(path, data.clone());
        (200, Some(json!({ "data": { "version": latest + 1 } })))
    }
}
