//! `strata plan`, and plans that are applied only while they still hold.

use super::install::{InstallArguments, SelectionArguments, StepArguments, install, look};
use super::output::tell;
use super::{Exit, Settings};
use crate::report::{Collected, Planned, difference, plural};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Version of the file.
const FORMAT: u32 = 3;

/// How many differences between plan and hosts are shown.
const SHOWN: usize = 20;

/// Arguments of `strata plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata plan --layer redis                    what an install would do; exit code 8 if anything\n  strata plan --layer redis --out redis.plan   and keep it\n  strata install --plan-file redis.plan        apply it, if it still holds"
)]
pub struct PlanArguments {
    /// What to work on
    #[command(flatten)]
    pub selection: SelectionArguments,
    /// Which steps of them
    #[command(flatten)]
    pub steps: StepArguments,
    /// Keep the plan in this file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A plan as it is kept. It holds no secret: differences of secret steps have no content, and digests
/// of credentials files tell nothing of the values in them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    format: u32,
    site: String,
    rehearsal: bool,
    layer: Vec<String>,
    from: Option<String>,
    to: Option<String>,
    host: Vec<String>,
    tag: Vec<String>,
    step: Vec<String>,
    start_at: Option<String>,
    planned: Vec<Planned>,
    credentials: BTreeMap<String, String>,
}

/// What all formats of the file have.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Runs `strata plan`.
pub fn run(arguments: &PlanArguments, settings: &Settings) -> Exit {
    let (exit, collected) = look(&arguments.selection, &arguments.steps, true, settings);
    let whole = matches!(exit, Exit::Done | Exit::Differences);
    let (Some(path), Some(collected)) = (&arguments.out, collected.filter(|_| whole)) else {
        return exit;
    };
    let count = collected.planned.len();
    let SelectionArguments { layer, from, to, host } = arguments.selection.clone();
    let StepArguments { tag, step, start_at } = arguments.steps.clone();
    let plan = PlanFile {
        format: FORMAT,
        site: collected.site,
        rehearsal: collected.rehearsal,
        layer,
        from,
        to,
        host,
        tag,
        step,
        start_at,
        planned: collected.planned,
        credentials: collected.credentials,
    };
    if let Err(error) = keep(&plan, path) {
        tell!("error: {}: {error}", path.display());
        return Exit::Internal;
    }
    tell!(
        "{} kept in {}; apply with `strata install --plan-file {}`",
        plural(count, "change"),
        path.display(),
        path.display()
    );
    exit
}

/// Applies a plan, if a look at the hosts gives the same one.
pub fn apply(path: &Path, arguments: &InstallArguments, settings: &Settings) -> Exit {
    let plan = match read(path) {
        Ok(plan) => plan,
        Err(reason) => {
            tell!("error: {}: {reason}; no host was touched", path.display());
            return Exit::InvalidInput;
        }
    };
    let selection =
        SelectionArguments { layer: plan.layer, from: plan.from, to: plan.to, host: plan.host };
    let steps = StepArguments { tag: plan.tag, step: plan.step, start_at: plan.start_at };
    tell!("looking whether {} still holds", path.display());
    let (exit, collected) = look(&selection, &steps, false, settings);
    let Some(now) = collected else { return exit };
    if !matches!(exit, Exit::Done | Exit::Differences) {
        return exit;
    }
    let (planned, credentials) = (plan.planned, plan.credentials);
    let then = Collected { site: plan.site, rehearsal: plan.rehearsal, planned, credentials };
    if (&now.site, now.rehearsal) != (&then.site, then.rehearsal) {
        tell!("error: {} is a plan of site {}; nothing was changed", path.display(), then.site);
        return Exit::Refused;
    }
    let differing = difference(&then, &now);
    if !differing.is_empty() {
        for line in differing.iter().take(SHOWN) {
            tell!("  {line}");
        }
        if differing.len() > SHOWN {
            tell!("  … and {} more", differing.len() - SHOWN);
        }
        tell!(
            "error: the hosts or the site are not as they were: the plan would do something else now; nothing was changed\nhint: make a new plan: `strata plan --out {}`",
            path.display()
        );
        return Exit::Refused;
    }
    let whole = InstallArguments {
        selection,
        steps,
        keep_going: arguments.keep_going,
        deadline: arguments.deadline,
        check: false,
        plan_file: None,
        gate: arguments.gate,
        confirm: arguments.confirm.clone(),
    };
    install(&whole, settings)
}

fn keep(plan: &PlanFile, path: &Path) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(plan)?;
    text.push('\n');
    // Differences may show what only the operator should read.
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read(path: &Path) -> Result<PlanFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let no_plan =
        |error: serde_json::Error| format!("it is no plan: {error}; `strata plan --out` makes one");
    // A plan of another strata has other keys: its format is what tells that.
    let Format { format } = serde_json::from_str(&text).map_err(no_plan)?;
    if format != FORMAT {
        return Err(format!("it has format {format}, this strata reads {FORMAT}: make a new plan"));
    }
    serde_json::from_str(&text).map_err(no_plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_another_format_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.plan");
        std::fs::write(&path, "{\"format\": 2, \"planned\": []}").unwrap();
        assert!(read(&path).unwrap_err().starts_with("it has format 2"));
        std::fs::write(&path, "{\"format\": 3}").unwrap();
        assert!(read(&path).unwrap_err().starts_with("it is no plan"));
        std::fs::write(&path, "{}").unwrap();
        assert!(read(&path).unwrap_err().starts_with("it is no plan"));
    }
}
