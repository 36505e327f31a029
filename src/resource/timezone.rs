//! The host's time zone.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{FileWrite, System, read_text};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};

/// The time zone: `/etc/localtime` and `/etc/timezone`.
///
/// ```toml
/// timezone = { name = "Etc/UTC" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timezone {
    /// A name of the time zone database, for example `"Europe/Paris"`.
    pub name: String,
}

/// Link and file found.
#[derive(Debug)]
pub struct ZoneFound {
    link: Option<String>,
    file: Option<String>,
}

const ZONES: &str = "/usr/share/zoneinfo";

impl Converge for Timezone {
    type Found = ZoneFound;

    fn validate(&self) -> Vec<Problem> {
        Rules::new()
            .name("name", &self.name, "/_+-")
            .that(!self.name.contains("//"), || Problem::new("name", "is not a time zone"))
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<ZoneFound, Failure> {
        let file = read_text(system, "/etc/timezone")?;
        Ok(ZoneFound {
            link: system.read_link("/etc/localtime")?,
            file: file.map(|file| String::from_utf8_lossy(&file).trim().to_owned()),
        })
    }

    fn compare(&self, found: &ZoneFound) -> Vec<Change> {
        let mut changes = Vec::new();
        let zone = found.link.as_ref().map(|link| {
            link.split_once("zoneinfo/").map_or(link.as_str(), |(_, zone)| zone).to_owned()
        });
        if zone.as_ref() != Some(&self.name) {
            changes.push(Change::new("/etc/localtime", zone, Some(self.name.clone())));
        }
        if found.file.as_ref() != Some(&self.name) {
            changes.push(Change::new("/etc/timezone", found.file.clone(), Some(self.name.clone())));
        }
        changes
    }

    fn apply(
        &self,
        _: &ZoneFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let zone = format!("{ZONES}/{}", self.name);
        if system.metadata(&zone)?.is_none() {
            return Err(Failure::new(format!("the host has no time zone {}", self.name))
                .hint("install `tzdata` in a step before this one, or correct the name"));
        }
        system.make_link("/etc/localtime", &zone)?;
        let text = format!("{}\n", self.name);
        system.write(&FileWrite::of_root("/etc/timezone", text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    #[test]
    fn needs_the_database() {
        let mut host = Host::new();
        let zone = resource("[timezone]\nname='Etc/UTC'\n");
        let Outcome::Failed(failure) = host.apply(&zone) else { panic!() };
        assert!(failure.hint.unwrap().contains("tzdata"));
        host.put("/usr/share/zoneinfo/Etc/UTC", "TZif");
        assert!(matches!(host.apply(&zone), Outcome::Changed(_)));
        assert_eq!(host.apply(&zone), Outcome::Unchanged);
        let name = resource("[hostname]\nname='redis-01'\n");
        assert!(matches!(host.apply(&name), Outcome::Changed(_)));
        assert_eq!(host.apply(&name), Outcome::Unchanged);
    }
}
