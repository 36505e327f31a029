//! The engine for keys and values, version 2, of HashiCorp Vault or OpenBao (KB-H10).
//!
//! One secret of Vault is one brick of the site; its keys are the declared names. Only names that
//! the site asks for are taken. What is read becomes [`Secret`] at once; the token, the secret id
//! and every value are masked wherever strata writes.

mod answer;
mod connection;
mod conversation;

pub use connection::Server;

use super::Provider;
use crate::diag::{Diagnostic, Diagnostics};
use crate::secrets::change::{Change, declaration};
use crate::secrets::codes;
use crate::secrets::declaration::{Declaration, Declared, Origin};
use crate::secrets::document::violation_diagnostic;
use crate::secrets::files::{self, Guard};
use crate::secrets::init::made_as_declared;
use crate::secrets::lookup::{Loaded, Secrets};
use crate::secrets::rotate::current_of;
use crate::secrets::secret::Secret;
use answer::{Found, Values};
use conversation::Conversation;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What stands for the brick's name in a path.
const BRICK: &str = "{brick}";

/// A server and the way to a site's values.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Where it is.
    pub server: Server,
    /// Where the engine is mounted.
    pub mount: String,
    /// The path of a brick below it, with `{brick}` for its name.
    pub path: String,
    /// The paths of bricks that stand elsewhere.
    pub paths: BTreeMap<String, String>,
    /// A namespace.
    pub namespace: Option<String>,
    /// How strata shows who it is.
    pub login: Login,
    /// For everything: login and all values.
    pub timeout: Duration,
}

/// How strata shows who it is.
#[derive(Debug, Clone)]
pub enum Login {
    /// With a token.
    Token {
        /// As `VAULT_TOKEN` gave it; goes before the file.
        given: Option<Secret<String>>,
        /// The file that holds it, mode 0600.
        file: Option<PathBuf>,
    },
    /// With a role's id and a secret id.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The role's id.
        role_id: String,
        /// The file of the secret id, mode 0600.
        secret_id_file: PathBuf,
    },
}

/// What a look at a brick found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrickState {
    /// The brick.
    pub brick: String,
    /// Where it stands.
    pub place: String,
    /// The declared names that have a value.
    pub present: BTreeSet<String>,
}

/// What `init` made in a brick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The brick.
    pub brick: String,
    /// Where it stands.
    pub place: String,
    /// The names that were given a value now.
    pub made: Vec<String>,
    /// How many names had one.
    pub kept: usize,
}

impl Vault {
    /// The path of a brick below the mount.
    pub fn path_of(&self, brick: &str) -> String {
        match self.paths.get(brick) {
            Some(path) => path.replace(BRICK, brick),
            None => self.path.replace(BRICK, brick),
        }
    }

    /// Where a brick stands, for people: as `vault kv get` takes it.
    pub fn place_of(&self, brick: &str) -> String {
        format!("{}/{}", self.mount, self.path_of(brick))
    }

