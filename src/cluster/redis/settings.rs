//! What the driver is told by a role, and how wanted settings compare with live ones.

use crate::resource::{Item, Resource};
use crate::secrets::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// `[cluster.settings]` of a role with the driver `redis-sentinel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The name under which Sentinels watch the master.
    pub master: String,
    /// The password of clients, replicas and Sentinels alike.
    pub password: Secret<String>,
    /// The password before it, while it is being replaced: servers take both. Empty otherwise.
    #[serde(default = "nothing")]
    pub previous: Secret<String>,
    /// Redis' own file on the host: written once, then Redis' alone.
    pub config: String,
    /// The file with settings that are applied while Redis runs.
    pub settings: String,
    /// Sentinel's own file on the host: written once, then Sentinel's alone.
    pub sentinel_config: String,
    /// The container of Redis.
    #[serde(default = "server")]
    pub server: String,
    /// The container of Sentinel.
    #[serde(default = "sentinel")]
    pub sentinel: String,
    /// The port of Redis.
    #[serde(default = "port")]
    pub port: u16,
    /// Seconds that Sentinels give a failover, as in their own file.
    #[serde(default = "failover_timeout")]
    pub failover_timeout: u64,
    /// The port of Sentinel.
    #[serde(default = "sentinel_port")]
    pub sentinel_port: u16,
    /// What makes clients follow another master, started at once after a hand-over.
    #[serde(default)]
    pub follow: Option<Follow>,
}

/// A systemd unit that makes clients follow the master that the Sentinels name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// The group of its hosts.
    pub on: String,
    /// The unit.
    pub unit: String,
}

impl Settings {
    /// The password before, while servers take both.
    pub fn previous(&self) -> Option<&Secret<String>> {
        (!self.previous.expose().is_empty()).then_some(&self.previous)
    }

    /// The time that Sentinels give a failover.
    pub const fn failover_timeout(&self) -> Duration {
        Duration::from_secs(self.failover_timeout)
    }
}

const fn failover_timeout() -> u64 {
    60
}

fn nothing() -> Secret<String> {
    Secret::new(String::new())
}

fn server() -> String {
    "redis".to_owned()
}

fn sentinel() -> String {
    "sentinel".to_owned()
}

const fn port() -> u16 {
    6379
}

const fn sentinel_port() -> u16 {
    26379
}

/// Settings that Redis takes only when it starts.
const AT_START: [&str; 14] = [
    "aclfile",
    "always-show-logo",
    "appenddirname",
    "appendfilename",
    "cluster-enabled",
    "daemonize",
    "databases",
    "io-threads",
    "logfile",
    "pidfile",
    "supervised",
    "tcp-backlog",
    "unixsocket",
    "rename-command",
];

/// What of Sentinel's file is set while it runs; the rest is its own.
const SENTINEL_LIVE: [&str; 3] = [DOWN_AFTER, "failover-timeout", "parallel-syncs"];

/// For how long a master has to be silent until a Sentinel takes it for down, in milliseconds.
pub const DOWN_AFTER: &str = "down-after-milliseconds";

/// What stands there while a Sentinel is kept from electing: ten minutes, after which it elects all
/// the same, also when strata was killed meanwhile.
pub const HELD_MS: &str = "600000";

/// What Sentinel itself begins with.
pub const REDIS_DOWN_AFTER_MS: &str = "30000";

/// How wanted settings differ from live ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// To be set while it runs.
    pub live: Vec<(String, String)>,
    /// Names of those that need a start.
    pub at_start: Vec<String>,
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

/// Compares the text of the settings file with the answer to CONFIG GET. A setting that this
/// server does not know is left to its next start, which refuses it in words.
pub fn drift(text: &str, live: &BTreeMap<String, String>) -> Drift {
    let mut drift = Drift::default();
    for (name, wanted) in directives(text) {
        let Some(found) = live.get(&name) else { continue };
        if same(&wanted, found) {
            continue;
        }
        if AT_START.contains(&name.as_str()) {
            drift.at_start.push(name);
        } else {
            drift.live.push((name, wanted));
        }
    }
    drift
}

/// What of Sentinel's file, as the role would write it, is set while it runs.
pub fn sentinel_settings(text: &str, master: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["sentinel", "monitor", name, _, _, quorum] if *name == master => {
                    Some(("quorum".to_owned(), (*quorum).to_owned()))
                }
                ["sentinel", key, name, value]
                    if *name == master && SENTINEL_LIVE.contains(key) =>
                {
                    Some(((*key).to_owned(), (*value).to_owned()))
                }
                _ => None,
            }
        })
        .collect()
}

/// Compares it with the fields of SENTINEL MASTER.
pub fn sentinel_drift(
    text: &str,
    master: &str,
    fields: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut wanted = sentinel_settings(text, master);
    wanted.retain(|(key, wanted)| fields.get(key).is_some_and(|found| found != wanted));
    wanted
}

/// Names with their values, the last of a name counting; `save` alone adds up.
fn directives(text: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.split_once(char::is_whitespace) else { continue };
        let (name, value) = (name.to_ascii_lowercase(), plain(value.trim()));
        if name == "include" {
            continue;
        }
        match found.get_mut(&name) {
            Some(before) if name == "save" => {
                before.push(' ');
                before.push_str(&value);
            }
            _ => {
                found.insert(name, value);
            }
        }
    }
    found
}

/// A value without its quotes.
fn plain(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(value).to_owned()
}

/// True when two values mean the same: `512mb` is what CONFIG GET calls `536870912`.
fn same(wanted: &str, found: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(bytes).collect::<Vec<_>>();
    words(wanted) == words(found)
}

/// A size in bytes, as Redis reads it; other words as they are.
fn bytes(word: &str) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("kb", 1 << 10),
        ("mb", 1 << 20),
        ("gb", 1 << 30),
        ("k", 1_000),
        ("m", 1_000_000),
        ("g", 1_000_000_000),
    ];
    let lower = word.to_ascii_lowercase();
    for (unit, factor) in UNITS {
        if let Some(number) = lower.strip_suffix(unit).and_then(|n| n.parse::<u64>().ok()) {
            return number.saturating_mul(factor).to_string();
        }
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_quotes_and_repeated_lines_mean_what_redis_means() {
        let text = "# a comment\nmaxmemory 512mb\nsave 900 1\nsave 300 10\nbind \"0.0.0.0\"\n\
                    appendonly yes\ndatabases 32\nno-such-setting 1\ninclude /conf/x\n";
        let live = BTreeMap::from(
            [
                ("maxmemory", "536870912"),
                ("save", "900 1 300 10"),
                ("bind", "0.0.0.0"),
                ("appendonly", "no"),
                ("databases", "16"),
                ("include", "/conf/y"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        assert_eq!(
            drift(text, &live),
            Drift {
                live: vec![("appendonly".to_owned(), "yes".to_owned())],
                at_start: vec!["databases".to_owned()],
            }
        );
    }

    #[test]
    fn only_live_settings_of_the_own_master_count() {
        let text = "port 26379\nsentinel monitor a 10.0.0.1 6379 2\n\
                    sentinel down-after-milliseconds a 5000\nsentinel parallel-syncs b 9\n\
                    sentinel failover-timeout a 60000\nsentinel auth-pass a hidden\n";
        let fields = BTreeMap::from(
            [("quorum", "2"), ("down-after-milliseconds", "30000"), ("failover-timeout", "60000")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        assert_eq!(
            sentinel_drift(text, "a", &fields),
            vec![("down-after-milliseconds".to_owned(), "5000".to_owned())]
        );
    }
}
