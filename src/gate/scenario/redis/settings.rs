//! The live settings of Redis, and whether the daemons can write their own files.

use super::names::{Cluster, SENTINEL, SERVER};
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::redis_client::Client;
use futures::future::join_all;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Names of `CONFIG GET` and the values wanted.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, String>);

/// No settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {}

/// Compares live settings with the wanted values, on every member.
pub async fn settings(surroundings: Surroundings<'_>, wanted: Settings) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let (cluster, wanted) = (&cluster, &wanted.0);
    let each = cluster.place.members.iter().map(|member| async move {
        let lines = match cluster.server(member).await {
            Ok(client) => differing(&client, wanted).await,
            Err(error) => vec![error],
        };
        lines.into_iter().map(|line| format!("{}: {line}", member.name)).collect::<Vec<_>>()
    });
    let wrong = join_all(each).await.concat();
    Finding::of(format!("{} live settings as wanted on every member", wanted.len()), wrong)
}

async fn differing(client: &Client, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, value) in wanted {
        match client.config_get(name).await {
            Ok(found) => match found.get(name) {
                Some(found) if found == value => {}
                Some(found) => wrong.push(format!("{name} is `{found}`, not `{value}`")),
                None => wrong.push(format!("{name} is no setting of this server")),
            },
            Err(error) => wrong.push(error.to_string()),
        }
    }
    wrong
}

/// What a daemon logs when it cannot write its file; Sentinel then forgets a failover.
const CANNOT_SAVE: &str = "not able to save";

/// Both daemons of every member can write the files that they own.
pub async fn rewrite(surroundings: Surroundings<'_>, _: Rewrite) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let cluster = &cluster;
    let each = cluster.place.members.iter().map(|member| async move {
        let mut wrong = Vec::new();
        let redis = async {
            let client = cluster.server(member).await?;
            client.config_rewrite().await.map_err(|error| error.to_string())
        };
        wrong.extend(redis.await.err().map(|error| format!("Redis: {error}")));
        let sentinel = async {
            let client = cluster.sentinel(member).await?;
            client.sentinel_flush_config().await.map_err(|error| error.to_string())
        };
        wrong.extend(sentinel.await.err().map(|error| format!("Sentinel: {error}")));
        for container in [SERVER, SENTINEL] {
            let argv = ["docker", "logs", "--tail", "2000", container];
            match probe::run(&member.session, &argv, Vec::new()).await {
                Ok((outcome, out, err)) => {
                    if outcome != crate::wire::ExecOutcome::Exited(0) {
                        wrong.push(format!("docker logs {container}: {}", err.trim()));
                    }
                    let mut lines = out.lines().chain(err.lines());
                    wrong.extend(
                        lines
                            .rfind(|line| line.contains(CANNOT_SAVE))
                            .map(|line| format!("{container}: {line}")),
                    );
                }
                Err(error) => wrong.push(error),
            }
        }
        wrong.into_iter().map(|line| format!("{}: {line}", member.name)).collect::<Vec<_>>()
    });
    let wrong = join_all(each).await.concat();
    Finding::of("CONFIG REWRITE and SENTINEL FLUSHCONFIG work, and no daemon ever could not", wrong)
}
