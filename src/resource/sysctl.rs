//! Kernel settings, now and after a boot.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{FileWrite, System, read_text};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Kernel settings: `/etc/sysctl.d/NAME.conf` and the live values.
///
/// ```toml
/// [step.sysctl]
/// name = "60-keybuzz"
/// settings = { "net.core.somaxconn" = "4096", "vm.swappiness" = "1" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    /// Name of the file, without `.conf`. Default: `"60-strata"`.
    #[serde(default = "default_name")]
    pub name: String,
    /// Values by key. In a key with slashes, dots are part of a name:
    /// `net/ipv4/conf/eth0.100/rp_filter`.
    pub settings: BTreeMap<String, String>,
    /// Keys whose live value is neither set nor compared, because it belongs to the machine below
    /// a container. They are written to the file.
    #[serde(default)]
    pub file_only: Vec<String>,
}

fn default_name() -> String {
    "60-strata".to_owned()
}

/// File and live values found.
#[derive(Debug)]
pub struct SysctlFound {
    file: Option<Vec<u8>>,
    live: BTreeMap<String, Option<String>>,
}

fn kernel_path(key: &str) -> String {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    format!("/proc/sys/{path}")
}

/// Values with their white space in one form: the kernel separates with tabs.
fn plain(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

impl Sysctl {
    fn path(&self) -> String {
        format!("/etc/sysctl.d/{}.conf", self.name)
    }

    fn text(&self) -> String {
        self.settings.iter().map(|(key, value)| format!("{key} = {}\n", plain(value))).collect()
    }

    fn live_differences<'a>(
        &'a self,
        found: &'a SysctlFound,
    ) -> impl Iterator<Item = (&'a String, &'a Option<String>, String)> {
        found.live.iter().filter_map(|(key, was)| {
            let wanted = plain(self.settings.get(key)?);
            (was.as_ref() != Some(&wanted)).then_some((key, was, wanted))
        })
    }
}

impl Converge for Sysctl {
    type Found = SysctlFound;

    fn validate(&self) -> Vec<Problem> {
        let mut rules = Rules::new().name("name", &self.name, "-_.");
        for (key, value) in &self.settings {
            rules = rules
                .name("settings", key, "-_./")
                .that(!key.contains(".."), || {
                    Problem::new("settings", format!("`{key}` is no key"))
                })
                .one_line("settings", value)
                .that(!value.trim().is_empty(), || {
                    Problem::new("settings", format!("`{key}` has no value"))
                });
        }
        for key in &self.file_only {
            rules = rules.that(self.settings.contains_key(key), || {
                Problem::new("file_only", format!("`{key}` is not among the settings"))
            });
        }
        rules.done()
    }

    fn find(&self, system: &mut dyn System) -> Result<SysctlFound, Failure> {
        let mut live = BTreeMap::new();
        for key in self.settings.keys().filter(|key| !self.file_only.contains(key)) {
            let bytes = system.read(&kernel_path(key), 64 * 1024)?;
            let value = bytes.map(|bytes| plain(&String::from_utf8_lossy(&bytes)));
            live.insert(key.clone(), value);
        }
        Ok(SysctlFound { file: read_text(system, &self.path())?, live })
    }

    fn shown_files(&self) -> Vec<String> {
        vec![self.path()]
    }

    fn compare(&self, found: &SysctlFound) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .live_differences(found)
            .map(|(key, was, wanted)| Change::new(key.as_str(), was.clone(), Some(wanted)))
            .collect();
        let wanted = self.text();
        if found.file.as_deref() != Some(wanted.as_bytes()) {
            let size = |length: usize| format!("{length} bytes");
            changes.push(Change {
                before: found.file.clone(),
                ..Change::new(
                    self.path(),
                    found.file.as_ref().map(|file| size(file.len())),
                    Some(size(wanted.len())),
                )
            });
        }
        changes
    }

    fn apply(
        &self,
        found: &SysctlFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let missing: Vec<&str> = found
            .live
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(key, _)| key.as_str())
            .collect();
        if !missing.is_empty() {
            return Err(Failure::new(format!("the kernel has no setting {}", missing.join(", ")))
                .hint(
                    "correct the key, or load the module it belongs to in a step before this one",
                ));
        }
        for (key, _, wanted) in self.live_differences(found) {
            system.write_kernel(&kernel_path(key), &wanted).map_err(|failure| Failure {
                message: format!("cannot set {key} to {wanted}: {}", failure.message),
                ..failure
            })?;
        }
        system.write(&FileWrite::of_root(&self.path(), self.text().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn sets_file_and_kernel() {
        let mut host = Host::new();
        host.make_directory("/etc/sysctl.d");
        host.put("/proc/sys/net/core/somaxconn", "128\n");
        host.put("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n");
        let sysctl = resource(
            "[sysctl]\nsettings={'net.core.somaxconn'='4096','net.ipv4.tcp_rmem'='4096 131072  6291456','vm.x'='1'}\nfile_only=['vm.x']\n",
        );
        let Outcome::Changed(changes) = host.apply(&sysctl) else { panic!() };
        assert_eq!(changes[0].what, "net.core.somaxconn");
        assert_eq!(changes.len(), 2, "the equal value is not among them: {changes:?}");
        assert_eq!(host.get("/proc/sys/net/core/somaxconn").as_deref(), Some("4096"));
        assert_eq!(host.apply(&sysctl), Outcome::Unchanged);
        host.put("/proc/sys/net/core/somaxconn", "128\n");
        assert!(matches!(host.apply(&sysctl), Outcome::Changed(c) if c.len() == 1));
        let unknown = resource("[sysctl]\nsettings={'net.no.such'='1'}\n");
        let Outcome::Failed(failure) = host.apply(&unknown) else { panic!() };
        assert!(failure.message.contains("the kernel has no setting net.no.such"));
    }
}
