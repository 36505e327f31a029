//! Looks at Redis and Sentinel: roles, agreement, passwords.

use super::judge::{wrong_roles, wrong_sentinels};
use super::names::{CALL, Cluster};
use super::seen::look;
use crate::gate::drill::Host;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::redis_client::{Auth as Said, Client, Error};
use futures::future::join_all;
use serde::Deserialize;
use std::time::Duration;

/// Bounds of replication at rest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// Seconds that a replica may lag. Default: 1.
    #[serde(default = "default_lag")]
    max_lag: u64,
    /// Seconds within which a moment must be seen at which all is well and offsets are equal.
    /// Default: 10.
    #[serde(default = "default_within")]
    within: u64,
}

/// Bounds of the Sentinels' agreement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentinels {
    /// Seconds within which they must agree. Default: 10.
    #[serde(default = "default_within")]
    within: u64,
}

/// No settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {}

fn default_lag() -> u64 {
    1
}

fn default_within() -> u64 {
    10
}

/// One master, all others its replicas, in step.
pub async fn roles(surroundings: Surroundings<'_>, bounds: Roles) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected = format!(
        "one master, {} replicas online, one history, lag at most {} s, equal offsets{}",
        cluster.place.members.len() - 1,
        bounds.max_lag,
        cluster.place.without()
    );
    // Writes and the replicas' acknowledgements move offsets between two looks.
    let mut wrong = Vec::new();
    let found = probe::wait_until(Duration::from_secs(bounds.within), || async {
        let wrong = wrong_roles(&look(&cluster).await, bounds.max_lag, true);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    })
    .await;
    if let Err(lines) = found {
        wrong.extend(lines.lines().map(str::to_owned));
    }
    Finding::of(expected, wrong)
}

/// All Sentinels agree and are many enough.
pub async fn sentinels(surroundings: Surroundings<'_>, bounds: Sentinels) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected = format!(
        "every Sentinel knows the same master, {others} replicas and {others} others, none down, one epoch, a quorum{}",
        cluster.place.without(),
        others = cluster.place.members.len() - 1
    );
    let found = probe::wait_until(Duration::from_secs(bounds.within), || async {
        let wrong = wrong_sentinels(&look(&cluster).await);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    })
    .await;
    let wrong = found.err().map(|lines| lines.lines().map(str::to_owned).collect());
    Finding::of(expected, wrong.unwrap_or_default())
}

/// A wrong password is refused as wrong, and none as missing.
pub async fn auth(surroundings: Surroundings<'_>, _: Auth) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let cluster = &cluster;
    let each = cluster.place.members.iter().map(|member| async move {
        let lines = wrong_auth(cluster, member).await.unwrap_or_else(|error| vec![error]);
        lines.into_iter().map(|line| format!("{}: {line}", member.name)).collect::<Vec<_>>()
    });
    let wrong = join_all(each).await.concat();
    Finding::of("a wrong password is refused (WRONGPASS), and none too (NOAUTH)", wrong)
}

async fn wrong_auth(cluster: &Cluster<'_>, member: &Host) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let stream = member.local(cluster.port).dial().await?;
    let client = Client::over(stream, CALL).await.map_err(|error| error.to_string())?;
    match client.role().await {
        Err(Error::NoAuth { .. }) => {}
        Err(error) => wrong.push(format!("without a password: {error}")),
        Ok(_) => wrong.push("answers without a password".to_owned()),
    }
    // Not derived from the real one: nothing of it is given away.
    match client.auth("strata-gate-wrong-password").await {
        Ok(Said::WrongPassword) => {}
        Ok(Said::Accepted) => wrong.push("takes a wrong password".to_owned()),
        Ok(Said::NoPasswordSet) => wrong.push("has no password".to_owned()),
        Err(error) => wrong.push(format!("a wrong password: {error}")),
    }
    match client.auth(cluster.password.expose()).await {
        Ok(Said::Accepted) => {}
        Ok(_) => wrong.push("does not take REDIS_PASSWORD".to_owned()),
        Err(error) => wrong.push(format!("REDIS_PASSWORD: {error}")),
    }
    Ok(wrong)
}
