//! What a fleet costs the controller: simulated hosts, real SSH, the real strata.

use crate::Outcome;
use crate::grounds::strata_program;
use crate::program::Program;
use crate::record::{Entry, Results};
use crate::sim::make_root;
use crate::sites::{Node, SiteFiles, WORK_VARS, nodes, put};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;

/// Everything is to be made.
pub const FIRST: &str = "fleet, first run";
/// Nothing is to be changed.
pub const SECOND: &str = "fleet, no change";
/// As [`SECOND`], with the hosts file and the rest of what the whole site asks of each host.
pub const TOOL: &str = "strata";

/// Resources of a host.
pub const RESOURCES: u32 = 100;

/// The role: directories, files made of templates, lines.
pub fn fleet_role() -> String {
    let mut text = "description = \"A hundred resources\"\n".to_owned();
    let mut step = |name: String, resource: String| {
        text += &format!("\n[[step]]\nname = \"{name}\"\ntags = [\"fleet\"]\n{resource}\n");
    };
    for number in 1..=20 {
        let path = format!("/srv/fleet-{number:02}");
        step(format!("Directory {number}"), format!("directory = {{ path = \"{path}\" }}"));
    }
    for number in 1..=70 {
        let directory = (number - 1) % 20 + 1;
        step(
            format!("Configuration {number}"),
            format!(
                "template = {{ src = \"fleet/conf.j2\", dest = \"/srv/fleet-{directory:02}/{number}.ini\" }}"
            ),
        );
    }
    for number in 1..=10 {
        step(
            format!("Line {number}"),
            format!(
                "line = {{ path = \"/etc/fleet.conf\", key = \"line-{number}\", line = \"line-{number} = {number}\" }}"
            ),
        );
    }
    text
}

/// The template of the role: some of it is the same on all hosts, some is not.
pub fn fleet_template() -> String {
    include_str!("../work/conf.j2").replace("{{ number }}", "01")
}

/// Writes the site of a fleet.
///
/// # Errors
/// When a file cannot be written.
pub fn put_site(site: &Path, nodes: &[Node], identity: &Path) -> Outcome<()> {
    let roles = [("fleet", "nodes", fleet_role())];
    let files = SiteFiles { name: "fleet", nodes, identity, vars: WORK_VARS, roles: &roles };
    files.write(site)?;
    put(&site.join("templates/fleet/conf.j2"), &fleet_template())
}

/// Simulated hosts in some processes, which end with it.
struct Fleet(Vec<Child>);

impl Fleet {
    fn start(directory: &Path, count: u32, processes: u32) -> Outcome<Self> {
        let program = std::env::current_exe()?;
        let mut fleet = Self(Vec::new());
        let each = count.div_ceil(processes.max(1));
        for first in (0..count).step_by(usize::try_from(each)?) {
            let last = (first + each).min(count);
            let words = [first.to_string(), last.to_string()];
            let child = Program::new([program.as_os_str()])
                .with(["serve", "--directory"])
                .with([directory])
                .with(words)
                .start()?;
            fleet.0.push(child);
        }
        for child in &mut fleet.0 {
            let output = child.stdout.take().ok_or("a process without output")?;
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line)?;
            if line.trim() != "ready" {
                return Err("simulated hosts could not be started; the reason is above".into());
            }
        }
        Ok(fleet)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Where the roots of simulated hosts are.
pub fn roots(directory: &Path) -> PathBuf {
    directory.join("roots")
}

/// Where the key of their servers is.
pub fn host_key(directory: &Path) -> PathBuf {
    directory.join("host_key")
}

/// Measures fleets of these sizes in a directory, which should be in memory: the disk that hosts
/// share is not what is measured. Needs a network of its own in which 10.50.0.0/16 is local.
///
/// # Errors
/// When a run fails.
pub fn run(
    directory: &Path,
    sizes: &[u32],
    rounds: u32,
    processes: u32,
    results: &mut Results,
) -> Outcome<()> {
    for file in [host_key(directory), directory.join("identity")] {
        Program::new(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"])
            .with([&file])
            .succeed()?;
    }
    let public = std::fs::read_to_string(host_key(directory).with_extension("pub"))?;
    let public: Vec<&str> = public.split_whitespace().take(2).collect();
    for size in sizes {
        let nodes = nodes(*size);
        let site = directory.join(format!("site-{size}"));
        put_site(&site, &nodes, &directory.join("identity"))?;
        let pinned: String =
            nodes.iter().map(|node| format!("{} {}\n", node.address, public.join(" "))).collect();
        put(&site.join(".strata/known_hosts"), &pinned)?;
        std::fs::remove_dir_all(roots(directory)).ok();
        nodes.iter().try_for_each(|node| make_root(&roots(directory).join(&node.name), node))?;
        let _fleet = Fleet::start(directory, *size, processes)?;
        let strata = Program::new([strata_program()?.as_os_str()])
            .with(["--no-progress", "--color", "never", "--site"])
            .with([&site])
            .with(["install", "--layer", "fleet", "--tag", "fleet"])
            .variable("HOME", directory);
        let shape = (*size, RESOURCES);
        let first = strata.succeed()?;
        results.add(Entry::of(FIRST, TOOL, shape, &first))?;
        for _ in 0..rounds {
            let again = strata.succeed()?;
            let said = format!("0 of {} steps changed", size * RESOURCES);
            if !again.output.contains(&said) {
                return Err(format!("wanted `{said}`:\n{}", again.output).into());
            }
            results.add(Entry::of(SECOND, TOOL, shape, &again))?;
        }
    }
    Ok(())
}
