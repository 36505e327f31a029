//! The package repository that hosts install from: the asked packages with everything they need
//! beyond the root filesystem, and the updates of the root filesystem's own packages.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache;
use super::command::{check, program};
use super::error::{At as _, Result};
use super::machine::{apt_get, update_package_lists};
use super::release::{AptLists, Release};
use super::rootfs::{RootFilesystem, debian_sources};
use super::state::remove_tree;

/// Raised when the way the repository is made changes.
const RECIPE: &str = "3";
/// Only Debian's own packages, whatever else the machine installs from.
const PREFERENCES: &str = "\
Package: *
Pin: release o=Debian
Pin-Priority: 900

Package: *
Pin: release *
Pin-Priority: -1
";

/// A cached repository.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    /// The directory with packages and index.
    pub(super) directory: PathBuf,
    /// Whether this call made it.
    pub(super) built: bool,
}

/// The repository for these packages on this root filesystem, made if there is none.
pub(super) fn ensure(base: &RootFilesystem, packages: &[String]) -> Result<Repository> {
    let make = |building: &Path| {
        begin(building)?;
        let lists = foreign_lists(base, building)?;
        let lists = lists.as_ref();
        download(base, lists, building, &["dist-upgrade"], &[])?;
        if download(base, lists, building, &["install"], packages).is_err() {
            // Packages that exclude each other cannot be resolved in one go.
            for package in packages {
                download(base, lists, building, &["install"], std::slice::from_ref(package))?;
            }
        }
        tidy(building)?;
        index(building, base.release)?;
        lists.map_or(Ok(()), |lists| remove_tree(lists.directory()))
    };
    let kept = cache::ensure("packages", &made_of(base, packages), make)?;
    Ok(Repository { directory: kept.directory, built: kept.built })
}

/// A tree with the unpacked files of packages that the root filesystem lacks; no script of theirs
/// has run.
pub(super) fn ensure_unpacked(base: &RootFilesystem, packages: &[String]) -> Result<PathBuf> {
    let make = |building: &Path| {
        begin(building)?;
        let archives = building.with_extension("archives");
        remove_tree(&archives)?;
        fs::create_dir_all(&archives).at("cannot create", &archives)?;
        let lists = foreign_lists(base, building)?;
        let install = ["install", "--no-install-recommends"];
        download(base, lists.as_ref(), &archives, &install, packages)?;
        for archive in packages_in(&archives)? {
            let mut command = program("dpkg-deb", ["--extract"]);
            check("cannot unpack", command.arg(&archive).arg(building))?;
        }
        merge_into_usr(building)?;
        lists.map_or(Ok(()), |lists| remove_tree(lists.directory()))?;
        remove_tree(&archives)
    };
    cache::ensure("unpacked", &made_of(base, packages), make).map(|kept| kept.directory)
}

fn made_of<'a>(base: &'a RootFilesystem, packages: &'a [String]) -> Vec<&'a str> {
    [&[RECIPE, base.key.as_str()], &cache::names(packages)[..]].concat()
}

/// An empty directory for what is about to be downloaded.
fn begin(building: &Path) -> Result<()> {
    fs::create_dir_all(building).at("cannot create", building)?;
    update_package_lists()
}

/// Moves what packages still put beside `/usr` into it: a real `/lib` would hide the root
/// filesystem's link of that name, and with it the dynamic loader.
fn merge_into_usr(tree: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let aside = tree.join(name);
        if !aside.is_dir() {
            continue;
        }
        let merged = tree.join("usr").join(name);
        fs::create_dir_all(&merged).at("cannot create", &merged)?;
        let mut command = program("cp", ["--archive"]);
        command.arg(aside.join(".")).arg(&merged);
        check("cannot merge into /usr", &mut command)?;
        remove_tree(&aside)?;
    }
    Ok(())
}

/// Package lists for a release that the machine itself does not run; none for its own.
fn foreign_lists(base: &RootFilesystem, building: &Path) -> Result<Option<AptLists>> {
    if base.release == Release::default() {
        return Ok(None);
    }
    let lists = AptLists::below(&building.with_extension("lists"));
    remove_tree(lists.directory())?;
    let partial = lists.directory().join("lists/partial");
    fs::create_dir_all(&partial).at("cannot create", &partial)?;
    let sources = debian_sources(base.release.name())?;
    fs::write(lists.sources(), sources).at("cannot write", lists.sources())?;
    let mut command = apt_get();
    command.args(lists.options()).arg("-oAPT::Sandbox::User=root").arg("update");
    check("cannot fetch package lists", &mut command)?;
    Ok(Some(lists))
}

/// Downloads what apt would install into the root filesystem.
fn download(
    base: &RootFilesystem,
    lists: Option<&AptLists>,
    into: &Path,
    action: &[&str],
    packages: &[String],
) -> Result<()> {
    let partial = into.join("partial");
    fs::create_dir_all(&partial).at("cannot create", &partial)?;
    let preferences = into.join("preferences");
    fs::write(&preferences, PREFERENCES).at("cannot write", &preferences)?;
    let status = base.directory.join("var/lib/dpkg/status");
    let option = |name: &str, value: &Path| format!("-o{name}={}", value.display());
    let mut command = apt_get();
    command
        .args(lists.map(AptLists::options).unwrap_or_default())
        .args(["--yes", "--download-only", "-oDebug::NoLocking=1"])
        .arg("-oAPT::Get::AllowUnauthenticated=false")
        .arg("-oAPT::Sandbox::User=root")
        .arg(option("Dir::State::status", &status))
        .arg(option("Dir::State::extended_states", Path::new("/dev/null")))
        .arg(option("Dir::Cache::archives", into))
        .arg(option("Dir::Etc::preferences", &preferences))
        .arg("-oDir::Etc::preferencesparts=/dev/null")
        .args(action)
        .arg("--")
        .args(packages);
    check("cannot download packages", &mut command).map(drop)
}

/// Removes apt's own files, and gives packages names that survive being part of an address: apt
/// writes the colon of an epoch as `%3a` and would decode it again.
fn tidy(directory: &Path) -> Result<()> {
    for leftover in ["partial", "lock", "preferences"] {
        remove_tree(&directory.join(leftover))?;
    }
    for path in packages_in(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.contains('%') {
            let plain = directory.join(name.replace('%', "_"));
            fs::rename(&path, &plain).at("cannot rename", &path)?;
        }
    }
    Ok(())
}

fn index(directory: &Path, release: Release) -> Result<()> {
    let codename = format!("-oAPT::FTPArchive::Release::Codename={}", release.name());
    let write = |name: &str, arguments: &[&str]| {
        let mut command = program("apt-ftparchive", arguments);
        command.current_dir(directory);
        let output = check("cannot index the repository", &mut command)?;
        let path = directory.join(name);
        fs::write(&path, output.stdout).at("cannot write", path)
    };
    write("Packages", &["packages", "."])?;
    write(
        "Release",
        &[
            "-oAPT::FTPArchive::Release::Origin=Debian",
            "-oAPT::FTPArchive::Release::Label=Debian",
            "-oAPT::FTPArchive::Release::Suite=stable",
            &codename,
            "release",
            ".",
        ],
    )
}

fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).at("cannot read", directory)?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect())
}
