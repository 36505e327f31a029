//! `strata hosts`: the inventory as strata reads it, and the hosts' pinned keys.

use super::hosts_enrol::{self, EnrolArguments};
use super::hosts_out::{self, InArguments, OutArguments};
use super::hosts_rebuild::{self, RebuildArguments};
use super::hosts_show;
use super::output::{out, tell};
use super::work::connection;
use super::{Exit, Settings, check};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::fleet::{Connection, direct_target, target_of};
use crate::history::StateDir;
use crate::plan::{HostSelector, select_hosts};
use crate::site::{Host, Site, suggest};
use crate::ssh::{self, ConnectError, Hop, HostKey, KnownHosts, Target, hop_target};
use clap::{Args, Subcommand};
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arguments of `strata hosts`.
#[derive(Debug, Args)]
pub struct HostsArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: HostsCommand,
}

/// Subcommands of `strata hosts`.
#[derive(Debug, Subcommand)]
pub enum HostsCommand {
    /// Print the hosts with their groups and addresses
    List,
    /// Print what the site and its history say about one host
    #[command(
        after_help = "Examples:\n  strata hosts show db-01\n  strata hosts show db-01 --json"
    )]
    Show {
        /// The host's name
        #[arg(add = super::complete::host())]
        host: String,
    },
    /// Leave hosts alone on purpose until a moment, or list those that are
    Out(OutArguments),
    /// Put hosts in service again
    In(InArguments),
    /// Another machine stands where a host was: replace its pinned keys, forget the old machine
    Rebuild(RebuildArguments),
    /// Put the public key that strata logs in with onto new hosts, with their password once
    Enrol(EnrolArguments),
    /// Pin the host keys of hosts that have none pinned, after showing their fingerprints
    #[command(
        after_help = "Examples:\n  strata hosts trust                         show fingerprints, then ask\n  strata hosts trust --from keys.txt         pin only what the file lists\n  strata hosts trust db-01 --fingerprint SHA256:…\n  strata hosts trust --jump                  the jump hosts that lead to the hosts"
    )]
    Trust {
        /// Hosts, globs or groups [default: all]
        hosts: Vec<String>,
        /// A file of known keys in known_hosts format; nothing is asked of the network
        #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
        from: Option<PathBuf>,
        /// The fingerprint that the one named host must show
        #[arg(long, value_name = "SHA256:…")]
        fingerprint: Option<String>,
        /// Pin what the hosts show without asking; compare the printed fingerprints yourself
        #[arg(long)]
        accept: bool,
        /// The jump hosts that lead to the hosts, instead of the hosts themselves
        #[arg(long, conflicts_with_all = ["from", "fingerprint"])]
        jump: bool,
    },
}

/// Runs the command.
pub fn run(arguments: &HostsArguments, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let Some(site) = check::load(settings, &mut problems).filter(|_| !problems.has_errors()) else {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    };
    match &arguments.command {
        HostsCommand::List => list(&site, settings),
        HostsCommand::Show { host } => hosts_show::show(&site, host, settings),
        HostsCommand::Out(arguments) => hosts_out::put_out(&site, arguments, settings),
        HostsCommand::In(arguments) => hosts_out::put_in(&site, arguments, settings),
        HostsCommand::Rebuild(arguments) => hosts_rebuild::rebuild(&site, arguments, settings),
        HostsCommand::Enrol(arguments) => {
            let selectors = arguments.hosts.iter().cloned().map(HostSelector).collect::<Vec<_>>();
            let hosts = select_hosts(&site, &selectors, &mut problems);
            if problems.has_errors() {
                check::show(&problems, settings);
                return Exit::InvalidInput;
            }
            let pinned = match &arguments.from {
                None => Exit::Done,
                Some(file) => match StateDir::open(&settings.root) {
                    Ok(_) => trust_file(&site, &hosts, file, settings),
                    Err(error) => {
                        let root = settings.root.display();
                        tell!("error: {root}/.strata cannot be written: {error}");
                        Exit::Internal
                    }
                },
            };
            match pinned {
                Exit::Done => hosts_enrol::enrol(&site, &hosts, arguments, settings),
                failed => failed,
            }
        }
        HostsCommand::Trust { hosts, from, fingerprint, accept, jump } => {
            let selectors: Vec<HostSelector> = hosts.iter().cloned().map(HostSelector).collect();
            let hosts = select_hosts(&site, &selectors, &mut problems);
            if problems.has_errors() {
                check::show(&problems, settings);
                return Exit::InvalidInput;
            }
            if let Err(error) = StateDir::open(&settings.root) {
                tell!("error: {}/.strata cannot be written: {error}", settings.root.display());
                return Exit::Internal;
            }
            match from {
                Some(file) => trust_file(&site, &hosts, file, settings),
                None => {
                    let wanted = Wanted { fingerprint: fingerprint.as_deref(), jump: *jump };
                    trust_network(&site, &hosts, &wanted, *accept, settings)
                }
            }
        }
    }
}

