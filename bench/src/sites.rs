//! The sites, inventories and programs of the work that is measured.

use crate::Outcome;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// The name of the host that measurements start from.
pub const OPERATOR: &str = "control";

/// The text that every configuration file is made from, for all tools.
const CONFIGURATION: &str = include_str!("../work/conf.j2");
const PLAYBOOK: &str = include_str!("../work/playbook.yml");
const DEPLOY: &str = include_str!("../work/deploy.py");

/// How many resources the work has: 15 directories, 20 files, 5 lines, 3 users, 5 services and
/// 2 sets of packages.
pub const WORK: u32 = 50;

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Hosts `node-0001` and so on, in `10.50.0.0/16`.
pub fn nodes(count: u32) -> Vec<Node> {
    (0..count)
        .map(|index| Node {
            name: format!("node-{:04}", index + 1),
            address: Ipv4Addr::from_bits(Ipv4Addr::new(10, 50, 1, 1).to_bits() + index),
        })
        .collect()
}

/// The operator's address.
pub const fn operator_address() -> Ipv4Addr {
    Ipv4Addr::new(10, 50, 0, 250)
}

/// A site of layers, each a role of its own name on a group of nodes: `nodes` are all, `far` is the
/// first.
#[derive(Debug)]
pub struct SiteFiles<'a> {
    /// Its name, which `--confirm` repeats.
    pub name: &'a str,
    /// The nodes.
    pub nodes: &'a [Node],
    /// The private key that logs in.
    pub identity: &'a Path,
    /// Lines of `[vars]` in strata.toml.
    pub vars: &'a str,
    /// Names of roles, their groups, and their text.
    pub roles: &'a [(&'a str, &'a str, String)],
}

impl SiteFiles<'_> {
    /// Writes the site into a directory.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, site: &Path) -> Outcome<()> {
        let mut settings = format!(
            "site     = \"{}\"\noperator = \"{OPERATOR}\"\nprivate  = [\"10.50.0.0/16\"]\n\n\
             [ssh]\nidentities = [{:?}]\n\n[run]\nparallel = 2000\n\n[vars]\n{}\n",
            self.name, self.identity, self.vars,
        );
        for (role, group, _) in self.roles {
            write!(
                settings,
                "\n[[layer]]\nname  = \"{role}\"\nplace = [{{ role = \"{role}\", on = \"{group}\" }}]\n"
            )?;
        }
        put(&site.join("strata.toml"), &settings)?;
        put(&site.join("versions.yaml"), "none: \"1\"\n")?;
        put(&site.join("inventory/lab/versions.yaml"), "none: \"1\"\n")?;
        put(&site.join("inventory/lab/exceptions.toml"), "")?;
        put(&site.join("inventory/servers.tsv"), &self.inventory()?)?;
        let count = self.nodes.len();
        let ten: Vec<&str> =
            self.nodes.iter().take(crate::large::HOSTS).map(|node| node.name.as_str()).collect();
        let groups = format!(
            "[group.nodes]\nselect = {{ ROLE = \"node\" }}\nexpect = {count}\n\n\
             [group.far]\nhosts  = [\"node-0001\"]\nexpect = 1\n\n\
             [group.ten]\nhosts  = {ten:?}\nexpect = {}\n\n\
             [group.operator]\nhosts  = [\"{OPERATOR}\"]\nexpect = 1\n",
            ten.len()
        );
        put(&site.join("inventory/groups.toml"), &groups)?;
        fs::create_dir_all(site.join("credentials.example"))?;
        for (role, _, text) in self.roles {
            put(&site.join("roles").join(role).join("role.toml"), text)?;
            // A layer has to be proved; this test looks at what connecting told already.
            put(
                &site.join("roles").join(role).join("gate.toml"),
                "[[test]]\nname = \"clock\"\nbounds = { max_skew_ms = 5000 }\n",
            )?;
        }
        Ok(())
    }

    fn inventory(&self) -> Outcome<String> {
        let mut text = "ENV\tIP_PUBLIQUE\tHOSTNAME\tIP_PRIVEE\tFQDN\tUSER_SSH\tPOOL\tROLE\tSUBROLE\tDOCKER_STACK\tCORE\tNOTES\n".to_owned();
        let operator = Node { name: OPERATOR.to_owned(), address: operator_address() };
        let all = self.nodes.iter().map(|node| (node, "node"));
        for (Node { name, address }, role) in std::iter::once((&operator, "operator")).chain(all) {
            writeln!(
                text,
                "bench\t\t{name}\t{address}\t{name}.example.org\troot\tbench\t{role}\tnone\tnone\tyes\t"
            )?;
        }
        Ok(text)
    }
}

