//! `strata secrets rotate`: a new value beside the one before it, until nothing gives that one any
//! more.
//!
//! The value before is kept as `NAME_PREVIOUS` in the same file. Whoever uses the secret takes both
//! meanwhile; then `--finish` drops it. Each of the two changes is one write of the file.

use super::change::check_brick;
use super::codes;
use super::declaration::{Declaration, Declared, Origin};
use super::directory::Form;
use super::document::EnvDocument;
use super::init::{self, made_as_declared};
use super::name::nearest;
use super::store::SecretStore;
use crate::diag::{Diagnostic, Diagnostics};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The end of the name under which the value before is kept.
const PREVIOUS: &str = "_PREVIOUS";

/// The name of the value before.
pub fn previous_of(name: &str) -> String {
    format!("{name}{PREVIOUS}")
}

/// The name of the secret whose value before this is, if it can be one.
pub(super) fn current_of(name: &str) -> Option<&str> {
    name.strip_suffix(PREVIOUS).filter(|current| !current.is_empty())
}

/// Gives new values to names, or to all generated values of bricks; gives back the names. `used`
/// are the names that the site's roles ask for.
///
/// # Errors
/// When one of them cannot be rotated: then none is.
pub fn rotate(
    site_root: &Path,
    identity_path: &Path,
    targets: &[String],
    used: &BTreeSet<String>,
) -> Result<Vec<String>, Diagnostics> {
    let store = SecretStore::open(site_root, identity_path)?;
    let chosen = chosen(&store.declared, targets)?;
    let mut problems = Diagnostics::new();
    for declaration in &chosen {
        let name = &declaration.name;
        if used.contains(name) && !used.contains(&previous_of(name)) {
            problems.push(
                refused(format!("what uses {name} does not take two values at a time"))
                    .hint(format!(
                        "no role names {0}. `strata secrets set {1} {name}` changes the value alone: what runs keeps the old one, and may refuse the new one",
                        previous_of(name),
                        declaration.brick
                    )),
            );
        }
    }
    let lock = store.lock().map_err(one)?;
    let mut by_brick: BTreeMap<&str, Vec<&Declaration>> = BTreeMap::new();
    for declaration in &chosen {
        by_brick.entry(&declaration.brick).or_default().push(declaration);
    }
    let mut writes = Vec::new();
    for (brick, declarations) in by_brick {
        let form = store.form(brick, &mut problems);
        let content = form.and_then(|form| store.read(brick, form, true, &mut problems));
        let (Some(form), Some(content)) = (form, content) else {
            declarations.iter().for_each(|declaration| problems.push(declaration.missing()));
            continue;
        };
        match renewed(brick, form, &content.document, &declarations) {
            Ok(document) => writes.push((brick, form, content, document)),
            Err(found) => problems.extend(found),
        }
    }
    if problems.has_errors() {
        return Err(problems);
    }
    for (brick, form, content, document) in &writes {
        store.write(&lock, brick, *form, Some(content), document.text())?;
    }
    Ok(chosen.iter().map(|declaration| declaration.name.clone()).collect())
}

/// Drops the values before of names or bricks, or all of them; gives back the names.
///
/// # Errors
/// When one of them has none, or a file cannot be written.
pub fn finish(
    site_root: &Path,
    identity_path: &Path,
    targets: &[String],
) -> Result<Vec<String>, Diagnostics> {
    let store = SecretStore::open(site_root, identity_path)?;
    let wanted: BTreeSet<String> = match targets.is_empty() {
        true => store.declared.iter().map(|declaration| declaration.name.clone()).collect(),
        false => chosen(&store.declared, targets)?.iter().map(|d| d.name.clone()).collect(),
    };
    let lock = store.lock().map_err(one)?;
    let mut problems = Diagnostics::new();
    let mut finished = Vec::new();
    let mut writes = Vec::new();
    for (brick, form) in store.directory.bricks(&mut problems) {
        let Some(content) = store.read(&brick, form, true, &mut problems) else { continue };
        let entries = content.document.entries().iter();
        let names: Vec<String> = entries
            .filter_map(|entry| current_of(&entry.name))
            .filter(|name| wanted.contains(*name))
            .map(ToOwned::to_owned)
            .collect();
        let mut document = content.document.clone();
        for name in &names {
            document = parsed(&brick, form, &document.without(&previous_of(name)));
        }
        if !names.is_empty() {
            writes.push((brick, form, content, document));
            finished.extend(names);
        }
    }
    if finished.is_empty() && !problems.has_errors() {
        problems.push(
            refused("nothing is being rotated".to_owned())
                .hint("`strata secrets rotate NAME` begins it"),
        );
    }
    if problems.has_errors() {
        return Err(problems);
    }
    for (brick, form, content, document) in &writes {
        store.write(&lock, brick, *form, Some(content), document.text())?;
    }
    Ok(finished)
}