fn list(site: &Site, settings: &Settings) -> Exit {
    for host in site.hosts.values() {
        let groups: Vec<&str> = site.groups_of(&host.name).map(|g| g.name.as_str()).collect();
        if settings.json {
            out!(
                "{}",
                serde_json::json!({ "host": host.name, "address": host.address, "public": host.public, "fqdn": host.fqdn, "groups": groups, "out": site.out.contains_key(&host.name) })
            );
        } else {
            let away = match site.out.get(&host.name) {
                Some(entry) => {
                    settings.palette.warn(format!("  out of service until {}", entry.until))
                }
                None => String::new(),
            };
            out!("{:20} {:15} {}{away}", host.name, host.address, groups.join(" "));
        }
    }
    Exit::Done
}

/// The names under which a host's key stands in known_hosts.
pub(super) fn names_of(site: &Site, host: &Host, settings: &Settings) -> Vec<String> {
    let connection = connection(site, settings, None);
    let direct = direct_target(site, host, &connection);
    // Only the operator's ssh config can name another port than the site.
    let target = match connection.config {
        None => direct,
        Some(_) => match super::runtime::block_on(target_of(site, host, &connection)) {
            Ok(Ok(target)) => target,
            _ => direct,
        },
    };
    target.known_hosts_names()
}

/// A name that is not in the inventory, where exactly one host is wanted.
pub(super) fn unknown_host(site: &Site, name: &str) -> Diagnostic {
    Diagnostic::error(Code::SELECTION, format!("no host is named `{name}`"))
        .hint(suggest::among(name, site.hosts.keys().map(String::as_str)))
}

/// Pins the keys that a file lists for the selected hosts.
fn trust_file(site: &Site, hosts: &[String], file: &Path, settings: &Settings) -> Exit {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            tell!("error: cannot read {}: {error}", file.display());
            return Exit::InvalidInput;
        }
    };
    let listed = match KnownHosts::parse(&text) {
        Ok(listed) => listed,
        Err(reason) => {
            tell!("error: {}: {reason}", file.display());
            return Exit::InvalidInput;
        }
    };
    let mut pinned = 0;
    for host in hosts.iter().filter_map(|name| site.hosts.get(name)) {
        let mut names = names_of(site, host, settings);
        let own = names.join(",");
        names.extend([host.name.clone(), host.fqdn.clone(), host.address.to_string()]);
        let keys = match listed.pinned(&names) {
            Ok(keys) => keys,
            Err(reason) => {
                tell!("error: {}: {reason}", file.display());
                return Exit::InvalidInput;
            }
        };
        for key in &keys {
            let line = format!("{own} {}", key.key);
            if let Err(error) = ssh::append_known_host(&settings.known_hosts(), &line) {
                tell!("error: {}: {error}", host.name);
                return Exit::Unreachable;
            }
        }
        if keys.is_empty() {
            tell!("warning: {} has no key in {}", host.name, file.display());
        } else {
            pinned += 1;
        }
    }
    tell!("{pinned} hosts pinned in {}", settings.known_hosts().display());
    if pinned == 0 {
        tell!("error: the file has no key of a selected host");
        return Exit::InvalidInput;
    }
    Exit::Done
}

