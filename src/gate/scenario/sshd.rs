//! sshd: the settings that its files amount to, and what the running daemon offers (incident
//! class: hardening that was never active).

use super::{Finding, Surroundings};
use crate::gate::probe;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Keywords of `sshd -T` and the values wanted.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Effective(BTreeMap<String, String>);

/// No settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Password {}

/// Compares `sshd -T` with the wanted values.
pub async fn effective(surroundings: Surroundings<'_>, wanted: Effective) -> Finding {
    if wanted.0.is_empty() {
        return Finding::not_run("the gate file names no setting");
    }
    let expected = wanted.0.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ");
    surroundings
        .on_each(&expected, |_, session| {
            let wanted = &wanted.0;
            async move {
                let text = probe::output(&session, &["sshd", "-T"]).await?;
                Ok(differences(&text, wanted))
            }
        })
        .await
}

fn differences(text: &str, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let found: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(' ')).collect();
    wanted
        .iter()
        .filter_map(|(keyword, value)| match found.get(keyword.as_str()) {
            Some(other) if other == value => None,
            Some(other) => Some(format!("{keyword} {other}")),
            None => Some(format!("{keyword} is not set")),
        })
        .collect()
}

/// Asks sshd which ways to log in it offers.
pub async fn password(surroundings: Surroundings<'_>, _: Password) -> Finding {
    surroundings
        .on_each("only publickey is offered", |_, session| {
            let port = surroundings.context.site.config.ssh.port.to_string();
            async move {
                // The host asks itself: no key is checked since nothing is sent, only offered methods
                // are read.
                let argv = [
                    "ssh",
                    "-F",
                    "none",
                    "-p",
                    port.as_str(),
                    "-o",
                    "PreferredAuthentications=none",
                    "-o",
                    "StrictHostKeyChecking=no",
                    "-o",
                    "UserKnownHostsFile=/dev/null",
                    "-o",
                    "ConnectTimeout=10",
                    "root@127.0.0.1",
                    "true",
                ];
                let (_, _, stderr) = probe::run(&session, &argv, Vec::new()).await?;
                let offered = stderr
                    .lines()
                    .find_map(|line| line.split_once("Permission denied (")?.1.split_once(')'))
                    .map(|(methods, _)| methods.to_owned());
                Ok(match offered.as_deref() {
                    Some("publickey") => Vec::new(),
                    Some(methods) => vec![format!("{methods} are offered")],
                    None => vec![format!("no refusal, but: {}", stderr.trim())],
                })
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_that_differs_or_is_missing_is_named() {
        let wanted = BTreeMap::from([
            ("permitrootlogin".to_owned(), "without-password".to_owned()),
            ("maxauthtries".to_owned(), "3".to_owned()),
            ("x".to_owned(), "y".to_owned()),
        ]);
        let found = differences("permitrootlogin without-password\nmaxauthtries 6\n", &wanted);
        assert_eq!(found, ["maxauthtries 6", "x is not set"]);
    }
}
