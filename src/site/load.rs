//! Reads the files of a site and joins them.

use super::artifacts::Artifacts;
use super::cluster::ClusterRole;
use super::config::{self, Config};
use super::exceptions::{self, Excepted, Exceptions};
use super::gate::{self, GateTest};
use super::groups::{self, Balancer, Group};
use super::images_lock::{self, ImageLock};
use super::inventory::{self, Host};
use super::lab_hosts::{self, LabHosts};
use super::out::{self, Outs};
use super::role::{self, Role};
use super::ssh;
use super::suggest;
use super::versions::{self, Version};
use super::waiver::{self, Waivers};
use crate::diag::{Code, Diagnostic, Diagnostics, Severity, Source};
use crate::resource;
use indexmap::IndexMap;
use std::path::{Path, PathBuf};

/// Which versions and exceptions a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `versions.yaml`, no exceptions.
    Production,
    /// `inventory/lab/versions.yaml` and the lab's exceptions.
    Rehearsal,
}

/// The file that names the releases of a rehearsal's hosts; it may be missing.
const LAB_HOSTS: &str = "inventory/lab/hosts.toml";

/// A site, read and checked.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its directory.
    pub root: PathBuf,
    /// Which versions and exceptions apply.
    pub profile: Profile,
    /// `strata.toml`.
    pub config: Config,
    /// Hosts in file order.
    pub hosts: IndexMap<String, Host>,
    /// Groups in file order.
    pub groups: IndexMap<String, Group>,
    /// Balancers in file order.
    pub balancers: Vec<Balancer>,
    /// Roles that layers place, by name.
    pub roles: IndexMap<String, Role>,
    /// Gates of those roles, by role name.
    pub gates: IndexMap<String, Vec<GateTest>>,
    /// Pins.
    pub versions: IndexMap<String, Version>,
    /// What image pins were resolved to, by pin; `None` where the site has no lock file. An entry of
    /// a pin that has changed since stays in: see [`Site::image_lock`].
    pub image_locks: Option<IndexMap<String, ImageLock>>,
    /// Templates by their path below `templates/`.
    pub templates: IndexMap<String, Source>,
    /// What a rehearsal leaves out; empty in production.
    pub exceptions: Exceptions,
    /// What is red or differs and is borne for a while.
    pub waivers: Waivers,
    /// Hosts out of service now.
    pub out: Outs,
    /// What a rehearsal's hosts are before their first step; empty in production.
    pub lab_hosts: LabHosts,
    /// Large files.
    pub artifacts: Artifacts,
}

impl Site {
    /// Reads the site in `root`. Problems are collected; `None` when `strata.toml` itself gives
    /// nothing to go on with.
    pub fn load(root: &Path, profile: Profile, problems: &mut Diagnostics) -> Option<Self> {
        let read = |path: &str, problems: &mut Diagnostics| read_text(root, path, problems);
        let config =
            read("strata.toml", problems).and_then(|source| config::read(&source, problems));
        let extra = config.as_ref().map(|c| c.extra_columns.clone()).unwrap_or_default();
        let before = problems.count(Severity::Error);
        let hosts = read("inventory/servers.tsv", problems)
            .map(|source| inventory::read(&source, &extra, problems))
            .unwrap_or_default();
        let complete = problems.count(Severity::Error) == before;
        let groups = read("inventory/groups.toml", problems)
            .map(|source| groups::read(&source, &hosts, complete, problems))
            .unwrap_or_default();
        let versions_path = match profile {
            Profile::Production => "versions.yaml",
            Profile::Rehearsal => "inventory/lab/versions.yaml",
        };
        let versions = read(versions_path, problems)
            .map(|source| versions::read(&source, problems))
            .unwrap_or_default();
        let locks_path = Path::new(versions_path).with_file_name(images_lock::FILE);
        let locks_path = locks_path.to_string_lossy();
        let image_locks = match root.join(&*locks_path).exists() {
            true => read(&locks_path, problems)
                .map(|source| images_lock::read(&source, &versions, problems)),
            false => None,
        };
        let exceptions = match profile {
            Profile::Production => Exceptions::default(),
            Profile::Rehearsal => read("inventory/lab/exceptions.toml", problems)
                .map(|source| exceptions::read(&source, problems))
                .unwrap_or_default(),
        };
        let waivers = match root.join(waiver::FILE).exists() {
            true => read(waiver::FILE, problems).map(|source| waiver::read(&source, problems)),
            false => None,
        };
        let lab_hosts = match profile {
            Profile::Rehearsal if root.join(LAB_HOSTS).exists() => read(LAB_HOSTS, problems)
                .map(|source| lab_hosts::read(&source, &hosts, &groups.groups, problems))
                .unwrap_or_default(),
            Profile::Production | Profile::Rehearsal => LabHosts::default(),
        };
        let config = config?;
        let out = out::in_effect(root, &hosts, problems);
        let mut site = Self {
            root: root.to_owned(),
            profile,
            config,
            hosts,
            groups: groups.groups,
            balancers: groups.balancers,
            roles: IndexMap::new(),
            gates: IndexMap::new(),
            versions,
            image_locks,
            templates: read_templates(root, problems),
            exceptions,
            waivers: waivers.unwrap_or_default(),
            out,
            lab_hosts,
            artifacts: Artifacts::below(root),
        };
        site.read_roles(problems);
        site.check(problems);
        Some(site)
    }