    /// Which declared names have a value, brick by brick.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn states(&self, declared: &Declared) -> Result<Vec<BrickState>, Diagnostics> {
        let bricks = declared.bricks().to_vec();
        let (found, _) = conversation::read(self, &bricks)?;
        let states = found.into_iter().map(|(brick, found)| {
            let values = match found {
                Found::Values(values) => Some(values),
                Found::Nothing | Found::Deleted { .. } => None,
            };
            let has = |name: &str| values.as_ref().is_some_and(|values| values.has(name));
            let of = declared.of(&brick);
            let present = of.iter().map(|d| d.name.clone()).filter(|name| has(name)).collect();
            BrickState { place: self.place_of(&brick), brick, present }
        });
        Ok(states.collect())
    }

    /// Gives one declared name a value; whatever else stands at its place is kept.
    ///
    /// # Errors
    /// When it cannot be read or written, or somebody else wrote meanwhile.
    pub fn set(
        &self,
        declared: &Declared,
        brick: &str,
        name: &str,
        value: &Secret<String>,
    ) -> Result<Change, Diagnostics> {
        let declared = declaration(declared, brick, name)?;
        let mut problems = Diagnostics::new();
        check(declared, value, &mut problems);
        if problems.has_errors() {
            return Err(problems);
        }
        conversation::run(self, async |conversation: &Conversation<'_>| {
            let (mut entries, version) = entries_of(conversation.found(brick).await?);
            let change = match entries.get(name) {
                Some(Value::String(old)) if old == value.expose() => return Ok(Change::Same),
                Some(_) => Change::Replaced,
                None => Change::Added,
            };
            entries.insert(name.to_owned(), Value::String(value.expose().clone()));
            conversation.write(brick, entries, version).await?;
            Ok(change)
        })
    }

    /// Makes every declared value that can be made and is not there; overwrites nothing.
    ///
    /// # Errors
    /// When something cannot be read or written; bricks that were written before stay.
    pub fn init(&self, declared: &Declared) -> Result<Vec<Filled>, Diagnostics> {
        conversation::run(self, async |conversation: &Conversation<'_>| {
            let mut filled = Vec::new();
            for brick in declared.bricks() {
                let (mut entries, version) = entries_of(conversation.found(brick).await?);
                let mut problems = Diagnostics::new();
                let (mut made, mut kept) = (Vec::new(), 0);
                for declaration in declared.of(brick) {
                    if entries.contains_key(&declaration.name) {
                        kept += 1;
                    } else if let Some(value) = made_as_declared(declaration, &mut problems) {
                        let text = Value::String(value.expose().clone());
                        entries.insert(declaration.name.clone(), text);
                        made.push(declaration.name.clone());
                    }
                }
                if let Some(problem) = problems.iter().next() {
                    return Err(problem.clone());
                }
                if !made.is_empty() {
                    conversation.write(brick, entries, version).await?;
                }
                let place = self.place_of(brick);
                filled.push(Filled { brick: brick.clone(), place, made, kept });
            }
            Ok(filled)
        })
    }

    /// The bricks that hold the names, with the names of each.
    fn bricks_of(
        declared: &Declared,
        asked: &BTreeSet<String>,
    ) -> BTreeMap<String, BTreeSet<String>> {
        let mut bricks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for name in asked {
            // The value before of a secret that is being changed stands beside it.
            let declaration = declared
                .get(name)
                .or_else(|| current_of(name).and_then(|current| declared.get(current)));
            if let Some(declaration) = declaration {
                bricks.entry(declaration.brick.clone()).or_default().insert(name.clone());
            }
        }
        bricks
    }

    /// Takes the asked names of a brick out of what was found.
    fn take(
        &self,
        brick: &str,
        names: &BTreeSet<String>,
        mut found: Found,
        declared: &Declared,
        into: &mut Secrets,
        problems: &mut Diagnostics,
    ) {
        let place = self.place_of(brick);
        let mut clear = Secret::new(Vec::new());
        for name in names {
            let declaration = declared.get(name);
            let value = match &mut found {
                Found::Values(values) => values.take(name),
                Found::Nothing | Found::Deleted { .. } => Ok(None),
            };
            let fixed = declaration.and_then(|declaration| match &declaration.origin {
                Origin::Fixed { value } => Some(value),
                _ => None,
            });
            let value = match (value, fixed, declaration) {
                (Ok(Some(value)), ..) => value,
                (Ok(None), Some(fixed), _) => Secret::new(fixed.clone()),
                // A value before is there only while it is being changed.
                (Ok(None), None, None) => continue,
                (Ok(None), None, Some(declaration)) => {
                    problems.push(missing(declaration, &place, &found));
                    continue;
                }
                (Err(()), ..) => {
                    let message = format!("the value of {name} at {place} is no text");
                    problems.push(
                        Diagnostic::error(codes::VALUE_RULE, message)
                            .hint("write it between quotation marks: numbers and lists of JSON are taken for no secret"),
                    );
                    continue;
                }
            };
            if let Some(declaration) = declaration {
                check(declaration, &value, problems);
            }
            // Both parts end where no value can: none holds a control character.
            clear.expose_mut().extend_from_slice(name.as_bytes());
            clear.expose_mut().push(0);
            clear.expose_mut().extend_from_slice(value.expose().as_bytes());
            clear.expose_mut().push(0);
            let public = fixed.is_some_and(|fixed| fixed == value.expose());
            // Names are unique in the declarations, so none can be there already.
            let _ = into.insert(name, Loaded { brick: brick.to_owned(), value, public });
        }
        into.keep_place(brick, format!("{place} in Vault"), clear);
    }
}

