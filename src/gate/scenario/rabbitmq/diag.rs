//! Looks at the nodes: the cluster, its queues, its passwords.

use super::amqp::{Amqp, AmqpError};
use super::judge::{wrong_nodes, wrong_queues, wrong_version};
use super::names::{Account, CALL, Cluster};
use super::seen::{Vhost, get, look, queues};
use crate::gate::drill::Host;
use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use crate::secrets::Secret;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Bounds of looks that wait for a moment at which all is well.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Seconds within which such a moment must be seen. Default: 60.
    #[serde(default = "default_within")]
    within: u64,
}

/// Bounds of the queues.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queues {
    /// How many queues more one node may lead than another. Default: 3.
    #[serde(default = "default_apart")]
    most_apart: u32,
    /// Seconds within which a moment must be seen at which all is well. Default: 60.
    #[serde(default = "default_within")]
    within: u64,
}

/// No settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {}

fn default_within() -> u64 {
    60
}

fn default_apart() -> u32 {
    3
}

/// The broker's own checks of a node.
const CHECKS: [&str; 3] = ["check_local_alarms", "check_port_connectivity", "check_virtual_hosts"];

/// Every node sees every other run, in one cluster, of the pinned version, and says so by its own
/// checks.
pub async fn nodes(surroundings: Surroundings<'_>, bounds: Nodes) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let expected = format!(
        "{} nodes of one cluster that all run and see each other, without alarms, of the pinned version{}",
        cluster.place.members.len(),
        cluster.place.without()
    );
    let found = until_right(bounds.within, || async { wrong_nodes(&look(&cluster).await) }).await;
    let release = release(&cluster);
    let mut wrong = found;
    for member in look(&cluster).await {
        let Ok(view) = &member.view else { continue };
        wrong.extend(
            wrong_version(&view.version, &release).map(|line| format!("{} {line}", member.name)),
        );
    }
    let checks = cluster.place.members.iter().map(|member| checks(&cluster, member));
    wrong.extend(join_all(checks).await.concat());
    Finding::of(expected, wrong)
}

async fn checks(cluster: &Cluster<'_>, member: &Host) -> Vec<String> {
    let mut wrong = Vec::new();
    for check in CHECKS {
        let said = cluster.program(member, &["rabbitmq-diagnostics", "-q", check]).await;
        wrong.extend(said.err());
    }
    wrong
}

/// The tag of the pinned image.
fn release(cluster: &Cluster<'_>) -> String {
    let versions = &cluster.place.surroundings.context.site.versions;
    let image = versions.get("rabbitmq_image").map(|pin| pin.value.as_str()).unwrap_or_default();
    let tag = image.split('@').next().unwrap_or_default().rsplit(':').next();
    tag.unwrap_or_default().to_owned()
}

async fn until_right<F>(within: u64, look: impl Fn() -> F) -> Vec<String>
where
    F: Future<Output = Vec<String>>,
{
    let right = probe::wait_until(Duration::from_secs(within), || async {
        let wrong = look().await;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    });
    let wrong = right.await.err().map(|text| text.lines().map(str::to_owned).collect());
    wrong.unwrap_or_default()
}

/// Queues of the applications' vhost are quorum queues where nobody says otherwise, and every
/// durable one has all its copies.
pub async fn quorum(surroundings: Surroundings<'_>, bounds: Queues) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let count = cluster.place.members.len();
    let expected = format!(
        "queues of {} are quorum queues (X21), every durable one has {count} copies online, and no node leads {} more than another",
        cluster.reach.vhost, bounds.most_apart
    );
    let Some(first) = cluster.place.members.first() else {
        return Finding::not_run("there is no node");
    };
    let wrong = until_right(bounds.within, || async {
        let mut wrong = Vec::new();
        let path = format!("/api/vhosts/{}", cluster.reach.vhost);
        match get::<Vhost>(&cluster, first, &path).await {
            Ok(vhost) => wrong.extend(wrong_kind(&vhost)),
            Err(why) => wrong.push(why),
        }
        match queues(&cluster, first).await {
            Ok(queues) => wrong.extend(wrong_queues(&queues, count, bounds.most_apart as usize)),
            Err(why) => wrong.push(why),
        }
        wrong
    });
    Finding::of(expected, wrong.await)
}

fn wrong_kind(vhost: &Vhost) -> Option<String> {
    let stored = vhost.metadata.get("default_queue_type").and_then(Value::as_str);
    let kind = vhost.default_queue_type.as_deref().or(stored).unwrap_or("no kind at all");
    (kind != "quorum").then(|| format!("its queues are of {kind} where nobody says"))
}

/// A wrong password is refused as wrong, the right one is not, and nobody is `guest`.
pub async fn passwords(surroundings: Surroundings<'_>, _: Login) -> Finding {
    let cluster = match Cluster::in_service(&surroundings) {
        Ok(cluster) => cluster,
        Err(finding) => return *finding,
    };
    let each = cluster.place.members.iter().map(|member| {
        let cluster = &cluster;
        async move {
            let lines = wrong_login(cluster, member).await.unwrap_or_else(|why| vec![why]);
            lines.into_iter().map(|line| format!("{}: {line}", member.name)).collect::<Vec<_>>()
        }
    });
    let wrong = join_all(each).await.concat();
    Finding::of("a wrong password is refused (403), the right one is not, `guest` is nobody", wrong)
}

async fn wrong_login(cluster: &Cluster<'_>, member: &Host) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let secret = |text: &str| Secret::new(text.to_owned());
    let guest = Account { user: secret("guest"), password: secret("guest") };
    // Not derived from the real one: nothing of it is given away.
    let password = secret("strata-gate-wrong-password");
    let stranger = Account { user: cluster.reach.app.user.clone(), password };
    for (who, account) in [("guest", &guest), ("a wrong password", &stranger)] {
        match login(cluster, member, account).await? {
            Err(AmqpError::Refused { code: 403, .. }) => {}
            Err(error) => wrong.push(format!("{who}: {error}")),
            Ok(_) => wrong.push(format!("{who} is taken")),
        }
        let answer = cluster.ask(member, "/api/whoami", account).await?;
        if answer.status != 401 {
            wrong.push(format!("{who}: the management interface answers {}", answer.status));
        }
    }
    if let Err(error) = login(cluster, member, &cluster.reach.app).await? {
        wrong.push(format!("RABBITMQ_PASSWORD: {error}"));
    }
    Ok(wrong)
}

async fn login(
    cluster: &Cluster<'_>,
    member: &Host,
    account: &Account,
) -> Result<Result<Amqp, AmqpError>, String> {
    let stream = member.local(cluster.port).dial().await?;
    let name = format!("{} login", cluster.reach.queue);
    Ok(Amqp::over(stream, account, &cluster.reach.vhost, &name, CALL).await)
}
