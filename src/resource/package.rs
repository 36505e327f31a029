//! Debian packages.

use super::apt;
use super::converge::{Converge, Progress};
use super::dpkg::Packages;
use super::outcome::{Change, Failure};
use super::system::{Cache, Program, System, run_checked};
use super::validity::{Presence, Problem, Rules};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Debian packages, installed in one go without recommended ones and without starting services:
/// a `service` or `unit` step starts them once their configuration is there.
///
/// ```toml
/// package = { names = ["chrony", "docker.io=20.10.24+dfsg1-1+deb12u1"], hold = true }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Names, each with `=VERSION` where exactly that version is wanted.
    pub names: Vec<String>,
    /// `"present"` (default) or `"absent"`; removal keeps configuration and data.
    #[serde(default)]
    pub state: Presence,
    /// Whether upgrades pass the packages by. Default: left as it is.
    #[serde(default)]
    pub hold: Option<bool>,
    /// Package lists older than this many hours are read again before an installation.
    /// Default: 24.
    #[serde(default = "default_lists_hours")]
    pub lists_hours: u32,
    /// Seconds to wait for another process' package lock. Default: 300.
    #[serde(default = "default_lock_timeout")]
    pub lock_timeout: u32,
    /// Seconds that an installation may take. Default: 1800.
    #[serde(default = "default_timeout")]
    pub timeout: u32,
}

fn default_lists_hours() -> u32 {
    24
}

fn default_lock_timeout() -> u32 {
    300
}

fn default_timeout() -> u32 {
    1800
}

/// Name and wanted version.
fn parts(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

/// The arguments of an installation. A step that wants packages present never takes others away,
/// steps back only to a version that it pins, and touches a hold only of what it names.
fn install_arguments(names: &[String], packages: &Packages) -> Vec<String> {
    let pinned = names.iter().any(|text| parts(text).1.is_some());
    let held = names.iter().any(|text| packages.get(parts(text).0).is_some_and(|known| known.held));
    let mut arguments = vec!["install".to_owned(), "--no-remove".to_owned()];
    arguments.extend(pinned.then(|| "--allow-downgrades".to_owned()));
    arguments.extend(held.then(|| "--allow-change-held-packages".to_owned()));
    arguments.push("--".to_owned());
    arguments.extend(names.iter().cloned());
    arguments
}

impl Package {
    fn differing(&self, packages: &Packages) -> Vec<String> {
        self.names
            .iter()
            .filter(|text| {
                let (name, version) = parts(text);
                let installed = packages.installed(name);
                match self.state {
                    Presence::Absent => installed.is_some(),
                    Presence::Present => {
                        installed.is_none() || version.is_some_and(|v| installed != Some(v))
                    }
                }
            })
            .cloned()
            .collect()
    }

    fn held_wrongly(&self, packages: &Packages) -> Vec<&str> {
        let Some(wanted) = self.hold.filter(|_| self.state == Presence::Present) else {
            return Vec::new();
        };
        self.names
            .iter()
            .map(|text| parts(text).0)
            .filter(|name| packages.get(name).is_some_and(|status| status.held) != wanted)
            .collect()
    }

    fn lists_are_old(&self, system: &mut dyn System) -> Result<bool, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let oldest = i64::try_from(now).unwrap_or(i64::MAX) - i64::from(self.lists_hours) * 3600;
        let lists = "/var/lib/apt/lists";
        let names = system.list(lists)?.unwrap_or_default();
        let mut newest = None;
        for name in
            names.iter().filter(|name| name.ends_with("Release") || name.ends_with("Packages"))
        {
            let modified = system.metadata(&format!("{lists}/{name}"))?.map(|found| found.modified);
            newest = newest.max(modified);
        }
        // Files carry the mirror's times; the directory of partial downloads tells of the last run.
        let last_run = system.metadata(&format!("{lists}/partial"))?.map(|found| found.modified);
        Ok(newest.is_none() || newest.max(last_run) < Some(oldest))
    }

    fn install(
        &self,
        names: Vec<String>,
        system: &mut dyn System,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let timeout = Duration::from_secs(self.timeout.into());
        let mut fresh = false;
        if self.lists_are_old(system)? {
            apt::update(system, timeout, progress)?;
            fresh = true;
        }
        let what = format!("cannot install {}", names.join(", "));
        let packages = system.packages()?;
        let arguments = install_arguments(&names, &packages);
        loop {
            progress(format!("installing {}", names.join(", ")));
            let output = apt::apt_get(system, &arguments, timeout)?;
            if output.success() {
                return Ok(());
            }
            let text = output.text();
            let unknown = text.lines().find_map(|line| {
                let line = line.strip_prefix("E: ")?;
                let name = line.strip_prefix("Unable to locate package ").or_else(|| {
                    line.strip_prefix("Package '")?.strip_suffix("' has no installation candidate")
                })?;
                Some(name.trim().to_owned())
            });
            let stale = unknown.is_some()
                || text.contains("404  Not Found")
                || text.contains("E: Version '");
            if stale && !fresh {
                apt::update(system, timeout, progress)?;
                fresh = true;
                continue;
            }
            let Some(unknown) = unknown else {
                return Err(apt::explain(&output, &what));
            };
            let hint = apt::suggestion(system, &unknown).map_or_else(
                || "check its name, and that a step before this one adds its repository".to_owned(),
                |known| format!("did you mean `{known}`?"),
            );
            let message = format!("{what}: no source of the host has a package `{unknown}`");
            return Err(Failure::new(message).hint(hint));
        }
    }

    fn change(
        &self,
        packages: &Packages,
        system: &mut dyn System,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let names = self.differing(packages);
        if names.is_empty() {
            return Ok(());
        }
        let timeout = Duration::from_secs(self.timeout.into());
        apt::hold_services(system)?;
        let result = apt::finish_interrupted(system, timeout, progress).and_then(|()| {
            if self.state == Presence::Present {
                return self.install(names, system, progress);
            }
            let mut arguments =
                vec!["remove".to_owned(), "--allow-change-held-packages".into(), "--".into()];
            arguments.extend(names.iter().map(|name| parts(name).0.to_owned()));
            let output = apt::apt_get(system, &arguments, timeout)?;
            let what = format!("cannot remove {}", names.join(", "));
            if output.success() { Ok(()) } else { Err(apt::explain(&output, &what)) }
        });
        let restored = apt::restore_service_policy(system);
        result?;
        restored.map(|_| ())
    }
}

