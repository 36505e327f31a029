//! `strata plan`, and plans that are applied only while they still hold.

use super::install::{InstallArguments, SelectionArguments, StepArguments, install, look};
use super::output::tell;
use super::{Exit, Settings};
use crate::report::{Collected, Planned, difference, plural};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Version of the file.
const FORMAT: u32 = 2;

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

/// A plan as it is kept. It holds no secret: differences of secret steps have no content.
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
    let Some(Collected { site, rehearsal, planned }) = collected else { return exit };
    if !matches!(exit, Exit::Done | Exit::Differences) {
        return exit;
    }
    if (&site, rehearsal) != (&plan.site, plan.rehearsal) {
        tell!("error: {} is a plan of site {}; nothing was changed", path.display(), plan.site);
        return Exit::Refused;
    }
    let differing = difference(&plan.planned, &planned);
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
    let plan: PlanFile = serde_json::from_str(&text)
        .map_err(|error| format!("it is no plan: {error}; `strata plan --out` makes one"))?;
    if plan.format == FORMAT {
        return Ok(plan);
    }
    Err(format!("it has format {}, this strata reads {FORMAT}: make a new plan", plan.format))
}
