//! The file tree of an image: Debian packages without what no container reads, and the users,
//! directories and files of the official image.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use super::super::command::{check, check_with_input, program};
use super::super::error::{At as _, LabError, Result};
use super::super::paths::CACHE;
use super::super::rootfs::{debian_sources, download_options};
use super::super::state::remove_tree;
use super::description::{ImageDescription, ImageFile, ImageUser, octal};
use super::python;

/// What no container reads. Globs of dpkg: a `*` also stands for a slash.
const UNPACKED_WITHOUT: [&str; 6] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
];
/// What is left over from the installation.
const REMOVED: [&str; 8] = [
    "/var/lib/apt",
    "/var/cache",
    "/var/log",
    "/var/lib/dpkg/info",
    "/var/lib/dpkg/status-old",
    "/etc/apt",
    "/etc/hostname",
    "/etc/resolv.conf",
];
/// Packages that images have in common are downloaded once.
const ARCHIVES: &str = "archives";

/// Builds the tree and proves that it holds the version of its tag.
pub(super) fn tree(description: &ImageDescription, tag: &str, target: &Path) -> Result<()> {
    bootstrap(description, target)?;
    python::install(&description.python, target)?;
    for package in &description.without {
        remove_files_of(package, target)?;
    }
    for path in REMOVED {
        remove_tree(&inside(target, path))?;
    }
    // Tables for character sets that no server speaks.
    remove_tree(&target.join(format!("usr/lib/{}-linux-gnu/gconv", std::env::consts::ARCH)))?;
    for directory in ["var/cache", "var/log", "var/lib/dpkg/info"] {
        let path = target.join(directory);
        fs::create_dir_all(&path).at("cannot create", path)?;
    }
    renumber(description, target)?;
    for directory in &description.directories {
        let path = inside(target, &directory.path);
        stays_inside(target, &path)?;
        fs::create_dir_all(&path).at("cannot create", &path)?;
        set_mode(&path, &directory.mode)?;
        if let Some(user) =
            description.users.iter().find(|u| Some(&u.name) == directory.owner.as_ref())
        {
            lchown(&path, Some(user.uid), Some(user.gid)).at("cannot change the owner of", path)?;
        }
    }
    write_files(&description.files, target)?;
    prove_version(description, tag, target)
}

fn write_files(files: &[ImageFile], target: &Path) -> Result<()> {
    for file in files {
        let path = inside(target, &file.path);
        stays_inside(target, &path)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("cannot create", parent)?;
        }
        fs::write(&path, &file.content).at("cannot write", &path)?;
        set_mode(&path, &file.mode)?;
    }
    Ok(())
}

fn bootstrap(description: &ImageDescription, target: &Path) -> Result<()> {
    let archives = Path::new(CACHE).join(ARCHIVES);
    fs::create_dir_all(&archives).at("cannot create", &archives)?;
    let options = target.with_extension("apt.conf");
    let text = download_options()? + "APT::Install-Recommends \"false\";\n";
    fs::write(&options, text).at("cannot write", &options)?;
    let mut command = program("mmdebstrap", ["--quiet", "--mode=root", "--variant=essential"]);
    command
        .arg(format!("--include={}", description.packages.join(",")))
        .arg(format!("--aptopt={}", options.display()))
        // The tree is thrown away if anything fails: it need not survive a power cut.
        .arg("--dpkgopt=force-unsafe-io")
        .args(["--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt/cache"])
        .arg("--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives")
        .arg(format!("--setup-hook=sync-in {} /var/cache/apt/archives/", archives.display()))
        .arg(format!("--customize-hook=sync-out /var/cache/apt/archives {}", archives.display()));
    let before = target.with_extension("before");
    if !description.before.is_empty() {
        write_files(&description.before, &before)?;
        command
            .arg("--dpkgopt=force-confold")
            .arg(format!("--essential-hook=sync-in {} /", before.display()));
    }
    for glob in UNPACKED_WITHOUT {
        command.arg(format!("--dpkgopt=path-exclude={glob}"));
    }
    command.arg(&description.suite).arg(target).arg("-");
    let sources = debian_sources(&description.suite)?;
    check_with_input("cannot build an image", &mut command, sources.as_bytes())?;
    remove_tree(&before)?;
    fs::remove_file(&options).at("cannot remove", &options)
}