/// Writes a file and the directories above it.
///
/// # Errors
/// When it cannot be written.
pub fn put(path: &Path, text: &str) -> Outcome<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// What other tools need on their hosts; strata installs it before anything is measured.
pub const GROUND: &str = r#"description = "What other tools need on a host"

[[firewall]]
name  = "ssh"
ports = [22]
from  = ["operator"]

[[step]]
name    = "Python"
package = { names = ["python3", "python3-apt"] }
"#;

/// The directories of the work.
pub fn directories() -> Vec<String> {
    let numbered = (1..=13).map(|number| format!("/srv/bench/{number:02}"));
    ["/etc/bench".to_owned(), "/srv/bench".to_owned()].into_iter().chain(numbered).collect()
}

/// The role of the work: as many steps as it has resources.
pub fn work_role() -> String {
    let mut text = "description = \"The work that is measured\"\n".to_owned();
    let mut step = |name: &str, resource: String| {
        text += &format!("\n[[step]]\nname = \"{name}\"\n{resource}\n");
    };
    step("Tools", "package = { names = [\"logrotate\", \"rsyslog\"] }".to_owned());
    step("Servers", "package = { names = [\"cron\", \"haproxy\", \"redis-server\"] }".to_owned());
    for user in ["bench-one", "bench-two", "bench-three"] {
        step(
            &format!("User {user}"),
            format!("user = {{ name = \"{user}\", shell = \"/bin/bash\" }}"),
        );
    }
    for path in directories() {
        step(&format!("Directory {path}"), format!("directory = {{ path = \"{path}\" }}"));
    }
    for number in 1..=20 {
        step(
            &format!("Configuration {number}"),
            format!(
                "template = {{ src = \"work/conf-{number:02}.j2\", dest = \"/etc/bench/conf-{number:02}.ini\" }}"
            ),
        );
    }
    for number in 1..=5 {
        step(
            &format!("Limit {number}"),
            format!(
                "line = {{ path = \"/etc/bench/limits.conf\", key = \"limit-{number}\", line = \"limit-{number} = {}\" }}",
                number * 100
            ),
        );
    }
    for service in ["ssh", "cron", "rsyslog", "haproxy", "redis-server"] {
        step(
            &format!("Service {service}"),
            format!("service = {{ name = \"{service}\", state = \"started\", enabled = true }}"),
        );
    }
    text
}

/// Variables of the work, as TOML.
pub const WORK_VARS: &str = r#"owner    = "ops@example.org"
revision = 1
limits   = [{ name = "files", value = 65536 }, { name = "processes", value = 4096 }, { name = "memory", value = 512 }]
peers    = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]"#;

/// The same variables as JSON, for the others.
fn work_vars_json() -> serde_json::Value {
    serde_json::json!({
        "owner": "ops@example.org",
        "revision": 1,
        "limits": [
            { "name": "files", "value": 65536 },
            { "name": "processes", "value": 4096 },
            { "name": "memory", "value": 512 },
        ],
        "peers": ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"],
        "directories": directories(),
    })
}

/// The template of one configuration file. Only one of them has the revision of the site's
/// variables in it: changing that variable changes one file.
fn configuration(number: u32) -> String {
    let text = CONFIGURATION.replace("{{ number }}", &format!("{number:02}"));
    if number == 7 { text } else { text.replace("{{ revision }}", "1") }
}

