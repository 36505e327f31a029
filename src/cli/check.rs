//! `strata check`.

use super::Settings;
use crate::run::Exit;
use crate::diag::{Diagnostics, Renderer, Severity};
use crate::plan::{self, SecretLookup};
use crate::report::plural;
use crate::resource::Mode;
use crate::secrets::Secret;
use crate::site::Site;
use clap::Args;
use std::sync::Arc;

/// Arguments of `strata check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  strata check\n  strata check --site sites/flotteq --json")]
pub struct CheckArguments {
    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,
}

/// Runs the command.
pub fn run(arguments: &CheckArguments, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let site = load(settings, &mut problems);
    show(&problems, settings);
    let errors = problems.count(Severity::Error);
    let warnings = problems.count(Severity::Warning);
    if !settings.json {
        let found = format!("{}, {}", plural(errors, "error"), plural(warnings, "warning"));
        match &site {
            Some(site) if errors == 0 => eprintln!(
                "site {}: {}, {}, {}; {found}",
                site.config.name,
                plural(site.hosts.len(), "host"),
                plural(site.config.layers.len(), "layer"),
                plural(site.roles.len(), "role"),
            ),
            _ => eprintln!("{found}; no host was touched"),
        }
    }
    if errors > 0 || (arguments.strict && warnings > 0) { Exit::InvalidInput } else { Exit::Done }
}

/// Loads the site and resolves every host of every layer with sample facts, so that whatever is
/// wrong is found before the first connection.
pub fn load(settings: &Settings, problems: &mut Diagnostics) -> Option<Site> {
    let site = Site::load(&settings.root, settings.profile, problems)?;
    let secrets = Arc::new(Placeholders::of(&site, problems));
    let resolver = plan::Resolver::new(&site, secrets, problems);
    for layer in &site.config.layers {
        for host in site.hosts.values() {
            for facts in plan::sample_facts(&site, host) {
                resolver.host(host, layer, &[], &facts, Mode::Check, problems);
            }
        }
    }
    Some(site)
}

/// Prints problems: text on standard error, or JSON on standard output.
pub fn show(problems: &Diagnostics, settings: &Settings) {
    if settings.json {
        for problem in problems.sorted() {
            let place = problem.primary.as_ref().map(|(span, _)| {
                let (line, column) = span.position();
                serde_json::json!({ "file": span.source.path(), "line": line, "column": column })
            });
            println!(
                "{}",
                serde_json::json!({
                    "severity": match problem.severity {
                        Severity::Error => "error",
                        Severity::Warning => "warning",
                    },
                    "code": problem.code.as_str(),
                    "message": problem.message,
                    "at": place,
                    "hint": problem.hint,
                })
            );
        }
    } else {
        eprint!("{}", Renderer::new(settings.palette.color).all(problems));
    }
}

/// Secrets as placeholders of their names: enough to render everything without reading one.
struct Placeholders(Vec<String>);

impl Placeholders {
    fn of(_site: &Site, _problems: &mut Diagnostics) -> Self {
        Self(Vec::new())
    }
}

impl SecretLookup for Placeholders {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        self.0.iter().any(|known| known == name).then(|| Secret::new(format!("placeholder-{name}")))
    }
}