impl Converge for Package {
    type Found = Arc<Packages>;

    fn validate(&self) -> Vec<Problem> {
        let mut rules = Rules::new()
            .that(!self.names.is_empty(), || Problem::new("names", "names no package"))
            .that(self.timeout > 0, || Problem::new("timeout", "must be above 0"));
        for text in &self.names {
            let (name, version) = parts(text);
            let good = name.len() >= 2
                && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && name.chars().all(|c| {
                    c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.:".contains(c)
                })
                // apt-get reads these endings as "remove" and "install".
                && (!name.ends_with('-'));
            rules = rules
                .that(good, || {
                    Problem::new("names", format!("`{name}` is not a Debian package name"))
                        .hint("lower-case letters, digits, `+`, `-`, `.`")
                })
                .that(version != Some("latest"), || {
                    Problem::new("names", format!("`{text}` pins nothing"))
                        .hint("write a version, or leave `=latest` out for what the sources give")
                })
                .that(
                    version.is_none_or(|v| {
                        v.starts_with(|c: char| c.is_ascii_digit())
                            && v.chars().all(|c| c.is_ascii_alphanumeric() || ".+-~:".contains(c))
                    }),
                    || Problem::new("names", format!("`{text}` has no valid version")),
                );
        }
        rules.done()
    }

    fn find(&self, system: &mut dyn System) -> Result<Arc<Packages>, Failure> {
        system.packages()
    }

