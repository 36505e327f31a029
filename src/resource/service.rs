//! State of a service that something else installed.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{Cache, Program, System, UnitStatus, run_checked};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long systemd may take to start or stop a unit; its own limit is 90 s by default.
const UNIT_TIMEOUT: Duration = Duration::from_secs(300);

/// State of a systemd unit. `restarted` and `reloaded` act every time: they are for handlers.
///
/// ```toml
/// service = { name = "chrony", state = "started", enabled = true }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name, with or without `.service`, for example `"ssh"` or `"fstrim.timer"`.
    pub name: String,
    /// `"started"`, `"stopped"`, `"restarted"` or `"reloaded"`. Default: left as it is.
    #[serde(default)]
    pub state: Option<ServiceState>,
    /// Whether it starts at boot. Default: left as it is.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Whether it is masked, so that nothing can start it. Default: left as it is.
    #[serde(default)]
    pub masked: Option<bool>,
}

/// What a service is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// It runs.
    Started,
    /// It does not run.
    Stopped,
    /// It is stopped and started, now.
    Restarted,
    /// It reads its configuration again, now; it is restarted where it cannot.
    Reloaded,
}

impl Service {
    /// The unit's name with its suffix.
    pub(super) fn unit_name(&self) -> String {
        with_suffix(&self.name)
    }
}

fn with_suffix(name: &str) -> String {
    const SUFFIXES: &[&str] =
        &["service", "timer", "socket", "mount", "path", "target", "slice", "swap", "automount"];
    match name.rsplit_once('.') {
        Some((_, suffix)) if SUFFIXES.contains(&suffix) => name.to_owned(),
        _ => format!("{name}.service"),
    }
}

/// Enables or disables a unit: `enable`, `reenable` or `disable`. systemd is told once behind the
/// last unit of a row. Enabling leaves the start links of a script of the same name to its package;
/// disabling removes them, since `invoke-rc.d` takes them for a wish to run.
pub(super) fn set_enabled(system: &mut dyn System, verb: &str, unit: &str) -> Result<(), Failure> {
    let mut program = Program::new(["systemctl", "--no-reload", verb, unit]).timeout(UNIT_TIMEOUT);
    if verb != "disable" {
        program = program.env("SYSTEMCTL_SKIP_SYSV", "1");
    }
    let output = system.run(&program);
    system.invalidate(Cache::Units);
    system.defer_daemon_reload();
    let output = output?;
    if output.success() { Ok(()) } else { Err(output.failure(&format!("cannot {verb} {unit}"))) }
}

/// Runs one verb of systemctl; what it remembers of units is forgotten, come what may.
pub(super) fn systemctl(system: &mut dyn System, verb: &str, unit: &str) -> Result<(), Failure> {
    if matches!(verb, "start" | "restart") && is_wanting(system, unit)? {
        system.end_row_of_units()?;
    }
    let program = Program::new(["systemctl", verb, unit]).timeout(UNIT_TIMEOUT);
    let output = system.run(&program);
    system.invalidate(Cache::Units);
    let output = output?;
    if output.success() {
        return Ok(());
    }
    let mut failure = output.failure(&format!("cannot {verb} {unit}"));
    if matches!(verb, "start" | "restart" | "reload-or-restart") {
        // systemctl itself says only where to look; the unit's last lines say why.
        let log = ["journalctl", "--unit", unit, "--lines=15", "--no-pager", "--output=cat"];
        if let Ok(log) = run_checked(system, &Program::new(log), "journal")
            && !log.stdout.is_empty()
        {
            failure = failure.output(String::from_utf8_lossy(&log.stdout).trim_end().to_owned());
        }
        failure = failure.hint(format!("`journalctl -u {unit}` on the host says more"));
    }
    Err(failure)
}

