//! `strata secrets rekey`: other readers for every file at once, or for none.
//!
//! Everything is read and checked first, then encrypted, decrypted again and written into a new
//! directory, which takes the place of the old one in one step ([`super::exchange`]). The key of
//! the manifest is made anew, since those who read before know the old one.

use super::codes;
use super::directory::{DIRECTORY, Form, MANIFEST, MANIFEST_KEY, RECIPIENTS};
use super::exchange::Staged;
use super::files::{self, TEMPORARY};
use super::identity::recovery_path;
use super::manifest::{HashKey, Manifest};
use super::readers::{self, Recipients};
use super::stale::Difference;
use super::store::{Brick, SecretStore};
use crate::diag::{Diagnostic, Diagnostics};
use std::path::{Path, PathBuf};

/// What is changed in the recipients file on the way.
#[derive(Debug, Clone, Default)]
pub struct NewSet {
    /// Readers to add, by name and key.
    pub add: Vec<(String, String)>,
    /// Readers to remove, by name or key.
    pub remove: Vec<String>,
    /// Make a recovery key and add it.
    pub recovery: bool,
    /// Only say what would be done.
    pub look: bool,
}

/// What `rekey` did, or would do.
#[derive(Debug, Clone, Default)]
pub struct RekeyReport {
    /// Files were encrypted anew, or would be.
    pub changed: bool,
    /// The bricks whose files are.
    pub bricks: Vec<String>,
    /// Who reads now.
    pub readers: Vec<String>,
    /// Who could not read all of it before.
    pub added: Vec<String>,
    /// Who could read before.
    pub removed: Vec<String>,
    /// Who could read before is not known of some file.
    pub unknown: bool,
    /// The secrets that those who were removed may know.
    pub known: Vec<String>,
    /// A recovery key was made: where it lies until it is moved away.
    pub recovery_created: Option<PathBuf>,
    /// Nothing that stops, but worth knowing.
    pub warnings: Diagnostics,
}

/// Encrypts every file to the readers of the recipients file, after the changes of it that are
/// asked for.
///
/// # Errors
/// Whatever keeps one file from being read, checked, encrypted or written: then nothing is changed.
pub fn rekey(
    site_root: &Path,
    identity_path: &Path,
    wanted: &NewSet,
) -> Result<RekeyReport, Diagnostics> {
    let store = SecretStore::open(site_root, identity_path)?;
    store.identity().map_err(one)?;
    let lock = store.lock().map_err(one)?;
    let mut report = RekeyReport::default();
    let (before, shown) = store
        .directory
        .read_text(RECIPIENTS)
        .map_err(one)?
        .unwrap_or_else(|| (String::new(), Path::new(DIRECTORY).join(RECIPIENTS)));
    let text = changed_text(&store, &before, wanted, identity_path, &mut report)?;
    let (recipients, problems) = Recipients::parse(&text, &shown);
    if problems.has_errors() {
        return Err(problems);
    }
    report.warnings.extend(problems);
    if !recipients.hold(store.identity().map_err(one)?) {
        return Err(one(store.not_a_recipient()));
    }
    let manifest = store.directory.manifest().map_err(one)?;
    let bricks = read_all(&store, &mut report.warnings)?;
    let difference = Difference::of(&manifest, &recipients).unwrap_or_default();
    let unsealed = manifest.records().iter().any(|record| record.seal.is_empty());
    report.readers = recipients.names().into_values().collect();
    report.readers.sort();
    report.added = difference.not_yet.values().cloned().collect();
    report.removed = difference.still.values().cloned().collect();
    report.unknown = difference.unknown;
    if !report.removed.is_empty() || report.unknown {
        let of = bricks.iter().filter(|(brick, _)| difference.bricks.contains(brick));
        let names = of.flat_map(|(_, content)| content.document.entries());
        report.known = names.map(|entry| entry.name.clone()).collect();
    }
    let stale = !difference.bricks.is_empty() || unsealed;
    report.changed = text != before || (stale && !bricks.is_empty());
    if !report.changed {
        return Ok(report);
    }
    report.bricks = bricks.iter().map(|(brick, _)| brick.clone()).collect();
    if !wanted.look {
        replace(&store, &bricks, &recipients, &text).map_err(one)?;
    }
    drop(lock);
    Ok(report)
}

