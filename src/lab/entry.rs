//! The hidden entry by which the program becomes a supervisor, a balancer's keeper or a fault.

use std::ffi::OsString;
use std::process::ExitCode;

use super::error::{LabError, Result};
use super::paths::Paths;
use super::spec::check_lab_name;
use super::{balancer, fault, supervise};

/// The first argument that asks for it.
pub const SUPERVISOR_VERB: &str = "lab-supervise";

/// Runs a supervisor if the arguments (with the program's name first) ask for one:
/// `lab-supervise {host|balancer|fault} LAB NAME`. Returns nothing otherwise.
pub fn supervisor_entry(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut words = arguments.into_iter().skip(1);
    if words.next()? != SUPERVISOR_VERB {
        return None;
    }
    let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
    match dispatch(&words) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            supervise::log(&error.to_string());
            Some(ExitCode::FAILURE)
        }
    }
}

fn dispatch(words: &[String]) -> Result<()> {
    let [kind, lab, name] = words else {
        return Err(LabError::InvalidSpec(format!(
            "{SUPERVISOR_VERB} needs a kind, a lab and a name"
        )));
    };
    check_lab_name(lab)?;
    supervise::detach(&Paths::new(lab))?;
    match kind.as_str() {
        "host" => supervise::supervise(lab, name),
        "balancer" => balancer::keep(lab, name),
        "fault" => fault::hold(lab, name),
        other => Err(LabError::InvalidSpec(format!("{other} cannot be supervised"))),
    }
}
