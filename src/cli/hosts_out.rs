//! `strata hosts out` and `strata hosts in`: hosts that are absent on purpose.

use super::output::{out, tell};
use super::recorded::{Recorded, open_state};
use super::{Exit, Settings, check, times};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::event::EventKind;
use crate::fleet::Events;
use crate::plan::{HostSelector, select_hosts};
use crate::report::plural;
use crate::site::{Out, Outs, Site, out as file};
use clap::Args;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::collections::BTreeSet;

/// The longest time that a host may be out of service, in seconds: a year.
const LONGEST: i64 = 366 * 86_400;

/// Arguments of `strata hosts out`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata hosts out                                              list them\n  strata hosts out redis-03 --reason 'memory is replaced' --until 7d\n  strata hosts out db-02 --reason 'new disks' --until 2026-12-01       up to and with that day (UTC)\n\nNo run connects to such a host, no gate waits for it, and no cluster that it is a member of is formed or\nchanged. When its time is over it counts again, with a warning."
)]
pub struct OutArguments {
    /// Hosts, globs or groups [default: list those that are out of service]
    pub hosts: Vec<String>,
    /// Why, for whoever reads it next week
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Until when: a span (7d, 12h), a day (2026-12-01, that day included), or a moment
    /// (2026-12-01T18:00:00Z)
    #[arg(long, value_name = "DATE")]
    pub until: Option<String>,
}

/// Arguments of `strata hosts in`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  strata hosts in redis-03")]
pub struct InArguments {
    /// Hosts that are out of service
    #[arg(required = true, value_name = "HOST", add = super::complete::host())]
    pub hosts: Vec<String>,
}

/// Runs `strata hosts out`.
pub fn put_out(site: &Site, arguments: &OutArguments, settings: &Settings) -> Exit {
    let OutArguments { hosts, reason, until } = arguments;
    if hosts.is_empty() && reason.is_none() && until.is_none() {
        return list(site, settings);
    }
    let now = Timestamp::now();
    let mut problems = Diagnostics::new();
    let mut wrong = |message: String, hint: &str| {
        problems.push(Diagnostic::error(Code::SELECTION, message).hint(hint));
    };
    if hosts.is_empty() {
        wrong("no host is named".to_owned(), "strata hosts out HOST --reason TEXT --until 7d");
    }
    let reason = reason.as_deref().map(str::trim).unwrap_or_default();
    if reason.is_empty() {
        wrong(
            "no reason is given".to_owned(),
            "--reason TEXT: a colleague wants to know why the host is left alone",
        );
    }
    if reason.chars().any(char::is_control) {
        wrong("the reason is more than one line".to_owned(), "one line of text");
    }
    let end = match until {
        None => {
            wrong("no end is given".to_owned(), "--until 7d, or a day: --until 2026-12-01");
            None
        }
        Some(text) => match moment_of(text, now) {
            Ok(end) => Some(end),
            Err(message) => {
                wrong(
                    message,
                    "--until 7d, a day (2026-12-01), or a moment (2026-12-01T18:00:00Z)",
                );
                None
            }
        },
    };
    let selectors: Vec<HostSelector> = hosts.iter().cloned().map(HostSelector).collect();
    let named =
        if hosts.is_empty() { Vec::new() } else { select_hosts(site, &selectors, &mut problems) };
    let operator = &site.config.operator.0;
    if named.contains(operator) {
        problems.push(
            Diagnostic::error(
                Code::SELECTION,
                format!("{operator} is the operator host: strata runs on it"),
            )
            .hint(format!("leave it out: --host '!{operator}' goes with every command")),
        );
    }
    let (Some(end), false) = (end, problems.has_errors()) else {
        check::show(&problems, settings);
        tell!("error: nothing was changed");
        return Exit::InvalidInput;
    };
    let entry = Out {
        reason: settings.redactor.redact(reason).into_owned(),
        until: end.to_string(),
        since: whole(now).to_string(),
        by: settings.who.clone(),
    };
    let verb = if named.len() == 1 { "is" } else { "are" };
    let text = format!("{} {verb} out of service until {}", named.join(", "), entry.until);
    let exit = recorded(site, "out", &named, settings, |events| {
        file::change(&site.root, |outs| {
            outs.extend(named.iter().map(|host| (host.clone(), entry.clone())));
        })?;
        for host in &named {
            let (reason, until) = (entry.reason.clone(), entry.until.clone());
            events.emit(EventKind::HostOut { host: host.clone(), reason, until });
        }
        Ok(text)
    });
    if exit == Exit::Done {
        let listed = named.iter().map(|host| (host.clone(), entry.clone())).collect();
        print(&listed, settings);
        clusters_of(site, &named);
    }
    exit
}

