//! The lab that measurements run in: as many nodes as wanted and an operator host. Programs of the
//! controller run on the machine, in the operator host's network, so that tools which are not
//! installed on the operator host can be measured there.

use crate::Outcome;
use crate::large;
use crate::program::Program;
use crate::sites::{GROUND, Node, OPERATOR, SiteFiles, nodes, put, put_ansible, put_pyinfra};
use crate::sites::{WORK_VARS, put_templates, work_role};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use strata::lab::Lab;

/// The lab's name.
const LAB: &str = "bench";

/// Undoes the work on a node, packages aside; the agent goes too. An rsyslogd that was started before
/// systemd knew its socket makes one of its own, and takes the name of the journal's with it when it ends.
const UNDO: &str = "systemctl disable --now cron rsyslog haproxy redis-server >/dev/null 2>&1; \
    for user in bench-one bench-two bench-three; do userdel --remove $user 2>/dev/null; done; \
    rm -rf /etc/bench /srv/bench /var/lib/strata /run/strata /root/.ansible; \
    ln -sfn /run/systemd/journal/dev-log /dev/log";

/// Undoes the packages of the work.
const UNDO_PACKAGES: &str = "DEBIAN_FRONTEND=noninteractive apt-get purge -y -q \
    cron cron-daemon-common rsyslog logrotate haproxy redis-server redis-tools >/dev/null && \
    apt-get autoremove --purge -y -q >/dev/null";

/// Where everything is.
#[derive(Debug)]
pub struct Grounds {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What the work is done from: sites and inventories of all tools.
    pub directory: PathBuf,
    lab: Lab,
    strata: PathBuf,
    /// `nsenter` and its option: they lead into the operator host's network.
    entrance: Vec<OsString>,
    /// The key that every node accepts.
    identity: PathBuf,
    /// The keys of the nodes.
    known_hosts: PathBuf,
}

impl Grounds {
    /// Brings the lab up, writes sites and inventories, and installs what other tools need.
    ///
    /// # Errors
    /// What could not be made, and why.
    pub fn bring_up(directory: &Path, count: u32) -> Outcome<Self> {
        let mut grounds = Self {
            nodes: nodes(count),
            directory: directory.to_owned(),
            lab: Lab::open(LAB)?,
            strata: strata_program()?,
            entrance: Vec::new(),
            identity: PathBuf::from("none"),
            known_hosts: PathBuf::from("none"),
        };
        grounds.put_site(1)?;
        println!("the lab is brought up: {count} nodes");
        let site = grounds.site();
        Program::new([grounds.strata.as_os_str()])
            .with(["lab", "--lab", LAB, "up", "--no-progress", "--site"])
            .with([&site])
            .succeed()?;
        let words = grounds.lab.ssh_argv(OPERATOR, &[])?;
        grounds.entrance = words.iter().take(2).cloned().collect();
        let after = |word: &str| words.iter().skip_while(|w| *w != word).nth(1).cloned();
        let file = words
            .iter()
            .find_map(|word| word.to_str()?.strip_prefix("UserKnownHostsFile=").map(PathBuf::from));
        grounds.identity = after("-i").ok_or("the lab names no key")?.into();
        grounds.known_hosts = file.ok_or("the lab names no keys of hosts")?;
        grounds.put_site(1)?;
        // Hosts of a lab that was down meanwhile have other keys, and what was kept of the runs before
        // says nothing of them.
        let pinned = site.join(".strata/known_hosts");
        if pinned.exists() {
            std::fs::remove_file(pinned)?;
        }
        let keys = directory.join("host-keys");
        put(&keys, &(grounds.lab.hostkeys()?.join("\n") + "\n"))?;
        let trust = Program::new([grounds.strata.as_os_str()]).with(["--site"]).with([&site]);
        trust.with(["hosts", "trust", "--from"]).with([&keys]).succeed()?;
        println!("the ground is laid");
        grounds.strata(&["install", "--layer", "ground"]).succeed()?;
        grounds.put_peers()?;
        Ok(grounds)
    }

