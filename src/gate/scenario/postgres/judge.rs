//! What is wrong with what was seen. Pure.

use super::seen::{Entry, Lag, Member, Server, View};
use std::collections::BTreeSet;

/// What Patroni calls a leader, by release.
const LEADERS: [&str; 3] = ["leader", "master", "primary"];

/// The states of a standby that is in step. Releases before 3.0.3 say `running`, and only the
/// primary's own list of streams tells more.
const IN_STEP: [&str; 2] = ["streaming", "running"];

/// What a standby is called whom every acknowledged commit waits for.
const SYNCHRONOUS: [&str; 2] = ["sync_standby", "quorum_standby"];

/// The one member that takes writes.
///
/// # Errors
/// What there is instead.
pub fn primary(members: &[Member]) -> Result<&Member, String> {
    let primaries: Vec<&Member> = members
        .iter()
        .filter(|member| member.server.as_ref().is_ok_and(|server| !server.recovery))
        .collect();
    match primaries[..] {
        [one] => Ok(one),
        [] => Err("no member is primary".to_owned()),
        _ => {
            let names: Vec<&str> = primaries.iter().map(|member| member.name.as_str()).collect();
            Err(format!("{} are primaries", names.join(" and ")))
        }
    }
}

/// Who leads by a view.
///
/// # Errors
/// When nobody does, or more than one.
pub fn leader_of(view: &View) -> Result<&Entry, String> {
    let mut leaders = view.members.iter().filter(|entry| LEADERS.contains(&&*entry.role));
    match (leaders.next(), leaders.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err("nobody leads".to_owned()),
        (Some(one), Some(other)) => Err(format!("{} and {} lead", one.name, other.name)),
    }
}

/// Whether every acknowledged commit waits for this member too.
pub fn is_synchronous(view: &View, name: &str) -> bool {
    view.members.iter().any(|entry| entry.name == name && SYNCHRONOUS.contains(&&*entry.role))
}

/// What is wrong with the members and with what each says of all. `max_lag`: bytes; `sync`: standbys
/// that every acknowledged commit has to wait for.
pub fn wrong_members(members: &[Member], max_lag: u64, sync: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut pictures = BTreeSet::new();
    for member in members {
        match &member.view {
            Ok(view) => {
                let lines = wrong_view(view, members, max_lag, sync);
                wrong.extend(lines.into_iter().map(|line| format!("{} sees: {line}", member.name)));
                let mut picture: Vec<(&str, &str)> = view
                    .members
                    .iter()
                    .map(|entry| (entry.name.as_str(), entry.role.as_str()))
                    .collect();
                picture.sort_unstable();
                pictures.insert(picture);
            }
            Err(reason) => wrong.push(format!("{}: {reason}", member.name)),
        }
        if let Err(reason) = &member.server {
            wrong.push(format!("{}: {reason}", member.name));
        }
    }
    if pictures.len() > 1 {
        wrong.push("the members do not see the same roles".to_owned());
    }
    match primary(members) {
        Ok(leader) => wrong.extend(wrong_primary(leader, members)),
        Err(reason) => wrong.push(reason),
    }
    wrong
}

fn wrong_view(view: &View, members: &[Member], max_lag: u64, sync: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    if view.pause {
        wrong.push("Patroni is paused: nobody would take over".to_owned());
    }
    let leader = leader_of(view);
    if let Err(reason) = &leader {
        wrong.push(reason.clone());
    }
    let known: BTreeSet<&str> = view.members.iter().map(|entry| entry.name.as_str()).collect();
    let wanted: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    if known != wanted {
        let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
        wrong.push(format!("the members {}, not {}", list(&known), list(&wanted)));
    }
    let leader = leader.ok();
    for entry in &view.members {
        let leads = leader.is_some_and(|leader| leader.name == entry.name);
        let lines = wrong_entry(entry, leads, leader.and_then(|leader| leader.timeline), max_lag);
        wrong.extend(lines.into_iter().map(|line| format!("{} {line}", entry.name)));
    }
    let synchronous = |entry: &&Entry| SYNCHRONOUS.contains(&&*entry.role);
    let found = view.members.iter().filter(synchronous).count();
    // One that is alone waits for nobody, and nobody for those that their role leaves out.
    let fit = |entry: &&Entry| {
        !entry.tags.nosync && leader.is_some_and(|leader| leader.name != entry.name)
    };
    let wanted = sync.min(view.members.iter().filter(fit).count());
    if found < wanted {
        wrong.push(match found {
            0 => "no synchronous standby: a commit waits for nobody".to_owned(),
            _ => format!("{found} of {wanted} synchronous standbys"),
        });
    }
    wrong
}