/// Runs `strata hosts in`.
pub fn put_in(site: &Site, arguments: &InArguments, settings: &Settings) -> Exit {
    let outs = match file::read(&site.root) {
        Ok(outs) => outs,
        Err(reason) => {
            tell!("error: state/hosts/out.json: {reason}");
            return Exit::InvalidInput;
        }
    };
    // Names of the file, not of the inventory: a host may have left that meanwhile.
    let named: BTreeSet<String> = arguments.hosts.iter().cloned().collect();
    let mut problems = Diagnostics::new();
    for name in named.iter().filter(|name| !outs.contains_key(*name)) {
        problems.push(file::not_out(name, &outs));
    }
    if problems.has_errors() {
        check::show(&problems, settings);
        tell!("error: nothing was changed");
        return Exit::InvalidInput;
    }
    let named: Vec<String> = named.into_iter().collect();
    let text = format!("{} in service again", named.join(", "));
    let exit = recorded(site, "in", &named, settings, |events| {
        file::change(&site.root, |outs| outs.retain(|host, _| !named.contains(host)))?;
        for host in &named {
            events.emit(EventKind::HostIn { host: host.clone() });
        }
        Ok(text)
    });
    if exit == Exit::Done {
        for host in &named {
            if settings.json {
                out!("{}", serde_json::json!({ "host": host, "out": false }));
            } else {
                out!("{host}  in service");
            }
        }
        tell!("next: strata install --host {}", named.join(" --host "));
    }
    exit
}

/// Keeps the change as a run, so that `strata history` knows it.
fn recorded(
    site: &Site,
    verb: &str,
    hosts: &[String],
    settings: &Settings,
    change: impl FnOnce(&Events) -> Result<String, String>,
) -> Exit {
    let command = format!("hosts {verb} {}", hosts.join(" "));
    let state = match open_state(settings) {
        Ok(state) => state,
        Err(exit) => return exit,
    };
    let begun = Recorded::begin(settings, &state, site, &command, (hosts, &[]), Vec::new(), None);
    let recorded = match begun {
        Ok(recorded) => recorded,
        Err(exit) => return exit,
    };
    let exit = match change(&recorded.events) {
        Ok(text) => recorded.end(Exit::Done, text),
        Err(reason) => {
            tell!("error: {reason}\nnothing was changed");
            recorded.end(Exit::Internal, reason)
        }
    };
    super::report::after(settings, &state, site, None);
    exit
}

fn list(site: &Site, settings: &Settings) -> Exit {
    print(&site.out, settings);
    if site.out.is_empty() && !settings.json {
        out!("no host is out of service");
    }
    Exit::Done
}

fn print(outs: &Outs, settings: &Settings) {
    for (host, entry) in outs {
        if settings.json {
            out!("{}", as_json(host, entry));
        } else {
            out!("{host:20} {}", in_words(entry));
        }
    }
}

/// One entry as `--json` prints it.
pub fn as_json(host: &str, entry: &Out) -> serde_json::Value {
    serde_json::json!({
        "host": host, "out": true, "reason": entry.reason,
        "until": entry.until, "since": entry.since, "by": entry.by,
    })
}

/// One entry as a person reads it.
pub fn in_words(entry: &Out) -> String {
    let Out { reason, until, since, by } = entry;
    format!("until {until}: {reason}  ({by}, {since})")
}

