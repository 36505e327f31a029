//! `[cluster.settings]` of roles with this driver.

use crate::secrets::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What the driver needs to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The user by whom strata looks and declares; nodes make it when their cluster begins.
    pub admin: Login,
    /// The vhost of the applications.
    pub vhost: String,
    /// What queues of it are where nobody says.
    #[serde(default = "quorum")]
    pub queue_type: String,
    /// Users of the applications, with everything allowed in the vhost.
    #[serde(default)]
    pub users: Vec<Login>,
    /// Policies of the vhost.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// The file with the cookie on the host.
    pub cookie: String,
    /// The container.
    #[serde(default = "container")]
    pub container: String,
    /// The port of the management interface.
    #[serde(default = "management_port")]
    pub management_port: u16,
    /// The port by which nodes are found (epmd).
    #[serde(default = "epmd_port")]
    pub epmd_port: u16,
    /// The port by which nodes speak to each other.
    #[serde(default = "node_port")]
    pub node_port: u16,
    /// The port of clients.
    #[serde(default = "client_port")]
    pub client_port: u16,
}

/// A user.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Its name.
    pub user: Secret<String>,
    /// Its password.
    pub password: Secret<String>,
}

/// A policy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// A regular expression over the names of queues and exchanges.
    pub pattern: String,
    /// `queues`, `exchanges` or `all`.
    #[serde(default = "queues")]
    pub apply_to: String,
    /// Which of several counts: the highest.
    #[serde(default)]
    pub priority: i64,
    /// What it says.
    pub definition: BTreeMap<String, serde_json::Value>,
}

fn quorum() -> String {
    "quorum".to_owned()
}

fn queues() -> String {
    "queues".to_owned()
}

fn container() -> String {
    "rabbitmq".to_owned()
}

const fn management_port() -> u16 {
    15672
}

const fn epmd_port() -> u16 {
    4369
}

const fn node_port() -> u16 {
    25672
}

const fn client_port() -> u16 {
    5672
}

impl Settings {
    /// Every port that a node listens on.
    pub const fn ports(&self) -> [u16; 4] {
        [self.epmd_port, self.node_port, self.client_port, self.management_port]
    }
}

/// The name of the node on a host.
pub fn node(host: &str) -> String {
    format!("rabbit@{host}")
}

/// The host of a node.
pub fn host(node: &str) -> &str {
    node.split_once('@').map_or(node, |(_, host)| host)
}