fn wrong_entry(entry: &Entry, leads: bool, timeline: Option<u64>, max_lag: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let good: &[&str] = if leads { &["running"] } else { &IN_STEP };
    if !good.contains(&&*entry.state) {
        wrong.push(format!("is {}", entry.state));
    }
    if entry.timeline != timeline {
        let shown = |at: Option<u64>| at.map_or("none".to_owned(), |at| at.to_string());
        wrong.push(format!("has timeline {}, not {}", shown(entry.timeline), shown(timeline)));
    }
    match &entry.lag {
        Some(Lag::Bytes(bytes)) if !leads && *bytes > max_lag => {
            wrong.push(format!("is {bytes} bytes behind, at most {max_lag} are allowed"));
        }
        Some(Lag::Unknown(word)) if !leads => wrong.push(format!("is behind: {word}")),
        _ => {}
    }
    if entry.pending_restart {
        wrong.push("has settings that wait for a restart".to_owned());
    }
    wrong
}

/// What is wrong with the one primary and what streams from it.
fn wrong_primary(leader: &Member, members: &[Member]) -> Vec<String> {
    let mut wrong = Vec::new();
    for member in members {
        if let Ok(view) = &member.view
            && let Ok(entry) = leader_of(view)
            && entry.name != leader.name
        {
            wrong.push(format!(
                "{} sees {} lead, the primary is {}",
                member.name, entry.name, leader.name
            ));
        }
    }
    let Ok(server) = &leader.server else { return wrong };
    for member in members.iter().filter(|member| member.name != leader.name) {
        match server.streams.iter().find(|stream| stream.name == member.name) {
            Some(stream) if stream.state == "streaming" => {}
            Some(stream) => wrong.push(format!("{}: its stream is {}", member.name, stream.state)),
            None => wrong.push(format!("{} does not stream from {}", member.name, leader.name)),
        }
    }
    wrong
}

/// What is wrong with one server's version and pages. `release` is the tag of the pinned image.
pub fn wrong_server(server: &Server, release: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    // `16.4` of `16.4-alpine`; `15` stands for every `15.x`.
    let wanted = release.split(['-', '@']).next().unwrap_or_default();
    let found = server.version.split(' ').next().unwrap_or_default();
    if found != wanted && !found.starts_with(&format!("{wanted}.")) {
        wrong.push(format!("is PostgreSQL {found}, the pin is {release}"));
    }
    if !server.checksums {
        wrong.push("its pages have no checksums".to_owned());
    }
    wrong
}

#[cfg(test)]
pub mod tests {
    use super::super::seen::{Stream, Tags};
    use super::*;

    fn entry(name: &str, role: &str) -> Entry {
        let leads = role == "leader";
        Entry {
            name: name.to_owned(),
            role: role.to_owned(),
            state: if leads { "running" } else { "streaming" }.to_owned(),
            host: String::new(),
            timeline: Some(2),
            lag: (!leads).then_some(Lag::Bytes(0)),
            pending_restart: false,
            tags: Tags::default(),
        }
    }

    /// Three members, the first one leads, the second is its synchronous standby.
    pub fn healthy() -> Vec<Member> {
        let roles = [("db-01", "leader"), ("db-02", "sync_standby"), ("db-03", "replica")];
        let view = View {
            members: roles.iter().map(|(name, role)| entry(name, role)).collect(),
            pause: false,
        };
        let stream = |name: &str, sync: &str| Stream {
            name: name.to_owned(),
            state: "streaming".to_owned(),
            sync: sync.to_owned(),
        };
        roles
            .iter()
            .map(|(name, role)| {
                let leads = *role == "leader";
                let streams = vec![stream("db-02", "sync"), stream("db-03", "async")];
                Member {
                    name: (*name).to_owned(),
                    view: Ok(view.clone()),
                    server: Ok(Server {
                        recovery: !leads,
                        version: "16.4 (Debian)".to_owned(),
                        checksums: true,
                        started: format!("17000.{name}"),
                        streams: if leads { streams } else { Vec::new() },
                    }),
                }
            })
            .collect()
    }

