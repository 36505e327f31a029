//! `strata hosts rebuild`: another machine stands where a host was, on purpose. The only way to
//! replace pinned keys.

use super::hosts::{names_of, unknown_host};
use super::output::{out, tell};
use super::recorded::{Recorded, open_state};
use super::work::connection;
use super::{Exit, Settings, check, runtime};
use crate::diag::Diagnostics;
use crate::event::EventKind;
use crate::fleet::target_of;
use crate::run::hosts_of;
use crate::site::{Host, Site};
use crate::ssh::{self, KnownHosts, Pinned};
use clap::Args;
use std::path::{Path, PathBuf};

/// Arguments of `strata hosts rebuild`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata hosts rebuild db-01                          show both keys, then ask for the new fingerprint\n  strata hosts rebuild db-01 --fingerprint SHA256:…   the fingerprint that its console shows\n  strata hosts rebuild db-01 --from keys.txt          a list that you trust\n\nOn the host's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
)]
pub struct RebuildArguments {
    /// The host's name
    #[arg(add = super::complete::host())]
    pub host: String,
    /// The fingerprint that the host must offer; its key is pinned
    #[arg(long, value_name = "SHA256:…", value_parser = fingerprint)]
    pub fingerprint: Option<String>,
    /// A file of known keys in known_hosts format; nothing is asked of the network
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
    pub from: Option<PathBuf>,
}

/// A fingerprint as `ssh-keygen -l` prints it.
fn fingerprint(text: &str) -> Result<String, String> {
    let digest = text.trim().strip_prefix("SHA256:").unwrap_or_default();
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/".contains(c);
    // 32 bytes, without padding.
    if digest.len() == 43 && digest.chars().all(base64) {
        return Ok(text.trim().to_owned());
    }
    Err("a fingerprint is SHA256: and 43 characters, as `ssh-keygen -l` prints it".to_owned())
}

/// Runs the command.
pub fn rebuild(site: &Site, arguments: &RebuildArguments, settings: &Settings) -> Exit {
    let Some(host) = site.hosts.get(&arguments.host) else {
        let mut problems = Diagnostics::new();
        problems.push(unknown_host(site, &arguments.host));
        check::show(&problems, settings);
        return Exit::InvalidInput;
    };
    if arguments.from.is_none() && arguments.fingerprint.is_none() && !settings.interactive {
        tell!(
            "error: nobody can be asked without a terminal\nhint: give the new key with --fingerprint SHA256:… or --from FILE\nnothing was changed"
        );
        return Exit::InvalidInput;
    }
    let names = names_of(site, host, settings);
    let pinned = KnownHosts::read(&settings.known_hosts()).and_then(|known| known.pinned(&names));
    match pinned {
        Ok(pinned) if pinned.is_empty() => tell!("{}: no key is pinned", host.name),
        Ok(pinned) => pinned.iter().for_each(|key| {
            tell!("{}  pinned   {} (line {})", host.name, key.description, key.line);
        }),
        // It is replaced.
        Err(reason) => tell!("{}: what is pinned cannot be read: {reason}", host.name),
    }
    let keys = match &arguments.from {
        Some(file) => from_file(host, &names, file),
        None => from_host(site, host, arguments.fingerprint.as_deref(), settings),
    };
    let keys = match keys {
        Ok(keys) => keys,
        Err((exit, message)) => {
            tell!("error: {message}\nnothing was changed");
            return exit;
        }
    };
    replace(site, host, &names, &keys, settings)
}