/// Removes what a package installed, as far as it is not a directory.
fn remove_files_of(package: &str, target: &Path) -> Result<()> {
    let lists = target.join("var/lib/dpkg/info");
    let entries = fs::read_dir(&lists).at("cannot read", &lists)?;
    let list = entries.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // `libperl5.36:amd64.list` belongs to `libperl5.36`.
        name.strip_suffix(".list").is_some_and(|name| {
            name == package || name.split_once(':').is_some_and(|(name, _)| name == package)
        })
    });
    let Some(list) = list else {
        return Err(LabError::InvalidSpec(format!(
            "an image is to be without {package}, which is not in it"
        )));
    };
    for line in fs::read_to_string(&list).at("cannot read", &list)?.lines() {
        let path = inside(target, line);
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
            fs::remove_file(&path).at("cannot remove", path)?;
        }
    }
    Ok(())
}

/// Gives users the numbers of the official image, in the tree's tables and on its files.
fn renumber(description: &ImageDescription, target: &Path) -> Result<()> {
    let (users_file, groups_file) = (target.join("etc/passwd"), target.join("etc/group"));
    let users = fs::read_to_string(&users_file).at("cannot read", &users_file)?;
    let groups = fs::read_to_string(&groups_file).at("cannot read", &groups_file)?;
    let Renumbered { users, groups, moved } = renumbered(&description.users, &users, &groups)
        .map_err(|reason| {
            LabError::InvalidSpec(format!("the image of {}: {reason}", description.pin))
        })?;
    fs::write(&users_file, users).at("cannot write", users_file)?;
    fs::write(&groups_file, groups).at("cannot write", groups_file)?;
    if moved.users.is_empty() && moved.groups.is_empty() {
        return Ok(());
    }
    let mut directories = vec![target.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).at("cannot read", &directory)?.flatten() {
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).at("cannot read", &path)?;
            let new = |moved: &[(u32, u32)], old| {
                moved.iter().find(|(from, _)| *from == old).map(|(_, to)| *to)
            };
            let (uid, gid) =
                (new(&moved.users, metadata.uid()), new(&moved.groups, metadata.gid()));
            if uid.is_some() || gid.is_some() {
                lchown(&path, uid, gid).at("cannot change the owner of", &path)?;
            }
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
    Ok(())
}

/// Old and new numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moved {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Renumbered {
    users: String,
    groups: String,
    moved: Moved,
}

/// The tables of users and groups with the wanted numbers.
fn renumbered(
    wanted: &[ImageUser],
    users: &str,
    groups: &str,
) -> std::result::Result<Renumbered, String> {
    let mut moved = Moved::default();
    let (mut users, mut groups) = (users.to_owned(), groups.to_owned());
    for user in wanted {
        let line =
            format!("{}:x:{}:{}::{}:/usr/sbin/nologin", user.name, user.uid, user.gid, user.home);
        users = with_entry(&users, &user.name, user.uid, line, &mut moved.users)?;
        let line = format!("{}:x:{}:", user.name, user.gid);
        groups = with_entry(&groups, &user.name, user.gid, line, &mut moved.groups)?;
    }
    Ok(Renumbered { users, groups, moved })
}

/// A table in which `name` stands once, with this line. Its old number goes to `moved`.
fn with_entry(
    table: &str,
    name: &str,
    number: u32,
    line: String,
    moved: &mut Vec<(u32, u32)>,
) -> std::result::Result<String, String> {
    let mut lines = Vec::new();
    for entry in table.lines() {
        let mut fields = entry.split(':');
        let other = fields.next().unwrap_or_default();
        let held: Option<u32> = fields.nth(1).and_then(|text| text.parse().ok());
        if other == name {
            moved.extend(held.filter(|held| *held != number).map(|held| (held, number)));
        } else if held == Some(number) {
            return Err(format!("the number {number} of {name} is already that of {other}"));
        } else {
            lines.push(entry.to_owned());
        }
    }
    lines.push(line);
    Ok(lines.join("\n") + "\n")
}

