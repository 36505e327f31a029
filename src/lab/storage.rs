//! A host's disk: a sparse ext4 image of its own, so that it can be filled and so that container
//! engines find a filesystem their overlay driver accepts. The host's root is an overlay of the
//! cached root filesystem and a directory on that disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{check, program, wait_until};
use super::error::{At as _, Result};
use super::paths::{HostPaths, NAMESPACES, Paths, STATE};
use super::state::{HostPlan, remove_tree};

/// Directories of a host that lie beside its root on the disk: an overlay cannot carry another.
pub(super) const BESIDE_ROOT: [&str; 3] = ["docker", "containerd", "rancher"];

/// Makes the disk if there is none, and mounts the host's root. Idempotent.
pub(super) fn mount(paths: &HostPaths, plan: &HostPlan) -> Result<()> {
    let (image, disk, root) = (paths.image(), paths.disk(), paths.root());
    for directory in [&disk, &root] {
        fs::create_dir_all(directory).at("cannot create", directory)?;
    }
    let mounted = mounts_below(paths.directory())?;
    if !image.exists() {
        let new = image.with_extension("new");
        remove_tree(&new)?;
        format(&new, plan.disk)?;
        fs::rename(&new, &image).at("cannot rename", &new)?;
    }
    if !mounted.contains(&disk) {
        let mut command = program("mount", ["-t", "ext4", "-o", "loop,discard"]);
        check("cannot mount the disk", command.arg(&image).arg(&disk))?;
    }
    for directory in ["upper", "work"].into_iter().chain(BESIDE_ROOT) {
        let path = disk.join(directory);
        fs::create_dir_all(&path).at("cannot create", path)?;
    }
    if !mounted.contains(&root) {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            plan.base.display(),
            disk.join("upper").display(),
            disk.join("work").display()
        );
        let mut command = program("mount", ["-t", "overlay", "overlay", "-o"]);
        check("cannot mount the root", command.arg(options).arg(&root))?;
    }
    Ok(())
}

/// Unmounts everything below a directory, the innermost first.
pub(super) fn unmount_below(directory: &Path) -> Result<()> {
    let mut mounted = mounts_below(directory)?;
    mounted.reverse();
    for path in mounted {
        // A process that has just been killed may still be on its way out.
        wait_until(
            &format!("the unmounting of {}", path.display()),
            Duration::from_secs(15),
            Duration::from_millis(20),
            || {
                check("cannot unmount", program("umount", [&path]).arg("-q"))
                    .map(drop)
                    .map_err(|error| error.to_string())
            },
        )?;
    }
    Ok(())
}

/// Frees the loop devices of images below a directory, and waits a moment until they are gone. One
/// that stays is in use by a container that was started while the image was mounted and has a copy
/// of the machine's mounts (not one of a lab's own); the kernel frees it with its last user.
pub(super) fn release_loop_devices(directory: &Path) {
    let freed = wait_until(
        &format!("the release of the loop devices of {}", directory.display()),
        Duration::from_secs(2),
        Duration::from_millis(20),
        || {
            let devices = loop_devices_of(directory);
            if devices.is_empty() {
                return Ok(());
            }
            for device in &devices {
                let _going_by_itself = check("", &mut program("losetup", ["-d", device]));
            }
            Err(format!("still in use: {}", devices.join(" ")))
        },
    );
    if let Err(error) = freed {
        tracing::info!(%error, "loop devices go with their last user");
    }
}

fn loop_devices_of(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            fs::read_to_string(entry.path().join("loop/backing_file"))
                .is_ok_and(|file| Path::new(file.trim_end()).starts_with(directory))
        })
        .map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy()))
        .collect()
}

/// The mount points at and below a directory, in the order they were mounted.
pub(super) fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).at("cannot read", path)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(directory))
        .collect())
}

/// The mounts of all labs but one host's own: disks, roots and network namespaces.
pub(super) fn foreign_mounts(paths: &Paths, host: &str) -> Result<Vec<PathBuf>> {
    let own = paths.host(host);
    let namespace = paths.namespace_file(host);
    let mut mounts = mounts_below(Path::new(STATE))?;
    mounts.extend(mounts_below(Path::new(NAMESPACES))?.into_iter().filter(|mount| {
        mount.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"strata-lab-"))
    }));
    mounts.retain(|mount| !mount.starts_with(own.directory()) && *mount != namespace);
    Ok(mounts)
}

/// No journal and lazy tables: the image is made in milliseconds, and `fsync` still reaches the
/// machine's disk. Nothing is reserved for root, so that a full disk is full for everybody. The
/// image is never used again after the machine itself has crashed.
fn format(image: &Path, bytes: u64) -> Result<()> {
    let file = fs::File::create(image).at("cannot create", image)?;
    file.set_len(bytes).at("cannot size", image)?;
    drop(file);
    let mut command = program("mkfs.ext4", ["-q", "-F", "-m", "0", "-O", "^has_journal"]);
    command.args(["-E", "lazy_itable_init=1,nodiscard"]).arg(image);
    check("cannot format the disk", &mut command).map(drop)
}
