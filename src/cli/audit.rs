//! `strata audit`: what is not as wanted any more, for people and for timers.

use super::install::SelectionArguments;
use super::output::out;
use super::work::{Job, Work, execute};
use super::{Exit, Settings, typed};
use crate::event::{LastWanted, TestKind, now_ms};
use crate::history::{Index, RecordState, Records, StateDir, Terms};
use crate::plan::layer_digest;
use crate::run::Since;
use crate::site::{Layer, Site};
use clap::Args;
use std::path::Path;

/// Arguments of `strata audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata audit                     every layer: steps, clusters, diag tests; changes nothing\n  strata audit --layer base --host db-01\n  strata audit --print-timer       units of systemd that run it every night\n\nExit codes: 0 everything is as wanted, 8 something differs, 3 a diag test is red, 5 a host could not\nbe reached, 7 a cluster is not as it must be; of several the first of 7, 3, 5, 8."
)]
pub struct AuditArguments {
    /// What to look at
    #[command(flatten)]
    pub selection: SelectionArguments,
    /// Print a service and a timer of systemd that run the audit, and do nothing else
    #[arg(long)]
    pub print_timer: bool,
}

/// Runs the command.
pub fn run(arguments: &AuditArguments, settings: &Settings) -> Exit {
    let command = typed::audit(&arguments.selection);
    if !arguments.print_timer {
        return execute(&Work::new(&arguments.selection, Job::Audit), &command, settings);
    }
    let root = settings.root.canonicalize().unwrap_or_else(|_| settings.root.clone());
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/strata".into());
    let SelectionArguments { layer, host, from, to } = &arguments.selection;
    let mut words = vec!["audit".to_owned()];
    words.extend(layer.iter().flat_map(|layer| ["--layer".to_owned(), layer.clone()]));
    words.extend(from.iter().flat_map(|layer| ["--from".to_owned(), layer.clone()]));
    words.extend(to.iter().flat_map(|layer| ["--to".to_owned(), layer.clone()]));
    words.extend(host.iter().flat_map(|host| ["--host".to_owned(), host.clone()]));
    out!("{}", timer(&program, &root, &words));
    Exit::Done
}

/// The units' text. Pure.
fn timer(program: &Path, root: &Path, words: &[String]) -> String {
    let start = [program.to_string_lossy().into_owned(), "--site".to_owned()];
    let start = start.into_iter().chain([root.to_string_lossy().into_owned()]);
    let line: Vec<String> = start.chain(words.iter().cloned()).map(|word| quoted(&word)).collect();
    format!(
        "# /etc/systemd/system/strata-audit.service
[Unit]
Description=Compare the hosts with the site of strata
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User=root
Nice=10
ExecStart={}

# /etc/systemd/system/strata-audit.timer
[Unit]
Description=Compare the hosts with the site of strata every night

[Timer]
OnCalendar=*-*-* 03:30:00
RandomizedDelaySec=15min
Persistent=true

[Install]
WantedBy=timers.target

# then: systemctl daemon-reload && systemctl enable --now strata-audit.timer",
        line.join(" ")
    )
}

/// A word as systemd reads it in a unit.
fn quoted(word: &str) -> String {
    let escaped =
        word.replace('%', "%%").replace('$', "$$").replace('\\', "\\\\").replace('"', "\\\"");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=%+@,".contains(c);
    if !escaped.is_empty() && escaped.chars().all(plain) {
        escaped
    } else {
        format!("\"{escaped}\"")
    }
}

/// When each host was last as wanted: by the journals, or by the record of a green gate.
pub(super) fn since(site: &Site, layers: &[&Layer], records: &Records, state: &StateDir) -> Since {
    let mut since = Since::new();
    let index = Index::open(state);
    for layer in layers {
        let seen = index.as_ref().ok().and_then(|index| index.last_wanted(&layer.name).ok());
        for (host, last) in seen.unwrap_or_default() {
            since.insert((layer.name.clone(), host), last);
        }
        let digest = layer_digest(site, layer);
        let terms = Terms {
            digest: &digest,
            hosts: &[],
            waivers: &[],
            now_ms: now_ms(),
            max_age_days: site.config.gate.max_age_days,
        };
        let record = records.state(&layer.name, TestKind::Diag, terms);
        let Ok(RecordState::Green(record) | RecordState::Stale(record, _)) = record else {
            continue;
        };
        // With waivers nothing tells which of its hosts were as wanted.
        for host in record.hosts.iter().filter(|_| record.waived.is_empty()) {
            let last = LastWanted { run: record.run.clone(), at_ms: record.at_ms };
            let known = since.entry((layer.name.clone(), host.clone())).or_insert(last.clone());
            if known.at_ms < last.at_ms {
                *known = last;
            }
        }
    }
    since
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_run_the_same_audit() {
        let words = ["audit", "--host", "!db-03"].map(str::to_owned);
        let text = timer(Path::new("/usr/local/bin/strata"), Path::new("/opt/a b%"), &words);
        let line = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            line,
            "ExecStart=/usr/local/bin/strata --site \"/opt/a b%%\" audit --host \"!db-03\""
        );
    }
}