    /// The site's directory.
    pub fn site(&self) -> PathBuf {
        self.directory.join("site")
    }

    /// Writes the site with a revision of the file that changes.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn put_site(&self, revision: u32) -> Outcome<()> {
        let site = self.site();
        let vars = WORK_VARS.replace("revision = 1", &format!("revision = {revision}"));
        let roles = [
            ("ground", "nodes", GROUND.to_owned()),
            ("work", "nodes", work_role()),
            ("steps", "far", crate::distance::steps_role()),
            ("files", "far", crate::distance::files_role()),
            ("large", "ten", large::role(&large::make(&site)?)),
        ];
        let files = SiteFiles {
            name: "bench",
            nodes: &self.nodes,
            identity: &self.identity,
            vars: &vars,
            roles: &roles,
        };
        files.write(&site)?;
        put_templates(&site.join("templates/work"))
    }

    fn put_peers(&self) -> Outcome<()> {
        let python = environment()?.join("bin/python3");
        let where_is =
            "import os, ansible_mitogen; print(os.path.dirname(ansible_mitogen.__file__))";
        let mitogen = Program::new([python.as_os_str()]).with(["-c", where_is]).succeed()?;
        let plugins = Path::new(mitogen.output.trim()).join("plugins/strategy");
        let (nodes, identity, known) = (&self.nodes, &self.identity, &self.known_hosts);
        put_ansible(&self.directory.join("ansible"), nodes, identity, known, None)?;
        put_ansible(&self.directory.join("mitogen"), nodes, identity, known, Some(&plugins))?;
        put_pyinfra(&self.directory.join("pyinfra"), nodes, identity, known)
    }

    /// A program in the operator host's network, with a home of its own.
    pub fn program(&self, words: impl IntoIterator<Item = impl Into<OsString>>) -> Program {
        Program::new(words)
            .under(&self.entrance)
            .variable("HOME", self.directory.join("home"))
            .variable("LC_ALL", "C.UTF-8")
            .variable("SSH_AUTH_SOCK", "")
    }

    /// strata, in the site.
    pub fn strata(&self, words: &[&str]) -> Program {
        self.program([self.strata.as_os_str()])
            .with(["--no-progress", "--color", "never", "--site"])
            .with([self.site()])
            .with(words)
    }

    /// `ssh NODE true` to some nodes at once.
    pub fn ssh(&self, nodes: &[Node], options: &str) -> Program {
        self.ssh_each(nodes, options, "true")
    }

    /// `ssh NODE COMMAND` to some nodes at once; the command as a shell reads it.
    pub fn ssh_each(&self, nodes: &[Node], options: &str, command: &str) -> Program {
        let addresses: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
        let script = format!(
            "for host in {}; do ssh -F none -o UserKnownHostsFile={} -o IdentitiesOnly=yes -i {} {options} root@$host {command} & \
             pids=\"$pids $!\"; done; for pid in $pids; do wait $pid || exit 1; done",
            addresses.join(" "),
            self.known_hosts.display(),
            self.identity.display(),
        );
        self.program(["sh", "-c", &script])
    }

    /// Ansible, with or without Mitogen.
    ///
    /// # Errors
    /// When the environment of the peers is missing.
    pub fn ansible(&self, directory: &str, revision: u32) -> Outcome<Program> {
        self.playbook(directory, &["work.yml", "-e", &format!("revision={revision}")])
    }

    /// Ansible with these words, in its directory.
    ///
    /// # Errors
    /// When the environment of the peers is missing.
    pub fn playbook(&self, directory: &str, words: &[&str]) -> Outcome<Program> {
        let program = self.program([environment()?.join("bin/ansible-playbook")]);
        Ok(program.with(words).within(&self.directory.join(directory)))
    }

    /// pyinfra.
    ///
    /// # Errors
    /// When the environment of the peers is missing.
    pub fn pyinfra(&self, revision: u32) -> Outcome<Program> {
        let revision = format!("revision={revision}");
        self.deployment(&["-y", "--data", &revision, "inventory.py", "deploy.py"])
    }

    /// pyinfra with these words.
    ///
    /// # Errors
    /// When the environment of the peers is missing.
    pub fn deployment(&self, words: &[&str]) -> Outcome<Program> {
        let program = self.program([environment()?.join("bin/pyinfra")]);
        Ok(program.with(words).within(&self.directory.join("pyinfra")))
    }

    /// Takes the work back on all nodes.
    ///
    /// # Errors
    /// When it fails on a node.
    pub fn undo(&self, packages: bool) -> Outcome<()> {
        let script = if packages { format!("{UNDO}; {UNDO_PACKAGES}") } else { UNDO.to_owned() };
        self.everywhere(&script)
    }

    fn everywhere(&self, script: &str) -> Outcome<()> {
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .nodes
                .iter()
                .map(|node| scope.spawn(|| self.undo_on(&node.name, script)))
                .collect();
            running.into_iter().try_for_each(|one| one.join().map_err(|_| "a thread panicked")?)
        })
    }

    /// Runs a script on a node, past SSH and unmeasured.
    ///
    /// # Errors
    /// When it fails.
    pub fn undo_on(&self, node: &str, script: &str) -> Outcome<()> {
        let words: Vec<OsString> = ["sh", "-c", script].iter().map(OsString::from).collect();
        let output = self.lab.run(node, &words, &[])?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{node}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    /// Bytes that went through the operator host's links so far, both directions.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn wire_bytes(&self) -> Outcome<u64> {
        let text = self.program(["cat", "/proc/net/dev"]).succeed()?.output;
        let links = text.lines().filter_map(|line| line.split_once(':'));
        let ours = links.filter(|(name, _)| name.trim() != "lo");
        Ok(ours
            .map(|(_, counts)| {
                let counts: Vec<u64> =
                    counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
                counts.first().unwrap_or(&0) + counts.get(8).unwrap_or(&0)
            })
            .sum())
    }

    /// Delays every frame from and to a node by some milliseconds each way, for ten minutes.
    ///
    /// # Errors
    /// When the delay cannot be made.
    pub fn delay(&self, node: &str, milliseconds: u32) -> Outcome<()> {
        let milliseconds = milliseconds.to_string();
        self.lab_command(&["fault", "delay", node, &milliseconds, "--for", "600"])?;
        Ok(())
    }

    /// Ends all delays; what the forwarder says of its own cost.
    ///
    /// # Errors
    /// When they cannot be ended.
    pub fn heal(&self) -> Outcome<String> {
        let status = self.lab_command(&["status"])?;
        self.lab_command(&["heal"])?;
        let cost = status.lines().find(|line| line.contains("own cost"));
        Ok(cost.unwrap_or_default().trim().to_owned())
    }

    fn lab_command(&self, words: &[&str]) -> Outcome<String> {
        let program = Program::new([self.strata.as_os_str()]).with(["lab", "--lab", LAB]);
        let site = self.site();
        Ok(program.with(words).with(["--site"]).with([&site]).succeed()?.output)
    }

    /// Removes the lab.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn take_down() -> Outcome<()> {
        Ok(Lab::open(LAB)?.down()?)
    }
}

/// The strata that is measured: the one that was built together with this program, unless
/// `STRATA_BENCH_STRATA` names another, for a comparison of two builds.
///
/// # Errors
/// When it is not there.
pub fn strata_program() -> Outcome<PathBuf> {
    let path = match std::env::var_os("STRATA_BENCH_STRATA") {
        Some(path) => path.into(),
        None => std::env::current_exe()?.with_file_name("strata"),
    };
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("{} is missing: `cargo build --release`", path.display()).into()),
    }
}

/// Where `bench/run` puts the other tools.
fn environment() -> Outcome<PathBuf> {
    match std::env::var_os("STRATA_BENCH_PEERS") {
        Some(path) => Ok(path.into()),
        None => {
            Err("STRATA_BENCH_PEERS does not say where the other tools are: start `sh bench/run`"
                .into())
        }
    }
}
