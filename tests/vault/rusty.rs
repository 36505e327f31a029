//! RustyVault, a server with Vault's interface that others wrote: tokens, AppRole and the seal are its
//! own. It has no policies yet, and its engine keeps no versions, so that what stands around a value in version 2
//! (`data`, `metadata`) is put there by the test: what is proved of versions is proved by the double.

use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Built once, by hand or by the campaign, into the target directory.
const CRATE: [&str; 3] = ["rusty_vault", "--version", "0.2.1"];

/// A running server.
pub struct Rusty {
    pub port: u16,
    pub root_token: String,
    key: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Rusty {
    fn drop(&mut self) {
        // It ends with the test, whichever way the test ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program; built from the crate registry where it is not there yet (several minutes).
fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rusty-vault");
    let program = root.join("bin/rvault");
    if !program.is_file() {
        let mut install = Command::new(env!("CARGO"));
        install.arg("install").args(CRATE).args(["--debug", "--root"]).arg(&root);
        assert!(install.status().unwrap().success(), "cargo install rusty_vault");
    }
    program
}

impl Rusty {
    /// Starts one with an engine at `secret/`, unsealed.
    pub fn start() -> Self {
        let program = program();
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.path().join("config.hcl");
        let text = format!(
            "storage \"file\" {{\n  path = \"{}/data\"\n}}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_disable = \"true\"\n}}\napi_addr = \"http://127.0.0.1:{port}\"\nlog_level = \"error\"\nwork_dir = \"{}\"\n",
            folder.path().display(),
            folder.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(program)
            .args(["server", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut rusty =
            Self { port, root_token: String::new(), key: String::new(), child, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "it does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = rusty.asked("PUT", "sys/init", &shares, 200);
        rusty.root_token = made["root_token"].as_str().unwrap().to_owned();
        rusty.key = made["keys"][0].as_str().unwrap().to_owned();
        rusty.unseal();
        rusty
    }

    /// Opens it again.
    pub fn unseal(&self) {
        self.asked("PUT", "sys/unseal", &json!({ "key": self.key }), 200);
    }

    /// Sends a request as root; the answer must have this status.
    #[track_caller]
    pub fn asked(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Vault-Token: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.root_token,
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let first = head.lines().next().unwrap();
        let found: u16 = first.split(' ').nth(1).unwrap().parse().unwrap();
        let fits = found == status || (status == 200 && found == 204);
        assert!(fits, "{method} {path}: {first}: {body}");
        serde_json::from_str(body).unwrap_or(Value::Null)
    }
}
