//! What makes a host itself: its identity on disk, and how its container is started.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::command::{check, program};
use super::enter::command_in_groups;
use super::error::{At as _, LabError, Result};
use super::paths::Paths;
use super::spec::short_name;
use super::state::HostPlan;
use super::storage::BESIDE_ROOT;

/// Every host of a lab has this file, and nothing else has; relative to its root.
pub const HOST_MARKER: &str = "etc/strata-lab";

/// Makes the v1 controllers' mounts writable, which container engines need.
const WRITABLE_CGROUPS: &str = "\
[Unit]
Description=Writable cgroup v1 controllers for container engines
DefaultDependencies=no
Before=sysinit.target docker.service containerd.service k3s.service
ConditionPathIsDirectory=/sys/fs/cgroup/memory

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'findmnt -rn -t cgroup -o TARGET | while read -r mount; do mount -o remount,rw,bind \"$mount\"; done'

[Install]
WantedBy=sysinit.target
";
/// The name of that unit.
const WRITABLE_CGROUPS_UNIT: &str = "cgroup-v1-writable.service";
/// Written when a host's identity is complete; below the disk, out of the host's sight.
const COMPLETE: &str = "identity-complete";

/// Gives a host its names, its machine id, its ssh keys and the operator's key, once.
pub(super) fn give_identity(paths: &Paths, plan: &HostPlan, cgroup_v1: bool) -> Result<()> {
    let own = paths.host(&plan.host.name);
    let complete = own.disk().join(COMPLETE);
    if complete.exists() {
        return Ok(());
    }
    let root = own.root();
    let (name, fqdn) = (&plan.host.name, &plan.host.fqdn);
    write(&root.join("etc/hostname"), &format!("{name}\n"), 0o644)?;
    let hosts = format!(
        "127.0.0.1 localhost\n127.0.1.1 {fqdn} {name}\n\n::1 localhost ip6-localhost \
         ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
    );
    write(&root.join("etc/hosts"), &hosts, 0o644)?;
    write(&root.join(HOST_MARKER), "This is a host of a lab, on another machine.\n", 0o444)?;
    write(&root.join("etc/machine-id"), &format!("{}\n", random_id()?), 0o444)?;
    for kind in ["ed25519", "ecdsa"] {
        let key = root.join(format!("etc/ssh/ssh_host_{kind}_key"));
        make_key(kind, &format!("root@{name}"), &key)?;
        if kind == "ed25519" {
            let public = key.with_extension("pub");
            fs::copy(&public, own.host_key()).at("cannot copy", public)?;
        }
    }
    let ssh = root.join("root/.ssh");
    fs::create_dir_all(&ssh).at("cannot create", &ssh)?;
    fs::set_permissions(&ssh, Permissions::from_mode(0o700)).at("cannot change", &ssh)?;
    let key = paths.operator_key();
    let public = key.with_extension("pub");
    let text = fs::read_to_string(&public).at("cannot read", &public)?;
    write(&ssh.join("authorized_keys"), &text, 0o600)?;
    if plan.operator {
        write(&ssh.join("id_ed25519.pub"), &text, 0o644)?;
        let text = fs::read_to_string(&key).at("cannot read", &key)?;
        write(&ssh.join("id_ed25519"), &text, 0o600)?;
    }
    if cgroup_v1 {
        let units = root.join("etc/systemd/system");
        write(&units.join(WRITABLE_CGROUPS_UNIT), WRITABLE_CGROUPS, 0o644)?;
        let wants = units.join("sysinit.target.wants");
        fs::create_dir_all(&wants).at("cannot create", &wants)?;
        let link = wants.join(WRITABLE_CGROUPS_UNIT);
        super::state::remove_tree(&link)?;
        let target = Path::new("..").join(WRITABLE_CGROUPS_UNIT);
        std::os::unix::fs::symlink(target, &link).at("cannot link", link)?;
    }
    fs::write(&complete, "").at("cannot write", complete)
}

