//! The container engine: its effective settings, and containers that live through its restart.

use super::{Finding, Surroundings};
use crate::gate::probe;
use crate::ssh::AgentSession;
use serde::Deserialize;
use std::time::Duration;

/// Values of `docker info` that are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Containers stay when the daemon stops.
    live_restore: bool,
    /// Where containers' output goes.
    logging_driver: String,
    /// How images are stored.
    storage_driver: String,
}

/// How long the daemon may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Seconds until the daemon answers again.
    back_within: u64,
}

#[derive(Debug, Deserialize)]
struct Info {
    #[serde(rename = "LiveRestoreEnabled")]
    live_restore: bool,
    #[serde(rename = "LoggingDriver")]
    logging_driver: String,
    #[serde(rename = "Driver")]
    storage_driver: String,
}

/// Compares `docker info` with the wanted values.
pub async fn settings(surroundings: Surroundings<'_>, wanted: Settings) -> Finding {
    let expected = format!(
        "live-restore {}, {} logs, {} storage",
        wanted.live_restore, wanted.logging_driver, wanted.storage_driver
    );
    surroundings
        .on_each(&expected, |_, session| {
            let wanted = &wanted;
            async move {
                let text =
                    probe::output(&session, &["docker", "info", "--format", "{{json .}}"]).await?;
                let info: Info = serde_json::from_str(&text)
                    .map_err(|error| format!("docker info cannot be read: {error}"))?;
                let pairs = [
                    (
                        "live-restore",
                        info.live_restore.to_string(),
                        wanted.live_restore.to_string(),
                    ),
                    ("logging driver", info.logging_driver, wanted.logging_driver.clone()),
                    ("storage driver", info.storage_driver, wanted.storage_driver.clone()),
                ];
                Ok(pairs
                    .into_iter()
                    .filter(|(_, found, wanted)| found != wanted)
                    .map(|(what, found, _)| format!("{what} is {found}"))
                    .collect())
            }
        })
        .await
}

/// The container of the test; removed at its end.
const PROBE: &str = "strata_gate_probe";

/// On one host after the other: starts a container, restarts the daemon, and finds the container
/// untouched. Its image is made on the spot of strata's own static agent, so that no registry is
/// needed. A daemon without live-restore is not restarted: its containers would die.
pub async fn restart(surroundings: Surroundings<'_>, bounds: Restart) -> Finding {
    let mut wrong = Vec::new();
    let mut not_healed = false;
    for host in &surroundings.hosts {
        if surroundings.stop.wished() {
            return Finding::not_run(format!("{} before {host}", surroundings.stop.why()));
        }
        let Some(session) = surroundings.fleet.session(host) else {
            return Finding::not_run(format!("{host} is not connected"));
        };
        let what = format!("restart of the container engine on {host}");
        let result = match with_probe(&session).await {
            Ok(()) => {
                surroundings.fault(&what, false);
                restarted(&session, &bounds).await
            }
            Err(error) => Err(error),
        };
        match removed(&session).await {
            Ok(()) => surroundings.fault(&what, true),
            Err(error) => {
                not_healed = true;
                wrong.push(format!("{host}: not healed: the test's container is left: {error}"));
            }
        }
        match result {
            Ok(None) => {}
            Ok(Some(line)) | Err(line) => wrong.push(format!("{host}: {line}")),
        }
        if !wrong.is_empty() {
            break;
        }
    }
    let mut finding =
        Finding::of("the container's start time is the same after the restart", wrong);
    finding.not_healed = not_healed;
    finding
}

/// No settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {}

