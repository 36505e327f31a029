//! Another password while everybody works: servers take both, then everybody gives the new one,
//! then servers take the new one alone.
//!
//! ```text
//! every server takes both  ─►  replicas and Sentinels give the new one  ─►  servers forget the old one
//!        (previous set)                                                      (previous gone)
//! ```
//!
//! No step begins on any member before the one before it has ended on all, so whoever connects to
//! whomever is let in at every moment. A step stands among a member's settings by its name alone: no
//! password is in what is observed, decided or told.

use super::settings::Settings;
use super::view::Member;
use crate::redis_client::{Client, Error, password_hash};
use std::collections::{BTreeMap, BTreeSet};

/// The user of everybody: the one that `requirepass` is about.
pub(super) const USER: &str = "default";

/// The server takes the new password beside the old one.
const ACCEPT: &str = "new password";

/// The server gives the new password to the master that it follows, now or later.
const GIVE: &str = "masterauth";

/// The server forgets the old password.
const FORGET: &str = "requirepass";

/// Sentinel gives the new password.
pub(super) const WATCH: &str = "auth-pass";

/// True for a setting that is a step of a change of passwords.
pub(super) fn is_step(name: &str) -> bool {
    [ACCEPT, GIVE, FORGET].contains(&name)
}

/// The steps that are left for a server: `accepted` are the hashes that its user may give, `live`
/// its settings.
pub(super) fn of_server(
    settings: &Settings,
    accepted: &BTreeSet<String>,
    live: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let password = settings.password.expose();
    let is = |name: &str| live.get(name).is_some_and(|found| found == password);
    let mut steps = Vec::new();
    let takes = |password: &str| accepted.contains(&password_hash(password));
    if !takes(password) || settings.previous().is_some_and(|previous| !takes(previous.expose())) {
        steps.push(ACCEPT);
    }
    // With a user of its own a replica gives another password.
    if !is("masterauth") && live.get("masteruser").is_none_or(String::is_empty) {
        steps.push(GIVE);
    }
    if settings.previous().is_none() && old(password, accepted, live).is_some() {
        steps.push(FORGET);
    }
    steps.into_iter().map(|step| (step.to_owned(), String::new())).collect()
}

/// The password before, as long as a server takes it: its `requirepass` stays as it was while a
/// second one is added. Passwords that others gave the user are not strata's to drop.
fn old<'a>(
    password: &str,
    accepted: &BTreeSet<String>,
    live: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    let before = live.get("requirepass").map(String::as_str)?;
    let counts = before != password && !before.is_empty();
    (counts && accepted.contains(&password_hash(before))).then_some(before)
}

/// Leaves each member with the steps that may be done now.
pub(super) fn in_order(members: &mut [Member]) {
    let has = |members: &[Member], step: &str| {
        members.iter().filter_map(Member::view).any(|seen| {
            let settings = &seen.stale.settings;
            settings.iter().chain(&seen.stale.sentinel_settings).any(|(name, _)| name == step)
        })
    };
    let later: &[&str] = if has(members, ACCEPT) {
        &[GIVE, WATCH, FORGET]
    } else if has(members, GIVE) || has(members, WATCH) {
        &[FORGET]
    } else {
        &[]
    };
    for seen in members.iter_mut().filter_map(|member| member.seen.as_mut().ok()) {
        let now = |(name, _): &(String, String)| !later.contains(&name.as_str());
        seen.stale.settings.retain(now);
        seen.stale.sentinel_settings.retain(now);
    }
}

/// Does one step on a server, and has it written into the server's own file.
pub(super) async fn step(client: &Client, name: &str, settings: &Settings) -> Result<(), Error> {
    let password = settings.password.expose();
    match name {
        ACCEPT => {
            client.add_password(USER, &password_hash(password)).await?;
            if let Some(previous) = settings.previous() {
                client.add_password(USER, &password_hash(previous.expose())).await?;
            }
        }
        GIVE => client.config_set(GIVE, password).await?,
        _ => forget(client, password).await?,
    }
    client.config_rewrite().await
}

async fn forget(client: &Client, password: &str) -> Result<(), Error> {
    let accepted = client.user_passwords(USER).await?;
    let live = client.config_get(FORGET).await?;
    let Some(before) = old(password, &accepted, &live) else { return Ok(()) };
    let before = password_hash(before);
    let new = password_hash(password);
    match accepted.iter().all(|hash| *hash == before || *hash == new) {
        true => client.config_set(FORGET, password).await,
        false => client.remove_password(USER, &before).await,
    }
}