    /// The host from which strata runs.
    pub fn operator(&self) -> Option<&Host> {
        self.hosts.get(&self.config.operator.0)
    }

    /// The layer of this name.
    pub fn layer(&self, name: &str) -> Option<&config::Layer> {
        self.config.layers.iter().find(|layer| layer.name == name)
    }

    /// What the lock says of an image; entries of other images than their pins say do not count.
    pub fn image_lock(&self, image: &str) -> Option<&ImageLock> {
        self.image_locks.iter().flatten().map(|(_, lock)| lock).find(|lock| lock.image == image)
    }

    /// Names of the groups that hold this host.
    pub fn groups_of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Group> {
        self.groups.values().filter(move |group| group.hosts.iter().any(|name| name == host))
    }

    fn read_roles(&mut self, problems: &mut Diagnostics) {
        let mut kinds: Vec<&str> = resource::KINDS.iter().map(|kind| kind.name).collect();
        kinds.push("template");
        let available = role_names(&self.root);
        let placements = self.config.layers.iter().flat_map(|layer| &layer.place);
        for placement in placements {
            if self.roles.contains_key(&placement.role) {
                continue;
            }
            if !available.contains(&placement.role) {
                problems.push(
                    Diagnostic::error(
                        Code::ROLE_UNKNOWN,
                        format!("there is no role `{}`", placement.role),
                    )
                    .at(placement.role_span.clone(), "")
                    .hint(suggest::among(&placement.role, available.iter().map(String::as_str))),
                );
                continue;
            }
            let path = format!("roles/{}/role.toml", placement.role);
            if let Some(source) = read_text(&self.root, &path, problems) {
                let role = role::read(&placement.role, &source, &kinds, problems);
                self.roles.insert(placement.role.clone(), role);
            }
            let path = format!("roles/{}/gate.toml", placement.role);
            if self.root.join(&path).is_file()
                && let Some(source) = read_text(&self.root, &path, problems)
            {
                self.gates.insert(placement.role.clone(), gate::read(&source, problems));
            }
        }
    }

    /// A cluster's members are exactly the hosts that have the role, in every layer.
    fn check_members(&self, role: &Role, cluster: &ClusterRole, problems: &mut Diagnostics) {
        let (members, span) = &cluster.members;
        if !self.groups.contains_key(members) && !self.groups.is_empty() {
            problems.push(groups::unknown_group(members, span.clone(), &self.groups));
            return;
        }
        let placements = self.config.layers.iter().flat_map(|layer| &layer.place);
        for placement in placements.filter(|placement| placement.role == role.name) {
            if placement.group != *members {
                problems.push(
                    Diagnostic::error(
                        Code::CLUSTER,
                        format!(
                            "role `{}` stands on `{}`, and its cluster is made of `{members}`",
                            role.name, placement.group
                        ),
                    )
                    .at(placement.group_span.clone(), "")
                    .also(span.clone(), "the cluster's members")
                    .hint("place the role on the group of its members"),
                );
            }
        }
    }

