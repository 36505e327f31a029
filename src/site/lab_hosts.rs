//! `inventory/lab/hosts.toml`: which hosts of a rehearsal run another release of Debian than the
//! default one, and which packages the provider's image already has. The file may be missing;
//! production never reads it.
//!
//! ```toml
//! preinstalled = ["docker.io"]          # on all hosts
//!
//! [release]
//! trixie = ["redis-02", "haproxy"]      # hosts or groups
//! ```

use super::groups::Group;
use super::inventory::Host;
use super::reader::TableReader;
use super::suggest;
use super::tree::{self, Node};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use indexmap::IndexMap;

/// The releases of Debian that a lab can make hosts of, by code name; the first is the default one.
pub const RELEASES: [&str; 2] = ["bookworm", "trixie"];

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabHosts {
    /// The release of each host that it names, by the host's name.
    pub releases: IndexMap<String, &'static str>,
    /// Debian packages that every host has before its first step.
    pub preinstalled: Vec<String>,
}

/// Reads the file.
pub fn read(
    source: &Source,
    hosts: &IndexMap<String, Host>,
    groups: &IndexMap<String, Group>,
    problems: &mut Diagnostics,
) -> LabHosts {
    let entries = tree::parse(source, problems);
    let mut top = TableReader::new(source, &entries, 0..0, problems);
    let node = top.node("release");
    let preinstalled = top.strings("preinstalled").unwrap_or_default();
    let preinstalled = preinstalled.into_iter().map(|(name, _)| name.to_owned()).collect();
    top.finish();
    let releases = node.map(|node| releases(source, node, hosts, groups, problems));
    LabHosts { releases: releases.unwrap_or_default(), preinstalled }
}

fn releases(
    source: &Source,
    node: &Node,
    hosts: &IndexMap<String, Host>,
    groups: &IndexMap<String, Group>,
    problems: &mut Diagnostics,
) -> IndexMap<String, &'static str> {
    let mut releases: IndexMap<String, (&'static str, Span)> = IndexMap::new();
    let Some(mut table) = TableReader::of(source, node, problems) else {
        return IndexMap::new();
    };
    let named: Vec<_> = RELEASES.map(|release| (release, table.strings(release))).into();
    table.finish();
    for (release, names) in named {
        for (name, span) in names.into_iter().flatten() {
            let one = hosts.get_key_value(name).map(|(host, _)| std::slice::from_ref(host));
            let Some(members) = one.or_else(|| groups.get(name).map(|group| &group.hosts[..]))
            else {
                if !hosts.is_empty() {
                    problems.push(unknown(name, span, hosts, groups));
                }
                continue;
            };
            for host in members {
                match releases.get(host) {
                    Some((other, first)) if *other != release => {
                        problems.push(twice(host, span.clone(), first.clone()));
                    }
                    _ => {
                        releases.insert(host.clone(), (release, span.clone()));
                    }
                }
            }
        }
    }
    releases.into_iter().map(|(host, (release, _))| (host, release)).collect()
}

fn unknown(
    name: &str,
    span: Span,
    hosts: &IndexMap<String, Host>,
    groups: &IndexMap<String, Group>,
) -> Diagnostic {
    let known = hosts.keys().chain(groups.keys()).map(String::as_str);
    Diagnostic::error(Code::SETTING, format!("`{name}` is neither a host nor a group"))
        .at(span, "")
        .hint(suggest::among(name, known))
}

fn twice(host: &str, again: Span, first: Span) -> Diagnostic {
    Diagnostic::error(Code::SETTING, format!("host `{host}` has two releases"))
        .at(again, "again here")
        .also(first, "first here")
        .hint("name each host in one list only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Renderer;
    use crate::site::{groups, inventory};
    use std::path::Path;

    fn read_text(text: &str) -> (LabHosts, String) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file =
            |path: &str| Source::new(path, std::fs::read_to_string(root.join(path)).unwrap());
        let mut problems = Diagnostics::new();
        let extra = ["ROLE_V3", "LOGICAL_NAME_V3"].map(String::from);
        let hosts = inventory::read(&file("inventory/servers.tsv"), &extra, &mut problems);
        let groups = groups::read(&file("inventory/groups.toml"), &hosts, true, &mut problems);
        assert!(!problems.has_errors(), "{}", Renderer::new(false).all(&problems));
        let releases =
            read(&Source::new("hosts.toml", text), &hosts, &groups.groups, &mut problems);
        (releases, Renderer::new(false).all(&problems))
    }

    #[test]
    fn hosts_and_groups_have_the_release_of_their_list() {
        let (LabHosts { releases, preinstalled }, problems) = read_text(
            "preinstalled = [\"jq\"]\n[release]\ntrixie = [\"db-01\", \"redis\"]\nbookworm = [\"db-02\"]\n",
        );
        assert_eq!(problems, "");
        assert_eq!(releases["db-01"], "trixie");
        assert_eq!(releases["redis-02"], "trixie");
        assert_eq!(releases["db-02"], "bookworm");
        assert!(!releases.contains_key("db-03"));
        assert_eq!(preinstalled, ["jq"]);
        assert_eq!(read_text("").0, LabHosts::default());
    }

    #[test]
    fn mistakes_have_their_places() {
        let (_, problems) = read_text(
            "[release]\ntrixi = []\ntrixie = [\"db-01\", \"db-99\"]\nbookworm = [\"db-01\"]\n",
        );
        for part in ["unknown key `trixi`", "`db-99` is neither", "`db-01` has two releases"] {
            assert!(problems.contains(part), "{problems}");
        }
    }
}