    fn compare(&self, packages: &Arc<Packages>) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .differing(packages)
            .iter()
            .map(|text| {
                let (name, version) = parts(text);
                let to = match self.state {
                    Presence::Present => Some(version.unwrap_or("installed").to_owned()),
                    Presence::Absent => None,
                };
                Change::new(
                    format!("package {name}"),
                    packages.installed(name).map(str::to_owned),
                    to,
                )
            })
            .collect();
        for name in self.held_wrongly(packages) {
            let word = |held| if held { "held" } else { "not held" }.to_owned();
            let (found, wanted) = (self.hold == Some(false), self.hold == Some(true));
            changes.push(Change::new(
                format!("hold {name}"),
                Some(word(found)),
                Some(word(wanted)),
            ));
        }
        changes
    }

    fn apply(
        &self,
        packages: &Arc<Packages>,
        system: &mut dyn System,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        apt::wait_for_locks(system, Duration::from_secs(self.lock_timeout.into()), progress)?;
        self.change(packages, system, progress)?;
        let packages = system.packages()?;
        let names = self.held_wrongly(&packages);
        if !names.is_empty() {
            let verb = if self.hold == Some(true) { "hold" } else { "unhold" };
            let argv = ["apt-mark", verb, "--"].into_iter().chain(names);
            run_checked(system, &Program::new(argv), "cannot hold packages")?;
            system.invalidate(Cache::Packages);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn nothing_is_removed_for_an_installation() {
        let mut host = Host::new();
        for directory in ["/var/lib/apt/lists/partial", "/usr/sbin"] {
            host.make_directory(directory);
        }
        host.put("/var/lib/apt/lists/mirror_Packages", "");
        host.answer(|program| {
            let text = "The following packages will be REMOVED:\n  exim4-base exim4-config\n  mailutils\nThe following NEW packages will be installed:\n  postfix\nE: Packages need to be removed but remove is disabled.\n";
            program.argv.contains(&"--no-remove".to_owned()).then(|| (100, text.into()))
        });
        let Outcome::Failed(failure) = host.apply(&resource("[package]\nnames=['postfix']\n"))
        else {
            panic!("apt refused")
        };
        assert_eq!(
            failure.message,
            "cannot install postfix: apt would have to remove exim4-base, exim4-config, mailutils"
        );
        assert!(failure.hint.unwrap().contains("state = \"absent\""));
    }

    #[test]
    fn compares() {
        let packages = Arc::new(Packages::parse(
            "Package: chrony\nStatus: install ok installed\nVersion: 4.3-2\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        ));
        for (text, changed) in [
            ("names=['chrony','chrony=4.3-2']", &[][..]),
            ("names=['chrony=4.4']", &["package chrony"]),
            ("names=['gone','new-one']", &["package gone", "package new-one"]),
            ("names=['gone','new-one']\nstate='absent'", &[]),
            ("names=['chrony']\nstate='absent'", &["package chrony"]),
            ("names=['chrony']\nhold=true", &["hold chrony"]),
        ] {
            let package: Package = toml::from_str(text).unwrap();
            assert_eq!(package.validate(), [], "{text}");
            let changes = package.compare(&packages);
            let what: Vec<&str> = changes.iter().map(|change| change.what.as_str()).collect();
            assert_eq!(what, changed, "{text}");
        }
        for (names, flags) in [
            (&["new-one"][..], "--no-remove"),
            (&["new-one", "chrony=4.2"], "--no-remove --allow-downgrades"),
            (&["kept"], "--no-remove --allow-change-held-packages"),
            (&["kept=2"], "--no-remove --allow-downgrades --allow-change-held-packages"),
        ] {
            let held = "Package: kept\nStatus: hold ok installed\nVersion: 1\n";
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let arguments = install_arguments(&names, &Packages::parse(held)).join(" ");
            assert_eq!(arguments, format!("install {flags} -- {}", names.join(" ")));
        }
        for bad in ["A", "a", "x y", "ngin-", "nginx=latest", "nginx=;", "-o"] {
            let package: Package = toml::from_str(&format!("names=['{bad}']")).unwrap();
            assert!(!package.validate().is_empty(), "{bad}");
        }
    }
}
