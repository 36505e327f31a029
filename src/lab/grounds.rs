//! What hosts start from, release by release: a root filesystem, and the repository of packages that
//! fits it.

use super::error::Result;
use super::preinstalled;
use super::release::Release;
use super::repository::{self, Repository};
use super::rootfs::{self, RootFilesystem};
use super::spec::{LabHost, LabSpec};
use std::path::PathBuf;

/// The root filesystems of a lab; the default release is always among them, since balancers are of
/// it.
#[derive(Debug)]
pub(super) struct Bases {
    default: RootFilesystem,
    others: Vec<RootFilesystem>,
}

impl Bases {
    /// Those that these hosts need.
    pub(super) fn ensure(hosts: &[&LabHost]) -> Result<Self> {
        let default = rootfs::ensure(Release::default())?;
        let others = others_of(hosts).into_iter().map(rootfs::ensure).collect::<Result<_>>()?;
        Ok(Self { default, others })
    }
}

/// The releases of these hosts beside the default one, each once.
fn others_of(hosts: &[&LabHost]) -> Vec<Release> {
    let mut releases: Vec<Release> = hosts.iter().map(|host| host.release).collect();
    releases.sort_unstable();
    releases.dedup();
    releases.retain(|release| *release != Release::default());
    releases
}

/// What hosts of one release start from.
#[derive(Debug)]
pub(super) struct Ground {
    /// The tree.
    pub(super) base: RootFilesystem,
    /// The packages.
    pub(super) packages: Repository,
    /// The tree that hosts start from: with the packages that are there from the start.
    pub(super) start: PathBuf,
    start_built: bool,
}

/// What the hosts of a lab start from.
#[derive(Debug)]
pub(super) struct Grounds {
    /// Of the default release.
    pub(super) default: Ground,
    others: Vec<Ground>,
}

impl Grounds {
    /// Adds to each root filesystem the packages that its hosts must be able to install.
    pub(super) fn ensure(bases: Bases, spec: &LabSpec) -> Result<Self> {
        let ground = |base: RootFilesystem| {
            let packages = repository::ensure(&base, &spec.packages_of(base.release))?;
            let (start, start_built) = preinstalled::ensure(&base, &packages, &spec.preinstalled)?;
            Ok(Ground { base, packages, start, start_built })
        };
        let default = ground(bases.default)?;
        Ok(Self { default, others: bases.others.into_iter().map(ground).collect::<Result<_>>()? })
    }

    /// Of a host's release.
    pub(super) fn of(&self, host: &LabHost) -> &Ground {
        let of_release = |ground: &&Ground| ground.base.release == host.release;
        self.others.iter().find(of_release).unwrap_or(&self.default)
    }

    /// What was made anew, in words.
    pub(super) fn news(&self) -> Vec<String> {
        let mut news = Vec::new();
        for ground in std::iter::once(&self.default).chain(&self.others) {
            let release = ground.base.release.name();
            for (built, what) in [
                (ground.base.built, "root filesystem"),
                (ground.packages.built, "package repository"),
                (ground.start_built, "root filesystem with preinstalled packages"),
            ] {
                if built {
                    news.push(format!("the {what} of {release} was built and is cached now"));
                }
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_releases_are_made_once_and_only_where_a_host_needs_them() {
        let host = |release| LabHost {
            name: "a".into(),
            fqdn: "a.test".into(),
            private: [10, 0, 0, 1].into(),
            public: None,
            release,
        };
        let (old, new) = (host(Release::Bookworm), host(Release::Trixie));
        assert!(others_of(&[&old]).is_empty());
        assert_eq!(others_of(&[&new, &old, &new]), [Release::Trixie]);
    }
}