/// The text of the recipients file with the changes that are asked for.
fn changed_text(
    store: &SecretStore,
    before: &str,
    wanted: &NewSet,
    identity_path: &Path,
    report: &mut RekeyReport,
) -> Result<String, Diagnostics> {
    let mut text = before.to_owned();
    for name in &wanted.remove {
        text = readers::without(&text, name).ok_or_else(|| {
            let (known, _) = Recipients::parse(before, Path::new(RECIPIENTS));
            let known: Vec<String> = known.names().into_values().collect();
            one(Diagnostic::error(codes::RECIPIENTS, "there is no such reader to remove")
                .hint(format!("{DIRECTORY}/{RECIPIENTS} has {}", known.join(", "))))
        })?;
    }
    if (!wanted.add.is_empty() || wanted.recovery) && !text.ends_with('\n') && !text.is_empty() {
        text.push('\n');
    }
    for (name, key) in &wanted.add {
        text.push_str(&readers::entry(name, false, key.trim()));
    }
    if wanted.recovery {
        if wanted.look {
            return Ok(text);
        }
        let entry = store.recovery_entry().map_err(one)?;
        if entry.lines().any(|line| before.lines().any(|known| known.trim() == line)) {
            return Ok(text);
        }
        text.push_str(&entry);
        report.recovery_created = Some(recovery_path(identity_path));
    }
    Ok(text)
}

/// Every encrypted brick, compared with the manifest. What breaks a rule of its declaration is
/// taken as it is: who reads it changes, not what it holds.
fn read_all(
    store: &SecretStore,
    warnings: &mut Diagnostics,
) -> Result<Vec<(String, Brick)>, Diagnostics> {
    let mut bricks = Vec::new();
    let mut problems = Diagnostics::new();
    for (brick, form) in store.directory.bricks(&mut problems) {
        if form != Form::Encrypted {
            continue;
        }
        match store.read_for_change(&brick, form, true, &mut problems) {
            Ok(Some(content)) if content.document.entries().is_empty() => {
                let file = form.file(&brick);
                problems.push(
                    Diagnostic::error(codes::INPUT, format!("{DIRECTORY}/{file} holds no secret"))
                        .hint("restore it from version control, or delete it"),
                );
            }
            Ok(Some(content)) => bricks.push((brick, content)),
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    if problems.has_errors() {
        return Err(problems);
    }
    warnings.extend(problems);
    Ok(bricks)
}

/// Encrypts everything, and puts it into the place of what was there.
fn replace(
    store: &SecretStore,
    bricks: &[(String, Brick)],
    recipients: &Recipients,
    text: &str,
) -> Result<(), Diagnostic> {
    let directory = &store.directory;
    let (_, shown_key) = directory.at(MANIFEST_KEY);
    let key = HashKey::random().map_err(|error| files::access("write", &shown_key, error))?;
    let mut manifest = Manifest::empty();
    let mut new: Vec<(String, Vec<u8>)> = vec![(RECIPIENTS.to_owned(), text.as_bytes().to_vec())];
    if !bricks.is_empty() {
        new.push((MANIFEST_KEY.to_owned(), store.seal(key.0.expose(), &shown_key, recipients)?));
        let set = recipients.digest();
        for (brick, content) in bricks {
            let file = Form::Encrypted.file(brick);
            let (_, shown) = directory.at(&file);
            let clear = content.document.text();
            let sealed = store.seal(clear.expose().as_bytes(), &shown, recipients)?;
            let record = key.record(brick, &sealed, set.clone(), &content.document);
            manifest = manifest.after(&record);
            new.push((file, sealed));
        }
        let manifest = manifest.naming(&set, recipients.names());
        let (_, shown) = directory.at(MANIFEST);
        let text = manifest
            .text()
            .map_err(|error| files::access("write", &shown, std::io::Error::other(error)))?;
        new.push((MANIFEST.to_owned(), text.into_bytes()));
    }
    let stays = |name: &str| {
        new.iter().all(|(file, _)| file != name)
            && !(name.starts_with('.') && name.contains(TEMPORARY))
    };
    let staged = Staged::new(&directory.path, Path::new(DIRECTORY), stays)?;
    for (name, bytes) in &new {
        staged.put(name, bytes)?;
    }
    staged.exchange()
}

fn one(problem: Diagnostic) -> Diagnostics {
    let mut problems = Diagnostics::new();
    problems.push(problem);
    problems
}