impl Provider for &Vault {
    fn load(
        &self,
        declared: &Declared,
        asked: &BTreeSet<String>,
    ) -> Result<(Secrets, Diagnostics), Diagnostics> {
        let bricks = Vault::bricks_of(declared, asked);
        let mut secrets = Secrets::new();
        if bricks.is_empty() {
            return Ok((secrets, Diagnostics::new()));
        }
        let wanted: Vec<String> = bricks.keys().cloned().collect();
        let (found, shown) = conversation::read(self, &wanted)?;
        let mut problems = Diagnostics::new();
        for (name, value) in shown {
            secrets.mask(name, value);
        }
        for (brick, found) in found {
            let Some(names) = bricks.get(&brick) else { continue };
            self.take(&brick, names, found, declared, &mut secrets, &mut problems);
        }
        match problems.has_errors() {
            true => Err(problems),
            false => Ok((secrets, problems)),
        }
    }
}

fn check(declaration: &Declaration, value: &Secret<String>, problems: &mut Diagnostics) {
    for violation in declaration.rules.check(value.expose()) {
        let problem = violation_diagnostic(&declaration.name, &violation);
        problems.push(problem.at(declaration.span.clone(), "declared here"));
    }
}

fn missing(declaration: &Declaration, place: &str, found: &Found) -> Diagnostic {
    let why = match found {
        Found::Nothing => format!("there is nothing at {place} in Vault"),
        Found::Deleted { version } => {
            format!("the latest version ({version}) of {place} in Vault was deleted")
        }
        Found::Values(_) => format!("{place} in Vault has no such key"),
    };
    let command = declaration.command();
    let back = match found {
        Found::Deleted { version } => {
            format!(
                "`vault kv undelete -versions={version} {place}` brings it back; else run `{command}`"
            )
        }
        _ => format!("run `{command}`"),
    };
    let message = format!("{} has no value: {why}", declaration.name);
    Diagnostic::error(codes::SECRET_MISSING, message)
        .at(declaration.span.clone(), "declared here")
        .hint(back)
}

/// What is there to be written again, and the version that it is.
fn entries_of(found: Found) -> (Map<String, Value>, u64) {
    match found {
        Found::Values(values) => {
            let version = values.version;
            (Values::into_entries(values), version)
        }
        Found::Deleted { version } => (Map::new(), version),
        Found::Nothing => (Map::new(), 0),
    }
}

/// A secret that stands alone in a file of mode 0600.
fn from_file(path: &Path, what: &str, key: &str) -> Result<Secret<String>, Diagnostic> {
    let owner = rustix::process::geteuid().as_raw();
    let nothing = |wrong: String| {
        Diagnostic::error(codes::VAULT_LOGIN, wrong).hint(format!(
            "`{key}` under [secrets] names the file; it holds {what} and nothing else, mode 0600"
        ))
    };
    let bytes = files::read(path, path, Guard::Private { owner })?
        .ok_or_else(|| nothing(format!("{} is not there", path.display())))?;
    let bytes = Secret::new(bytes);
    let text = std::str::from_utf8(bytes.expose()).unwrap_or_default().trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(nothing(format!("{} does not hold {what}", path.display())));
    }
    Ok(Secret::new(text.to_owned()))
}
