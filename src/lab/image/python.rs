//! Packages of the Python Package Index in an image's tree: pure wheels of one pinned version,
//! downloaded once and unpacked where Debian's Python finds them. Nothing of them runs on the
//! machine that builds.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::command::{check, program};
use super::super::error::{At as _, LabError, Result};
use super::super::paths::CACHE;
use super::super::state::remove_tree;

/// Wheels that were downloaded.
const WHEELS: &str = "wheels";
/// Where Debian's Python looks for modules that no release of Python is special to.
const MODULES: &str = "usr/lib/python3/dist-packages";
/// Wheels that run on any machine and with any Python 3: what the machine itself has decides nothing.
const ANY: [&str; 8] = [
    "--only-binary=:all:",
    "--platform=any",
    "--implementation=py",
    "--abi=none",
    "--python-version=3.11",
    "--no-deps",
    "--quiet",
    "--disable-pip-version-check",
];

/// Unpacks packages, each `name==version`, into a tree.
pub(super) fn install(packages: &[String], target: &Path) -> Result<()> {
    let wheels = Path::new(CACHE).join(WHEELS);
    for package in packages {
        let wheel = match find(package, &wheels) {
            Some(wheel) => wheel,
            None => download(package, &wheels)?,
        };
        // A wheel is an archive whose files stand below one folder: no installation is needed.
        let modules = target.join(MODULES);
        let mut unpack = program("python3", ["-I", "-m", "zipfile", "-e"]);
        check("cannot unpack a Python package", unpack.arg(&wheel).arg(&modules))?;
        // Whoever runs in the image reads them, whatever this process may keep for itself.
        let mut readable = program("chmod", ["-R", "u=rwX,go=rX", "--"]);
        check("cannot unpack a Python package", readable.arg(&modules))?;
    }
    Ok(())
}

fn download(package: &str, wheels: &Path) -> Result<PathBuf> {
    // Whole or not at all under its name.
    let part = wheels.join("part");
    remove_tree(&part)?;
    fs::create_dir_all(&part).at("cannot create", &part)?;
    let mut command = program("python3", ["-m", "pip", "download"]);
    command.args(ANY).arg("--dest").arg(&part).arg("--").arg(package);
    check("cannot download a Python package (python3-pip brings pip)", &mut command)?;
    let Some(wheel) = find(package, &part) else {
        return Err(LabError::InvalidSpec(format!("pip downloaded something else than {package}")));
    };
    let kept = wheels.join(wheel.file_name().unwrap_or_default());
    fs::rename(&wheel, &kept).at("cannot rename", &wheel)?;
    remove_tree(&part)?;
    Ok(kept)
}

/// The wheel of a package: `patroni-3.3.0-py3-none-any.whl` for `patroni==3.3.0`.
fn find(package: &str, folder: &Path) -> Option<PathBuf> {
    let (name, version) = package.split_once("==")?;
    let start = format!("{}-{version}-", plain(name));
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.ends_with(".whl") && plain(&file).starts_with(&start)
    })
}

/// Names of packages that differ in these are one name.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_is_found_by_name_and_whole_version() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["patroni-3.3.0-py3-none-any.whl", "patroni-3.3.0.tar.gz"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(
            find("patroni==3.3.0", folder.path())
                .unwrap()
                .ends_with("patroni-3.3.0-py3-none-any.whl")
        );
        assert!(find("Patroni==3.3.0", folder.path()).is_some());
        assert!(find("patroni==3.3", folder.path()).is_none());
        assert!(find("patron==3.3.0", folder.path()).is_none());
    }
}
