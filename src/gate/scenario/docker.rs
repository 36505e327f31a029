//! The container engine: its effective settings, and containers that live through its restart.

use super::{Finding, Surroundings};
use crate::gate::probe;
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

/// Starts a container, restarts the daemon, and finds the container untouched. Its image is made
/// on the spot of strata's own static agent, so that no registry is needed.
pub async fn restart(surroundings: Surroundings<'_>, bounds: Restart) -> Finding {
    let mut finding = surroundings
        .on_each("the container's start time is the same after the restart", |_, session| {
            let bounds = &bounds;
            async move {
                let image = concat!("strata.probe:", env!("CARGO_PKG_VERSION"));
                let architecture = session.hello().facts.architecture.clone();
                let archive = probe_image(&architecture)?;
                let entry = "ENTRYPOINT [\"/strata-agent\",\"park\"]";
                probe::run(&session, &["docker", "rm", "-f", PROBE], Vec::new()).await?;
                probe::output_of(
                    &session,
                    &["docker", "import", "--change", entry, "-", image],
                    archive,
                )
                .await?;
                let run = [
                    "docker",
                    "run",
                    "-d",
                    "--name",
                    PROBE,
                    "--restart",
                    "always",
                    "--network",
                    "none",
                    image,
                ];
                let result = async {
                    probe::output(&session, &run).await?;
                    let state = [
                        "docker",
                        "inspect",
                        "-f",
                        "{{.State.Running}} {{.State.StartedAt}}",
                        PROBE,
                    ];
                    let before = probe::output(&session, &state).await?;
                    probe::output(&session, &["systemctl", "restart", "docker"]).await?;
                    let deadline = Duration::from_secs(bounds.back_within);
                    let after =
                        probe::wait_until(deadline, || probe::output(&session, &state)).await?;
                    if before == after && before.starts_with("true ") {
                        Ok(Vec::new())
                    } else {
                        Ok(vec![format!("{} before, {} after", before.trim(), after.trim())])
                    }
                }
                .await;
                let removed = async {
                    probe::output(&session, &["docker", "rm", "-f", PROBE]).await?;
                    probe::output(&session, &["docker", "rmi", image]).await
                }
                .await;
                match removed {
                    Ok(_) => result,
                    Err(error) => Err(format!("not healed: the test's container is left: {error}")),
                }
            }
        })
        .await;
    finding.not_healed = finding.found.iter().any(|line| line.contains("not healed: "));
    finding
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