/// Says what an absent member means for its clusters.
fn clusters_of(site: &Site, named: &[String]) {
    for role in site.roles.values() {
        let Some(cluster) = &role.cluster else { continue };
        let group = site.groups.get(&cluster.members.0);
        let members = group.map(|group| group.hosts.as_slice()).unwrap_or_default();
        let mut all: BTreeSet<&String> = site.out.keys().chain(named).collect();
        all.retain(|host| members.contains(host));
        if !all.is_empty() {
            tell!(
                "cluster {}: {} of {} out of service; it is looked at without, and not changed; its failover tests do not run",
                role.name,
                all.len(),
                plural(members.len(), "member"),
            );
        }
    }
}

/// Takes the hosts that are out of service out of a selection; they are returned. A selection of
/// nobody else is a mistake.
pub fn set_aside(site: &Site, hosts: &mut Vec<String>, problems: &mut Diagnostics) -> Outs {
    let aside: Outs = site
        .out
        .iter()
        .filter(|(host, _)| hosts.contains(host))
        .map(|(host, entry)| (host.clone(), entry.clone()))
        .collect();
    hosts.retain(|host| !aside.contains_key(host));
    if hosts.is_empty() && !aside.is_empty() {
        let names: Vec<&str> = aside.keys().map(String::as_str).collect();
        problems.push(
            Diagnostic::error(
                Code::SELECTION,
                format!("every selected host is out of service: {}", names.join(", ")),
            )
            .hint("`strata hosts out` says why and until when, `strata hosts in HOST` ends it"),
        );
    }
    aside
}

/// What a run says of hosts that are out of service, at its head.
pub fn tell_of(aside: &Outs, events: &Events) {
    for (host, entry) in aside {
        events.emit(EventKind::HostOut {
            host: host.clone(),
            reason: entry.reason.clone(),
            until: entry.until.clone(),
        });
    }
}

/// The moment that a person means: a span from now, the end of a day, or a moment.
fn moment_of(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let no_moment = || format!("`{text}` is no moment");
    let end = if let Ok(span) = times::span(text) {
        let span = SignedDuration::try_from(span).map_err(|_| no_moment())?;
        now.checked_add(span).map_err(|_| no_moment())?
    } else if let Ok(day) = text.parse::<Date>() {
        // A moment begins with a day too, and is one.
        match text.parse::<Timestamp>() {
            Ok(moment) => moment,
            Err(_) if text.contains(['T', 't', ' ']) => return Err(no_moment()),
            Err(_) => {
                let next = day.checked_add(1.day()).map_err(|_| no_moment())?;
                next.to_zoned(TimeZone::UTC).map_err(|_| no_moment())?.timestamp()
            }
        }
    } else {
        text.parse::<Timestamp>().map_err(|_| no_moment())?
    };
    if end <= now {
        return Err(format!("`{text}` is over already"));
    }
    if end.as_second().saturating_sub(now.as_second()) > LONGEST {
        return Err(format!(
            "`{text}` is more than a year away: a host that stays away leaves the inventory"
        ));
    }
    Ok(whole(end))
}

/// Without fractions of a second.
fn whole(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-21T18:00:00.5Z".parse().unwrap()
    }

    #[test]
    fn an_end_is_a_span_a_day_or_a_moment() {
        for (text, wanted) in [
            ("7d", "2026-11-28T18:00:00Z"),
            ("12h", "2026-11-22T06:00:00Z"),
            ("2026-11-21", "2026-11-22T00:00:00Z"),
            ("2026-12-31", "2027-01-01T00:00:00Z"),
            ("2026-12-01T18:30:00Z", "2026-12-01T18:30:00Z"),
            ("2026-12-01T18:30:00+01:00", "2026-12-01T17:30:00Z"),
        ] {
            assert_eq!(moment_of(text, now()).map(|end| end.to_string()), Ok(wanted.to_owned()));
        }
        for wrong in [
            "",
            "7",
            "soon",
            "2026-11-20",
            "2026-13-01",
            "2028-01-01",
            "2026-11-21T17:00:00Z",
            "2026-12-01T18:30:00",
            "400d",
        ] {
            assert!(moment_of(wrong, now()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_is_too_much(text in ".{0,24}") {
            let _ = moment_of(&text, now());
        }
    }
}
