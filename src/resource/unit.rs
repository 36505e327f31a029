//! A systemd unit with its file and state.

use super::content::Content;
use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::service::{ServiceState, compare_enabled, runs, set_enabled, systemctl};
use super::system::{FileWrite, System, UnitStatus, read_text};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};

/// A unit file in `/etc/systemd/system`, its place in the boot, and its state. A change of the
/// file restarts a unit that is to run. A timer is a `.timer` unit beside its `.service`; of a
/// template (`name@.service`) only the file is kept.
///
/// ```toml
/// unit = { name = "report.timer", content = "[Timer]\nOnCalendar=daily\n\n[Install]\nWantedBy=timers.target\n", enabled = true, state = "started" }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Name with its suffix, for example `"redis-update-master.timer"`.
    pub name: String,
    /// The whole unit file; in a role, `src = "ROLE/NAME.j2"` instead takes it from a template.
    pub content: Content,
    /// Whether it starts at boot. Default: left as it is.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// `"started"` or `"stopped"`. Default: left as it is, but a running unit is restarted when
    /// its file changed.
    #[serde(default)]
    pub state: Option<ServiceState>,
}

/// What was found of the unit.
#[derive(Debug)]
pub struct UnitFound {
    text: Option<Vec<u8>>,
    status: UnitStatus,
    /// A restart that an interrupted run owes.
    owed: bool,
}

/// A file here means: the unit's file changed and the unit has not been restarted yet.
const OWED: &str = "/var/lib/strata/restart";

impl Unit {
    fn is_template(&self) -> bool {
        self.name.contains("@.")
    }

    fn path(&self) -> String {
        format!("/etc/systemd/system/{}", self.name)
    }

    fn owed_path(&self) -> String {
        format!("{OWED}/{}", self.name)
    }

    fn pending(&self, found: &UnitFound) -> bool {
        found.owed && runs(&found.status)
    }
}

impl Converge for Unit {
    type Found = UnitFound;

    fn validate(&self) -> Vec<Problem> {
        const SUFFIXES: &[&str] =
            &[".service", ".timer", ".socket", ".path", ".target", ".mount", ".slice"];
        Rules::new()
            .name("name", &self.name, "@._-\\")
            .that(SUFFIXES.iter().any(|suffix| self.name.ends_with(suffix)), || {
                Problem::new("name", format!("`{}` has no unit suffix", self.name))
                    .hint("for example `.service` or `.timer`")
            })
            .that(!self.content.is_empty(), || Problem::new("content", "is empty"))
            .that(!self.is_template() || (self.enabled.is_none() && self.state.is_none()), || {
                Problem::new("name", format!("`{}` is a template", self.name))
                    .hint("only its instances are enabled and started, for example by a timer's `Unit=`: leave `enabled` and `state` out")
            })
            .that(
                !matches!(self.state, Some(ServiceState::Restarted | ServiceState::Reloaded)),
                || {
                    Problem::new("state", "must be `started` or `stopped`")
                        .hint("a change of the file restarts the unit by itself")
                },
            )
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<UnitFound, Failure> {
        Ok(UnitFound {
            text: read_text(system, &self.path())?,
            status: system.unit(&self.name)?,
            owed: system.metadata(&self.owed_path())?.is_some(),
        })
    }

    fn shown_files(&self) -> Vec<String> {
        vec![self.path()]
    }

    fn compare(&self, found: &UnitFound) -> Vec<Change> {
        let mut changes = Vec::new();
        if found.text.as_deref() != Some(self.content.as_bytes()) {
            let size = |length: usize| format!("{length} bytes");
            let from = found.text.as_ref().map(|text| size(text.len()));
            changes.push(Change {
                before: found.text.clone(),
                ..Change::new("content", from, Some(size(self.content.as_bytes().len())))
            });
        } else if found.status.needs_reload {
            let (from, to) = ("an older file".to_owned(), "the file".to_owned());
            changes.push(Change::new("unit read by systemd", Some(from), Some(to)));
        }
        let status = &found.status;
        if status.load == "not-found" && self.enabled.is_some() {
            let to = if self.enabled == Some(true) { "enabled" } else { "disabled" };
            changes.push(Change::new("boot", None, Some(to.to_owned())));
        } else {
            changes.extend(compare_enabled(status, self.enabled));
        }
        let wanted = match self.state {
            Some(ServiceState::Started) if !runs(status) => Some("started"),
            Some(ServiceState::Stopped) if runs(status) => Some("stopped"),
            _ if self.pending(found) => Some("restarted"),
            _ => None,
        };
        if let Some(wanted) = wanted {
            changes.push(Change::new(
                "state",
                Some(status.active.clone()),
                Some(wanted.to_owned()),
            ));
        }
        changes
    }

    fn apply(
        &self,
        found: &UnitFound,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let differs = found.text.as_deref() != Some(self.content.as_bytes());
        let running = runs(&found.status);
        if differs {
            // The note comes first: a run that dies after the write still owes the restart.
            if running {
                for path in ["/var/lib/strata", OWED] {
                    if system.metadata(path)?.is_none() {
                        system.make_directory(path, 0o700, 0, 0)?;
                    }
                }
                let note = FileWrite { keep: false, ..FileWrite::of_root("", b"") };
                system.write(&FileWrite { path: &self.owed_path(), ..note })?;
            }
            system.write(&FileWrite::of_root(&self.path(), self.content.as_bytes()))?;
        }
        match self.enabled {
            Some(true) if found.status.file != "enabled" || differs => {
                // `reenable` also follows a changed [Install] section.
                set_enabled(system, "reenable", &self.name)?;
            }
            Some(false) => set_enabled(system, "disable", &self.name)?,
            _ => {}
        }
        if differs || found.status.needs_reload {
            system.daemon_reload()?;
        }
        let restart = running && (differs || found.owed);
        match self.state {
            Some(ServiceState::Stopped) if running => systemctl(system, "stop", &self.name)?,
            Some(ServiceState::Started) if !running => systemctl(system, "start", &self.name)?,
            Some(ServiceState::Stopped) => {}
            _ if restart => systemctl(system, "restart", &self.name)?,
            _ => {}
        }
        if differs || found.owed {
            system.remove_file(&self.owed_path(), false).or_else(|failure| {
                // Nothing was owed and the directory does not exist: nothing to remove.
                if found.owed || running { Err(failure) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    fn remaining(&self, system: &mut dyn System) -> Result<Vec<Change>, Failure> {
        let found = self.find(system)?;
        let mut changes = self.compare(&found);
        // A oneshot without RemainAfterExit is over before we look: that is its success.
        if self.state == Some(ServiceState::Started) && found.status.active == "inactive" {
            changes.retain(|change| change.what != "state");
        }
        Ok(changes)
    }
}