/// On every host: a container runs from an image that is there, without asking any registry.
pub async fn run(surroundings: Surroundings<'_>, _: Run) -> Finding {
    surroundings
        .on_each("a container runs and says its word", |_, session| async move {
            let archive = probe_image(&session.hello().facts.architecture)?;
            probe::output_of(&session, &["docker", "import", "-", RUN_IMAGE], archive).await?;
            let run = [
                "docker",
                "run",
                "--rm",
                "--pull=never",
                "--network=none",
                "--entrypoint=/strata-agent",
                RUN_IMAGE,
                "version",
            ];
            let said = probe::output(&session, &run).await;
            let removed = probe::output(&session, &["docker", "rmi", "-f", RUN_IMAGE]).await;
            let mut wrong: Vec<String> = match said {
                Ok(said) => unexpected(&said).into_iter().collect(),
                Err(error) => vec![error],
            };
            wrong.extend(removed.err().map(|error| format!("the test's image is left: {error}")));
            Ok(wrong)
        })
        .await
}

/// What is wrong with the word of a container that runs the agent.
fn unexpected(said: &str) -> Option<String> {
    let wanted = concat!("strata-agent ", env!("CARGO_PKG_VERSION"));
    (said.trim() != wanted).then(|| format!("the container said `{}`", said.trim()))
}

/// Its own name: removing it must not touch the image of another test.
const RUN_IMAGE: &str = concat!("strata.probe-run:", env!("CARGO_PKG_VERSION"));

const IMAGE: &str = concat!("strata.probe:", env!("CARGO_PKG_VERSION"));

/// The probe's state and start time.
const STATE: [&str; 5] =
    ["docker", "inspect", "-f", "{{.State.Running}} {{.State.StartedAt}}", PROBE];

/// Starts the probe container, where its engine can be restarted without harm.
async fn with_probe(session: &AgentSession) -> Result<(), String> {
    let live = ["docker", "info", "--format", "{{.LiveRestoreEnabled}}"];
    if probe::output(session, &live).await?.trim() != "true" {
        return Err("live-restore is off: a restart would end every container".to_owned());
    }
    let archive = probe_image(&session.hello().facts.architecture)?;
    let entry = "ENTRYPOINT [\"/strata-agent\",\"park\"]";
    probe::run(session, &["docker", "rm", "-f", PROBE], Vec::new()).await?;
    probe::output_of(session, &["docker", "import", "--change", entry, "-", IMAGE], archive)
        .await?;
    let run =
        ["docker", "run", "-d", "--name", PROBE, "--restart", "always", "--network", "none", IMAGE];
    probe::output(session, &run).await.map(|_| ())
}

/// Restarts the daemon; what is wrong afterwards.
async fn restarted(session: &AgentSession, bounds: &Restart) -> Result<Option<String>, String> {
    let before = probe::output(session, &STATE).await?;
    probe::output(session, &["systemctl", "restart", "docker"]).await?;
    let deadline = Duration::from_secs(bounds.back_within);
    let after = probe::wait_until(deadline, || probe::output(session, &STATE)).await?;
    let untouched = before == after && before.starts_with("true ");
    Ok((!untouched).then(|| format!("{} before, {} after", before.trim(), after.trim())))
}

/// Removes the probe and its image.
async fn removed(session: &AgentSession) -> Result<(), String> {
    probe::output(session, &["docker", "rm", "-f", PROBE]).await?;
    probe::run(session, &["docker", "rmi", "-f", IMAGE], Vec::new()).await.map(|_| ())
}

/// A root file system with nothing but the agent.
fn probe_image(architecture: &str) -> Result<Vec<u8>, String> {
    let agent = crate::ssh::agent_binary::for_architecture(architecture)
        .ok_or_else(|| format!("no agent for {architecture}"))?;
    let mut header = tar::Header::new_gnu();
    header.set_size(agent.bytes.len() as u64);
    header.set_mode(0o755);
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_data(&mut header, "strata-agent", agent.bytes.as_slice())
        .and_then(|()| archive.into_inner())
        .map_err(|error| format!("the probe image cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    use super::unexpected;

    #[test]
    fn only_the_agents_own_version_is_the_word() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(unexpected(&format!("strata-agent {version}\n")), None);
        assert_eq!(unexpected(""), Some("the container said ``".to_owned()));
        assert!(unexpected(&format!("strata-agent {version}0")).is_some());
    }
}
