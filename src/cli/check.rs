//! `strata check`.

use super::Settings;
use super::output::{out, tell};
use super::{secrets_source, sudo};
use crate::cluster;
use crate::diag::{Diagnostic, Diagnostics, Renderer, Severity};
use crate::gate;
use crate::history::Records;
use crate::plan::{self, Found, SecretLookup};
use crate::report::plural;
use crate::run::{Exit, Order};
use crate::secrets::provider::Source;
use crate::secrets::{Declared, Form, Present, Redactor, Secret, Secrets, codes};
use crate::site::{Layer, Profile, SecretsSettings, Site};
use clap::Args;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

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
    let mut site = Site::load(&settings.root, settings.profile, &mut problems);
    if let Some(site) = &mut site {
        // A run reads what is large where it is needed.
        site.artifacts.look_at_digests();
        examine(site, settings, &mut problems);
    }
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
        if let Some(text) = site.as_ref().filter(|_| errors == 0).and_then(together) {
            tell!("{text}");
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

/// Which layers are in hand at the same time, where the site allows it.
fn together(site: &Site) -> Option<String> {
    let most = site.config.run.parallel_layers as usize;
    let layers: Vec<&Layer> = site.config.layers.iter().collect();
    let order = Order::new(site, &layers, most);
    let steps: Vec<String> = order.together().iter().map(|step| step.join(" beside ")).collect();
    (most > 1).then(|| format!("layers, up to {most} at the same time: {}", steps.join(", then ")))
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
    examine(&site, settings, problems);
    Some(site)
}

/// What [`load`] does once the site is read; gives what a run need not make again.
pub fn examine<'site>(
    site: &'site Site,
    settings: &Settings,
    problems: &mut Diagnostics,
) -> Found<'site> {
    let (declared, declaration_problems) = Declared::load(&settings.root);
    problems.extend(declaration_problems);
    let (present, present_problems) = Present::find(&settings.root, &declared);
    match &site.config.secrets {
        SecretsSettings::Age => problems.extend(present_problems),
        SecretsSettings::Vault(_) => unread(&present, problems),
    }
    gate::check(site, problems);
    sudo::check(site, &declared, problems);
    let secrets = Arc::new(Placeholders(declared));
    let found = plan::check(site, secrets.clone(), problems);
    plan::check_image_locks(site, problems);
    cluster::check(site, secrets, problems);
    found
}

/// Files of secrets beside another provider are old values that somebody may take for the new ones.
fn unread(present: &Present, problems: &mut Diagnostics) {
    let bricks: Vec<&str> = present.bricks.keys().map(String::as_str).collect();
    if !bricks.is_empty() {
        let message = format!(
            "credentials/ holds values of {} that nothing reads: `provider` under [secrets] is vault",
            bricks.join(", ")
        );
        problems.push(
            Diagnostic::warning(codes::FILES_UNREAD, message).hint(
                "move what is still good with `strata secrets set`, then take the files away",
            ),
        );
    }
}

/// The site's secrets, opened when there is anything to open.
pub struct SiteSecrets(Arc<Secrets>);

impl SiteSecrets {
    /// For templates.
    pub fn lookup(&self) -> Arc<dyn SecretLookup> {
        Arc::new(Loaded(Arc::clone(&self.0)))
    }

    /// The files that these names were loaded from, each with a digest of its content. What is
    /// encrypted may be digested as it is; of a clear file others could try values against the
    /// digest, so it is made with the key of the site's records.
    ///
    /// # Errors
    /// When the digest cannot be made.
    pub fn digests(
        &self,
        names: &BTreeSet<String>,
        records: &Records,
    ) -> io::Result<BTreeMap<String, String>> {
        let files = names.iter().filter_map(|name| self.0.file_of(name));
        files
            .map(|file| {
                let digest = match file.form {
                    Form::Encrypted => {
                        let sum = Sha256::digest(file.bytes.expose());
                        sum.iter().map(|byte| format!("{byte:02x}")).collect()
                    }
                    Form::Plain => records.keyed_digest(file.bytes.expose())?,
                };
                Ok((file.path.clone(), digest))
            })
            .collect()
    }
}

/// Opens the secrets when a template of the site asks for one; from then on every sink masks them.
///
/// # Errors
/// Everything that keeps them closed.
pub fn secrets(settings: &Settings, site: &Site) -> Result<SiteSecrets, Diagnostics> {
    let secrets = if plan::uses_secrets(site) || site.config.ssh.sudo_password.is_some() {
        let source = secrets_source::source(settings, &site.config.secrets);
        let (declared, asked) = match &source {
            Source::AgeFiles { .. } => <(Declared, BTreeSet<String>)>::default(),
            // Everybody may read the declarations, and a token not every brick.
            Source::Vault(_) => {
                let (declared, problems) = Declared::load(&settings.root);
                if problems.has_errors() {
                    return Err(problems);
                }
                let mut problems = Diagnostics::new();
                let asked = asked_names(site, declared.clone(), &mut problems);
                (declared, asked.ok_or(problems)?)
            }
        };
        source.provider(&settings.root).load(&declared, &asked)?.0
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

/// The names of the secrets that the site's roles and settings ask for; `None` when it cannot be
/// loaded.
pub fn used_secrets(settings: &Settings, problems: &mut Diagnostics) -> Option<BTreeSet<String>> {
    let site = Site::load(&settings.root, settings.profile, problems)?;
    let (declared, declaration_problems) = Declared::load(&settings.root);
    problems.extend(declaration_problems);
    asked_names(&site, declared, problems)
}

/// The names that the roles and settings of a loaded site ask for.
fn asked_names(
    site: &Site,
    declared: Declared,
    problems: &mut Diagnostics,
) -> Option<BTreeSet<String>> {
    let asked = Arc::new(Asked { declared: Placeholders(declared), names: Mutex::default() });
    plan::check(site, asked.clone(), problems);
    cluster::check(site, asked.clone(), problems);
    if problems.has_errors() {
        return None;
    }
    let mut names = asked.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
    names.extend(site.config.ssh.sudo_password.iter().map(|(name, _)| name.clone()));
    Some(names)
}

/// Placeholders, and the names that were asked for.
struct Asked {
    declared: Placeholders,
    names: Mutex<BTreeSet<String>>,
}

impl SecretLookup for Asked {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        // Also names without a declaration: a template may do without the value before a rotation.
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.declared.lookup(name)
    }
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
