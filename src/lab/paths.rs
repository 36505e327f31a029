//! Where a lab keeps its things. Everything is derived from the lab's name.

use std::path::{Path, PathBuf};

/// The directory that holds the state of all labs.
pub(super) const STATE: &str = "/var/lib/strata-lab";
/// The cache that all labs share; contents are named by what they were made of.
pub(super) const CACHE: &str = "/var/cache/strata-lab";
/// Where named network namespaces are found.
pub(super) const NAMESPACES: &str = "/run/netns";

/// The names and places of one lab.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    lab: String,
}

impl Paths {
    /// The places of the lab with this (checked) name.
    pub(super) fn new(lab: &str) -> Self {
        Self { lab: lab.to_owned() }
    }

    /// The lab's name.
    pub(super) fn lab(&self) -> &str {
        &self.lab
    }

    /// The lab's state directory.
    pub(super) fn root(&self) -> PathBuf {
        Path::new(STATE).join(&self.lab)
    }

    /// The file whose lock a process holds while it changes the lab.
    pub(super) fn lock(&self) -> PathBuf {
        Path::new(STATE).join(format!(".{}.lock", self.lab))
    }

    /// What the lab consists of.
    pub(super) fn lab_file(&self) -> PathBuf {
        self.root().join("lab.json")
    }

    /// The operator's private key.
    pub(super) fn operator_key(&self) -> PathBuf {
        self.root().join("operator/id_ed25519")
    }

    /// The pinned host keys of all hosts.
    pub(super) fn known_hosts(&self) -> PathBuf {
        self.root().join("operator/known_hosts")
    }

    /// The directory of all hosts.
    pub(super) fn hosts(&self) -> PathBuf {
        self.root().join("hosts")
    }

    /// One host's directory.
    pub(super) fn host(&self, host: &str) -> HostPaths {
        HostPaths { directory: self.hosts().join(host) }
    }

    /// The archives of images that the operator host sees.
    pub(super) fn images(&self) -> PathBuf {
        self.root().join("images")
    }

    /// One balancer's directory.
    pub(super) fn balancer(&self, name: &str) -> PathBuf {
        self.root().join("balancers").join(name)
    }

    /// The directory of active faults.
    pub(super) fn faults(&self) -> PathBuf {
        self.root().join("faults")
    }

    /// What every network namespace of this lab begins with. Lab names hold no dot, so that no
    /// lab's prefix is another's.
    pub(super) fn namespace_prefix(&self) -> String {
        format!("strata-lab-{}.", self.lab)
    }

    /// The name of the network namespace of a host, of a balancer, `switch` or `outside`.
    pub(super) fn namespace(&self, member: &str) -> String {
        format!("{}{member}", self.namespace_prefix())
    }

    /// The file by which a network namespace is entered.
    pub(super) fn namespace_file(&self, member: &str) -> PathBuf {
        Path::new(NAMESPACES).join(self.namespace(member))
    }

    /// The lab's group below each cgroup hierarchy's root.
    pub(super) fn group(&self) -> PathBuf {
        Path::new("strata-lab").join(&self.lab)
    }

    /// The group of one host.
    pub(super) fn host_group(&self, host: &str) -> PathBuf {
        self.group().join(host)
    }

    /// The group of supervisors, balancers and faults. Host names hold no underscore.
    pub(super) fn control_group(&self) -> PathBuf {
        self.group().join("_control")
    }

    /// The names of all labs that have state on this machine.
    pub(super) fn all_labs() -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(STATE) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }
}

/// The places of one host.
#[derive(Debug, Clone)]
pub(super) struct HostPaths {
    directory: PathBuf,
}

impl HostPaths {
    /// The host's directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the supervisor needs to know to boot it.
    pub(super) fn plan(&self) -> PathBuf {
        self.directory.join("host.json")
    }

    /// What the supervisor last saw.
    pub(super) fn state(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    /// Locked for as long as the supervisor lives.
    pub(super) fn supervisor_lock(&self) -> PathBuf {
        self.directory.join("supervisor.lock")
    }

    /// What the supervisor wrote.
    pub(super) fn supervisor_log(&self) -> PathBuf {
        self.directory.join("supervisor.log")
    }

    /// What the host printed while it booted.
    pub(super) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// Where the container tells that it is up.
    pub(super) fn notify_socket(&self) -> PathBuf {
        self.directory.join("notify")
    }

    /// The image of the host's disk.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// Where the image is mounted.
    pub(super) fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// Where the host's root filesystem is put together.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The public half of the host's ssh key.
    pub(super) fn host_key(&self) -> PathBuf {
        self.directory.join("ssh_host_ed25519_key.pub")
    }
}
