//! `strata install` and `strata verify`.

use super::complete;
use super::work::{Job, Work, execute};
use super::{Exit, Settings, typed};
use crate::event::TestKind;
use crate::gate::SCENARIOS;
use crate::plan::{HostSelector, LayerSelection, StepSelection};
use crate::report::{Collected, Gathered};
use crate::resource::Mode;
use crate::run::{Continuation, GateChoice};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `strata install`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata install --layer redis\n  strata install                          all layers in the site's order\n  strata install --layer base --host db --host '!db-03'\n  strata install --layer base --check     look only: exit code 8 when something would change\n  strata install --from db --to minio --keep-going\n  strata install --layer base --step 'SSH*' --host @db\n  strata install --start-at 'Docker daemon'"
)]
pub struct InstallArguments {
    /// What to work on
    #[command(flatten)]
    pub selection: SelectionArguments,
    /// Which steps of them
    #[command(flatten)]
    pub steps: StepArguments,
    /// Go on with layers that do not require the one that failed
    #[arg(long)]
    pub keep_going: bool,
    /// Stop after this time as at the first Ctrl-C: 90s, 30m, 2h [default: run.deadline in strata.toml]
    #[arg(long, value_name = "TIME", value_parser = super::times::span)]
    pub deadline: Option<Duration>,
    /// Look only, change nothing
    #[arg(long)]
    pub check: bool,
    /// Apply this plan of `strata plan --out`, if it still holds
    #[arg(long, value_name = "FILE", conflicts_with_all = ["layer", "from", "to", "host", "tag", "step", "start_at", "check"])]
    pub plan_file: Option<PathBuf>,
    /// Which tests run after a layer
    #[arg(long, value_enum, default_value = "formed", value_name = "TESTS")]
    pub gate: GateArgument,
    /// Confirms `--gate full` on a site that does not allow it in strata.toml
    #[arg(long, value_name = "SITE")]
    pub confirm: Option<String>,
}

/// Which layers and hosts.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectionArguments {
    /// Only this layer (repeatable) [default: all, in the site's order]
    #[arg(long, value_name = "LAYER", add = complete::layers())]
    pub layer: Vec<String>,
    /// Only this layer and those after it
    #[arg(long, value_name = "LAYER", add = complete::layers())]
    pub from: Option<String>,
    /// Only this layer and those before it
    #[arg(long, value_name = "LAYER", add = complete::layers())]
    pub to: Option<String>,
    /// Only these hosts: a name, a glob, a group (`@` says that it is one), or `!` and one of these
    /// (repeatable)
    #[arg(long, value_name = "HOST", add = complete::hosts())]
    pub host: Vec<String>,
}

impl SelectionArguments {
    /// The layers that are asked for.
    pub fn layers(&self) -> LayerSelection<'_> {
        let (from, to) = (self.from.as_deref(), self.to.as_deref());
        LayerSelection { names: &self.layer, from, to }
    }

    /// The hosts that are asked for.
    pub fn hosts(&self) -> Vec<HostSelector> {
        self.host.iter().cloned().map(HostSelector).collect()
    }
}

/// Which steps.
#[derive(Debug, Clone, Default, Args)]
pub struct StepArguments {
    /// Only steps with this tag; the gate is then not run (repeatable)
    #[arg(long, value_name = "TAG", add = complete::tags())]
    pub tag: Vec<String>,
    /// Only steps of this name, or glob, and the handlers that they notify; the gate is then not run
    /// (repeatable)
    #[arg(long, value_name = "STEP", add = complete::steps())]
    pub step: Vec<String>,
    /// Begin on each host at its first step of this name, or glob
    #[arg(long, value_name = "STEP", add = complete::steps())]
    pub start_at: Option<String>,
}

impl StepArguments {
    /// The steps that are asked for.
    pub fn selection(&self) -> StepSelection<'_> {
        StepSelection { tags: &self.tag, names: &self.step, start_at: self.start_at.as_deref() }
    }
}

/// Which tests run after a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GateArgument {
    /// Diag always; failover and perf when the layer was never proved before
    Formed,
    /// Every kind; injects faults
    Full,
    /// Diag only
    Diag,
}

impl GateArgument {
    /// The word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Formed => "formed",
            Self::Full => "full",
            Self::Diag => "diag",
        }
    }
}

/// Arguments of `strata verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata verify                            diag of every layer; only looks\n  strata verify --layer redis --kind failover --confirm keybuzz\n  strata verify --layer redis --test redis-kill-master --confirm keybuzz"
)]
pub struct VerifyArguments {
    /// What to work on
    #[command(flatten)]
    pub selection: SelectionArguments,
    /// Kinds of tests (repeatable) [default: diag]
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Vec<KindArgument>,
    /// Only this test, of whatever kind (repeatable); a part of the tests keeps no record
    #[arg(long, value_name = "TEST")]
    pub test: Vec<String>,
    /// Stop after this time as at the first Ctrl-C: 90s, 30m, 2h [default: run.deadline in strata.toml]
    #[arg(long, value_name = "TIME", value_parser = super::times::span)]
    pub deadline: Option<Duration>,
    /// Confirms tests that inject faults on a site that does not allow them in strata.toml
    #[arg(long, value_name = "SITE")]
    pub confirm: Option<String>,
}

