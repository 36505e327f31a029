//! Root filesystems with packages that the provider's image already has: a cached root filesystem,
//! and what apt installs into it from the lab's own repository.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::cache;
use super::command::{check, program};
use super::error::{At as _, Result};
use super::repository::Repository;
use super::rootfs::RootFilesystem;

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
    let names = cache::names(packages);
    let made_of = [&[RECIPE, base.key.as_str()], &names[..]].concat();
    let kept = cache::ensure("preinstalled", &made_of, |tree| {
        let mut copy = program("cp", ["--archive", "--"]);
        check("cannot copy the root filesystem", copy.arg(&base.directory).arg(tree))?;
        install(tree, repository, &names)
    })?;
    Ok((kept.directory, kept.built))
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
