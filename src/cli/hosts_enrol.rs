//! `strata hosts enrol`: puts the key that strata logs in with onto new hosts.

use super::output::{out, tell};
use super::work::connection;
use super::{Exit, Settings, runtime};
use crate::diag::{Code, Diagnostic};
use crate::fleet::{Connection, target_of};
use crate::secrets::{self, Secret};
use crate::site::{Host, Site};
use crate::ssh::{self, ConnectError, EnrolKey, Enrolled};
use clap::Args;
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `strata hosts enrol`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata hosts enrol db-01 db-02 --key ~/.ssh/id_ed25519.pub --from keys.txt\n  strata hosts enrol new --key ops.pub --password-stdin < password"
)]
pub struct EnrolArguments {
    /// Hosts, globs or groups
    #[arg(required = true)]
    pub hosts: Vec<String>,
    /// The public key that is put there
    #[arg(long, value_name = "FILE.pub")]
    pub key: PathBuf,
    /// A file of known host keys in known_hosts format: they are pinned first
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Read the password from standard input instead of asking on the terminal
    #[arg(long)]
    pub password_stdin: bool,
}

/// Runs the command on selected hosts whose keys are pinned.
pub fn enrol(
    site: &Site,
    hosts: &[String],
    arguments: &EnrolArguments,
    settings: &Settings,
) -> Exit {
    let key = std::fs::read_to_string(&arguments.key)
        .map_err(|error| error.to_string())
        .and_then(|text| EnrolKey::parse(&text));
    let key = match key {
        Ok(key) => key,
        Err(reason) => {
            tell!("error: {}: {reason}", arguments.key.display());
            return Exit::InvalidInput;
        }
    };
    let hosts: Vec<&Host> = hosts.iter().filter_map(|name| site.hosts.get(name)).collect();
    let connection = connection(site, settings, None);
    let work = Enrolment { site, connection: &connection, key: &key };
    let mut ends = match runtime::block_on(work.with_keys(&hosts)) {
        Ok(ends) => ends,
        Err(error) => {
            tell!("error: {error}");
            return Exit::Internal;
        }
    };
    let open: Vec<&Host> = hosts.into_iter().filter(|h| !ends.contains_key(&h.name)).collect();
    if !open.is_empty() {
        let password = match password(&open, arguments, settings) {
            Ok(password) => password,
            Err(problem) => {
                let hint = problem.hint.map_or_else(String::new, |hint| format!("\nhint: {hint}"));
                tell!("error: {}{hint}", problem.message);
                return Exit::InvalidInput;
            }
        };
        match runtime::block_on(work.with_password(&open, &password)) {
            Ok(more) => ends.extend(more),
            Err(error) => {
                tell!("error: {error}");
                return Exit::Internal;
            }
        }
    }
    report(&ends, settings)
}

type Ends = BTreeMap<String, Result<Enrolled, ConnectError>>;

fn report(ends: &Ends, settings: &Settings) -> Exit {
    let mut exit = Exit::Done;
    for (host, end) in ends {
        let word = match end {
            Ok(Enrolled::Present) => "present",
            Ok(Enrolled::Added) => "added",
            Err(_) => "failed",
        };
        if let Err(error) = end {
            let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            tell!("error: {error}{hint}");
            exit = Exit::Unreachable;
        }
        if settings.json {
            let error = end.as_ref().err().map(ToString::to_string);
            out!("{}", serde_json::json!({ "host": host, "key": word, "error": error }));
        } else if end.is_ok() {
            out!("{host:20} key {word}");
        }
    }
    exit
}

/// The password of all these hosts' logins, asked for once.
fn password(
    open: &[&Host],
    arguments: &EnrolArguments,
    settings: &Settings,
) -> Result<Secret<String>, Box<Diagnostic>> {
    if arguments.password_stdin {
        let mut line = Secret::new(String::new());
        std::io::stdin().read_line(line.expose_mut()).map_err(|error| {
            Box::new(Diagnostic::error(Code::SETTING, format!("standard input: {error}")))
        })?;
        let text = line.expose().trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            let message = "standard input holds no password";
            return Err(Box::new(Diagnostic::error(Code::SETTING, message)));
        }
        return Ok(Secret::new(text.to_owned()));
    }
    let first = open.first().map_or("", |host| host.name.as_str());
    if !settings.interactive {
        let message =
            format!("{first} accepts no key yet, and nobody can be asked for its password");
        let hint = "run it on a terminal, or give the password with --password-stdin";
        return Err(Box::new(Diagnostic::error(Code::SETTING, message).hint(hint)));
    }
    let question = match open.len() {
        1 => format!("password of {first} (not shown)"),
        count => format!("password of these {count} hosts, {first} first (not shown)"),
    };
    secrets::read_hidden(std::io::stdin(), &mut std::io::stderr(), &question).map_err(Box::new)
}

struct Enrolment<'a> {
    site: &'a Site,
    connection: &'a Connection,
    key: &'a EnrolKey,
}

impl Enrolment<'_> {
    /// The hosts that accept a key already, or cannot be reached at all; those that are missing need
    /// the password.
    async fn with_keys(&self, hosts: &[&Host]) -> Ends {
        let work = hosts.iter().map(|host| async move {
            let options = &self.connection.options;
            let end = match target_of(self.site, host, self.connection).await {
                Ok(target) => ssh::enrol_with_keys(&target, options, self.key).await,
                Err(error) => Err(error),
            };
            end.transpose().map(|end| (host.name.clone(), end))
        });
        let ends: Vec<_> = stream::iter(work).buffer_unordered(32).collect().await;
        ends.into_iter().flatten().collect()
    }

    /// One host first: a wrong password must not lock the account on all of them.
    async fn with_password(&self, hosts: &[&Host], password: &Secret<String>) -> Ends {
        let mut ends = Ends::new();
        let mut rest = hosts.iter();
        for host in rest.by_ref() {
            let end = self.one(host, password).await;
            let (wrong, right) = (matches!(end, Err(ConnectError::Password { .. })), end.is_ok());
            ends.insert(host.name.clone(), end);
            if wrong {
                tell!("the password was given to {} only", host.name);
                return ends;
            }
            if right {
                break;
            }
        }
        let others =
            rest.map(|host| async move { (host.name.clone(), self.one(host, password).await) });
        let others: Vec<_> = stream::iter(others).buffer_unordered(32).collect().await;
        ends.extend(others);
        ends
    }

    async fn one(&self, host: &Host, password: &Secret<String>) -> Result<Enrolled, ConnectError> {
        let target = target_of(self.site, host, self.connection).await?;
        let options = &self.connection.options;
        ssh::enrol_with_password(&target, options, self.key, password).await
    }
}
