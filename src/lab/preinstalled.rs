//! Root filesystems with packages that the provider's image already has: a cached root filesystem,
//! and what apt installs into it from the lab's own repository.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::command::{check, program};
use super::error::{At as _, Result};
use super::paths::CACHE;
use super::repository::Repository;
use super::rootfs::RootFilesystem;
use super::spec::digest;
use super::state::{Lock, remove_tree};

/// Raised when the way such a tree is made changes.
const RECIPE: &str = "1";

/// Starts no daemon while packages are configured.
const NO_SERVICES: &str = "#!/bin/sh\nexit 101\n";

/// The tree that hosts start from: the root filesystem itself when it has all packages, else one
/// made of it and cached. Whether this call made it comes second.
pub(super) fn ensure(
    base: &RootFilesystem,
    repository: &Repository,
    packages: &[String],
) -> Result<(PathBuf, bool)> {
    if packages.is_empty() {
        return Ok((base.directory.clone(), false));
    }
    let mut names: Vec<&str> = packages.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let words = [RECIPE, base.key.as_str()].into_iter().chain(names.iter().copied());
    let directory = Path::new(CACHE).join(format!("preinstalled-{}", &digest(words)[..16]));
    if directory.is_dir() {
        return Ok((directory, false));
    }
    let _lock = Lock::wait(&Path::new(CACHE).join("rootfs.lock"))?;
    if directory.is_dir() {
        return Ok((directory, false));
    }
    let building = directory.with_extension("building");
    remove_tree(&building)?;
    let mut copy = program("cp", ["--archive", "--"]);
    check("cannot copy the root filesystem", copy.arg(&base.directory).arg(&building))?;
    install(&building, repository, &names)?;
    fs::rename(&building, &directory).at("cannot rename", &building)?;
    Ok((directory, true))
}

fn install(tree: &Path, repository: &Repository, packages: &[&str]) -> Result<()> {
    let policy = tree.join("usr/sbin/policy-rc.d");
    fs::write(&policy, NO_SERVICES).at("cannot write", &policy)?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&policy, executable).at("cannot make executable", &policy)?;
    inside(tree, repository, &["apt-get", "-q", "update"])?;
    let words = ["apt-get", "-q", "install", "--yes", "--no-install-recommends", "--"];
    inside(tree, repository, &[&words, packages].concat())?;
    inside(tree, repository, &["apt-get", "-q", "clean"])?;
    fs::remove_file(&policy).at("cannot remove", &policy)?;
    // Each host has its own.
    let identity = tree.join("etc/machine-id");
    fs::write(&identity, "").at("cannot write", &identity)
}

fn inside(tree: &Path, repository: &Repository, argv: &[&str]) -> Result<()> {
    let mut command = program(
        "systemd-nspawn",
        ["--quiet", "--keep-unit", "--register=no", "--private-network", "--link-journal=no"],
    );
    command
        .args(["--resolv-conf=off", "--timezone=off", "--pipe", "--as-pid2"])
        .args(["--setenv=DEBIAN_FRONTEND=noninteractive", "--setenv=LC_ALL=C.UTF-8"])
        .arg(format!("--bind-ro={}:/srv/apt", repository.directory.display()))
        .arg("--directory")
        .arg(tree)
        .args(argv);
    check("cannot install packages into the root filesystem", &mut command).map(drop)
}
