//! The end of a run on one screen: what failed, in full, and the next command to type.

use super::line::line_of;
use super::style::{Palette, plural};
use crate::event::{Consumer, Event, EventKind, HostState, StepOutcome, Verdict};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

/// Gathers what the closing screen says.
#[derive(Debug, Clone, Default)]
pub struct Summary(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    problems: Vec<Event>,
    waived: Vec<Event>,
    out: Vec<Event>,
    converged: usize,
    not_converged: usize,
    changed: u32,
    steps: u32,
}

impl Summary {
    /// The closing text; empty when nothing ran.
    pub fn text(&self, palette: &Palette) -> String {
        let Ok(gathered) = self.0.lock() else { return String::new() };
        let hosts = gathered.converged + gathered.not_converged;
        let mut text = String::new();
        if !gathered.problems.is_empty() {
            text.push_str("\nproblems\n");
            for group in grouped(&gathered.problems) {
                if let Some(line) = line_of(&group.event(), palette, false) {
                    text.push_str(&line);
                    text.push('\n');
                }
                if let [_, _, ..] = group.hosts.as_slice() {
                    text.push_str(&format!("      {}\n", group.hosts.join(", ")));
                }
            }
        }
        if !gathered.waived.is_empty() {
            text.push_str("\nwaived\n");
            for line in gathered.waived.iter().filter_map(|event| line_of(event, palette, false)) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        if hosts > 0 {
            let out = match gathered.out.len() {
                0 => String::new(),
                count => format!(", {count} out of service"),
            };
            text.push_str(&format!(
                "\n{} converged, {} not{out}; {} of {} changed\n",
                plural(gathered.converged, "host"),
                gathered.not_converged,
                gathered.changed,
                plural(gathered.steps as usize, "step"),
            ));
        }
        for line in gathered.out.iter().filter_map(|event| line_of(event, palette, false)) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

impl Consumer for Summary {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let Ok(mut gathered) = self.0.lock() else { return Ok(()) };
        match &event.kind {
            EventKind::HostUnusable { .. } => {
                gathered.problems.push(event.clone());
                gathered.not_converged += 1;
            }
            EventKind::HostOut { .. } => gathered.out.push(event.clone()),
            EventKind::HostWarning { .. }
            | EventKind::StepFinished { outcome: StepOutcome::Failed { .. }, .. } => {
                gathered.problems.push(event.clone());
            }
            EventKind::TestFinished { verdict: Verdict::Fail | Verdict::NotRun, .. } => {
                gathered.problems.push(event.clone());
            }
            EventKind::LayerAudited { audited, .. }
                if matches!(audited.verdict(), Verdict::Fail | Verdict::NotRun) =>
            {
                gathered.problems.push(event.clone());
            }
            EventKind::TestFinished { verdict: Verdict::Waived, .. } => {
                gathered.waived.push(event.clone());
            }
            EventKind::ClusterFinished { changed, .. } => {
                gathered.changed += changed;
                gathered.steps += changed;
            }
            EventKind::HostFinished { state, changed, steps, .. } => {
                if *state == HostState::Converged {
                    gathered.converged += 1;
                } else {
                    gathered.not_converged += 1;
                }
                gathered.changed += changed;
                gathered.steps += steps;
            }
            _ => {}
        }
        Ok(())
    }
}

/// One problem and the hosts that have it.
struct Group<'a> {
    first: &'a Event,
    /// The problem as it reads for every host of the group.
    common: Option<EventKind>,
    hosts: Vec<&'a str>,
}

impl Group<'_> {
    /// What stands on the screen: the problem itself, or what is common to all hosts.
    fn event(&self) -> Event {
        let mut event = self.first.clone();
        if let ([_, _, ..], Some(common)) = (self.hosts.as_slice(), &self.common) {
            event.kind = common.clone();
            if let Some(host) = host_of(&mut event.kind) {
                *host = plural(self.hosts.len(), "host");
            }
        }
        event
    }
}

