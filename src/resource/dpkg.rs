//! Installed packages, read from dpkg's own file: one read answers for a whole batch.

use std::collections::BTreeMap;

/// What dpkg knows of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageStatus {
    /// Installed version.
    pub version: String,
    /// True when files and configuration are complete.
    pub installed: bool,
    /// True when it is half installed or not configured yet.
    pub broken: bool,
    /// True when upgrades pass it by.
    pub held: bool,
}

/// Packages by name; those of a further architecture by `name:architecture` too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packages(BTreeMap<String, PackageStatus>);

impl Packages {
    /// Reads the text of `/var/lib/dpkg/status`.
    pub fn parse(status: &str) -> Self {
        let mut packages = BTreeMap::new();
        for paragraph in status.split("\n\n") {
            let (mut name, mut architecture, mut version, mut state) = ("", "", "", "");
            for line in paragraph.lines() {
                match line.split_once(": ") {
                    Some(("Package", value)) => name = value,
                    Some(("Architecture", value)) => architecture = value,
                    Some(("Version", value)) => version = value,
                    Some(("Status", value)) => state = value,
                    _ => {}
                }
            }
            let mut words = state.split(' ');
            let (want, flag, status) = (words.next(), words.next(), words.next());
            if name.is_empty() || status.is_none() {
                continue;
            }
            let installed = status == Some("installed");
            let entry = PackageStatus {
                version: version.to_owned(),
                installed,
                broken: flag != Some("ok")
                    || !matches!(status, Some("installed" | "not-installed" | "config-files")),
                held: want == Some("hold"),
            };
            packages.insert(format!("{name}:{architecture}"), entry.clone());
            let known = packages.get(name).is_some_and(|known: &PackageStatus| known.installed);
            if installed || !known {
                packages.insert(name.to_owned(), entry);
            }
        }
        Self(packages)
    }

    /// What is known of a package, `None` where it was never seen.
    pub fn get(&self, name: &str) -> Option<&PackageStatus> {
        self.0.get(name)
    }

    /// The installed version of a package.
    pub fn installed(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|status| status.installed).map(|status| status.version.as_str())
    }

    /// Names of the packages that an interrupted run left half done.
    pub fn broken(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(name, status)| status.broken && !name.contains(':'))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_states() {
        let packages = Packages::parse(
            "Package: chrony\nStatus: install ok installed\nArchitecture: amd64\nVersion: 4.3-2\nDescription: x\n Version: not this\n\n\
             Package: docker.io\nStatus: hold ok installed\nArchitecture: amd64\nVersion: 20.10\n\n\
             Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
             Package: half\nStatus: install ok half-configured\nArchitecture: all\nVersion: 1\n\n\
             Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\n\n\
             Package: libc6\nStatus: install ok unpacked\nArchitecture: i386\nVersion: 2\n",
        );
        assert_eq!(packages.installed("chrony"), Some("4.3-2"));
        assert!(packages.get("docker.io").unwrap().held);
        assert_eq!(packages.installed("gone"), None);
        assert_eq!(packages.installed("libc6"), Some("2"));
        assert_eq!(packages.broken(), ["half"]);
        assert!(packages.get("libc6:i386").unwrap().broken);
    }
}