fn prove_version(description: &ImageDescription, tag: &str, target: &Path) -> Result<()> {
    let mut command = program("chroot", [target]);
    command
        .args(&description.version)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        // Nothing of this question stays in the image.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = check("cannot ask an image for its version", &mut command)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if has_version(&text, tag) {
        return Ok(());
    }
    Err(LabError::InvalidSpec(format!(
        "the image of {} holds another version than its tag {tag}: {}; correct \
         inventory/lab/versions.yaml",
        description.pin,
        text.lines().next().unwrap_or_default()
    )))
}

/// Whether a text names this very version, and not one that only begins or ends like it.
fn has_version(text: &str, tag: &str) -> bool {
    text.match_indices(tag).any(|(start, _)| {
        let before = text.get(..start).and_then(|text| text.chars().next_back());
        let mut after = text.get(start + tag.len()..).unwrap_or_default().chars();
        let next = after.next();
        let goes_on = next.is_some_and(|c| c.is_ascii_digit())
            || (next == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()));
        !goes_on && !before.is_some_and(|c| c.is_ascii_digit() || c == '.')
    })
}

fn set_mode(path: &Path, mode: &str) -> Result<()> {
    let mode = octal(mode).unwrap_or(0o700);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("cannot change", path)
}

/// Refuses a path that links of the tree lead out of it: Debian's `/var/run` is the machine's `/run`.
fn stays_inside(target: &Path, path: &Path) -> Result<()> {
    let Some(there) = path.ancestors().find(|ancestor| ancestor.exists()) else { return Ok(()) };
    let real = fs::canonicalize(there).at("cannot read", there)?;
    // The tree itself may not be there yet.
    let within = fs::canonicalize(target).is_ok_and(|target| real.starts_with(target));
    if within || target.starts_with(there) {
        return Ok(());
    }
    Err(LabError::InvalidSpec(format!(
        "{} leads out of the image, to {}: name the place that it is a link to",
        path.display(),
        real.display()
    )))
}

/// A path of the image as one of the machine. Paths are checked: they do not lead out.
fn inside(target: &Path, path: &str) -> PathBuf {
    target.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(uid: u32, gid: u32) -> ImageUser {
        ImageUser { name: "redis".to_owned(), uid, gid, home: "/data".to_owned() }
    }

    #[test]
    fn users_get_the_numbers_of_the_official_image() {
        let users = "root:x:0:0:root:/root:/bin/bash\nredis:x:100:101::/var/lib/redis:/bin/false\n";
        let groups = "root:x:0:\nredis:x:101:\n";
        let done = renumbered(&[redis(999, 1000)], users, groups).unwrap();
        assert_eq!(
            done.users,
            "root:x:0:0:root:/root:/bin/bash\nredis:x:999:1000::/data:/usr/sbin/nologin\n"
        );
        assert_eq!(done.groups, "root:x:0:\nredis:x:1000:\n");
        assert_eq!(done.moved, Moved { users: vec![(100, 999)], groups: vec![(101, 1000)] });
        let again = renumbered(&[redis(999, 1000)], &done.users, &done.groups).unwrap();
        assert_eq!((again.users, again.moved), (done.users, Moved::default()));
    }

    #[test]
    fn a_new_user_is_added_and_a_taken_number_refused() {
        let done = renumbered(&[redis(999, 999)], "root:x:0:0::/root:\n", "root:x:0:\n").unwrap();
        assert!(done.users.ends_with("redis:x:999:999::/data:/usr/sbin/nologin\n"));
        let error = renumbered(&[redis(0, 999)], "root:x:0:0::/root:\n", "root:x:0:\n");
        assert!(error.unwrap_err().contains("already that of root"));
    }

    #[test]
    fn a_version_is_found_whole_or_not_at_all() {
        assert!(has_version("Redis server v=7.0.15 sha=00000000:0", "7.0.15"));
        assert!(has_version("HAProxy version 2.6.12-1+deb12u2 2025/04/18", "2.6.12"));
        assert!(has_version("version 2.6.12.", "2.6.12"));
        assert!(!has_version("version 2.6.120", "2.6.12"));
        assert!(!has_version("version 2.6.12.1", "2.6.12"));
        assert!(!has_version("version 12.6.12", "2.6.12"));
        assert!(!has_version("version 1.2.6.12", "2.6.12"));
    }
}