/// Writes the twenty templates into a directory.
///
/// # Errors
/// When a file cannot be written.
pub fn put_templates(directory: &Path) -> Outcome<()> {
    (1..=20).try_for_each(|number| {
        put(&directory.join(format!("conf-{number:02}.j2")), &configuration(number))
    })
}

/// Writes the work for Ansible.
///
/// # Errors
/// When a file cannot be written.
pub fn put_ansible(
    directory: &Path,
    nodes: &[Node],
    identity: &Path,
    known_hosts: &Path,
    mitogen: Option<&Path>,
) -> Outcome<()> {
    let strategy = mitogen.map_or_else(String::new, |plugins| {
        format!("strategy_plugins = {}\nstrategy = mitogen_linear\n", plugins.display())
    });
    let settings = format!(
        "[defaults]\ninventory = hosts.yml\nforks = {}\nhost_key_checking = True\n\
         private_key_file = {}\nremote_user = root\nretry_files_enabled = False\n{strategy}\n\
         [ssh_connection]\npipelining = True\n\
         ssh_common_args = -F none -o UserKnownHostsFile={} -o IdentitiesOnly=yes\n",
        nodes.len(),
        identity.display(),
        known_hosts.display(),
    );
    put(&directory.join("ansible.cfg"), &settings)?;
    let hosts: serde_json::Map<String, serde_json::Value> = nodes
        .iter()
        .map(|node| (node.name.clone(), serde_json::json!({ "ansible_host": node.address })))
        .collect();
    let mut vars = work_vars_json();
    vars["ansible_python_interpreter"] = "/usr/bin/python3".into();
    // JSON is YAML too.
    let inventory = serde_json::json!({ "nodes": { "hosts": hosts, "vars": vars } });
    put(&directory.join("hosts.yml"), &serde_json::to_string_pretty(&inventory)?)?;
    put(&directory.join("work.yml"), PLAYBOOK)?;
    put_templates(&directory.join("templates"))
}

/// Writes the work for pyinfra.
///
/// # Errors
/// When a file cannot be written.
pub fn put_pyinfra(
    directory: &Path,
    nodes: &[Node],
    identity: &Path,
    known_hosts: &Path,
) -> Outcome<()> {
    let hosts: Vec<serde_json::Value> = nodes
        .iter()
        .map(|node| {
            let data = serde_json::json!({
                "node": node.name,
                "address": node.address,
                "ssh_user": "root",
                "ssh_key": identity,
                "ssh_known_hosts_file": known_hosts,
            });
            serde_json::json!([node.address, data])
        })
        .collect();
    let inventory =
        format!("nodes = [tuple(each) for each in {}]\n", serde_json::to_string(&hosts)?);
    put(&directory.join("inventory.py"), &inventory)?;
    let vars = work_vars_json();
    let mut data = String::new();
    for (name, value) in vars.as_object().into_iter().flatten() {
        writeln!(data, "{name} = {value}")?;
    }
    put(&directory.join("group_data/all.py"), &data)?;
    put(&directory.join("deploy.py"), DEPLOY)?;
    put_templates(&directory.join("templates"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata::diag::Diagnostics;
    use strata::site::{Profile, Site};

    #[test]
    fn the_site_of_the_work_is_sound_and_has_as_many_steps_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = nodes(300);
        let files = SiteFiles {
            name: "bench",
            nodes: &nodes,
            identity: Path::new("/root/.ssh/id_ed25519"),
            vars: WORK_VARS,
            roles: &[("ground", "nodes", GROUND.to_owned()), ("work", "nodes", work_role())],
        };
        files.write(folder.path()).unwrap();
        put_templates(&folder.path().join("templates/work")).unwrap();
        let mut problems = Diagnostics::new();
        let site = Site::load(folder.path(), Profile::Production, &mut problems).unwrap();
        assert!(!problems.has_errors());
        assert_eq!(site.roles["work"].steps.len(), WORK as usize);
        assert_eq!(site.hosts.len(), 301);
    }

    #[test]
    fn the_revision_stands_in_one_file() {
        let with = (1..=20).filter(|number| configuration(*number).contains("{{ revision }}"));
        assert_eq!(with.collect::<Vec<_>>(), [7]);
    }
}