/// The host's keys in a file that the operator trusts.
fn from_file(host: &Host, names: &[String], file: &Path) -> Result<Vec<Pinned>, (Exit, String)> {
    let invalid = |reason: String| (Exit::InvalidInput, format!("{}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| invalid(error.to_string()))?;
    let mut all = names.to_vec();
    all.extend([host.name.clone(), host.fqdn.clone(), host.address.to_string()]);
    let keys = KnownHosts::parse(&text).and_then(|known| known.pinned(&all)).map_err(invalid)?;
    if keys.is_empty() {
        return Err(invalid(format!("it has no key of {}", host.name)));
    }
    keys.iter().for_each(|key| tell!("{}  offered  {}", host.name, key.description));
    Ok(keys)
}

/// The key that the host offers and that the operator names by its fingerprint.
fn from_host(
    site: &Site,
    host: &Host,
    fingerprint_named: Option<&str>,
    settings: &Settings,
) -> Result<Vec<Pinned>, (Exit, String)> {
    let connection = connection(site, settings, None);
    let offered = runtime::block_on(async {
        let target = target_of(site, host, &connection).await?;
        ssh::scan_host_keys(&target, &connection.options).await
    });
    let offered = offered.map_err(|error| (Exit::Internal, error))?.map_err(|error| {
        let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
        (Exit::Unreachable, format!("{error}{hint}"))
    })?;
    for key in &offered {
        tell!("{}  offered  {} {}", host.name, key.algorithm, key.fingerprint);
    }
    let wanted = match fingerprint_named {
        Some(fingerprint) => fingerprint.to_owned(),
        None => asked().map_err(|reason| (Exit::Interrupted, reason))?,
    };
    let lines: String = offered
        .iter()
        .filter(|key| key.fingerprint == wanted)
        .map(|key| format!("{}\n", key.line))
        .collect();
    let keys = KnownHosts::parse(&lines)
        .and_then(|known| known.pinned(&names_of(site, host, settings)))
        .map_err(|reason| (Exit::Internal, reason))?;
    if keys.is_empty() {
        return Err((
            Exit::Unreachable,
            format!(
                "{} does not offer the key {wanted}\nhint: if that is what its console shows, somebody answers in its place",
                host.name
            ),
        ));
    }
    Ok(keys)
}

/// Has the new machine's fingerprint typed: a yes would be given without looking.
fn asked() -> Result<String, String> {
    tell!(
        "Type the fingerprint as the new machine's own console shows it\n(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), or nothing to leave everything as it is:"
    );
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| error.to_string())?;
    if answer.trim().is_empty() {
        return Err("no fingerprint was given".to_owned());
    }
    fingerprint(&answer)
}

fn replace(
    site: &Site,
    host: &Host,
    names: &[String],
    keys: &[Pinned],
    settings: &Settings,
) -> Exit {
    let command = format!("hosts rebuild {}", host.name);
    let hosts = [host.name.clone()];
    let begun = open_state(settings).and_then(|state| {
        Recorded::begin(settings, &state, site, &command, (&hosts, &[]), Vec::new(), None)
    });
    let recorded = match begun {
        Ok(recorded) => recorded,
        Err(exit) => return exit,
    };
    let lines: Vec<String> = keys.iter().map(|key| key.key.clone()).collect();
    let pinned: Vec<String> = keys.iter().map(|key| key.description.clone()).collect();
    let replaced = match ssh::replace_known_host(&settings.known_hosts(), names, &lines) {
        Ok(replaced) => replaced,
        Err(reason) => {
            tell!("error: {reason}\nnothing was changed");
            return recorded.end(Exit::InvalidInput, reason);
        }
    };
    recorded.events.emit(EventKind::HostRebuilt {
        host: host.name.clone(),
        replaced: replaced.clone(),
        pinned: pinned.clone(),
    });
    let next = next(site, host);
    if settings.json {
        out!(
            "{}",
            serde_json::json!({ "host": host.name, "replaced": replaced, "pinned": pinned, "next": next })
        );
    } else {
        for key in &pinned {
            out!("{}  now      {key}", host.name);
        }
        tell!(
            "the old machine's id is forgotten\nnext: {next}\nthen: strata install   without --host, so that all others agree with it"
        );
    }
    recorded.end(Exit::Done, format!("{} is pinned anew", host.name))
}

/// What brings the new machine to where the old one was.
fn next(site: &Site, host: &Host) -> String {
    let here = std::slice::from_ref(&host.name);
    let first = site.config.layers.iter().find(|layer| !hosts_of(site, layer, here).is_empty());
    let layer = first.map_or_else(String::new, |layer| format!(" --layer {}", layer.name));
    let operator = &site.config.operator.0;
    let operator =
        if *operator == host.name { String::new() } else { format!(" --host {operator}") };
    format!("strata install{layer} --host {}{operator}", host.name)
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_fingerprint_is_whole() {
        let whole = format!("SHA256:{}", "aB3+/".repeat(9).split_at(43).0);
        assert_eq!(fingerprint(&format!(" {whole}\n")), Ok(whole.clone()));
        for wrong in ["", "yes", "SHA256:", &whole[..49], &format!("{whole}a"), &whole[7..]] {
            assert!(fingerprint(wrong).is_err(), "{wrong}");
        }
    }
}
