//! What the driver is told by a role, and what a member's file says while it begins.

use super::view::Named;
use serde::Deserialize;

/// `[cluster.settings]` of a role with the driver `etcd`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// etcd's configuration file on the host; `initial-cluster` and `initial-cluster-state` in it
    /// are the driver's while a member begins.
    pub config: String,
    /// The directory of snapshots, on the host and in the container alike.
    pub snapshots: String,
    /// How many snapshots are kept.
    #[serde(default = "keep_snapshots")]
    pub keep_snapshots: usize,
    /// What runs the server.
    #[serde(default)]
    pub runtime: Runtime,
    /// The container, or the unit.
    #[serde(default = "server")]
    pub server: String,
    /// The port for clients.
    #[serde(default = "client_port")]
    pub client_port: u16,
    /// The port for the other members.
    #[serde(default = "peer_port")]
    pub peer_port: u16,
}

/// What runs a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// The container engine.
    #[default]
    Container,
    /// systemd.
    Native,
}

const fn keep_snapshots() -> usize {
    3
}

fn server() -> String {
    "etcd".to_owned()
}

const fn client_port() -> u16 {
    2379
}

const fn peer_port() -> u16 {
    2380
}

/// With which words a member without data begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// The first of all: the members agree on a new cluster.
    New,
    /// It joins those that are there.
    Existing,
}

/// Lines of the file that decide what a member without data begins with.
const CLUSTER: &str = "initial-cluster:";
/// As above.
const STATE: &str = "initial-cluster-state:";

/// The file's text with which a member begins: with all members, and as what.
///
/// # Errors
/// When the role's file lacks the lines.
pub fn beginning(
    text: &str,
    members: &[Named],
    peer_port: u16,
    how: Beginning,
) -> Result<String, String> {
    let list: Vec<String> = members
        .iter()
        .map(|member| format!("{}=http://{}:{peer_port}", member.name, member.address))
        .collect();
    let state = match how {
        Beginning::New => "new",
        Beginning::Existing => "existing",
    };
    for line in [CLUSTER, STATE] {
        if !text.lines().any(|found| found.starts_with(line)) {
            return Err(format!("the role's file has no line `{line}`, which the driver fills in"));
        }
    }
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| match line {
            _ if line.starts_with(CLUSTER) => format!("{CLUSTER} {}", list.join(",")),
            _ if line.starts_with(STATE) => format!("{STATE} {state}"),
            other => other.to_owned(),
        })
        .collect();
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// True when two texts differ in nothing but what a member begins with: that counts only where there
/// is no data, and needs no start.
pub fn differs_in_its_beginning_only(found: &str, wanted: &str) -> bool {
    let rest = |text: &str| -> Vec<String> {
        let own = |line: &&str| !line.starts_with(CLUSTER) && !line.starts_with(STATE);
        text.lines().filter(own).map(str::to_owned).collect()
    };
    rest(found) == rest(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SETTLED: &str = "name: db-02\ninitial-cluster: db-02=http://10.0.0.2:2380\n\
                           initial-cluster-state: existing\ninitial-cluster-token: t\n";

    #[test]
    fn only_the_two_lines_of_the_beginning_change() {
        let members: Vec<Named> = (1..=2)
            .map(|n| Named { name: format!("db-0{n}"), address: Ipv4Addr::new(10, 0, 0, n) })
            .collect();
        let text = beginning(SETTLED, &members, 2380, Beginning::New).unwrap();
        assert_eq!(
            text,
            "name: db-02\ninitial-cluster: db-01=http://10.0.0.1:2380,db-02=http://10.0.0.2:2380\n\
             initial-cluster-state: new\ninitial-cluster-token: t\n"
        );
        assert!(differs_in_its_beginning_only(&text, SETTLED));
        assert!(!differs_in_its_beginning_only(&text, &SETTLED.replace("token: t", "token: u")));
        assert!(beginning("name: x\n", &members, 2380, Beginning::New).is_err());
    }
}
