//! Patroni's REST interface, asked from the member's own host.

use super::settings::Settings;
use super::view::{Patroni, Status};
use crate::cluster::reach::{NoAnswer, Reach};
use crate::http_client::{Request, Response};
use hyper::Method;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a connection may take.
const DIAL: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
struct Told {
    state: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    sync_standby: bool,
    #[serde(default)]
    replication_state: String,
    #[serde(default)]
    timeline: Option<u32>,
    #[serde(default)]
    xlog: Log,
    #[serde(default)]
    replication: Vec<Sender>,
    #[serde(default)]
    pending_restart: bool,
    #[serde(default)]
    database_system_identifier: Option<String>,
    #[serde(default)]
    patroni: About,
    #[serde(default)]
    tags: BTreeMap<String, Value>,
    #[serde(default)]
    dcs_last_seen: u64,
}

#[derive(Default, Deserialize)]
struct Log {
    #[serde(default)]
    location: Option<u64>,
    #[serde(default)]
    received_location: Option<u64>,
    #[serde(default)]
    replayed_location: Option<u64>,
}

#[derive(Deserialize)]
struct Sender {
    #[serde(default)]
    application_name: Option<String>,
    #[serde(default)]
    state: Option<String>,
}

impl Sender {
    fn streams(self) -> Option<String> {
        self.application_name.filter(|_| self.state.as_deref() == Some("streaming"))
    }
}

#[derive(Default, Deserialize)]
struct About {
    #[serde(default)]
    version: String,
}

/// How Patroni on a member is.
pub async fn status(
    reach: &Reach<'_>,
    member: &str,
    address: Ipv4Addr,
    settings: &Settings,
) -> Patroni {
    match told(reach, member, address, settings).await {
        Ok(told) => Patroni::Up(of(told)),
        Err(NoAnswer::Down) => Patroni::Down,
        Err(NoAnswer::Unready(why)) => Patroni::Unready(why),
    }
}

/// When Patroni on a member last heard of etcd, in seconds since the epoch: each of its rounds
/// begins with that.
pub async fn last_round(
    reach: &Reach<'_>,
    member: &str,
    settings: &Settings,
) -> Result<u64, String> {
    let address = reach.address(member)?;
    let told = told(reach, member, address, settings).await;
    told.map(|told| told.dcs_last_seen).map_err(|error| error.to_string())
}

async fn told(
    reach: &Reach<'_>,
    member: &str,
    address: Ipv4Addr,
    settings: &Settings,
) -> Result<Told, NoAnswer> {
    let to = settings.rest(address);
    // Any status is an answer: it says whether this member leads.
    let response = reach.http(member, to, Request::get(to.to_string(), "/patroni")).await?;
    Ok(response.read::<Told>()?)
}

fn of(told: Told) -> Status {
    let tag = |name: &str| told.tags.get(name).is_some_and(|value| *value == Value::Bool(true));
    Status {
        primary: matches!(told.role.as_str(), "master" | "primary"),
        sync: told.sync_standby,
        streaming: told.replication_state == "streaming",
        timeline: told.timeline,
        // One that has received nothing since its start has what it replayed.
        position: told
            .xlog
            .location
            .or(told.xlog.received_location.max(told.xlog.replayed_location))
            .unwrap_or(0),
        followers: told.replication.into_iter().filter_map(Sender::streams).collect(),
        pending_restart: told.pending_restart,
        system: told.database_system_identifier,
        version: told.patroni.version,
        nosync: tag("nosync"),
        nofailover: tag("nofailover"),
        state: told.state,
    }
}

/// Asks Patroni on a member to do something; it wants its password for that.
///
/// # Errors
/// Why it did not.
pub async fn ask(
    reach: &Reach<'_>,
    member: &str,
    settings: &Settings,
    (method, path, body): (Method, &str, &Value),
    limit: Duration,
) -> Result<Response, String> {
    let to = settings.rest(reach.address(member)?);
    let said = |error: &dyn std::fmt::Display| format!("Patroni on {member}, {path}: {error}");
    let stream = reach.hosts.dial(member, to, DIAL).await.map_err(|error| said(&error))?;
    let request = Request::json(method, to.to_string(), path, body)
        .login(&settings.rest_user, settings.rest_password.expose());
    let response = request.send(stream, limit).await.map_err(|error| said(&error))?;
    response.succeeded().map_err(|error| said(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_read_as_patroni_gives_it() {
        let told = json!({
            "state": "running", "role": "replica", "server_version": 150_020,
            "xlog": { "received_location": 67_108_864, "replayed_location": 67_108_864,
                      "replayed_timestamp": null, "paused": false },
            "sync_standby": true, "timeline": 3, "replication_state": "streaming",
            "dcs_last_seen": 1_700_000_000, "tags": { "nosync": true },
            "database_system_identifier": "7300000000000000001",
            "pending_restart": true, "patroni": { "version": "3.3.0", "scope": "pg", "name": "a" }
        });
        let status = of(serde_json::from_value(told).unwrap());
        assert!(status.runs() && status.sync && status.streaming && status.pending_restart);
        assert!(!status.primary && status.nosync && !status.nofailover);
        assert_eq!((status.position, status.timeline), (67_108_864, Some(3)));
        let told = json!({ "state": "running", "role": "master", "xlog": { "location": 5 },
            "replication": [{ "application_name": "b", "state": "streaming", "usename": "r" },
                            { "application_name": "c", "state": "startup" }] });
        let status = of(serde_json::from_value(told).unwrap());
        assert!(status.primary && !status.streaming);
        assert_eq!(status.followers, ["b"]);
        let told = json!({ "state": "starting", "role": "replica", "timeline": null,
            "xlog": { "received_location": null, "replayed_location": null } });
        assert_eq!(of(serde_json::from_value(told).unwrap()).position, 0);
        let told = json!({ "state": "running", "role": "master", "xlog": { "location": 5 } });
        let status = of(serde_json::from_value(told).unwrap());
        assert_eq!(status.position, 5);
    }
}
