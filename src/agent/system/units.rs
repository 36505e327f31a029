//! Units: one question to systemd answers for all that a batch will ask.

use super::{LocalSystem, systemd};
use crate::resource::{Cache, Failure, Program, System, UnitStatus};
use std::time::Duration;

/// systemd reads its units in a second, and after minutes on a host that is short of everything.
pub const RELOAD: Duration = Duration::from_secs(300);

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload";

impl LocalSystem {
    pub(super) fn find_unit(&mut self, name: &str) -> Result<UnitStatus, Failure> {
        if let Some(known) = self.units.get(name) {
            return Ok(known.clone());
        }
        let mut names = self.expected_units.clone();
        if !names.iter().any(|expected| expected == name) {
            names.push(name.to_owned());
        }
        let asked: Vec<String> = names.iter().map(|name| asked(name)).collect();
        // Where systemd cannot be asked itself, systemctl tries the same and says what is wrong.
        let by_links = self.reload_deferred;
        let mut answers = match self.is_host().then(|| systemd::units(&asked, by_links)) {
            Some(Ok(answers)) => answers,
            _ => self.ask_systemctl(&asked)?,
        };
        for (name, status) in names.iter().zip(&mut answers) {
            if self.reload_deferred {
                status.needs_reload = self.changed_units.contains(name);
            } else if status.needs_reload {
                self.changed_units.insert(name.clone());
            }
        }
        self.units.extend(names.into_iter().zip(answers));
        Ok(self.units.get(name).cloned().unwrap_or_default())
    }

    pub(super) fn reload_daemon(&mut self) -> Result<(), Failure> {
        let program = Program::new(["systemctl", "daemon-reload"]).timeout(RELOAD);
        let output = self.run(&program);
        self.invalidate(Cache::Units);
        let output = output?;
        if !output.success() {
            return Err(output.failure("cannot have systemd read its units"));
        }
        self.reload_deferred = false;
        self.changed_units.clear();
        Ok(())
    }

    fn ask_systemctl(&mut self, names: &[String]) -> Result<Vec<UnitStatus>, Failure> {
        // It tells what systemd read last.
        self.end_row_of_units()?;
        let argv = ["systemctl", "show", PROPERTIES, "--"].map(str::to_owned);
        let program = Program::new(argv.into_iter().chain(names.iter().cloned()));
        let output = self.run(&program.output_limit(8 * 1024 * 1024))?;
        if !output.success() {
            return Err(output.failure("cannot ask systemd for its units"));
        }
        let answers = parse(&String::from_utf8_lossy(&output.stdout));
        if answers.len() == names.len() {
            return Ok(answers);
        }
        let (answers, names) = (answers.len(), names.len());
        Err(Failure::new(format!("systemd answered for {answers} units of {names}")))
    }
}

/// systemd says nothing of a template: any of its instances tells what it made of the file.
fn asked(name: &str) -> String {
    match name.split_once("@.") {
        Some((template, suffix)) => format!("{template}@strata.{suffix}"),
        None => name.to_owned(),
    }
}

/// One paragraph a unit, in the order of the question.
fn parse(text: &str) -> Vec<UnitStatus> {
    text.trim()
        .split("\n\n")
        .filter(|paragraph| !paragraph.is_empty())
        .map(|paragraph| {
            let mut status = UnitStatus::default();
            for (key, value) in paragraph.lines().filter_map(|line| line.split_once('=')) {
                match key {
                    "LoadState" => status.load = value.to_owned(),
                    "ActiveState" => status.active = value.to_owned(),
                    "SubState" => status.sub = value.to_owned(),
                    "UnitFileState" => status.file = value.to_owned(),
                    "NeedDaemonReload" => status.needs_reload = value == "yes",
                    _ => {}
                }
            }
            status
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_asked_for_by_an_instance() {
        assert_eq!(asked("backup@.service"), "backup@strata.service");
        assert_eq!(asked("backup@full.service"), "backup@full.service");
        assert_eq!(asked("docker.service"), "docker.service");
    }

    #[test]
    fn one_paragraph_a_unit() {
        let units = parse(
            "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=no\n\n\
             LoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\nNeedDaemonReload=no\n",
        );
        assert_eq!(units.len(), 2);
        assert_eq!(units[0].active, "active");
        assert_eq!((units[1].load.as_str(), units[1].file.as_str()), ("not-found", ""));
    }
}
