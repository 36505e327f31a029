//! The releases of Debian that hosts of a lab may run, side by side in one fleet.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A release of Debian.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Debian 12.
    #[default]
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// The code name, as apt's sources write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The release of this code name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|release| release.name() == name)
    }

    /// What the first process of a host is told. systemd 257 refuses to run on cgroup v1 unless it
    /// is asked to; in a container its own arguments stand for the kernel's.
    pub(super) const fn boot_arguments(self, cgroup_v1: bool) -> &'static [&'static str] {
        match self {
            Self::Trixie if cgroup_v1 => &["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"],
            Self::Bookworm | Self::Trixie => &[],
        }
    }
}

/// Where apt reads the packages of a release from, when it is not the machine's own.
#[derive(Debug, Clone)]
pub(super) struct AptLists {
    directory: PathBuf,
}

impl AptLists {
    /// Package lists below a directory.
    pub(super) fn below(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file with the sources.
    pub(super) fn sources(&self) -> PathBuf {
        self.directory.join("sources.list")
    }

    /// Options that make apt use these sources and lists and no other.
    pub(super) fn options(&self) -> Vec<String> {
        vec![
            format!("-oDir::Etc::sourcelist={}", self.sources().display()),
            "-oDir::Etc::sourceparts=/dev/null".to_owned(),
            format!("-oDir::State::lists={}", self.directory.join("lists").display()),
            "-oDir::Cache::pkgcache=".to_owned(),
            "-oDir::Cache::srcpkgcache=".to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_apts_and_lead_back() {
        for release in Release::ALL {
            assert_eq!(Release::of_name(release.name()), Some(release));
            let text = serde_json::to_string(&release).unwrap();
            assert_eq!(text, format!("{:?}", release.name()));
        }
        assert_eq!(Release::of_name("sid"), None);
        assert_eq!(Release::default(), Release::Bookworm);
    }

    #[test]
    fn only_a_systemd_that_refuses_cgroup_v1_is_told_to_use_it() {
        assert!(Release::Bookworm.boot_arguments(true).is_empty());
        assert!(Release::Trixie.boot_arguments(false).is_empty());
        assert_eq!(Release::Trixie.boot_arguments(true).len(), 1);
    }
}
