//! What can be typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Provision a fleet over SSH, layer by layer; no layer starts until the one below has proved that
/// it works.
#[derive(Debug, Parser)]
#[command(
    name = "strata",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  strata check                     read the whole site, report every problem\n  strata install --layer base      converge one layer, then run its gate\n  strata install                   full rebuild, layer by layer\n  strata rehearse --layer base     the same on local hosts, before production\n\nExit codes: 0 done, 1 a step failed, 2 invalid input, 3 gate red, 4 fault not healed,\n5 host unreachable or changed, 6 locked, 7 refused, 8 differences found, 70 internal, 130 interrupted"
)]
pub struct Arguments {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The site's directory [default: the nearest one upwards that holds a strata.toml]
    #[arg(long, global = true, value_name = "DIR")]
    pub site: Option<PathBuf>,
    /// Print machine-readable output only: JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Show unchanged steps, differences and timings
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Colour the output
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: ColorChoice,
    /// Plain lines instead of a progress display
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Ask once for the password that sudo wants on hosts whose login is not root
    #[arg(long, global = true)]
    pub ask_sudo_password: bool,
    /// Use the lab's versions and exceptions (`strata rehearse` passes this to itself)
    #[arg(long, global = true, hide = true)]
    pub rehearsal: bool,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the whole site and report every problem; touches no host and no secret
    Check(super::check::CheckArguments),
    /// Look at every host and show what an install would do
    Plan(super::plan::PlanArguments),
    /// Converge layers, each followed by its gate
    Install(super::install::InstallArguments),
    /// Go on where the last install ended that was cut short or failed
    Resume(super::resume::ResumeArguments),
    /// Run the gates alone
    Verify(super::install::VerifyArguments),
    /// Compare every host, cluster and diag test with the site; changes nothing
    Audit(super::audit::AuditArguments),
    /// Record clusters that strata did not make; changes nothing of them
    Adopt(super::install::AdoptArguments),
    /// Reboot hosts one after the other; whoever leads a cluster hands over first
    Reboot(super::install::RebootArguments),
    /// Run a program on hosts, all at once
    Run(super::run::RunArguments),
    /// Do it all on local hosts first
    Rehearse(super::rehearse::RehearseArguments),
    /// One screen: every layer and its last proof
    Status(super::history::StatusArguments),
    /// List the runs
    History(super::history::HistoryArguments),
    /// Replay a run from its journal
    Show(super::history::ShowArguments),
    /// Make a report of a run: HTML, JUnit, Prometheus or JSON
    Report(super::report::ReportArguments),
    /// List and show hosts, pin their keys
    Hosts(super::hosts::HostsArguments),
    /// Lock images to digests, show where they are, bring them to hosts
    Images(super::images::ImagesArguments),
    /// Make, set, edit and list secrets
    Secrets(super::secrets::SecretsArgs),
    /// Back the whole site up, and restore it on a rebuilt operator host
    Site(super::site::SiteArguments),
    /// Put the last-good copy of a file back
    Undo(super::undo::UndoArguments),
    /// Hosts on this machine
    Lab(super::lab::LabArguments),
    /// The agent that strata carries
    Agent(super::agent::AgentArguments),
    /// Begin a role
    New(super::new::NewArguments),
    /// Remove what nothing needs any more on the operator host
    Gc(super::gc::GcArguments),
    /// What needs no site.
    #[command(flatten)]
    Anywhere(Anywhere),
}

/// The commands that need no site, and can be asked anywhere.
#[derive(Debug, Subcommand)]
pub enum Anywhere {
    /// Show a kind of resource or a test of gates
    Docs(super::reference::DocsArguments),
    /// Say what a code means and what to do
    Explain(super::reference::ExplainArguments),
    /// Print a script that lets a shell complete commands and the site's names
    Completions(super::complete::CompletionsArguments),
    /// Make manual pages
    Man(super::man::ManArguments),
}
