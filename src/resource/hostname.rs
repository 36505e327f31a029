//! The host's name, now and after a boot.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{FileWrite, System, read_text};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};

/// The host's name, in `/etc/hostname` and in the kernel.
///
/// ```toml
/// hostname = { name = "redis-01" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hostname {
    /// The short name, for example `"redis-01"`: letters, digits and `-`, at most 63.
    pub name: String,
}

/// Names found: in the file, and the kernel's where the host has one.
#[derive(Debug)]
pub struct NamesFound {
    file: Option<String>,
    kernel: Option<String>,
}

impl Converge for Hostname {
    type Found = NamesFound;

    fn validate(&self) -> Vec<Problem> {
        Rules::new()
            .name("name", &self.name, "-")
            .that(self.name.len() <= 63 && !self.name.ends_with('-'), || {
                Problem::new("name", "has at most 63 letters and does not end in `-`")
            })
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<NamesFound, Failure> {
        let file = read_text(system, "/etc/hostname")?;
        Ok(NamesFound {
            file: file.map(|file| String::from_utf8_lossy(&file).trim().to_owned()),
            kernel: system.hostname()?,
        })
    }

    fn compare(&self, found: &NamesFound) -> Vec<Change> {
        let mut changes = Vec::new();
        if found.file.as_ref() != Some(&self.name) {
            changes.push(Change::new("/etc/hostname", found.file.clone(), Some(self.name.clone())));
        }
        if let Some(kernel) = found.kernel.as_ref().filter(|kernel| **kernel != self.name) {
            changes.push(Change::new("hostname", Some(kernel.clone()), Some(self.name.clone())));
        }
        changes
    }

    fn apply(
        &self,
        found: &NamesFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        if found.file.as_ref() != Some(&self.name) {
            let text = format!("{}\n", self.name);
            system.write(&FileWrite::of_root("/etc/hostname", text.as_bytes()))?;
        }
        if found.kernel.is_some() {
            system.set_hostname(&self.name)?;
        }
        Ok(())
    }
}