/// A program for the host that tells the hash of the line in Sentinel's file by which it gives a
/// password: the line itself stays there.
pub(super) fn sentinel_password(settings: &Settings) -> [&str; 5] {
    // Where Sentinel has a user of its own, its password is another one.
    let script = "if grep -q '^sentinel auth-user ' -- \"$1\"; then echo own; \
                  else grep -h '^sentinel auth-pass ' -- \"$1\" | sha256sum; fi";
    ["sh", "-c", script, "sh", &settings.sentinel_config]
}

/// True when that hash is the one of the line with the password, or there is nothing to compare.
pub(super) fn is_sentinels(settings: &Settings, told: &str) -> bool {
    let line = format!("sentinel auth-pass {} {}\n", settings.master, settings.password.expose());
    let told = told.split_whitespace().next();
    told == Some("own") || told == Some(&password_hash(&line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::redis::view::{Seen, Sentinel, Server, Stale};
    use std::net::Ipv4Addr;

    fn settings(previous: &str) -> Settings {
        let text = serde_json::json!({
            "master": "m", "password": "new", "previous": previous,
            "config": "/c", "settings": "/s", "sentinel_config": "/w",
        });
        serde_json::from_value(text).unwrap()
    }

    fn steps(previous: &str, accepted: &[&str], masterauth: &str, requirepass: &str) -> String {
        let accepted = accepted.iter().map(|password| password_hash(password)).collect();
        let live = BTreeMap::from(
            [("masterauth", masterauth), ("requirepass", requirepass), ("masteruser", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let found = of_server(&settings(previous), &accepted, &live);
        assert!(found.iter().all(|(_, value)| value.is_empty()), "a password among settings");
        found.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_server_is_led_from_the_old_password_to_the_new_one() {
        // Nothing is rotated.
        assert_eq!(steps("", &["new"], "new", "new"), "");
        // The new one was made: first both count, and the old one stays until it is finished.
        assert_eq!(steps("old", &["old"], "old", "old"), "new password masterauth");
        assert_eq!(steps("old", &["old", "new"], "old", "old"), "masterauth");
        assert_eq!(steps("old", &["old", "new"], "new", "old"), "");
        // Finished.
        assert_eq!(steps("", &["old", "new"], "new", "old"), "requirepass");
        // A member that was made meanwhile has the new one from its beginning.
        assert_eq!(steps("old", &["new"], "new", "new"), "new password");
        // Passwords of others than strata stay, and a server whose users stand in a file of its own.
        assert_eq!(steps("", &["new", "theirs"], "new", "new"), "");
        assert_eq!(steps("", &["new", "theirs"], "new", ""), "");
        assert_eq!(steps("", &["new", "theirs"], "new", "dropped"), "");
    }

    fn member(settings: &[&str], sentinel: &[&str]) -> Member {
        let named = |names: &[&str]| {
            names.iter().map(|name| ((*name).to_owned(), String::new())).collect::<Vec<_>>()
        };
        let stale = Stale {
            settings: named(settings),
            sentinel_settings: named(sentinel),
            ..Stale::default()
        };
        Member {
            name: "a".to_owned(),
            address: Ipv4Addr::LOCALHOST,
            seen: Ok(Seen {
                marker: Ok(None),
                data: true,
                server_config: true,
                sentinel_config: true,
                server: Server::Down,
                sentinel: Sentinel::Down,
                stale,
            }),
        }
    }

    #[test]
    fn no_step_begins_before_the_one_before_it_ended_everywhere() {
        let left = |members: &[Member]| {
            let all = members.iter().filter_map(Member::view).flat_map(|seen| {
                seen.stale.settings.iter().chain(&seen.stale.sentinel_settings).cloned()
            });
            all.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
        };
        let mut members = [
            member(&["maxmemory", ACCEPT, GIVE], &[WATCH, "quorum"]),
            member(&[GIVE, FORGET], &[WATCH]),
        ];
        in_order(&mut members);
        assert_eq!(left(&members), "maxmemory new password quorum");
        let mut members = [member(&[GIVE, FORGET], &[]), member(&[FORGET], &[WATCH])];
        in_order(&mut members);
        assert_eq!(left(&members), "masterauth auth-pass");
        let mut members = [member(&[FORGET], &[]), member(&[FORGET], &[])];
        in_order(&mut members);
        assert_eq!(left(&members), "requirepass requirepass");
    }

    #[test]
    fn sentinels_line_is_known_by_its_hash() {
        let settings = settings("");
        let told = format!("{}  -\n", password_hash("sentinel auth-pass m new\n"));
        assert!(is_sentinels(&settings, &told));
        assert!(!is_sentinels(&settings, "") && is_sentinels(&settings, "own\n"));
        assert!(!is_sentinels(&settings, &told.replace("-", "x").replacen('a', "b", 1)));
    }
}