/// Whose keys are looked at, and which one is wanted.
struct Wanted<'a> {
    fingerprint: Option<&'a str>,
    /// The jump hosts instead of the hosts.
    jump: bool,
}

/// Looks at the keys of the hosts, or of the jump hosts that lead to them.
async fn scan(
    site: &Site,
    hosts: &[String],
    jump: bool,
    connection: &Connection,
) -> Vec<(String, Result<Vec<HostKey>, ConnectError>)> {
    let targets = hosts
        .iter()
        .filter_map(|name| site.hosts.get(name))
        .map(|host| async move { (host.name.clone(), target_of(site, host, connection).await) });
    let targets: Vec<_> = stream::iter(targets).buffered(32).collect().await;
    let mut wanted: BTreeMap<String, Result<Target, ConnectError>> = BTreeMap::new();
    for (name, target) in targets {
        match target {
            Ok(target) if jump => {
                let chain = &target.jump;
                for end in 1..=chain.len() {
                    let hop: &Hop = &chain[end - 1];
                    wanted.insert(hop.name.clone(), hop_target(&chain[..end]).await);
                }
            }
            target => drop(wanted.insert(name, target)),
        }
    }
    let scans = wanted.into_iter().map(|(name, target)| async move {
        let keys = match target {
            Ok(target) => ssh::scan_host_keys(&target, &connection.options).await,
            Err(error) => Err(error),
        };
        (name, keys)
    });
    stream::iter(scans).buffered(32).collect().await
}

fn trust_network(
    site: &Site,
    hosts: &[String],
    wanted: &Wanted<'_>,
    accept: bool,
    settings: &Settings,
) -> Exit {
    let fingerprint = wanted.fingerprint;
    if fingerprint.is_some() && hosts.len() != 1 {
        tell!("error: --fingerprint goes with exactly one host");
        return Exit::InvalidInput;
    }
    if fingerprint.is_none() && !accept && !settings.interactive {
        tell!(
            "error: nobody can be asked without a terminal\nhint: give the known keys with --from FILE or --fingerprint, or pass --accept and compare the printed fingerprints"
        );
        return Exit::InvalidInput;
    }
    let connection = connection(site, settings, None);
    let scanned = super::runtime::block_on(scan(site, hosts, wanted.jump, &connection));
    let scanned = match scanned {
        Ok(scanned) => scanned,
        Err(error) => {
            tell!("error: {error}");
            return Exit::Internal;
        }
    };
    let mut exit = Exit::Done;
    let mut lines = Vec::new();
    for (host, result) in scanned {
        match result {
            Ok(keys) => {
                for key in &keys {
                    out!("{host:20} {:20} {}", key.algorithm, key.fingerprint);
                }
                let wanted: Vec<_> = keys
                    .into_iter()
                    .filter(|key| fingerprint.is_none_or(|wanted| wanted == key.fingerprint))
                    .collect();
                if wanted.is_empty() {
                    tell!(
                        "error: {host} does not show the expected fingerprint; nothing was pinned"
                    );
                    return Exit::Unreachable;
                }
                lines.extend(wanted.into_iter().map(|key| (host.clone(), key.line)));
            }
            Err(error) => {
                let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
                tell!("error: {error}{hint}");
                exit = Exit::Unreachable;
            }
        }
    }
    if lines.is_empty() {
        if exit == Exit::Done {
            tell!("no jump host leads to these hosts");
        }
        return exit;
    }
    if fingerprint.is_none() && !accept && !asked("Are these the hosts' own fingerprints?") {
        tell!("nothing was pinned");
        return Exit::Interrupted;
    }
    for (host, line) in lines {
        if let Err(error) = ssh::append_known_host(&settings.known_hosts(), &line) {
            tell!("error: {host}: {error}");
            exit = Exit::Unreachable;
        }
    }
    exit
}

/// Asks a yes-or-no question on the terminal.
fn asked(question: &str) -> bool {
    eprint!("{question} [yes/no] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}