    fn view(member: &mut Member) -> &mut View {
        member.view.as_mut().unwrap()
    }

    fn server(member: &mut Member) -> &mut Server {
        member.server.as_mut().unwrap()
    }

    #[test]
    fn nothing_is_wrong_with_a_healthy_cluster() {
        let members = healthy();
        assert_eq!(wrong_members(&members, 0, 1), Vec::<String>::new());
        assert_eq!(wrong_members(&members, 0, 0), Vec::<String>::new());
        let wrong = wrong_members(&members, 0, 2).join("\n");
        assert!(wrong.contains("1 of 2 synchronous standbys"), "{wrong}");
        // Two were asked for, and the role leaves one of the two standbys out.
        let mut left_out = members.clone();
        for member in &mut left_out {
            member.view.as_mut().unwrap().members[2].tags.nosync = true;
        }
        assert_eq!(wrong_members(&left_out, 0, 2), Vec::<String>::new());
        assert_eq!(primary(&members).unwrap().name, "db-01");
        assert!(is_synchronous(members[2].view.as_ref().unwrap(), "db-02"));
        assert!(!is_synchronous(members[2].view.as_ref().unwrap(), "db-03"));
    }

    /// Each way of being ill is seen, by itself.
    #[test]
    fn each_illness_is_seen() {
        type Ill = fn(&mut [Member]);
        let illnesses: [(&str, Ill); 16] = [
            ("refused", |m| m[1].server = Err("refused".into())),
            ("silent", |m| m[1].view = Err("silent".into())),
            ("are primaries", |m| server(&mut m[1]).recovery = false),
            ("no member is primary", |m| server(&mut m[0]).recovery = true),
            ("paused", |m| view(&mut m[2]).pause = true),
            ("nobody leads", |m| view(&mut m[2]).members[0].role = "replica".into()),
            ("db-01 and db-02 lead", |m| view(&mut m[0]).members[1].role = "leader".into()),
            ("the primary is db-01", |m| {
                view(&mut m[1]).members[0].role = "replica".into();
                view(&mut m[1]).members[1].role = "leader".into();
            }),
            ("the same roles", |m| view(&mut m[1]).members[2].role = "sync_standby".into()),
            ("the members db-01, db-02, not", |m| drop(view(&mut m[1]).members.pop())),
            ("is start failed", |m| view(&mut m[0]).members[1].state = "start failed".into()),
            ("timeline 1", |m| view(&mut m[0]).members[1].timeline = Some(1)),
            ("9 bytes behind", |m| view(&mut m[0]).members[1].lag = Some(Lag::Bytes(9))),
            ("wait for a restart", |m| view(&mut m[0]).members[1].pending_restart = true),
            ("no synchronous", |m| view(&mut m[0]).members[1].role = "replica".into()),
            ("does not stream", |m| drop(server(&mut m[0]).streams.pop())),
        ];
        for (word, ill) in illnesses {
            let mut members = healthy();
            ill(&mut members);
            let wrong = wrong_members(&members, 8, 1).join("\n");
            assert!(wrong.contains(word), "{word}: {wrong}");
        }
    }

    #[test]
    fn the_version_is_the_pins() {
        let mut members = healthy();
        let server = server(&mut members[0]);
        for release in ["16.4-alpine", "16.4", "16", "16.4@sha256:00"] {
            assert_eq!(wrong_server(server, release), Vec::<String>::new(), "{release}");
        }
        for release in ["16.3-alpine", "1", "17", "16.40"] {
            assert_eq!(wrong_server(server, release).len(), 1, "{release}");
        }
        server.checksums = false;
        assert_eq!(wrong_server(server, "16.4").len(), 1);
    }
}
