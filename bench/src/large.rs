//! One large file to several hosts, with every tool: the first time, and when it is there already.

use crate::Outcome;
use crate::compare::{Rounds, Tool};
use crate::distance::AGAIN;
use crate::grounds::Grounds;
use crate::program::Program;
use crate::record::{Entry, Results};
use crate::sites::Node;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// 100 MiB that cannot be packed, to as many hosts as [`HOSTS`].
pub const LARGE: &str = "100 MiB file to 10 hosts";

/// How many hosts get it.
pub const HOSTS: usize = 10;

/// Where it is on hosts.
const PATH: &str = "/srv/large";

/// Its name below the site's `artifacts/`.
const NAME: &str = "large";

const SIZE: u64 = 100 << 20;

/// What the other tools are given: the file is beside the playbook.
const PLAYBOOK: &str = "- hosts: nodes\n  gather_facts: false\n  tasks:\n    - name: Large file\n      ansible.builtin.copy: { src: large, dest: /srv/large, owner: root, group: root, mode: \"0644\" }\n";
const DEPLOY: &str = "from pyinfra.operations import files\n\nfiles.put(name=\"Large file\", src=\"large\", dest=\"/srv/large\", user=\"root\", group=\"root\", mode=\"644\")\n";

/// The role that has it there.
pub fn role(digest: &str) -> String {
    format!(
        "description = \"A large file\"\n\n[[step]]\nname = \"Large file\"\n\
         artifact = {{ path = \"{PATH}\", source = \"{NAME}\", sha256 = \"{digest}\", mode = \"0644\" }}\n"
    )
}

/// Makes the file once, of random bytes; its digest.
///
/// # Errors
/// When it cannot be written.
pub fn make(site: &Path) -> Outcome<String> {
    let path = site.join("artifacts").join(NAME);
    if !path.exists() {
        fs::create_dir_all(site.join("artifacts"))?;
        let draft = path.with_extension("part");
        io::copy(&mut File::open("/dev/urandom")?.take(SIZE), &mut File::create(&draft)?)?;
        fs::rename(draft, &path)?;
    }
    Ok(strata::resource::sha256(File::open(path)?, |_| Ok(()))?)
}

/// Measures every tool in turn. `ssh true` stands for `ssh HOST 'cat > FILE'` to all hosts at once:
/// the floor of whatever sends a file.
///
/// # Errors
/// When a run fails, or leaves another file.
pub fn run(grounds: &Grounds, rounds: &Rounds, results: &mut Results) -> Outcome<()> {
    let nodes = grounds.nodes.get(..HOSTS).ok_or("the lab has too few nodes")?;
    let file = grounds.site().join("artifacts").join(NAME);
    for (directory, name, text) in [
        ("ansible", "large.yml", PLAYBOOK),
        ("mitogen", "large.yml", PLAYBOOK),
        ("pyinfra", "large.py", DEPLOY),
    ] {
        let directory = grounds.directory.join(directory);
        crate::sites::put(&directory.join(name), text)?;
        let link = directory.join(NAME);
        if !link.exists() {
            std::os::unix::fs::symlink(&file, link)?;
        }
    }
    // The agents are there.
    program(grounds, Tool::Strata, nodes)?.succeed()?;
    let most = rounds.0.iter().map(|(_, count)| *count).max().unwrap_or(0);
    for round in 0..most {
        for (tool, _) in rounds.0.iter().filter(|(_, count)| round < *count) {
            for node in nodes {
                grounds.undo_on(&node.name, &format!("rm -f {PATH}; sync"))?;
            }
            for more in ["", AGAIN] {
                // A bare copy knows nothing of what is there.
                if !more.is_empty() && matches!(tool, Tool::Ssh | Tool::SshCurve) {
                    continue;
                }
                let before = grounds.wire_bytes()?;
                let cost = program(grounds, *tool, nodes)?.succeed()?;
                let bytes = grounds.wire_bytes()?.saturating_sub(before);
                let count = u32::try_from(nodes.len())?;
                let entry = Entry::of(&format!("{LARGE}{more}"), tool.name(), (count, 1), &cost);
                results.add(Entry { wire_bytes: bytes, ..entry })?;
            }
            for node in nodes {
                let compare = format!("[ $(stat -c %s {PATH}) = {SIZE} ]");
                grounds.undo_on(&node.name, &compare)?;
            }
        }
    }
    Ok(())
}

fn program(grounds: &Grounds, tool: Tool, nodes: &[Node]) -> Outcome<Program> {
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    Ok(match tool {
        Tool::Ssh => copies(grounds, nodes, ""),
        Tool::SshCurve => copies(grounds, nodes, "-o KexAlgorithms=curve25519-sha256"),
        Tool::Strata => grounds.strata(&["install", "--layer", "large"]),
        Tool::Ansible => {
            grounds.playbook("ansible", &["large.yml", "--limit", &names.join(",")])?
        }
        Tool::Mitogen => {
            grounds.playbook("mitogen", &["large.yml", "--limit", &names.join(",")])?
        }
        Tool::Pyinfra => {
            let addresses: Vec<String> = nodes.iter().map(|n| n.address.to_string()).collect();
            let mut words = vec!["-y"];
            for address in &addresses {
                words.extend(["--limit", address]);
            }
            words.extend(["inventory.py", "large.py"]);
            grounds.deployment(&words)?
        }
    })
}

fn copies(grounds: &Grounds, nodes: &[Node], options: &str) -> Program {
    let file = grounds.site().join("artifacts").join(NAME);
    let command = format!("'cat > {PATH} && sync {PATH}' < {}", file.display());
    grounds.ssh_each(nodes, options, &command)
}
