//! Looks at the members: roles, versions, passwords.

use super::judge::{primary, wrong_members, wrong_server};
use super::names::{Account, CALL, Cluster, login};
use super::seen::look;
use crate::gate::drill::Host;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::postgres_client::Error;
use crate::secrets::Secret;
use futures::future::join_all;
use serde::Deserialize;
use std::time::Duration;

/// Bounds of replication.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// Bytes that a standby may be behind. Default: 1048576.
    #[serde(default = "default_lag")]
    max_lag: u64,
    /// Seconds within which a moment must be seen at which all is well. Default: 30.
    #[serde(default = "default_within")]
    within: u64,
}

/// No settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {}

fn default_lag() -> u64 {
    1024 * 1024
}

fn default_within() -> u64 {
    30
}

/// Every member's Patroni says the same, and every PostgreSQL is what it says.
pub async fn members(surroundings: Surroundings<'_>, bounds: Members) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected = format!(
        "every member sees one leader, {} standbys that stream, {} of them synchronous, one timeline, at most {} bytes behind{}",
        cluster.place.members.len() - 1,
        cluster.sync,
        bounds.max_lag,
        cluster.place.without()
    );
    let found = probe::wait_until(Duration::from_secs(bounds.within), || async {
        let wrong = wrong_members(&look(&cluster).await, bounds.max_lag, cluster.sync);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    })
    .await;
    let mut wrong: Vec<String> =
        found.err().map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default();
    let release = release(&cluster);
    for member in look(&cluster).await {
        let Ok(server) = &member.server else { continue };
        let lines = wrong_server(server, &release);
        wrong.extend(lines.into_iter().map(|line| format!("{} {line}", member.name)));
    }
    Finding::of(expected, wrong)
}

/// The tag of the pinned image of PostgreSQL.
fn release(cluster: &Cluster<'_>) -> String {
    let versions = &cluster.place.surroundings.context.site.versions;
    let image = versions.get("postgres_image").map(|pin| pin.value.as_str()).unwrap_or_default();
    let tag = image.split('@').next().unwrap_or_default().rsplit(':').next();
    tag.unwrap_or_default().to_owned()
}

/// A wrong password is refused as wrong, and applications are no superuser.
pub async fn passwords(surroundings: Surroundings<'_>, _: Login) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let cluster = &cluster;
    let each = cluster.place.members.iter().map(|member| async move {
        let lines = wrong_login(cluster, member).await.unwrap_or_else(|error| vec![error]);
        lines.into_iter().map(|line| format!("{}: {line}", member.name)).collect::<Vec<_>>()
    });
    let mut wrong = join_all(each).await.concat();
    wrong.extend(powers(cluster).await.err());
    Finding::of(
        "a wrong password is refused (28P01), the right one is not, and applications have no powers",
        wrong,
    )
}

async fn wrong_login(cluster: &Cluster<'_>, member: &Host) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    // Not derived from the real one: nothing of it is given away.
    let stranger = Account {
        user: cluster.app.user.clone(),
        password: Secret::new("strata-gate-wrong-password".to_owned()),
    };
    for (what, port) in cluster.ports() {
        let stream = member.local(port).dial().await.map_err(|why| format!("{what}: {why}"))?;
        match login(stream, &stranger, &cluster.database, CALL).await {
            Err(Error::WrongPassword { .. }) => {}
            // PgBouncer before 1.21 has another word for it.
            Err(error @ Error::Refused { .. }) if Some(port) == cluster.pooler_port => {
                let text = error.to_string();
                if !text.contains("authentication failed") {
                    wrong.push(format!("{what}: a wrong password: {text}"));
                }
            }
            Err(error) => wrong.push(format!("{what}: a wrong password: {error}")),
            Ok(_) => wrong.push(format!("{what} takes a wrong password")),
        }
        let stream = member.local(port).dial().await.map_err(|why| format!("{what}: {why}"))?;
        if let Err(error) = login(stream, &cluster.app, &cluster.database, CALL).await {
            wrong.push(format!("{what}: POSTGRES_APP_PASSWORD: {error}"));
        }
    }
    Ok(wrong)
}

/// The powers that the applications' role must not have.
async fn powers(cluster: &Cluster<'_>) -> Result<(), String> {
    let members = look(cluster).await;
    let leader = primary(&members)?;
    let leader = cluster.place.member(&leader.name).ok_or("the primary is no member")?;
    let client = cluster.login(&*leader.local(cluster.port), &cluster.app).await?;
    let powers = "SELECT concat_ws(', ', CASE WHEN rolsuper THEN 'is superuser' END, \
        CASE WHEN rolcreaterole THEN 'makes roles' END, CASE WHEN rolreplication THEN 'replicates' END, \
        CASE WHEN rolbypassrls THEN 'passes by row security' END) \
        FROM pg_roles WHERE rolname = current_user";
    match client.value("powers of the applications' role", powers).await {
        Ok(Some(found)) if found.is_empty() => Ok(()),
        Ok(found) => Err(format!("the applications' role {}", found.unwrap_or_default())),
        Err(error) => Err(error.to_string()),
    }
}