/// Kinds of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArgument {
    /// Only looks
    Diag,
    /// Injects faults, one at a time, and heals them
    Failover,
    /// Bounded load
    Perf,
}

impl KindArgument {
    /// The kind of test.
    pub const fn test(self) -> TestKind {
        match self {
            Self::Diag => TestKind::Diag,
            Self::Failover => TestKind::Failover,
            Self::Perf => TestKind::Perf,
        }
    }
}

/// Runs `strata install`.
pub fn install(arguments: &InstallArguments, settings: &Settings) -> Exit {
    install_with(arguments, None, settings)
}

/// Runs an install that goes on with another run, if there is one.
pub fn install_with(
    arguments: &InstallArguments,
    continuing: Option<Continuation>,
    settings: &Settings,
) -> Exit {
    if let Some(path) = &arguments.plan_file {
        return super::plan::apply(path, arguments, settings);
    }
    let gate = match arguments.gate {
        GateArgument::Formed => GateChoice::Formed,
        GateArgument::Full => GateChoice::Full,
        GateArgument::Diag => GateChoice::Diag,
    };
    let work = Work {
        steps: arguments.steps.selection(),
        keep_going: arguments.keep_going,
        deadline: arguments.deadline,
        mode: if arguments.check { Mode::Check } else { Mode::Apply },
        gate,
        faults: arguments.gate == GateArgument::Full,
        confirm: arguments.confirm.as_deref(),
        continuing,
        ..Work::new(&arguments.selection, Job::Install)
    };
    execute(&work, &arguments.typed(), settings)
}

/// Looks like an install that changes nothing, and gathers what it would do. `None` when nothing
/// was looked at.
pub fn look(
    selection: &SelectionArguments,
    steps: &StepArguments,
    verbose: bool,
    settings: &Settings,
) -> (Exit, Option<Collected>) {
    let gathered = Gathered::default();
    let job = Job::Look { gathered: gathered.clone(), verbose };
    let work = Work { steps: steps.selection(), ..Work::new(selection, job) };
    let exit = execute(&work, &typed::plan(selection, steps), settings);
    (exit, gathered.take())
}

/// Arguments of `strata adopt`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  strata adopt --layer redis")]
pub struct AdoptArguments {
    /// The layer whose clusters are adopted (repeatable)
    #[arg(long, value_name = "LAYER", required = true)]
    pub layer: Vec<String>,
}

/// Runs `strata adopt`.
pub fn adopt(arguments: &AdoptArguments, settings: &Settings) -> Exit {
    let selection = SelectionArguments { layer: arguments.layer.clone(), ..Default::default() };
    execute(&Work::new(&selection, Job::Adopt), &typed::adopt(&selection), settings)
}

/// Arguments of `strata reboot`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata reboot --host redis --confirm keybuzz    one after the other; a leader hands over first\n\nThe operator host is never rebooted."
)]
pub struct RebootArguments {
    /// These hosts: a name, a glob, a group, or `!` and one of these (repeatable)
    #[arg(long, value_name = "HOST", required = true, add = complete::hosts())]
    pub host: Vec<String>,
    /// Confirms it on a site that does not allow it in strata.toml
    #[arg(long, value_name = "SITE")]
    pub confirm: Option<String>,
}

/// Runs `strata reboot`.
pub fn reboot(arguments: &RebootArguments, settings: &Settings) -> Exit {
    let selection = SelectionArguments { host: arguments.host.clone(), ..Default::default() };
    let work = Work {
        mode: Mode::Apply,
        faults: true,
        confirm: arguments.confirm.as_deref(),
        ..Work::new(&selection, Job::Reboot)
    };
    execute(&work, &typed::reboot(&selection), settings)
}

/// Runs `strata verify`.
pub fn verify(arguments: &VerifyArguments, settings: &Settings) -> Exit {
    let mut kinds: Vec<TestKind> = arguments.kind.iter().map(|kind| kind.test()).collect();
    if kinds.is_empty() {
        let named = |name: &&str| arguments.test.iter().any(|test| test == name);
        kinds.extend(SCENARIOS.iter().filter(|one| named(&one.name)).map(|one| one.kind));
    }
    if kinds.is_empty() {
        kinds.push(TestKind::Diag);
    }
    kinds.sort_unstable();
    kinds.dedup();
    let work = Work {
        tests: &arguments.test,
        deadline: arguments.deadline,
        faults: kinds.iter().any(|kind| *kind != TestKind::Diag),
        confirm: arguments.confirm.as_deref(),
        ..Work::new(&arguments.selection, Job::Verify(kinds))
    };
    execute(&work, &arguments.typed(), settings)
}
