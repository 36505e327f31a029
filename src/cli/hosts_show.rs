//! `strata hosts show`: everything that the site and its history say about one host.

use super::hosts::{names_of, unknown_host};
use super::hosts_out::in_words;
use super::output::{out, tell};
use super::{Exit, Settings, check};
use crate::diag::Diagnostics;
use crate::history::{Identity, Index, RunSummary, StateDir};
use crate::plan::{Provenance, ResolvedVariable, variables_of};
use crate::report::moment;
use crate::site::tree::{Node, NodeValue};
use crate::site::{Host, Out, Site};
use crate::ssh::{KnownHosts, Pinned};
use serde_json::{Value, json};

/// Runs the command.
pub fn show(site: &Site, name: &str, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let Some(host) = site.hosts.get(name) else {
        problems.push(unknown_host(site, name));
        check::show(&problems, settings);
        return Exit::InvalidInput;
    };
    let names = names_of(site, host, settings);
    let pinned = KnownHosts::read(&settings.known_hosts()).and_then(|known| known.pinned(&names));
    let remembered = remembered(name, settings);
    let card = Card {
        host,
        groups: site.groups_of(name).map(|group| group.name.as_str()).collect(),
        layers: layers_of(site, name),
        variables: variables(site, name),
        pinned,
        out: site.out.get(name),
        remembered: remembered.as_ref().ok().and_then(Option::as_ref),
    };
    if settings.json {
        out!("{}", card.json());
    } else {
        card.lines(settings).iter().for_each(|line| out!("{line}"));
    }
    if let Err(error) = &remembered {
        tell!("error: the history cannot be read: {error}");
        return Exit::Internal;
    }
    Exit::Done
}

type Remembered = (Identity, Option<RunSummary>);

/// What the runs know of the host, and the last of them.
fn remembered(host: &str, settings: &Settings) -> std::io::Result<Option<Remembered>> {
    let index = Index::open(&StateDir::open(&settings.root)?)?;
    let Some(identity) = index.identity(host).cloned() else { return Ok(None) };
    let run = index.run(&identity.run)?;
    Ok(Some((identity, run)))
}

/// The roles of a host, by layer in the site's order.
fn layers_of<'a>(site: &'a Site, host: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let stands = |group: &str| {
        site.groups.get(group).is_some_and(|group| group.hosts.iter().any(|name| name == host))
    };
    let layers = site.config.layers.iter().map(|layer| {
        let here = layer.place.iter().filter(|placement| stands(&placement.group));
        (layer.name.as_str(), here.map(|placement| placement.role.as_str()).collect())
    });
    layers.filter(|(_, roles): &(_, Vec<_>)| !roles.is_empty()).collect()
}

/// The variables of the site and the host's groups, then the defaults of its roles that none of
/// them replaces.
fn variables(site: &Site, host: &str) -> Vec<(String, ResolvedVariable)> {
    // A conflict was reported when the site was loaded.
    let mut unheard = Diagnostics::new();
    let mut all: Vec<_> = variables_of(site, host, None, &mut unheard).into_iter().collect();
    let mut seen: Vec<&str> = Vec::new();
    for (_, roles) in layers_of(site, host) {
        for role in roles.into_iter().filter_map(|name| site.roles.get(name)) {
            if seen.contains(&role.name.as_str()) {
                continue;
            }
            seen.push(&role.name);
            let of_role = variables_of(site, host, Some(role), &mut unheard).into_iter();
            all.extend(of_role.filter(|(_, v)| matches!(v.from, Provenance::Role(_))));
        }
    }
    all
}

struct Card<'a> {
    host: &'a Host,
    groups: Vec<&'a str>,
    layers: Vec<(&'a str, Vec<&'a str>)>,
    variables: Vec<(String, ResolvedVariable)>,
    pinned: Result<Vec<Pinned>, String>,
    out: Option<&'a Out>,
    remembered: Option<&'a Remembered>,
}

impl Card<'_> {
    fn lines(&self, settings: &Settings) -> Vec<String> {
        let palette = &settings.palette;
        let host = self.host;
        let mut lines = vec![format!("{}  {}  {}", host.name, host.address, host.fqdn)];
        let mut line = |title: &str, text: String| lines.push(format!("  {title:10} {text}"));
        if let Some(entry) = self.out {
            line("service", palette.warn(format!("out {}", in_words(entry))));
        }
        line("groups", self.groups.join(" "));
        for (layer, roles) in &self.layers {
            line("layer", format!("{layer}: {}", roles.join(", ")));
        }
        match &self.pinned {
            Ok(pinned) if pinned.is_empty() => {
                line("key", format!("none is pinned: `strata hosts trust {}`", host.name));
            }
            Ok(pinned) => pinned.iter().for_each(|key| line("key", key.description.clone())),
            Err(reason) => line("key", palette.bad(reason)),
        }
        match self.remembered {
            None => line("last run", palette.dim("never connected")),
            Some((identity, run)) => {
                let known = match &identity.known {
                    None => "; forgotten: the host was rebuilt".to_owned(),
                    Some(known) if *known == identity.machine => String::new(),
                    Some(known) => palette.bad(format!("; the host is known by {known}")),
                };
                line("machine", format!("{}{known}", identity.machine));
                line("boot", identity.boot.clone());
                let command = run.as_ref().map_or_else(String::new, |run| {
                    let end = run
                        .exit_code
                        .map_or_else(|| "cut short".to_owned(), |code| format!("exit {code}"));
                    format!("  {}  {end}", run.command)
                });
                line("last run", format!("{}  {}{command}", identity.run, moment(identity.at_ms)));
            }
        }
        for (name, value) in host.columns.iter().filter(|(_, value)| !value.is_empty()) {
            line("column", format!("{name} = {value}"));
        }
        for (name, variable) in &self.variables {
            let from = palette.dim(format!("({}, {})", variable.from, place(variable)));
            line("variable", format!("{name} = {}  {from}", value_of(&variable.node)));
        }
        lines
    }

    fn json(&self) -> Value {
        let variables: Vec<Value> = self
            .variables
            .iter()
            .map(|(name, variable)| {
                json!({
                    "name": name, "value": value_of(&variable.node),
                    "from": variable.from.to_string(), "at": place(variable),
                })
            })
            .collect();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(layer, roles)| json!({ "layer": layer, "roles": roles }))
            .collect();
        let pinned: Vec<&str> =
            self.pinned.iter().flatten().map(|key| key.description.as_str()).collect();
        json!({
            "host": self.host.name,
            "address": self.host.address,
            "public": self.host.public,
            "fqdn": self.host.fqdn,
            "user": self.host.user,
            "columns": self.host.columns,
            "groups": self.groups,
            "out": self.out,
            "layers": layers,
            "variables": variables,
            "pinned": pinned,
            "pinned_error": self.pinned.as_ref().err(),
            "identity": self.remembered.map(|(identity, _)| identity),
            "last_run": self.remembered.and_then(|(_, run)| run.as_ref()),
        })
    }
}

/// File and line.
fn place(variable: &ResolvedVariable) -> String {
    let (line, _) = variable.span.position();
    format!("{}:{line}", variable.span.source.path().display())
}

fn value_of(node: &Node) -> Value {
    match &node.value {
        NodeValue::String(text) | NodeValue::Datetime(text) => json!(text),
        NodeValue::Integer(integer) => json!(integer),
        NodeValue::Float(float) => json!(float),
        NodeValue::Boolean(boolean) => json!(boolean),
        NodeValue::Array(nodes) => nodes.iter().map(value_of).collect(),
        NodeValue::Table(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), value_of(&entry.node))).collect()
        }
    }
}