    fn check(&self, problems: &mut Diagnostics) {
        let (operator, span) = &self.config.operator;
        if !self.hosts.contains_key(operator) && !self.hosts.is_empty() {
            problems.push(
                Diagnostic::error(Code::SETTING, format!("no host is named `{operator}`"))
                    .at(span.clone(), "the operator host")
                    .hint(suggest::among(operator, self.hosts.keys().map(String::as_str))),
            );
        }
        ssh::check(&self.config.ssh, &self.hosts, &self.groups, problems);
        for placement in self.config.layers.iter().flat_map(|layer| &layer.place) {
            if !self.groups.contains_key(&placement.group) && !self.groups.is_empty() {
                problems.push(groups::unknown_group(
                    &placement.group,
                    placement.group_span.clone(),
                    &self.groups,
                ));
            }
        }
        for role in self.roles.values() {
            if let Some(cluster) = &role.cluster {
                self.check_members(role, cluster, problems);
            }
            for (from, span) in role.firewall.iter().flat_map(|rule| &rule.from) {
                let named = matches!(from.as_str(), "operator" | "private" | "admin" | "any")
                    || self.groups.contains_key(from)
                    || from.parse::<ipnet::IpNet>().is_ok();
                if from == "admin" && self.config.admin.is_empty() {
                    problems.push(
                        Diagnostic::error(Code::FIREWALL_RULE, "the site names no `admin` networks")
                            .at(span.clone(), "nobody would be let in")
                            .hint("admin = [\"198.51.100.7/32\"] in strata.toml: from where people log in"),
                    );
                }
                if !named {
                    let names = self.groups.keys().map(String::as_str);
                    problems.push(
                        Diagnostic::error(
                            Code::FIREWALL_RULE,
                            format!("`{from}` is neither a group nor a network"),
                        )
                        .at(span.clone(), "")
                        .hint(suggest::among(
                            from,
                            names.chain(["operator", "private", "admin", "any"]),
                        )),
                    );
                }
            }
        }
        for exception in &self.exceptions.0 {
            let Excepted::Step { role, step } = &exception.what else { continue };
            let found = self.roles.get(role).is_none_or(|role| {
                role.steps.iter().chain(&role.handlers).any(|other| other.name == *step)
            });
            if !found {
                problems.push(
                    Diagnostic::error(
                        Code::LAB_EXCEPTION,
                        format!("role `{role}` has no step `{step}`"),
                    )
                    .at(exception.span.clone(), "excepts nothing"),
                );
            }
        }
    }
}

/// Reads a file of the site as text; a missing or unreadable one is reported.
pub fn read_text(root: &Path, path: &str, problems: &mut Diagnostics) -> Option<Source> {
    let bytes = match std::fs::read(root.join(path)) {
        Ok(bytes) => bytes,
        Err(error) => {
            problems.push(
                Diagnostic::error(Code::FILE_UNREADABLE, format!("cannot read {path}: {error}"))
                    .hint("a site needs this file; `--site DIR` names another site"),
            );
            return None;
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source::new(path, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            problems.push(
                Diagnostic::error(
                    Code::FILE_NOT_TEXT,
                    format!("{path}:{line}: not UTF-8 text (byte {at})"),
                )
                .hint("save the file as UTF-8"),
            );
            None
        }
    }
}

fn role_names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root.join("roles"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("role.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn read_templates(root: &Path, problems: &mut Diagnostics) -> IndexMap<String, Source> {
    let mut templates = IndexMap::new();
    let base = root.join("templates");
    let mut folders = vec![base.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(name) = path.strip_prefix(&base) {
                let name = name.to_string_lossy().into_owned();
                if let Some(source) = read_text(root, &format!("templates/{name}"), problems) {
                    templates.insert(name, source);
                }
            }
        }
    }
    templates.sort_keys();
    templates
}
