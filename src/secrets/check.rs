//! `strata secrets check`: everything that can be wrong with a site's secrets, at once.

use super::codes;
use super::declaration::{Declaration, Declared};
use super::directory::{DIRECTORY, Form, MANIFEST, RECIPIENTS, loaded_twice};
use super::identity::{Identity, recovery_path};
use super::readers::Recipients;
use super::secret::Secret;
use super::stale;
use super::store::SecretStore;
use crate::diag::{Diagnostic, Diagnostics, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What `check` found; names only.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// The bricks that were read, with the number of their values.
    pub bricks: Vec<(String, Form, usize)>,
    /// Who reads.
    pub readers: Vec<String>,
    /// The readers that are kept offline.
    pub recovery: Vec<String>,
    /// Names that have a value and that nothing of the site uses.
    pub unused: Vec<String>,
    /// Everything that is wrong.
    pub problems: Diagnostics,
}

/// Reads and checks everything. `used` are the names that the site's roles and settings use.
pub fn check(site_root: &Path, identity_path: &Path, used: &BTreeSet<String>) -> CheckReport {
    let mut report = CheckReport::default();
    let store = match SecretStore::open(site_root, identity_path) {
        Ok(store) => store,
        Err(problems) => {
            report.problems = problems;
            return report;
        }
    };
    store.directory.settled(
        || {
            let mut report = CheckReport::default();
            values(&store, used, &mut report);
            readers(&store, identity_path, &mut report);
            report
        },
        |report| !report.problems.has_errors(),
    )
}

fn values(store: &SecretStore, used: &BTreeSet<String>, report: &mut CheckReport) {
    let mut held: BTreeMap<String, (String, Secret<String>)> = BTreeMap::new();
    let mut unread = false;
    for (brick, form) in store.directory.bricks(&mut report.problems) {
        let Some(content) = store.read(&brick, form, true, &mut report.problems) else {
            unread = true;
            continue;
        };
        let entries = content.document.entries();
        report.bricks.push((brick.clone(), form, entries.len()));
        for entry in entries {
            match held.get(&entry.name) {
                Some((first, _)) => {
                    report.problems.push(loaded_twice(&entry.name, first, &brick));
                }
                None => {
                    held.insert(entry.name.clone(), (brick.clone(), entry.value.clone()));
                }
            }
        }
    }
    shared(&store.declared, &held, &mut report.problems);
    let is_previous = |name: &String| {
        super::rotate::current_of(name).is_some_and(|name| store.declared.get(name).is_some())
    };
    for name in held.keys().filter(|name| is_previous(name)) {
        let current = super::rotate::current_of(name).unwrap_or_default();
        report.problems.push(
            Diagnostic::warning(
                codes::ROTATION,
                format!("{current} is being rotated: the value before it still counts"),
            )
            .hint(format!(
                "`strata secrets rotate --finish {current}` once everybody gives the new one"
            )),
        );
    }
    held.retain(|name, _| !is_previous(name));
    for name in used.iter().filter(|name| !held.contains_key(*name)) {
        // What cannot be read may well hold it.
        if !unread && let Some(declaration) = store.declared.get(name) {
            report.problems.push(declaration.missing());
        }
    }
    report.unused = held.into_keys().filter(|name| !used.contains(name)).collect();
}

/// Secrets that were copied from each other: who learns one knows the other.
fn shared(
    declared: &Declared,
    held: &BTreeMap<String, (String, Secret<String>)>,
    problems: &mut Diagnostics,
) {
    let public = |name: &str| {
        let fixed = |d: &Declaration| matches!(d.origin, super::Origin::Fixed { .. });
        declared.get(name).is_some_and(fixed)
    };
    let mut by_value: BTreeMap<&Secret<String>, Vec<&str>> = BTreeMap::new();
    for (name, (_, value)) in held.iter().filter(|(name, _)| !public(name)) {
        by_value.entry(value).or_default().push(name);
    }
    for names in by_value.values().filter(|names| names.len() > 1) {
        problems.push(
            Diagnostic::warning(
                codes::VALUE_SHARED,
                format!("{} have the same value", names.join(" and ")),
            )
            .hint("give each a value of its own: who learns one knows the others"),
        );
    }
}

fn readers(store: &SecretStore, identity_path: &Path, report: &mut CheckReport) {
    if !store.has_encrypted() {
        return;
    }
    let recipients = match store.recipients() {
        Ok(recipients) => recipients,
        Err(problems) => {
            report.problems.extend(problems);
            return;
        }
    };
    report.readers = recipients.names().into_values().collect();
    report.readers.sort();
    report.recovery = recipients.recovery();
    if store.identity().is_ok_and(|identity| !recipients.hold(identity)) {
        report.problems.push(store.not_a_recipient());
    }
    recovery(&recipients, identity_path, &mut report.problems);
    let nameless = recipients.nameless();
    if !nameless.is_empty() {
        report.problems.push(
            Diagnostic::warning(
                codes::RECIPIENTS,
                format!("nobody knows whose keys these are: {}", nameless.join(", ")),
            )
            .hint(format!("put `#: reader NAME` above each of them in {DIRECTORY}/{RECIPIENTS}")),
        );
    }
    match store.directory.manifest() {
        Ok(manifest) => {
            report.problems.extend(stale::warnings(&store.directory, &manifest));
            let mut gone: Vec<&str> = Vec::new();
            for record in manifest.records() {
                let has_file = matches!(store.directory.read_sealed(&record.brick), Ok(Some(_)));
                if !has_file && !gone.contains(&record.brick.as_str()) {
                    gone.push(&record.brick);
                }
            }
            for brick in gone {
                report.problems.push(
                    Diagnostic::error(
                        codes::REPLACED,
                        format!("{DIRECTORY}/{brick}.env.age is gone, but {MANIFEST} names it"),
                    )
                    .hint("restore it from version control; `strata secrets rekey` forgets it for good once readers change"),
                );
            }
            if manifest.records().iter().any(|record| record.seal.is_empty()) {
                report.problems.push(
                    Diagnostic::warning(
                        codes::MANIFEST,
                        format!(
                            "{DIRECTORY}/{MANIFEST} has records of an older strata, without seals"
                        ),
                    )
                    .hint("`strata secrets rekey` writes them anew"),
                );
            }
        }
        Err(problem) => report.problems.push(problem),
    }
}

fn recovery(recipients: &Recipients, identity_path: &Path, problems: &mut Diagnostics) {
    if recipients.recovery().is_empty() {
        problems.push(
            Diagnostic::warning(
                codes::RECOVERY_MISSING,
                format!("no recovery key is among the readers in {DIRECTORY}/{RECIPIENTS}"),
            )
            .hint(
                "with the last identity lost, the secrets are lost: `strata secrets rekey --new-recovery-key` \
                 makes one, or put `#: recovery NAME` above the key that is kept offline",
            ),
        );
    }
    let path = recovery_path(identity_path);
    if let Ok(here) = Identity::load(&path)
        && recipients.hold(&here)
    {
        problems.push(
            Diagnostic::warning(
                codes::RECOVERY_HERE,
                format!("the recovery key still lies on this host: {}", path.display()),
            )
            .hint("keep it on paper or on a stick in a safe, then delete the file: it is for the day when this host is lost"),
        );
    }
}

/// True when something is an error, or a warning where those count as well.
pub fn fails(problems: &Diagnostics, strict: bool) -> bool {
    problems.has_errors() || (strict && problems.count(Severity::Warning) > 0)
}
