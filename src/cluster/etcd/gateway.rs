//! What etcd says over its JSON gateway (`/v3/…`), in version 3.4 and 3.5 alike.

use crate::http_client::Request;
use hyper::Method;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::net::Ipv4Addr;

/// How a member stands.
pub const STATUS: &str = "/v3/maintenance/status";
/// Who the members are, as this member knows.
pub const MEMBERS: &str = "/v3/cluster/member/list";
/// Adds a member.
pub const ADD: &str = "/v3/cluster/member/add";
/// Takes a member out.
pub const REMOVE: &str = "/v3/cluster/member/remove";
/// Gives a learner its vote.
pub const PROMOTE: &str = "/v3/cluster/member/promote";
/// Lets another member lead; only the leader takes it.
pub const MOVE_LEADER: &str = "/v3/maintenance/transfer-leadership";
/// Writes a key.
pub const PUT: &str = "/v3/kv/put";
/// Reads keys.
pub const RANGE: &str = "/v3/kv/range";
/// Deletes keys.
pub const DELETE: &str = "/v3/kv/deleterange";

/// A call of the gateway.
pub fn call(path: &str, body: &Value) -> Request {
    Request::json(Method::POST, "etcd", path, body)
}

/// A read that a majority has to agree on, and that writes nothing: `/health` of this version would
/// leave an entry in the log at every look.
pub fn agreed_read() -> Request {
    call(RANGE, &serde_json::json!({ "key": "AA==", "count_only": true }))
}

/// What every answer begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// The cluster.
    #[serde(default, deserialize_with = "number")]
    pub cluster_id: u64,
    /// The member that answers.
    #[serde(default, deserialize_with = "number")]
    pub member_id: u64,
}

/// How a member stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Who says it.
    #[serde(default)]
    pub header: Header,
    /// The server's version.
    #[serde(default)]
    pub version: String,
    /// Bytes of the database's file.
    #[serde(default, rename = "dbSize", deserialize_with = "number")]
    pub size: u64,
    /// The member that leads; 0 where nobody does.
    #[serde(default, deserialize_with = "number")]
    pub leader: u64,
    /// Index of its last entry that was agreed on.
    #[serde(default, rename = "raftIndex", deserialize_with = "number")]
    pub index: u64,
    /// Index of its last entry that was applied.
    #[serde(default, rename = "raftAppliedIndex", deserialize_with = "number")]
    pub applied: u64,
    /// The term.
    #[serde(default, rename = "raftTerm", deserialize_with = "number")]
    pub term: u64,
    /// True for a member without a vote.
    #[serde(default, rename = "isLearner")]
    pub learner: bool,
    /// Raised alarms and other complaints.
    #[serde(default)]
    pub errors: Vec<String>,
}

impl Status {
    /// Raised alarms, each with the id of the member that raised it.
    pub fn alarms(&self) -> Vec<(String, u64)> {
        self.errors
            .iter()
            .filter_map(|text| {
                let word = |name: &str| text.split_whitespace().find_map(|w| w.strip_prefix(name));
                let member = word("memberID:").and_then(|id| id.parse().ok()).unwrap_or(0);
                Some((word("alarm:")?.to_owned(), member))
            })
            .collect()
    }
}

/// The members, as one of them knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Members {
    /// All of them.
    #[serde(default)]
    pub members: Vec<Peer>,
}

/// One member of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// Its id.
    #[serde(default, rename = "ID", deserialize_with = "number")]
    pub id: u64,
    /// Its name; empty until it began.
    #[serde(default)]
    pub name: String,
    /// Where the others reach it.
    #[serde(default, rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it began.
    #[serde(default, rename = "clientURLs")]
    pub client_urls: Vec<String>,
    /// True without a vote.
    #[serde(default, rename = "isLearner")]
    pub learner: bool,
}

impl Peer {
    /// True when it has been there: a later beginning would be one without memory.
    pub fn began(&self) -> bool {
        !self.client_urls.is_empty()
    }

    /// The address where the others reach it.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.peer_urls.iter().find_map(|url| {
            let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            rest.split([':', '/']).next()?.parse().ok()
        })
    }
}

/// Numbers of 64 bits are strings in JSON, and left out where they are 0.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => text.parse().map_err(serde::de::Error::custom),
        Value::Number(number) => number
            .as_u64()
            .ok_or_else(|| serde::de::Error::custom(format!("{number} is no id or count"))),
        other => Err(serde::de::Error::custom(format!("{other} is no number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_server_are_read() {
        let status: Status = serde_json::from_str(
            r#"{"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","revision":"1","raft_term":"2"},
                "version":"3.4.23","dbSize":"20480","leader":"10276657743932975437","raftIndex":"8","raftTerm":"2","raftAppliedIndex":"8","dbSizeInUse":"16384"}"#,
        )
        .unwrap();
        assert_eq!(status.leader, status.header.member_id);
        assert_eq!((status.size, status.index, status.learner), (20480, 8, false));
        let alarmed: Status = serde_json::from_str(
            r#"{"errors":["memberID:10276657743932975437 alarm:NOSPACE ","etcdserver: no leader"]}"#,
        )
        .unwrap();
        assert_eq!(alarmed.alarms(), [("NOSPACE".to_owned(), 10_276_657_743_932_975_437)]);
        let members: Members = serde_json::from_str(
            r#"{"header":{},"members":[{"ID":"10276657743932975437","name":"db-01","peerURLs":["http://10.0.0.120:2380"],"clientURLs":["http://10.0.0.120:2379"]},
                {"ID":"1","peerURLs":["http://10.0.0.121:2380"],"isLearner":true}]}"#,
        )
        .unwrap();
        let [first, second] = &members.members[..] else { panic!("{members:?}") };
        assert_eq!(first.address(), Some(Ipv4Addr::new(10, 0, 0, 120)));
        assert!(first.began() && !first.learner);
        assert!(!second.began() && second.learner);
    }

    #[test]
    fn what_is_no_number_is_an_error_and_no_zero() {
        for text in [r#"{"leader":"x"}"#, r#"{"leader":-1}"#, r#"{"leader":null}"#] {
            assert!(serde_json::from_str::<Status>(text).is_err(), "{text}");
        }
    }
}
