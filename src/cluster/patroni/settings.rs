//! What the driver is told by a role, and how wanted settings compare with live ones.

use crate::resource::{Item, Resource};
use crate::secrets::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::net::{Ipv4Addr, SocketAddr};

/// `[cluster.settings]` of a role with the driver `patroni`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The cluster's name in etcd.
    pub scope: String,
    /// Where etcd keeps Patroni's clusters.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// Patroni's file on the host. Its dynamic settings stand on one line of it, as JSON.
    pub config: String,
    /// Seconds until a leader that is not heard of loses the lock.
    #[serde(default = "ttl")]
    pub ttl: u64,
    /// Seconds between two rounds of Patroni.
    #[serde(default = "ten")]
    pub loop_wait: u64,
    /// Seconds that Patroni tries etcd and PostgreSQL again.
    #[serde(default = "ten")]
    pub retry_timeout: u64,
    /// Sync standbys that there must be; 0 without synchronous mode.
    #[serde(default)]
    pub sync: usize,
    /// The superuser.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
    /// The user of Patroni's REST interface.
    pub rest_user: String,
    /// Its password.
    pub rest_password: Secret<String>,
    /// PostgreSQL's port.
    #[serde(default = "port")]
    pub port: u16,
    /// The port of Patroni's REST interface.
    #[serde(default = "rest_port")]
    pub rest_port: u16,
    /// Where a member's host reaches etcd, the first that answers.
    #[serde(default = "etcd")]
    pub etcd: Vec<SocketAddr>,
    /// The member whose data counts where etcd lost the cluster. Empty otherwise.
    #[serde(default)]
    pub newest: String,
    /// How Patroni runs.
    #[serde(default)]
    pub runtime: Runtime,
    /// The container, or without `.service` the unit, of Patroni.
    #[serde(default = "daemon")]
    pub daemon: String,
    /// Roles that there must be.
    #[serde(default)]
    pub roles: Vec<WantedRole>,
    /// Databases that there must be.
    #[serde(default)]
    pub databases: Vec<WantedDatabase>,
    /// How a pooler looks passwords up.
    #[serde(default)]
    pub lookup: Option<Lookup>,
}

/// How Patroni runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// In a container.
    #[default]
    Container,
    /// As a service of the host.
    Native,
}

/// A role that can log in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedRole {
    /// Its name.
    pub name: String,
    /// Its password; set again only when the server does not take it.
    pub password: Secret<String>,
}

/// A database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedDatabase {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// Extensions in it; one that the server does not have is told and forbids nothing.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// The role and the function `get_auth`, one a database, with which a pooler looks passwords up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The role.
    pub role: String,
    /// Its password.
    pub password: Secret<String>,
    /// The schema of the function.
    pub schema: String,
}

impl Settings {
    /// The key of this cluster in etcd, with a slash at its end.
    pub fn key(&self) -> String {
        format!("/{}/{}/", self.namespace.trim_matches('/'), self.scope)
    }

    /// Where a member's PostgreSQL listens.
    pub fn server(&self, address: Ipv4Addr) -> SocketAddr {
        (address, self.port).into()
    }

    /// Where a member's Patroni listens.
    pub fn rest(&self, address: Ipv4Addr) -> SocketAddr {
        (address, self.rest_port).into()
    }

    /// What does not fit together.
    pub fn contradiction(&self) -> Option<String> {
        let least = self.loop_wait + 2 * self.retry_timeout;
        if self.ttl < least {
            return Some(format!(
                "`ttl` is {} and must be at least loop_wait + 2 × retry_timeout = {least}: a leader would lose the lock while it still tries etcd again",
                self.ttl
            ));
        }
        let unknown = self.databases.iter().find(|database| {
            database.owner != self.user
                && !self.roles.iter().any(|role| role.name == database.owner)
        })?;
        Some(format!("no declared role is the owner of the database `{}`", unknown.name))
    }
}

fn namespace() -> String {
    "/service/".to_owned()
}

const fn ttl() -> u64 {
    30
}

const fn ten() -> u64 {
    10
}

const fn port() -> u16 {
    5432
}

const fn rest_port() -> u16 {
    8008
}

fn etcd() -> Vec<SocketAddr> {
    vec![(Ipv4Addr::LOCALHOST, 2379).into()]
}

fn daemon() -> String {
    "patroni".to_owned()
}

/// True for a part of a member whose change restarts Patroni or PostgreSQL.
pub const fn is_daemon(resource: &Resource) -> bool {
    !matches!(resource, Resource::File(_) | Resource::Directory(_) | Resource::Link(_))
}

/// The text of a file among a member's items.
pub fn text_of<'a>(items: &'a [Item], path: &str) -> Option<&'a str> {
    items.iter().find_map(|item| match &item.resource {
        Resource::File(file) if file.path == path => {
            std::str::from_utf8(file.content.as_bytes()).ok()
        }
        _ => None,
    })
}

/// The dynamic settings in Patroni's file: Patroni reads them there once, at the formation, and
/// keeps them in etcd since.
pub fn dynamic_of(text: &str) -> Result<Value, String> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("dcs: "))
        .ok_or("its file has no line `dcs: {…}` below `bootstrap:`")?;
    serde_json::from_str(line).map_err(|error| format!("its line `dcs:` is no JSON: {error}"))
}

/// What of the wanted settings the live ones lack, as PATCH wants it; others are left alone.
pub fn lacking(wanted: &Value, live: &Value) -> Value {
    let (Value::Object(wanted), Value::Object(live)) = (wanted, live) else {
        return if same(wanted, live) { Value::Null } else { wanted.clone() };
    };
    let mut differing = Map::new();
    for (key, value) in wanted {
        match live.get(key) {
            None => {
                differing.insert(key.clone(), value.clone());
            }
            Some(found) => match lacking(value, found) {
                Value::Null => {}
                lacking => {
                    differing.insert(key.clone(), lacking);
                }
            },
        }
    }
    if differing.is_empty() { Value::Null } else { Value::Object(differing) }
}

/// True when two values mean the same: `200` and `"200"`.
fn same(wanted: &Value, live: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    wanted == live || text(wanted) == text(live)
}

/// Names of settings, `postgresql.parameters.max_connections` for what is nested.
pub fn names(settings: &Value) -> Vec<String> {
    let Value::Object(settings) = settings else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in settings {
        let below = names(value);
        if below.is_empty() {
            found.push(key.clone());
        }
        found.extend(below.into_iter().map(|name| format!("{key}.{name}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_set() {
        let wanted = json!({ "ttl": 30, "postgresql": { "use_slots": true,
            "parameters": { "max_connections": 200, "wal_log_hints": "on" } } });
        let live = json!({ "ttl": 20, "loop_wait": 5, "postgresql": { "use_slots": true,
            "parameters": { "max_connections": "200", "work_mem": "8MB" } } });
        let lacking = lacking(&wanted, &live);
        assert_eq!(
            lacking,
            json!({ "ttl": 30, "postgresql": { "parameters": { "wal_log_hints": "on" } } })
        );
        assert_eq!(names(&lacking), ["postgresql.parameters.wal_log_hints", "ttl"]);
        assert_eq!(super::lacking(&wanted, &wanted), Value::Null);
    }

    #[test]
    fn dynamic_settings_are_read_where_patroni_reads_them() {
        let text = "scope: a\nbootstrap:\n  dcs: {\"ttl\":30}\n  initdb: []\n";
        assert_eq!(dynamic_of(text), Ok(json!({ "ttl": 30 })));
        assert!(dynamic_of("bootstrap:\n  dcs:\n    ttl: 30\n").is_err());
    }
}
