//! Units: one question to systemd answers for all that a batch will ask.

use super::LocalSystem;
use crate::resource::{Failure, Program, System, UnitStatus};

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
        let mut argv = vec!["systemctl".to_owned(), "show".into(), PROPERTIES.into(), "--".into()];
        argv.extend(names.iter().map(|name| asked(name)));
        let output = self.run(&Program::new(argv).output_limit(8 * 1024 * 1024))?;
        if !output.success() {
            return Err(output.failure("cannot ask systemd for its units"));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answers = parse(&text);
        if answers.len() != names.len() {
            return Err(Failure::new(format!(
                "systemd answered for {} units of {}",
                answers.len(),
                names.len()
            )));
        }
        self.units.extend(names.into_iter().zip(answers));
        Ok(self.units.get(name).cloned().unwrap_or_default())
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
