//! What the operator's OpenSSH client configuration says about a host, as OpenSSH itself reads it:
//! `ssh -G`. Each host is asked for once a run.
//!
//! It adds what the site does not say. It never loosens anything: host keys are pinned by the site
//! alone, and options that would weaken that are not read.

use super::target::Keys;
use crate::secrets::provider::TOKEN_VARIABLE;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long OpenSSH may take to read its configuration (`Match exec` runs programs).
const ANSWER: Duration = Duration::from_secs(10);

/// What the configuration says about one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// `HostName`.
    pub host: String,
    /// `User`.
    pub user: String,
    /// `Port`.
    pub port: u16,
    /// `ProxyJump`, as it is written.
    pub jump: Option<String>,
    /// `IdentityFile`, `CertificateFile`, `IdentityAgent` and `IdentitiesOnly`.
    pub keys: Keys,
}

/// Asks for settings and keeps the answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    file: PathBuf,
    home: PathBuf,
    agent_socket: Option<PathBuf>,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
}

type Answer = Arc<OnceCell<Result<ClientSettings, String>>>;

impl ClientConfig {
    /// The configuration in a file, with the operator's home and the socket of his ssh-agent.
    pub fn new(file: PathBuf, home: PathBuf, agent_socket: Option<PathBuf>) -> Self {
        Self { file, home, agent_socket, answers: Arc::default() }
    }

    /// What it says about a host, for a login and a port where they are known already.
    ///
    /// # Errors
    /// There is no OpenSSH client, it does not read the file, or the host is reached in a way that
    /// strata does not know.
    pub async fn settings(
        &self,
        host: &str,
        user: Option<&str>,
        port: Option<u16>,
    ) -> Result<ClientSettings, String> {
        let answer = {
            let key = format!("{host} {user:?} {port:?}");
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(answers.entry(key).or_default())
        };
        answer.get_or_init(|| self.ask(host, user, port)).await.clone()
    }

    async fn ask(
        &self,
        host: &str,
        user: Option<&str>,
        port: Option<u16>,
    ) -> Result<ClientSettings, String> {
        let failed = |reason: String| format!("{}: {reason}", self.file.display());
        if let Err(error) = std::fs::metadata(&self.file) {
            return Err(failed(error.to_string()));
        }
        let mut command = tokio::process::Command::new("ssh");
        // A configuration may name programs; the operator's token for secrets is none of theirs.
        command.arg("-G").arg("-F").arg(&self.file).env_remove(TOKEN_VARIABLE);
        if let Some(user) = user {
            command.args(["-l", user]);
        }
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        command.arg("--").arg(host).stdin(Stdio::null()).kill_on_drop(true);
        let output = match tokio::time::timeout(ANSWER, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(failed(
                    "it is read by the program `ssh`, which is not installed on the operator host"
                        .to_owned(),
                ));
            }
            Ok(Err(error)) => return Err(failed(format!("ssh -G: {error}"))),
            Err(_) => {
                return Err(failed(format!("ssh -G gave no answer within {} s", ANSWER.as_secs())));
            }
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace(['\r', '\n'], " ");
            return Err(failed(said));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        read(&text, host, &self.home, self.agent_socket.as_deref()).map_err(failed)
    }
}

/// Reads the answer of `ssh -G`.
fn read(
    text: &str,
    name: &str,
    home: &Path,
    agent_socket: Option<&Path>,
) -> Result<ClientSettings, String> {
    let mut found = ClientSettings { port: 22, ..ClientSettings::default() };
    found.keys.agent_socket = agent_socket.map(Path::to_owned);
    let (mut identities, mut certificates) = (Vec::new(), Vec::new());
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        match key {
            "hostname" => found.host = value.to_owned(),
            "user" => found.user = value.to_owned(),
            "port" => found.port = value.parse().map_err(|_| format!("no port: {value}"))?,
            "proxyjump" if value != "none" => found.jump = Some(value.to_owned()),
            "proxycommand" if value != "none" => {
                return Err(format!(
                    "{name} is reached by a ProxyCommand, which strata does not run; name a jump host: ProxyJump, or `jump` under [ssh] in strata.toml"
                ));
            }
            "identityfile" => identities.push(value.to_owned()),
            "certificatefile" if value != "none" => certificates.push(value.to_owned()),
            "identitiesonly" => found.keys.only = value == "yes",
            "identityagent" => match value {
                "none" => found.keys.agent_socket = None,
                "SSH_AUTH_SOCK" => {}
                path => found.keys.agent_socket = Some(PathBuf::from(path)),
            },
            _ => {}
        }
    }
    let expand = |text: &String| expanded(text, name, &found, home);
    let identities = identities.iter().map(expand).collect();
    let certificates = certificates.iter().map(expand).collect();
    let socket = found.keys.agent_socket.as_ref();
    let socket = socket.map(|path| expand(&path.to_string_lossy().into_owned()));
    found.keys = Keys { identities, certificates, agent_socket: socket, ..found.keys };
    Ok(found)
}

/// A path with `~/` and the tokens that OpenSSH knows in paths; an unknown token stands for itself.
fn expanded(text: &str, name: &str, settings: &ClientSettings, home: &Path) -> PathBuf {
    let home = home.to_string_lossy();
    let text = match text.strip_prefix("~/") {
        Some(rest) => format!("{home}/{rest}"),
        None => text.to_owned(),
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('%') => out.push('%'),
            Some('d') => out.push_str(&home),
            Some('h') => out.push_str(&settings.host),
            Some('n') => out.push_str(name),
            Some('p') => out.push_str(&settings.port.to_string()),
            Some('r') => out.push_str(&settings.user),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    PathBuf::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_openssh_is_read() {
        let text = "host db\nuser ops\nhostname 192.0.2.7\nport 2222\nidentitiesonly yes\n\
                    identityfile ~/.ssh/%r_%h\nidentityfile /keys/100%%\ncertificatefile ~/c-cert.pub\n\
                    identityagent ~/agent.sock\nproxyjump ops@bastion\nstricthostkeychecking false\n";
        let found = read(text, "db", Path::new("/root"), None).unwrap();
        assert_eq!(
            (found.host.as_str(), found.user.as_str(), found.port),
            ("192.0.2.7", "ops", 2222)
        );
        assert_eq!(found.jump.as_deref(), Some("ops@bastion"));
        assert!(found.keys.only);
        assert_eq!(
            found.keys.identities,
            [PathBuf::from("/root/.ssh/ops_192.0.2.7"), PathBuf::from("/keys/100%")]
        );
        assert_eq!(found.keys.certificates, [PathBuf::from("/root/c-cert.pub")]);
        assert_eq!(found.keys.agent_socket, Some(PathBuf::from("/root/agent.sock")));
    }

    #[test]
    fn the_operators_own_agent_stays_unless_it_is_turned_off() {
        let socket = Path::new("/run/agent");
        let read = |text| read(text, "db", Path::new("/root"), Some(socket)).unwrap();
        assert_eq!(
            read("identityagent SSH_AUTH_SOCK\n").keys.agent_socket.as_deref(),
            Some(socket)
        );
        assert_eq!(read("port 22\n").keys.agent_socket.as_deref(), Some(socket));
        assert_eq!(read("identityagent none\n").keys.agent_socket, None);
        assert_eq!(read("proxyjump none\n").jump, None);
    }

    #[test]
    fn a_proxy_command_is_said_and_not_ignored() {
        let error = read("proxycommand nc %h %p\n", "db", Path::new("/"), None).unwrap_err();
        assert!(error.contains("ProxyCommand") && error.contains("db"), "{error}");
    }
}