/// Problems that differ only in the host, its name and its address are one, where the first stands.
fn grouped(problems: &[Event]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for problem in problems {
        let (common, host) = match &problem.kind {
            EventKind::HostUnusable { host, class, reason, hint } => (
                Some(EventKind::HostUnusable {
                    host: String::new(),
                    class: *class,
                    reason: without_own(reason, host),
                    hint: hint.as_ref().map(|hint| without_own(hint, host)),
                }),
                host.as_str(),
            ),
            EventKind::StepFinished {
                step,
                outcome: StepOutcome::Failed { message, output, hint },
                ..
            } => {
                let own = |text: &String| without_own(text, &step.host);
                let mut common = problem.kind.clone();
                if let EventKind::StepFinished { step: id, outcome, took_ms } = &mut common {
                    id.host.clear();
                    *took_ms = 0;
                    *outcome = StepOutcome::Failed {
                        message: own(message),
                        output: output.as_ref().map(own),
                        hint: hint.as_ref().map(own),
                    };
                }
                (Some(common), step.host.as_str())
            }
            _ => (None, ""),
        };
        let same = |group: &&mut Group<'_>| common.is_some() && group.common == common;
        match groups.iter_mut().find(same) {
            Some(group) => group.hosts.push(host),
            None => groups.push(Group { first: problem, common, hosts: vec![host] }),
        }
    }
    groups
}

fn host_of(kind: &mut EventKind) -> Option<&mut String> {
    match kind {
        EventKind::HostUnusable { host, .. } => Some(host),
        EventKind::StepFinished { step, .. } => Some(&mut step.host),
        _ => None,
    }
}

/// The text without what is the host's own: its name and any address.
fn without_own(text: &str, host: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let address = bare.parse::<IpAddr>().is_ok() || bare.parse::<SocketAddr>().is_ok();
        match (address, bare == host) {
            (true, _) => word.replacen(bare, "its address", 1),
            (_, true) => word.replacen(bare, "HOST", 1),
            _ => word.to_owned(),
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{HostProblem, StepId};

    fn unusable(host: &str, class: HostProblem, reason: &str) -> EventKind {
        let (reason, hint) = (reason.to_owned(), Some(format!("look at {host}")));
        EventKind::HostUnusable { host: host.to_owned(), class, reason, hint }
    }

    fn failed(host: &str, message: &str, took_ms: u64) -> EventKind {
        let step = StepId {
            host: host.to_owned(),
            layer: "base".to_owned(),
            role: "base".to_owned(),
            step: "Clock".to_owned(),
            handler: false,
        };
        let message = message.to_owned();
        let outcome = StepOutcome::Failed { message, output: None, hint: None };
        EventKind::StepFinished { step, outcome, took_ms }
    }

    fn text(kinds: Vec<EventKind>) -> String {
        let mut summary = Summary::default();
        for kind in kinds {
            summary.event(&Event { at_ms: 0, kind }).unwrap();
        }
        summary.text(&Palette { color: false })
    }

    #[test]
    fn what_many_hosts_have_is_said_once() {
        use HostProblem::{Locked, Unreachable};
        let text = text(vec![
            unusable("db-01", Unreachable, "10.0.0.1:22 refused the connection"),
            failed("k-01", "no such program", 4),
            unusable("db-02", Unreachable, "10.0.0.2:22 refused the connection"),
            unusable("db-03", Locked, "root@a holds the host's lock"),
            failed("k-02", "no such program", 9),
            failed("k-03", "another", 1),
            unusable("db-04", Unreachable, "10.0.0.4:22 refused the connection"),
        ]);
        assert_eq!(
            text,
            "\nproblems\n  \
             3 hosts  unreachable: its address refused the connection\n      \
             hint: look at HOST\n      \
             db-01, db-02, db-04\n  \
             2 hosts  base › Clock  FAILED: no such program\n      \
             k-01, k-02\n  \
             db-03  locked: root@a holds the host's lock\n      \
             hint: look at db-03\n  \
             k-03  base › Clock  FAILED: another\n\n\
             0 hosts converged, 4 not; 0 of 0 steps changed\n"
        );
    }

    #[test]
    fn who_is_out_of_service_is_said_at_the_end() {
        let (host, until) = ("db-03".to_owned(), "2026-11-28T00:00:00Z".to_owned());
        let text = text(vec![
            EventKind::HostOut { host, reason: "memory".to_owned(), until },
            unusable("a", HostProblem::Unreachable, "silence"),
        ]);
        assert!(
            text.ends_with(
                "\n0 hosts converged, 1 not, 1 out of service; 0 of 0 steps changed\n  \
                 db-03  out of service until 2026-11-28T00:00:00Z: memory\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn one_host_keeps_its_address() {
        let text = text(vec![unusable("a", HostProblem::Unreachable, "10.0.0.1:22 is silent")]);
        assert!(text.contains("a  unreachable: 10.0.0.1:22 is silent\n"), "{text}");
    }
}
