//! `strata gc`: removes what nothing needs any more on the operator host.

use super::output::tell;
use super::{Settings, check};
use crate::diag::Diagnostics;
use crate::history::{Index, StateDir};
use crate::lab::cache;
use crate::report::plural;
use crate::run::Exit;
use clap::Args;
use std::path::Path;

/// Arguments of `strata gc`.
#[derive(Debug, Args)]
#[command(
    after_help = "Hosts need no gc: an agent that was not used for 30 days is removed by the next one.\n\nExamples:\n  strata gc --dry-run      what would go\n  strata gc --keep 20      the newest 20 journals stay\n  strata gc --lab-cache    and what rehearsals keep of packages and images"
)]
pub struct GcArguments {
    /// Journals that stay [default: `history.keep_runs` of strata.toml]
    #[arg(long, value_name = "RUNS")]
    pub keep: Option<u32>,
    /// Remove what rehearsals keep of root filesystems, packages and images too; the next one makes
    /// it again
    #[arg(long)]
    pub lab_cache: bool,
    /// Say what would go, and leave it
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
pub fn run(arguments: &GcArguments, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let Some(site) = check::load(settings, &mut problems) else {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    };
    let keep = arguments.keep.unwrap_or(site.config.history.keep_runs) as usize;
    let gone = match journals(settings, keep, arguments.dry_run) {
        Ok(gone) => gone,
        Err(error) => {
            tell!("error: journals cannot be removed: {error}");
            return Exit::Internal;
        }
    };
    let verb = if arguments.dry_run { "would go" } else { "removed" };
    tell!("{verb}: {} beyond the newest {keep}", plural(gone, "journal"));
    if !arguments.lab_cache {
        return Exit::Done;
    }
    match lab_cache(arguments.dry_run) {
        Ok(bytes) => {
            tell!("{verb}: {} MiB in {}", bytes >> 20, cache::cache().display());
            Exit::Done
        }
        Err(message) => {
            tell!("error: {message}");
            Exit::Refused
        }
    }
}

/// Removes journals beyond those that stay; how many.
fn journals(settings: &Settings, keep: usize, dry_run: bool) -> std::io::Result<usize> {
    let state = StateDir::open(&settings.root)?;
    if dry_run {
        return Ok(state.runs().len().saturating_sub(keep));
    }
    let gone = state.prune(keep)?;
    if !gone.is_empty() {
        Index::open(&state)?.forget(&gone)?;
    }
    Ok(gone.len())
}

/// Removes the labs' cache; its size in bytes.
fn lab_cache(dry_run: bool) -> Result<u64, String> {
    let labs = cache::existing().map_err(|error| error.to_string())?;
    if !labs.is_empty() {
        let first = labs.first().map_or("NAME", String::as_str);
        return Err(format!(
            "hosts of {} stand on the cache; nothing of it was removed\nhint: `strata lab --lab {first} down` first",
            labs.join(", ")
        ));
    }
    let bytes = size(cache::cache());
    if !dry_run {
        cache::clear().map_err(|error| error.to_string())?;
    }
    Ok(bytes)
}

/// Bytes of all files below a folder; what cannot be read counts nothing.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
