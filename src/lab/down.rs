//! Taking a lab down: everything it made is found by its name, so that this also cleans up after
//! runs that were killed.

use super::cgroup::Cgroups;
use super::error::{LabError, Result};
use super::network;
use super::paths::Paths;
use super::state::{Lock, remove_tree};
use super::storage::{release_loop_devices, unmount_below};

/// Removes everything of a lab: processes, namespaces, mounts, loop devices, cgroups, state. A
/// lab that is not there is down already.
pub(super) fn down(paths: &Paths) -> Result<()> {
    let lock =
        Lock::try_take(&paths.lock())?.ok_or_else(|| LabError::Locked(paths.lab().to_owned()))?;
    let cgroups = Cgroups::detect()?;
    // Supervisors and faults first: nothing is started again from here on.
    cgroups.kill_all(&paths.control_group())?;
    let hosts = children(&paths.hosts());
    std::thread::scope(|scope| {
        let tasks: Vec<_> = hosts
            .iter()
            .map(|host| scope.spawn(|| cgroups.kill_all(&paths.host_group(host))))
            .collect();
        tasks.into_iter().try_for_each(join)
    })?;
    cgroups.kill_all(&paths.group())?;
    unmount_below(&paths.root())?;
    release_loop_devices(&paths.root());
    network::remove_all(paths)?;
    cgroups.remove(&paths.group())?;
    remove_tree(&paths.root())?;
    remove_tree(&paths.lock())?;
    drop(lock);
    Ok(())
}

/// The end of a thread; one that broke is an error like any other.
pub(super) fn join<T>(task: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    task.join()
        .unwrap_or_else(|_| Err(LabError::Machine("a worker thread ended abnormally".into())))
}

fn children(directory: &std::path::Path) -> Vec<String> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