/// The declarations that are meant: of a name, or of all generated values of a brick.
fn chosen<'a>(
    declared: &'a Declared,
    targets: &[String],
) -> Result<Vec<&'a Declaration>, Diagnostics> {
    let mut problems = Diagnostics::new();
    let mut chosen: Vec<&Declaration> = Vec::new();
    for target in targets {
        let found: Vec<&Declaration> = match declared.get(target) {
            Some(declaration) => match &declaration.origin {
                Origin::Generate { .. } => vec![declaration],
                Origin::Supplied => {
                    problems.push(refused(format!("only you have a new value of {target}")).hint(
                        format!("give it with `strata secrets set {} {target}`", declaration.brick),
                    ));
                    continue;
                }
                Origin::Fixed { .. } | Origin::GenerateUser { .. } => {
                    problems.push(
                        refused(format!("{target} is a name that others know: it is not rotated"))
                            .hint("rotate the password that belongs to it"),
                    );
                    continue;
                }
            },
            None if declared.bricks().contains(target) => declared
                .of(target)
                .into_iter()
                .filter(|declaration| matches!(declaration.origin, Origin::Generate { .. }))
                .collect(),
            None => {
                let names = declared.iter().map(|declaration| declaration.name.as_str());
                let bricks = declared.bricks().iter().map(String::as_str);
                let message = format!("there is no secret and no brick `{target}`");
                let problem = Diagnostic::error(codes::UNKNOWN_NAME, message);
                problems.push(match nearest(target, names.chain(bricks)) {
                    Some(near) => problem.hint(format!("did you mean {near}?")),
                    None => problem.hint("`strata secrets names` lists what there is"),
                });
                continue;
            }
        };
        if found.is_empty() {
            // It exists: its name is right, and it has nothing to make.
            check_brick(declared, target)?;
            problems.push(
                refused(format!("nothing in `{target}` is generated"))
                    .hint("`strata secrets set` gives a new value"),
            );
        }
        for declaration in found {
            if chosen.iter().all(|known| known.name != declaration.name) {
                chosen.push(declaration);
            }
        }
    }
    match problems.has_errors() {
        true => Err(problems),
        false => Ok(chosen),
    }
}

/// The document with new values, and the values before beside them.
fn renewed(
    brick: &str,
    form: Form,
    before: &EnvDocument,
    declarations: &[&Declaration],
) -> Result<EnvDocument, Diagnostics> {
    let mut problems = Diagnostics::new();
    let mut document = before.clone();
    for declaration in declarations {
        let name = &declaration.name;
        let Some(old) = before.get(name) else {
            problems.push(declaration.missing());
            continue;
        };
        if before.get(&previous_of(name)).is_some() {
            problems.push(refused(format!("{name} is being rotated already")).hint(format!(
                "`strata secrets rotate --finish {name}` once everybody gives the new value"
            )));
            continue;
        }
        let Some(new) = made_as_declared(declaration, &mut problems) else { continue };
        for (name, value) in [(previous_of(name), old), (name.clone(), &new)] {
            match document.with_value(&name, value) {
                Some(text) => document = parsed(brick, form, &text),
                None => problems.push(init::unwritable(declaration)),
            }
        }
    }
    match problems.has_errors() {
        true => Err(problems),
        false => Ok(document),
    }
}

fn parsed(brick: &str, form: Form, text: &super::secret::Secret<String>) -> EnvDocument {
    let shown = Path::new(super::directory::DIRECTORY).join(form.file(brick));
    EnvDocument::parse(&shown, text.expose().as_bytes()).0
}

fn refused(message: String) -> Diagnostic {
    Diagnostic::error(codes::ROTATION, message)
}

fn one(problem: Diagnostic) -> Diagnostics {
    let mut problems = Diagnostics::new();
    problems.push(problem);
    problems
}
