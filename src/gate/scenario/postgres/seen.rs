//! What every member says, as plain values.

use super::names::Cluster;
use crate::gate::drill::Host;
use crate::postgres_client::{Client, Error};
use futures::future::join_all;
use serde::Deserialize;

/// What one member says of the cluster and of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its host, which is its name in the cluster too.
    pub name: String,
    /// What its Patroni says of the cluster, or why it could not be asked.
    pub view: Result<View, String>,
    /// What its PostgreSQL says of itself, or why it could not be asked.
    pub server: Result<Server, String>,
}

/// `GET /cluster` of Patroni.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct View {
    /// The members that it knows.
    pub members: Vec<Entry>,
    /// Whether Patroni is paused: nobody would take over.
    #[serde(default)]
    pub pause: bool,
}

/// One member of a [`View`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// `leader`, `sync_standby`, `replica`, …
    pub role: String,
    /// `running`, `streaming`, …
    pub state: String,
    /// Its address.
    #[serde(default)]
    pub host: String,
    /// Its timeline; none while it does not run.
    #[serde(default)]
    pub timeline: Option<u64>,
    /// Bytes that it is behind; Patroni says a word where it does not know.
    #[serde(default)]
    pub lag: Option<Lag>,
    /// Whether a setting waits for a restart.
    #[serde(default)]
    pub pending_restart: bool,
    /// What its own file says of its part.
    #[serde(default)]
    pub tags: Tags,
}

/// The tags of a member that a test asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Tags {
    /// True for one that no commit ever waits for.
    #[serde(default)]
    pub nosync: bool,
}

/// How far a member is behind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Lag {
    /// So many bytes.
    Bytes(u64),
    /// It is not known.
    Unknown(String),
}

/// What PostgreSQL says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whether it follows somebody.
    pub recovery: bool,
    /// Its version.
    pub version: String,
    /// Whether pages have checksums.
    pub checksums: bool,
    /// When it was started, in seconds: no two starts have the same.
    pub started: String,
    /// Who streams from it.
    pub streams: Vec<Stream>,
}

/// A line of `pg_stat_replication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Who.
    pub name: String,
    /// `streaming` when it is in step.
    pub state: String,
    /// `sync`, `quorum`, `potential`, `async`.
    pub sync: String,
}

/// What tells one start of a server from all others.
pub const STARTED: &str = "extract(epoch from pg_postmaster_start_time())::text";

/// Asks every member, all at once. What they know of members out of service is left out.
pub async fn look(cluster: &Cluster<'_>) -> Vec<Member> {
    join_all(cluster.place.members.iter().map(|member| one(cluster, member))).await
}

async fn one(cluster: &Cluster<'_>, member: &Host) -> Member {
    let server = async {
        let client = cluster.server(member).await?;
        server(&client).await.map_err(|error| error.to_string())
    };
    let (view, server) = futures::join!(view(cluster, member), server);
    Member { name: member.name.clone(), view, server }
}

/// What a member's Patroni says of the cluster.
///
/// # Errors
/// Why it could not be asked.
pub async fn view(cluster: &Cluster<'_>, member: &Host) -> Result<View, String> {
    let answer = cluster.ask(member, "/cluster").await?;
    let view = answer.succeeded().and_then(|answer| answer.read::<View>());
    let mut view = view.map_err(|error| format!("Patroni of {}: {error}", member.name))?;
    let absent: Vec<String> = cluster.place.absent.iter().map(ToString::to_string).collect();
    view.members.retain(|entry| !absent.contains(&entry.host));
    Ok(view)
}

async fn server(client: &Client) -> Result<Server, Error> {
    let statement = format!(
        "SELECT pg_is_in_recovery(), current_setting('server_version'), current_setting('data_checksums'), {STARTED}"
    );
    let rows = client.rows("its state", &statement).await?;
    let mut fields = rows.into_iter().next().unwrap_or_default().into_iter().map(text);
    let mut next = || fields.next().unwrap_or_default();
    let (recovery, version, checksums, started) = (next(), next(), next(), next());
    let streams = "SELECT application_name, state, sync_state FROM pg_stat_replication ORDER BY 1";
    let streams = client.rows("who streams from it", streams).await?.into_iter().map(|row| {
        let mut fields = row.into_iter().map(text);
        let mut next = || fields.next().unwrap_or_default();
        Stream { name: next(), state: next(), sync: next() }
    });
    Ok(Server {
        recovery: recovery == "t",
        version,
        checksums: checksums == "on",
        started,
        streams: streams.collect(),
    })
}

fn text(field: Option<String>) -> String {
    field.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patronis_answer_is_read() {
        let text = r#"{"members":[
            {"name":"db-01","role":"leader","state":"running","api_url":"http://10.0.0.120:8008/patroni","host":"10.0.0.120","port":5432,"timeline":3,"pending_restart":true},
            {"name":"db-02","role":"sync_standby","state":"streaming","host":"10.0.0.121","port":5432,"timeline":3,"lag":17,"tags":{"nosync":true}},
            {"name":"db-03","role":"replica","state":"starting","host":"10.0.0.122","port":5432,"lag":"unknown"}],
            "scope":"keybuzz-pg","pause":true}"#;
        let view: View = serde_json::from_str(text).unwrap();
        assert!(view.pause && view.members[0].pending_restart && !view.members[1].pending_restart);
        assert_eq!(view.members[1].lag, Some(Lag::Bytes(17)));
        assert_eq!(view.members[2].lag, Some(Lag::Unknown("unknown".to_owned())));
        assert_eq!((view.members[2].timeline, view.members[0].timeline), (None, Some(3)));
    }
}
