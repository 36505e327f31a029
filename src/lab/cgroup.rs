//! One private cgroup root per host, in every hierarchy of the machine.
//!
//! With cgroup v1, hosts that share the machine's root see, and delete, each other's groups: so
//! each host gets a child group everywhere, and the container's cgroup namespace shows it as root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::command::wait_until;
use super::error::{At as _, LabError, Result};

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// Controllers of a v1 hierarchy as in `/proc/PID/cgroup` (`name=systemd` too); none for v2.
    controllers: Option<Vec<String>>,
}

/// The cgroup hierarchies of the machine.
#[derive(Debug, Clone)]
pub(super) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Finds what is mounted.
    pub(super) fn detect() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let hierarchies = parse_mounts(&fs::read_to_string(path).at("cannot read", path)?);
        if hierarchies.is_empty() {
            return Err(LabError::Machine(
                "no cgroup hierarchy is mounted below /sys/fs/cgroup; mount cgroup2 there".into(),
            ));
        }
        Ok(Self { hierarchies })
    }

    /// Whether the controllers are on cgroup v1: container engines inside need their mounts
    /// writable then.
    pub(super) fn is_v1(&self) -> bool {
        self.hierarchies.iter().any(|one| one.controllers.is_some())
    }

    /// Makes a group in every hierarchy.
    pub(super) fn create(&self, group: &Path) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let mut directory = hierarchy.mount.clone();
            for part in group {
                let parent = directory.clone();
                directory.push(part);
                if let Err(error) = fs::create_dir(&directory)
                    && error.kind() != std::io::ErrorKind::AlreadyExists
                {
                    return Err(error).at("cannot create the cgroup", directory);
                }
                if hierarchy.handles("cpuset") {
                    // An empty cpuset admits no process.
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        let value = fs::read_to_string(parent.join(file))
                            .at("cannot read", parent.join(file))?;
                        write_if_empty(&directory.join(file), value.trim())?;
                    }
                }
                if !self.is_v1() {
                    // Best effort: what the machine does not delegate, hosts do without.
                    for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
                        let _not_delegated = fs::write(
                            parent.join("cgroup.subtree_control"),
                            format!("+{controller}"),
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// The files through which a process enters a group, one per hierarchy.
    pub(super) fn entrances(&self, group: &Path) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|one| one.mount.join(group).join("cgroup.procs")).collect()
    }

    /// The files through which a process joins the very groups that another process is in.
    pub(super) fn entrances_like(&self, pid: u32) -> Result<Vec<PathBuf>> {
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path).at("cannot read", &path)?;
        let found = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
            let hierarchy = self.hierarchies.iter().find(|one| {
                one.controllers.as_ref().map_or(controllers.is_empty(), |own| {
                    controllers.split(',').any(|name| own.iter().any(|o| o == name))
                })
            })?;
            let group = group.trim_start_matches('/');
            Some(hierarchy.mount.join(group).join("cgroup.procs"))
        });
        Ok(found.collect())
    }

    /// Moves this process into a group, which is made if needed.
    pub(super) fn enter(&self, group: &Path) -> Result<()> {
        self.create(group)?;
        for entrance in self.entrances(group) {
            fs::write(&entrance, "0").at("cannot enter the cgroup", entrance)?;
        }
        Ok(())
    }

    /// All processes in a group and below it.
    pub(super) fn processes(&self, group: &Path) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            collect_processes(&hierarchy.mount.join(group), &mut found);
        }
        found
    }

    /// The first process of the host in this group, if it lives: the one whose process id inside
    /// is 1, one level of namespaces below this process.
    pub(super) fn leader(&self, group: &Path) -> Option<u32> {
        let depth = namespace_pids(std::process::id())?.len();
        self.processes(group).into_iter().find(|pid| {
            namespace_pids(*pid)
                .is_some_and(|pids| pids.len() == depth + 1 && pids.last() == Some(&1))
        })
    }

    /// Kills every process in a group and waits until none is left.
    pub(super) fn kill_all(&self, group: &Path) -> Result<()> {
        wait_until(
            &format!("the end of all processes of {}", group.display()),
            Duration::from_secs(20),
            Duration::from_millis(10),
            || {
                let pids = self.processes(group);
                if pids.is_empty() {
                    return Ok(());
                }
                // A frozen process does not die.
                let _absent = self.freeze(group, false);
                for pid in &pids {
                    signal(*pid, Signal::KILL);
                }
                Err(format!("{} processes left: {pids:?}", pids.len()))
            },
        )
    }

    /// Removes a group and everything below it. There must be no process left.
    pub(super) fn remove(&self, group: &Path) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.mount.join(group);
            wait_until(
                &format!("the removal of the cgroup {}", directory.display()),
                Duration::from_secs(10),
                Duration::from_millis(10),
                || remove_tree(&directory).map_err(|error| error.to_string()),
            )?;
        }
        Ok(())
    }

    /// Freezes or thaws all processes of a group.
    pub(super) fn freeze(&self, group: &Path, frozen: bool) -> Result<()> {
        let (file, text) = match self.with("freezer") {
            Some(v1) => (
                v1.mount.join(group).join("freezer.state"),
                if frozen { "FROZEN" } else { "THAWED" },
            ),
            None => match self.hierarchies.iter().find(|one| one.controllers.is_none()) {
                Some(v2) => {
                    (v2.mount.join(group).join("cgroup.freeze"), if frozen { "1" } else { "0" })
                }
                None => return Err(LabError::Machine("no freezer cgroup is mounted".into())),
            },
        };
        fs::write(&file, text).at("cannot write", file)
    }

    /// Bytes of memory of a group: what its processes hold themselves, and that with page cache.
    pub(super) fn memory(&self, group: &Path) -> Option<(u64, u64)> {
        let (directory, usage, keys) = match self.with("memory") {
            Some(v1) => {
                (v1.mount.join(group), "memory.usage_in_bytes", ["total_rss", "total_shmem"])
            }
            None => {
                (self.hierarchies.first()?.mount.join(group), "memory.current", ["anon", "shmem"])
            }
        };
        let all = fs::read_to_string(directory.join(usage)).ok()?;
        let stat = fs::read_to_string(directory.join("memory.stat")).ok()?;
        let own = stat
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(key, _)| keys.contains(key))
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum();
        Some((own, all.trim().parse().ok()?))
    }

    fn with(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|one| one.handles(controller))
    }
}

