//! `strata completions`: what a shell may complete, names of the site included.

use super::arguments::Arguments;
use super::output::{out, tell};
use super::reference;
use super::settings::site_above;
use crate::diag::Diagnostics;
use crate::history::StateDir;
use crate::run::Exit;
use crate::site::{Profile, Site};
use clap::{Args, CommandFactory};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

/// What makes a shell's question of a call; the shell's script sets it.
const QUESTION: &str = "STRATA_COMPLETE";

/// Arguments of `strata completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata completions bash > /etc/bash_completion.d/strata\n  strata completions zsh > /usr/local/share/zsh/site-functions/_strata\n  strata completions fish > ~/.config/fish/completions/strata.fish"
)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    pub shell: String,
}

/// Prints the script that makes a shell ask strata.
pub fn run(arguments: &CompletionsArguments) -> Exit {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&arguments.shell) else {
        tell!("error: no completions for {}", arguments.shell);
        return Exit::InvalidInput;
    };
    let mut script = Vec::new();
    let written = shell.write_registration(QUESTION, "strata", "strata", "strata", &mut script);
    match written {
        Ok(()) => {
            out!("{}", String::from_utf8_lossy(&script).trim_end());
            Exit::Done
        }
        Err(error) => {
            tell!("error: the script cannot be made: {error}");
            Exit::Internal
        }
    }
}

/// Answers a shell that asks what could follow, and ends the process; else does nothing.
pub fn answer() {
    CompleteEnv::with_factory(Arguments::command).var(QUESTION).complete();
}

/// Names of hosts, and of groups as `@group`.
pub fn hosts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        from_site(|site| {
            let groups = site.groups.keys().map(|name| format!("@{name}"));
            site.hosts.keys().map(ToString::to_string).chain(groups).collect()
        })
    })
}

/// Names of hosts alone.
pub fn host() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        from_site(|site| site.hosts.keys().map(ToString::to_string).collect())
    })
}

/// Names of layers.
pub fn layers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        from_site(|site| site.config.layers.iter().map(|layer| layer.name.clone()).collect())
    })
}

/// Tags of steps.
pub fn tags() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        from_site(|site| {
            let steps = site.roles.values().flat_map(|role| &role.steps);
            steps.flat_map(|step| step.tags.clone()).collect()
        })
    })
}

/// Names of steps.
pub fn steps() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        from_site(|site| {
            let steps = site.roles.values().flat_map(|role| &role.steps);
            steps.map(|step| step.name.clone()).collect()
        })
    })
}

/// Runs, newest first.
pub fn runs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let runs = site_above()
            .ok()
            .filter(|root| root.join(".strata").is_dir())
            .and_then(|root| StateDir::open(&root).ok())
            .map(|state| state.runs());
        candidates(runs.unwrap_or_default().into_iter().rev().collect())
    })
}

/// What `strata docs` knows.
pub fn subjects() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(reference::subjects().into_iter().map(str::to_owned).collect())
    })
}

/// What `strata explain` knows.
pub fn codes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(reference::codes()))
}

/// Names out of the nearest site; a site with mistakes gives what could be read, and no message:
/// nobody asked for one.
fn from_site(names: impl Fn(&Site) -> Vec<String>) -> Vec<CompletionCandidate> {
    let mut unheard = Diagnostics::new();
    let site =
        site_above().ok().and_then(|root| Site::load(&root, Profile::Production, &mut unheard));
    let mut names = site.as_ref().map(names).unwrap_or_default();
    names.sort();
    names.dedup();
    candidates(names)
}

fn candidates(names: Vec<String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}