/// True when other units may have been enabled for this one: it starts them, once systemd knows.
fn is_wanting(system: &mut dyn System, unit: &str) -> Result<bool, Failure> {
    for links in ["wants", "requires"] {
        if system.metadata(&format!("/etc/systemd/system/{unit}.{links}"))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True for every state in which the unit counts as running.
pub(super) fn runs(status: &UnitStatus) -> bool {
    matches!(status.active.as_str(), "active" | "activating" | "reloading")
}

fn is_enabled(status: &UnitStatus) -> Option<bool> {
    match status.file.as_str() {
        // A static unit has no [Install] section and is started by others; nothing to enable.
        "static" | "indirect" | "generated" | "alias" | "transient" => None,
        "enabled" | "enabled-runtime" | "linked" => Some(true),
        _ => Some(false),
    }
}

/// Differences that masking and enabling make good.
pub(super) fn compare_enabled(status: &UnitStatus, wanted: Option<bool>) -> Option<Change> {
    let found = is_enabled(status)?;
    let wanted = wanted.filter(|wanted| *wanted != found)?;
    let word = |enabled| if enabled { "enabled" } else { "disabled" }.to_owned();
    Some(Change::new("boot", Some(word(found)), Some(word(wanted))))
}

impl Service {
    fn state_changes(&self, status: &UnitStatus, after: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        let masked = status.load == "masked";
        if let Some(wanted) = self.masked.filter(|wanted| *wanted != masked) {
            let word = |masked| if masked { "masked" } else { "not masked" }.to_owned();
            changes.push(Change::new("mask", Some(word(masked)), Some(word(wanted))));
        }
        changes.extend(compare_enabled(status, self.enabled));
        let found = if status.load == "not-found" {
            "not installed".to_owned()
        } else {
            status.active.clone()
        };
        let running = runs(status);
        let wanted = match self.state {
            Some(ServiceState::Started) if !running => "started",
            Some(ServiceState::Stopped) if running => "stopped",
            Some(ServiceState::Restarted) if !(after && running) => "restarted",
            Some(ServiceState::Reloaded) if !(after && running) => "reloaded",
            _ => return changes,
        };
        changes.push(Change::new("state", Some(found), Some(wanted.to_owned())));
        changes
    }
}

impl Converge for Service {
    type Found = UnitStatus;

    fn validate(&self) -> Vec<Problem> {
        Rules::new()
            .name("name", &self.name, "@._-:\\")
            .that(self.state.is_some() || self.enabled.is_some() || self.masked.is_some(), || {
                Problem::new("state", "nothing is wanted of the service")
                    .hint("give `state`, `enabled` or `masked`")
            })
            .that(
                self.masked != Some(true)
                    || (matches!(self.state, None | Some(ServiceState::Stopped))
                        && self.enabled != Some(true)),
                || Problem::new("masked", "a masked service can neither start nor be enabled"),
            )
            .done()
    }

    fn find(&self, system: &mut dyn System) -> Result<UnitStatus, Failure> {
        system.unit(&self.unit_name())
    }

    fn compare(&self, status: &UnitStatus) -> Vec<Change> {
        self.state_changes(status, false)
    }

    fn apply(
        &self,
        status: &UnitStatus,
        system: &mut dyn System,
        _: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let unit = self.unit_name();
        if status.load == "not-found" && self.masked != Some(true) {
            return Err(Failure::new(format!("the unit {unit} does not exist on the host"))
                .hint("install its package in a step before this one, or correct the name"));
        }
        if status.needs_reload {
            system.daemon_reload()?;
        }
        let masked = status.load == "masked";
        if self.masked == Some(false) && masked {
            systemctl(system, "unmask", &unit)?;
        }
        if self.masked == Some(true) && runs(status) {
            systemctl(system, "stop", &unit)?;
        }
        match compare_enabled(status, self.enabled).and(self.enabled) {
            Some(true) => set_enabled(system, "enable", &unit)?,
            Some(false) => set_enabled(system, "disable", &unit)?,
            None => {}
        }
        match self.state {
            Some(ServiceState::Started) if !runs(status) => systemctl(system, "start", &unit)?,
            Some(ServiceState::Stopped) if runs(status) => systemctl(system, "stop", &unit)?,
            Some(ServiceState::Restarted) => systemctl(system, "restart", &unit)?,
            Some(ServiceState::Reloaded) => systemctl(system, "reload-or-restart", &unit)?,
            _ => {}
        }
        if self.masked == Some(true) && !masked {
            systemctl(system, "mask", &unit)?;
        }
        Ok(())
    }

    fn remaining(&self, system: &mut dyn System) -> Result<Vec<Change>, Failure> {
        let status = self.find(system)?;
        Ok(self.state_changes(&status, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::outcome::Outcome;
    use crate::resource::test_host::{Host, resource};

    fn status(load: &str, active: &str, file: &str) -> UnitStatus {
        UnitStatus {
            load: load.into(),
            active: active.into(),
            file: file.into(),
            ..Default::default()
        }
    }

    #[test]
    fn compares() {
        let running = status("loaded", "active", "enabled");
        let dead = status("loaded", "failed", "disabled");
        let missing = status("not-found", "inactive", "");
        let fixed = status("loaded", "active", "static");
        for (text, found, changed) in [
            ("name='a'\nstate='started'\nenabled=true", &running, &[][..]),
            ("name='a'\nstate='started'\nenabled=true", &dead, &["boot", "state"]),
            ("name='a'\nstate='started'", &missing, &["state"]),
            ("name='a'\nenabled=true", &fixed, &[]),
            ("name='a'\nstate='restarted'", &running, &["state"]),
            ("name='a'\nmasked=true", &dead, &["mask"]),
            ("name='a'\nstate='stopped'\nenabled=false", &running, &["boot", "state"]),
        ] {
            let service: Service = toml::from_str(text).unwrap();
            let changes = service.compare(found);
            let what: Vec<&str> = changes.iter().map(|change| change.what.as_str()).collect();
            assert_eq!(what, changed, "{text} {found:?}");
        }
    }

    #[test]
    fn enabling_leaves_systemds_reading_to_the_rows_end() {
        let mut host = Host::new();
        let mut enabled = false;
        host.answer(move |program| {
            let word = program.argv.get(1).map(String::as_str);
            enabled |= word == Some("--no-reload");
            let skips = program.env.iter().any(|(name, _)| name == "SYSTEMCTL_SKIP_SYSV");
            let file = if enabled { "enabled" } else { "disabled" };
            match word {
                Some("show") => Some((
                    0,
                    format!(
                        "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState={file}\nNeedDaemonReload=no\n"
                    ),
                )),
                Some("--no-reload") => Some((i32::from(!skips), String::new())),
                _ => None,
            }
        });
        let service = resource("[service]\nname = \"a\"\nstate = \"started\"\nenabled = true\n");
        assert!(matches!(host.apply(&service), Outcome::Changed(_)));
        let ran = host.ran();
        let enable = ran.iter().position(|line| line == "systemctl --no-reload enable a.service");
        // Where systemd is not asked over its socket, its answer needs the reading.
        assert_eq!(ran[enable.unwrap() + 1], "systemctl daemon-reload");
        assert!(matches!(host.apply(&service), Outcome::Unchanged));
    }

    #[test]
    fn what_other_units_may_be_enabled_for_starts_when_systemd_has_read_them() {
        let mut host = Host::new();
        let mut system = host.system();
        system.defer_daemon_reload();
        systemctl(&mut system, "start", "a.service").unwrap();
        host.make_directory("/etc/systemd/system/b.target.wants");
        systemctl(&mut system, "start", "b.target").unwrap();
        systemctl(&mut system, "start", "b.target").unwrap();
        let wanted = ["start a.service", "daemon-reload", "start b.target", "start b.target"];
        assert_eq!(host.ran(), wanted.map(|words| format!("systemctl {words}")));
    }

    #[test]
    fn suffixes() {
        assert_eq!(with_suffix("ssh"), "ssh.service");
        assert_eq!(with_suffix("fstrim.timer"), "fstrim.timer");
        assert_eq!(with_suffix("docker.io"), "docker.io.service");
    }
}