impl Hierarchy {
    fn handles(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|own| own.iter().any(|name| name == controller))
    }
}

/// The process ids of a process, from this process's namespace to its innermost.
pub(super) fn namespace_pids(pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|word| word.parse().ok()).collect()
}

/// Sends a signal; a process that is gone needs none.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

fn parse_mounts(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(root), Some(mount)) = (left.split(' ').nth(3), left.split(' ').nth(4)) else {
            continue;
        };
        let kind = right.split(' ').next().unwrap_or_default();
        let options = right.rsplit(' ').next().unwrap_or_default();
        if root != "/" || !mount.starts_with("/sys/fs/cgroup") {
            continue;
        }
        let controllers = match kind {
            "cgroup" => Some(
                options
                    .split(',')
                    .filter(|word| !matches!(*word, "rw" | "ro" | "xattr" | "clone_children"))
                    .map(str::to_owned)
                    .collect(),
            ),
            "cgroup2" => None,
            _ => continue,
        };
        found.push(Hierarchy { mount: PathBuf::from(mount), controllers });
    }
    found
}

fn write_if_empty(path: &Path, value: &str) -> Result<()> {
    let present = fs::read_to_string(path).at("cannot read", path)?;
    if present.trim().is_empty() {
        fs::write(path, value).at("cannot write", path)?;
    }
    Ok(())
}

fn collect_processes(directory: &Path, found: &mut BTreeSet<u32>) {
    if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
        found.extend(
            text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid > 0),
        );
    }
    for child in children(directory) {
        collect_processes(&child, found);
    }
}

fn remove_tree(directory: &Path) -> std::io::Result<()> {
    for child in children(directory) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_unified_mounts_are_told_apart() {
        let hybrid = "\
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";
        let found = parse_mounts(hybrid);
        assert_eq!(found.len(), 3);
        assert!(found[0].handles("cpuacct") && !found[0].handles("memory"));
        assert!(found[1].handles("name=systemd"));
        assert_eq!(found[2].controllers, None);
        assert!(Cgroups { hierarchies: found }.is_v1());

        let unified = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw";
        assert!(!Cgroups { hierarchies: parse_mounts(unified) }.is_v1());
    }
}
