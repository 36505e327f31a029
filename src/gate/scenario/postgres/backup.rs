//! What the backup repository holds, and whether WAL reaches it.

use crate::gate::probe;
use crate::gate::scenario::{Finding, Surroundings};
use serde::Deserialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the repository must hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Seconds since the newest backup ended: one and a half times the interval. Default: 32400.
    #[serde(default = "default_age")]
    max_age: u64,
    /// Seconds that a first backup may take, and WAL that is switched now until it is in the
    /// repository. Default: 120.
    #[serde(default = "default_within")]
    within: u64,
}

fn default_age() -> u64 {
    32_400
}

fn default_within() -> u64 {
    120
}

/// pgBackRest in its container, with the stanza of the site's one cluster.
const PGBACKREST: [&str; 5] = ["docker", "exec", "pgbackrest", "pgbackrest", "--stanza=main"];

/// What is wrong with an empty repository.
const NONE: &str = "there is no backup";

/// Beside the time that the archive itself has.
const CALL: Duration = Duration::from_secs(60);

/// Looks at the repository's own list, and lets it prove the way of WAL.
pub async fn backup(surroundings: Surroundings<'_>, bounds: Backup) -> Finding {
    let expected = format!(
        "a backup of the last {:.1} hours without an error, and WAL archived within {} s",
        Duration::from_secs(bounds.max_age).as_secs_f64() / 3600.0,
        bounds.within
    );
    let (max_age, within) = (Duration::from_secs(bounds.max_age), bounds.within);
    surroundings
        .on_each(&expected, |_, session| async move {
            // The first one is made once somebody leads: it may be under way.
            let look = || async {
                let list = [&PGBACKREST[..], &["info", "--output=json"]].concat();
                let stanza = stanza(&probe::output(&session, &list).await?)?;
                if stanza.backup.is_empty() { Err(NONE.to_owned()) } else { Ok(stanza) }
            };
            let stanza = probe::wait_until(Duration::from_secs(within), look).await?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut wrong = judge(&stanza, now, max_age);
            let limit = format!("--archive-timeout={within}");
            let check = [&PGBACKREST[..], &["--log-level-console=warn", &limit, "check"]].concat();
            let deadline = Duration::from_secs(within) + CALL;
            wrong.extend(probe::output_within(&session, &check, deadline).await.err());
            Ok(wrong)
        })
        .await
}

/// One stanza, as pgBackRest lists it.
#[derive(Deserialize)]
struct Stanza {
    status: Status,
    backup: Vec<Kept>,
}

#[derive(Deserialize)]
struct Status {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct Kept {
    label: String,
    #[serde(default)]
    error: Option<bool>,
    timestamp: Times,
}

#[derive(Deserialize)]
struct Times {
    stop: u64,
}

/// The repository's list; its one cluster.
fn stanza(list: &str) -> Result<Stanza, String> {
    let stanzas: Vec<Stanza> =
        serde_json::from_str(list).map_err(|error| format!("its list cannot be read: {error}"))?;
    stanzas.into_iter().next().ok_or_else(|| NONE.to_owned())
}

/// What is wrong with the repository, at this moment since the epoch.
fn judge(stanza: &Stanza, now: Duration, max_age: Duration) -> Vec<String> {
    let mut wrong = Vec::new();
    if stanza.status.code != 0 {
        wrong.push(format!("its state is: {}", stanza.status.message));
    }
    let Some(newest) = stanza.backup.iter().max_by_key(|backup| backup.timestamp.stop) else {
        wrong.push(NONE.to_owned());
        return wrong;
    };
    if newest.error == Some(true) {
        wrong.push(format!("{}: pages with wrong checksums were copied", newest.label));
    }
    let age = now.saturating_sub(Duration::from_secs(newest.timestamp.stop));
    if age > max_age {
        wrong.push(format!("the newest backup, {}, is {} s old", newest.label, age.as_secs()));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000020000000000000009","min":"000000010000000000000003"}],
        "backup":[
            {"label":"20261122-010000F","type":"full","error":false,"timestamp":{"start":1000,"stop":2000}},
            {"label":"20261122-010000F_20261122-070000D","type":"diff","error":true,"timestamp":{"start":3000,"stop":4000}}],
        "cipher":"aes-256-cbc","name":"main","status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]"#;

    fn at(seconds: u64, list: &str) -> Vec<String> {
        match stanza(list) {
            Ok(stanza) => judge(&stanza, Duration::from_secs(seconds), Duration::from_secs(500)),
            Err(why) => vec![why],
        }
    }

    #[test]
    fn the_newest_backup_counts_its_age_and_its_errors() {
        let newest = "20261122-010000F_20261122-070000D";
        assert_eq!(at(4500, LIST), [format!("{newest}: pages with wrong checksums were copied")]);
        let sound = LIST.replace("true", "false");
        assert!(at(4500, &sound).is_empty());
        assert_eq!(at(4501, &sound), [format!("the newest backup, {newest}, is 501 s old")]);
    }

    #[test]
    fn nothing_unknown_and_nonsense_are_wrong() {
        assert_eq!(at(1, "[]"), ["there is no backup"]);
        let none = r#"[{"backup":[],"status":{"code":2,"message":"no valid backups"}}]"#;
        assert_eq!(at(1, none), ["its state is: no valid backups", "there is no backup"]);
        assert!(at(1, "{").first().unwrap().starts_with("its list cannot be read"));
    }
}
