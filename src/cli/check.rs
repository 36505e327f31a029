//! `strata check`.

use super::Settings;
use super::output::{out, tell};
use super::sudo;
use crate::cluster;
use crate::diag::{Diagnostics, Renderer, Severity};
use crate::gate;
use crate::plan::{self, SecretLookup};
use crate::report::plural;
use crate::run::Exit;
use crate::secrets::{Declared, Present, Redactor, Secret, SecretStore, Secrets};
use crate::site::{Profile, Site};
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
            Some(site) if errors == 0 => tell!(
                "site {}: {}, {}, {}; {found}",
                site.config.name,
                plural(site.hosts.len(), "host"),
                plural(site.config.layers.len(), "layer"),
                plural(site.roles.len(), "role"),
            ),
            _ => tell!("{found}; no host was touched"),
        }
        if let Some(site) = site.as_ref().filter(|s| errors == 0 && s.image_locks.is_none()) {
            tell_unlocked(site);
        }
    }
    if errors > 0 || (arguments.strict && warnings > 0) { Exit::InvalidInput } else { Exit::Done }
}

/// A site without a lock of its images may get other ones tomorrow.
fn tell_unlocked(site: &Site) {
    let hosts: Vec<String> = site.hosts.keys().cloned().collect();
    let pins: Vec<String> =
        plan::image_pins(site, &[], &hosts).into_iter().map(|(pin, _)| pin).collect();
    if site.profile == Profile::Production && !pins.is_empty() {
        tell!("not locked to a digest: {} (`strata images lock`)", pins.join(", "));
    }
}

/// Loads the site and resolves every host of every layer with sample facts, so that whatever is
/// wrong is found before the first connection.
pub fn load(settings: &Settings, problems: &mut Diagnostics) -> Option<Site> {
    load_as(settings, settings.profile, problems)
}

/// As [`load`], with the lab's versions and exceptions.
pub fn load_rehearsal(settings: &Settings, problems: &mut Diagnostics) -> Option<Site> {
    load_as(settings, Profile::Rehearsal, problems)
}

fn load_as(settings: &Settings, profile: Profile, problems: &mut Diagnostics) -> Option<Site> {
    let site = Site::load(&settings.root, profile, problems)?;
    let (declared, declaration_problems) = Declared::load(&settings.root);
    problems.extend(declaration_problems);
    let (_, present_problems) = Present::find(&settings.root, &declared);
    problems.extend(present_problems);
    gate::check(&site, problems);
    sudo::check(&site, &declared, problems);
    let secrets = Arc::new(Placeholders(declared));
    plan::check(&site, secrets.clone(), problems);
    plan::check_image_locks(&site, problems);
    cluster::check(&site, secrets, problems);
    Some(site)
}

/// The site's secrets, opened when there is anything to open.
pub struct SiteSecrets(Arc<Secrets>);

impl SiteSecrets {
    /// For templates.
    pub fn lookup(&self) -> Arc<dyn SecretLookup> {
        Arc::new(Loaded(Arc::clone(&self.0)))
    }
}

/// Opens the secrets when a template of the site asks for one; from then on every sink masks them.
///
/// # Errors
/// Everything that keeps them closed.
pub fn secrets(settings: &Settings, site: &Site) -> Result<SiteSecrets, Diagnostics> {
    let secrets = if plan::uses_secrets(site) || site.config.ssh.sudo_password.is_some() {
        let store = SecretStore::open(&settings.root, &settings.identity())?;
        store.load()?.0
    } else {
        Secrets::new()
    };
    settings.redactor.learn(Redactor::of(&secrets));
    if let Some((name, password)) = sudo::obtain(settings, site, &secrets)? {
        let typed = std::iter::once((name.as_str(), &password));
        settings.redactor.learn(Redactor::new(secrets.masked_values().chain(typed)));
    }
    Ok(SiteSecrets(Arc::new(secrets)))
}

/// Prints problems: text on standard error, or JSON on standard output.
pub fn show(problems: &Diagnostics, settings: &Settings) {
    if settings.json {
        for problem in problems.sorted() {
            let place = problem.primary.as_ref().map(|(span, _)| {
                let (line, column) = span.position();
                serde_json::json!({ "file": span.source.path(), "line": line, "column": column })
            });
            out!(
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
struct Placeholders(Declared);

impl SecretLookup for Placeholders {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        self.0.get(name).map(|_| Secret::new(format!("placeholder-{name}")))
    }
}

struct Loaded(Arc<Secrets>);

impl SecretLookup for Loaded {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        self.0.get(name).cloned()
    }
}
