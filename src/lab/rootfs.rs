//! The root filesystems that hosts start from: a fresh server of each wanted release of Debian,
//! cached by what it is made of.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache;
use super::command::{check, check_with_input, program};
use super::error::{At as _, LabError, Result};
use super::machine::update_package_lists;
use super::release::Release;
use super::state::remove_tree;

/// Raised when the steps below change, so that an older cached tree is not used.
const RECIPE: &str = "4";
/// What a cloud provider's Debian image has and that matters here. What the base layer installs
/// is left out on purpose.
const PACKAGES: [&str; 20] = [
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "iproute2",
    "iputils-ping",
    "ca-certificates",
    "procps",
    "sudo",
    "curl",
    "kmod",
    "netbase",
    "less",
    "e2fsprogs",
    "tzdata",
    "adduser",
    "util-linux-extra",
    "xz-utils",
];

/// A cached root filesystem.
#[derive(Debug, Clone)]
pub(super) struct RootFilesystem {
    /// The tree.
    pub(super) directory: PathBuf,
    /// What it was made of, as a digest.
    pub(super) key: String,
    /// The release it is of.
    pub(super) release: Release,
    /// Whether this call made it.
    pub(super) built: bool,
}

/// The cached root filesystem of a release, made if there is none.
pub(super) fn ensure(release: Release) -> Result<RootFilesystem> {
    let made_of = [&[release.name(), RECIPE, std::env::consts::ARCH], &PACKAGES[..]].concat();
    let kept = cache::ensure("rootfs", &made_of, |building| {
        update_package_lists()?;
        bootstrap(building, release)?;
        make_fresh(building)
    })?;
    let cache::Kept { directory, key, built } = kept;
    Ok(RootFilesystem { directory, key, release, built })
}

fn bootstrap(target: &Path, release: Release) -> Result<()> {
    let options = target.with_extension("apt.conf");
    fs::write(&options, download_options()?).at("cannot write", &options)?;
    let mut command = program("mmdebstrap", ["--quiet", "--mode=root", "--variant=minbase"]);
    command
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(format!("--aptopt={}", options.display()))
        .arg(release.name())
        .arg(target)
        .arg("-");
    let sources = debian_sources(release.name())?;
    check_with_input("cannot build the root filesystem", &mut command, sources.as_bytes())?;
    fs::remove_file(&options).at("cannot remove", &options)
}

/// The machine's own package sources, as far as they are Debian's for a release. For another release
/// than the machine's the same archives are asked, which carry every release.
pub(super) fn debian_sources(suite: &str) -> Result<String> {
    let format = "$(CREATED_BY)|$(ORIGIN)|$(RELEASE)|$(REPO_URI)|$(COMPONENT)|$(SIGNED_BY)";
    let mut command = program("apt-get", ["indextargets", "--format", format]);
    let output = check("cannot list the machine's package sources", &mut command)?;
    let targets = String::from_utf8_lossy(&output.stdout);
    let mut lines = source_lines(&targets, suite);
    if lines.is_empty() {
        lines = Release::ALL
            .iter()
            .map(|other| {
                of_another_release(&source_lines(&targets, other.name()), other.name(), suite)
            })
            .find(|lines| !lines.is_empty())
            .unwrap_or_default();
    }
    if lines.is_empty() {
        return Err(LabError::Machine(format!(
            "its apt has no source for Debian {suite}; add one to /etc/apt/sources.list"
        )));
    }
    Ok(lines)
}

/// Source lines of one release turned into those of another.
fn of_another_release(lines: &str, from: &str, to: &str) -> String {
    let mut changed = String::new();
    for line in lines.lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        // `deb [options] address release component`, the options without a space.
        let at = words.len().saturating_sub(2);
        if let Some(rest) = words.get(at).and_then(|word| word.strip_prefix(from)) {
            words[at] = format!("{to}{rest}");
            changed.push_str(&words.join(" "));
            changed.push('\n');
        }
    }
    changed
}