/// Makes an ssh key pair without a passphrase, in place of any half-made one.
pub(super) fn make_key(kind: &str, comment: &str, path: &Path) -> Result<()> {
    super::state::remove_tree(path)?;
    super::state::remove_tree(&path.with_extension("pub"))?;
    let mut command = program("ssh-keygen", ["-q", "-t", kind, "-N", "", "-C", comment, "-f"]);
    check("cannot make an ssh key", command.arg(path)).map(drop)
}

/// Unmounts the places named before `--`, then becomes the command after it. The text is constant;
/// all data is in the arguments.
const LEAVE_MOUNTS: &str =
    r#"while [ "$1" != -- ]; do umount --lazy "$1" 2>/dev/null; shift; done; shift; exec "$@""#;

/// The command that boots a host, in its own cgroups and in a mount namespace that has nothing of
/// `foreign_mounts`: a copy of another host's mounts would keep its disk in use for as long as this
/// host lives.
pub(super) fn boot_command(
    paths: &Paths,
    plan: &HostPlan,
    entrances: &[std::path::PathBuf],
    foreign_mounts: &[std::path::PathBuf],
    cgroup_v1: bool,
) -> Command {
    let own = paths.host(&plan.host.name);
    let mut words: Vec<std::ffi::OsString> =
        ["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", LEAVE_MOUNTS]
            .map(Into::into)
            .to_vec();
    words.push("leave".into());
    words.extend(foreign_mounts.iter().rev().map(Into::into));
    words.extend(["--", "systemd-nspawn", "--quiet"].map(Into::into));
    let mut option = |name: &str, value: String| words.push(format!("--{name}={value}").into());
    option("directory", own.root().display().to_string());
    option("machine", machine_name(paths.lab(), &plan.host.name));
    option("hostname", plan.host.name.clone());
    let namespace = paths.namespace_file(&plan.host.name);
    option("network-namespace-path", namespace.display().to_string());
    option("register", "no".into());
    option("private-users", "no".into());
    option("capability", "all".into());
    // What would reach the machine: its clock and its modules.
    option("drop-capability", "CAP_SYS_TIME,CAP_SYS_MODULE".into());
    option("system-call-filter", "@known".into());
    option("notify-ready", "yes".into());
    option("resolv-conf", "off".into());
    option("timezone", "off".into());
    option("link-journal", "no".into());
    option("bind-ro", format!("{}:/srv/apt", plan.packages.display()));
    for name in BESIDE_ROOT {
        option("bind", format!("{}:/var/lib/{name}", own.disk().join(name).display()));
    }
    for bind in &plan.binds {
        let kind = if bind.read_only { "bind-ro" } else { "bind" };
        option(kind, format!("{}:{}", bind.source.display(), bind.target.display()));
    }
    words.push("--keep-unit".into());
    words.push("--boot".into());
    words.extend(plan.host.release.boot_arguments(cgroup_v1).iter().map(Into::into));
    let mut command = command_in_groups(entrances, &words);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("NOTIFY_SOCKET", own.notify_socket())
        // Only `net.*` below /proc/sys: it belongs to the host's own namespace.
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
        // A server keeps /tmp on its disk.
        .env("SYSTEMD_NSPAWN_TMPFS_TMP", "0");
    command
}

/// A name of at most 64 bytes that no other lab's host has.
fn machine_name(lab: &str, host: &str) -> String {
    let name = format!("{lab}-{host}");
    if name.len() <= 64 && !lab.contains('-') {
        return name;
    }
    format!("{}-{}", short_name(&format!("{lab}.{host}")).replace('.', "-"), host)
}

fn random_id() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| LabError::Machine(format!("it gives no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    super::state::remove_tree(path)?;
    fs::write(path, "").at("cannot write", path)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).at("cannot change", path)?;
    fs::write(path, text).at("cannot write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_names_fit_and_differ_between_labs() {
        assert_eq!(machine_name("default", "redis-01"), "default-redis-01");
        assert_ne!(machine_name("a-b", "c"), machine_name("a", "b-c"));
        let long = machine_name(&"l".repeat(24), &"h".repeat(40));
        assert!(long.len() <= 64, "{}", long.len());
    }
}