fn source_lines(targets: &str, suite: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for target in targets.lines() {
        let fields: Vec<&str> = target.split('|').collect();
        let ["Packages", "Debian", release, uri, component, signed_by] = fields[..] else {
            continue;
        };
        if !release.starts_with(suite) {
            continue;
        }
        // An option that is not set is shown by its own name.
        let signed_by = match signed_by {
            "" | "$(SIGNED_BY)" => String::new(),
            keyring => format!("[signed-by={keyring}] "),
        };
        let line = format!("deb {signed_by}{uri} {release} {component}\n");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}

/// The machine's settings for downloads: proxies, and whether an old mirror's dates are accepted.
/// They are handed on in a file, because a proxy may carry a password.
pub(super) fn download_options() -> Result<String> {
    let output = check("cannot read apt's settings", &mut program("apt-config", ["dump"]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = [
        "Acquire::http::Proxy ",
        "Acquire::https::Proxy ",
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
    ];
    let mut lines = String::new();
    for line in text.lines() {
        if wanted.iter().any(|prefix| line.starts_with(prefix)) {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// Takes away what only one host may have, and points apt to the lab's repository.
fn make_fresh(root: &Path) -> Result<()> {
    for identity in [
        "etc/hostname",
        "var/lib/dbus/machine-id",
        "var/lib/systemd/random-seed",
        "etc/apt/sources.list.d",
    ] {
        remove_tree(&root.join(identity))?;
    }
    let ssh = root.join("etc/ssh");
    for entry in fs::read_dir(&ssh).at("cannot read", &ssh)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path()).at("cannot remove", entry.path())?;
        }
    }
    let create =
        |path: &str| fs::create_dir_all(root.join(path)).at("cannot create", root.join(path));
    create("etc/apt/sources.list.d")?;
    create("srv/apt")?;
    create("var/lib/docker")?;
    create("var/lib/containerd")?;
    let write = |path: &str, text: &str| {
        fs::write(root.join(path), text).at("cannot write", root.join(path))
    };
    write("etc/machine-id", "")?;
    write("etc/apt/sources.list", "deb [trusted=yes] file:/srv/apt ./\n")?;
    // The provider's resolver, as far as the lab has one: refused at once instead of unanswered.
    write("etc/resolv.conf", "nameserver 172.31.1.1\noptions timeout:1 attempts:1\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_comes_from_the_same_archives() {
        let lines = "deb http://deb.debian.org/debian/ bookworm main\n\
             deb [signed-by=/bookworm.gpg] http://deb.debian.org/debian-security/ bookworm-security main\n";
        assert_eq!(
            of_another_release(lines, "bookworm", "trixie"),
            "deb http://deb.debian.org/debian/ trixie main\n\
             deb [signed-by=/bookworm.gpg] http://deb.debian.org/debian-security/ trixie-security main\n"
        );
        assert_eq!(of_another_release(lines, "trixie", "bookworm"), "");
    }

    #[test]
    fn only_debians_own_sources_of_the_release_are_taken() {
        let targets = "\
Packages|Debian|bookworm|http://deb.debian.org/debian/|main|$(SIGNED_BY)
Packages|Debian|bookworm|http://deb.debian.org/debian/|main|$(SIGNED_BY)
Packages|Debian|bookworm-security|http://deb.debian.org/debian-security/|main|/k.gpg
DEP-11|Debian|bookworm|http://deb.debian.org/debian/|main|$(SIGNED_BY)
Packages|Debian|trixie|http://deb.debian.org/debian/|main|
Packages|. nodistro|nodistro|https://example.test/|main|";
        assert_eq!(
            source_lines(targets, "bookworm"),
            "deb http://deb.debian.org/debian/ bookworm main\n\
             deb [signed-by=/k.gpg] http://deb.debian.org/debian-security/ bookworm-security main\n"
        );
    }
}
