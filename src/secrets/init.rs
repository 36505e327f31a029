//! `strata secrets init`: everything that can be made is made, and nothing is overwritten.

use super::codes;
use super::declaration::{Declaration, Declared, Origin};
use super::directory::Form;
use super::document::{EnvDocument, violation_diagnostic};
use super::identity::Identity;
use super::rules::Alphabet;
use super::secret::Secret;
use super::store::{Brick, NewReaders, SecretStore};
use crate::diag::{Diagnostic, Diagnostics};
use std::path::Path;

/// What `init` did; names only.
#[derive(Debug, Clone)]
pub struct InitReport {
    /// A new identity was made.
    pub identity_created: bool,
    /// The identity was added to the recipients.
    pub recipient_added: bool,
    /// A recovery key was made: where it lies until it is moved away.
    pub recovery_created: Option<std::path::PathBuf>,
    /// The bricks in which something is declared.
    pub bricks: Vec<InitBrick>,
    /// What only the operator can give.
    pub missing: Vec<Declaration>,
    /// Nothing that stops, but worth knowing.
    pub warnings: Diagnostics,
}

/// What `init` did in one brick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitBrick {
    /// The brick.
    pub brick: String,
    /// How it is kept; `None` when nothing of it has a value.
    pub form: Option<Form>,
    /// The names that were given a value now.
    pub made: Vec<String>,
    /// How many names had one.
    pub kept: usize,
}

/// Makes identity, recipients and every secret that is declared, can be made and has no value.
///
/// All bricks are read and checked before the first is written. Run again, it changes nothing.
pub fn init(site_root: &Path, identity_path: &Path) -> Result<InitReport, Diagnostics> {
    let mut store = SecretStore::open(site_root, identity_path)?;
    let one = |problem: Diagnostic| {
        let mut problems = Diagnostics::new();
        problems.push(problem);
        problems
    };
    let lock = store.lock().map_err(one)?;
    let mut warnings = Diagnostics::new();
    let mut work: Vec<(String, Option<Brick>)> = Vec::new();
    for brick in store.declared.bricks() {
        let content = match store.form(brick, &mut warnings) {
            Some(form) => store.read(brick, form, true, &mut warnings),
            None => None,
        };
        work.push((brick.clone(), content));
    }
    if warnings.has_errors() {
        return Err(warnings);
    }
    let encrypts = work.iter().any(|(brick, content)| {
        content.as_ref().is_none_or(|content| content.form == Form::Encrypted)
            && store.declared.of(brick).iter().any(|d| d.origin != Origin::Supplied)
    });
    let identity_created = !store.has_identity();
    if identity_created {
        store.set_identity(Identity::create(identity_path).map_err(one)?);
    }
    let new = match encrypts || identity_created {
        true => store.ensure_recipients(&lock)?,
        false => NewReaders::default(),
    };
    let mut report = InitReport {
        identity_created,
        recipient_added: new.own,
        recovery_created: new.recovery,
        bricks: Vec::new(),
        missing: Vec::new(),
        warnings,
    };
    for (brick, content) in work {
        fill(&store, &lock, &brick, content.as_ref(), &mut report)?;
    }
    Ok(report)
}

fn fill(
    store: &SecretStore,
    lock: &super::files::Lock,
    brick: &str,
    content: Option<&Brick>,
    report: &mut InitReport,
) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::new();
    let mut made = Vec::new();
    let mut kept = 0;
    let mut document = content.map_or_else(EnvDocument::empty, |content| content.document.clone());
    for declaration in store.declared.of(brick) {
        if document.get(&declaration.name).is_some() {
            kept += 1;
            continue;
        }
        if declaration.origin == Origin::Supplied {
            report.missing.push(declaration.clone());
            continue;
        }
        let Some(value) = made_as_declared(declaration, &mut problems) else { continue };
        match document.with_value(&declaration.name, &value) {
            Some(text) => {
                let shown = Path::new(super::directory::DIRECTORY).join(format!("{brick}.env"));
                document = EnvDocument::parse(&shown, text.expose().as_bytes()).0;
                made.push(declaration.name.clone());
            }
            None => problems.push(unwritable(declaration)),
        }
    }
    if problems.has_errors() {
        return Err(problems);
    }
    let mut form = content.map(|content| content.form);
    if !made.is_empty() {
        let wanted = form.unwrap_or(Form::Encrypted);
        store.write(lock, brick, wanted, content, document.text())?;
        form = Some(wanted);
    }
    report.bricks.push(InitBrick { brick: brick.to_owned(), form, made, kept });
    Ok(())
}

/// A new value that keeps the rules of its declaration; `None` when there is none, which is a
/// problem unless only the operator has it.
pub(super) fn made_as_declared(
    declaration: &Declaration,
    problems: &mut Diagnostics,
) -> Option<Secret<String>> {
    let value = match make(declaration) {
        Ok(value) => value?,
        Err(error) => {
            problems.push(Diagnostic::error(
                codes::FILE_ACCESS,
                format!("cannot generate {}: {error}", declaration.name),
            ));
            return None;
        }
    };
    for violation in declaration.rules.check(value.expose()) {
        problems.push(
            violation_diagnostic(&declaration.name, &violation)
                .at(declaration.span.clone(), "made as declared here"),
        );
    }
    Some(value)
}

pub(super) fn unwritable(declaration: &Declaration) -> Diagnostic {
    Diagnostic::error(
        codes::VALUE_UNWRITABLE,
        format!("the value of {} cannot be written", declaration.name),
    )
    .at(declaration.span.clone(), "made as declared here")
}

/// A new value; `None` when only the operator has it.
fn make(declaration: &Declaration) -> Result<Option<Secret<String>>, getrandom::Error> {
    Ok(match &declaration.origin {
        Origin::Generate { length, alphabet } => Some(random("", *length, *alphabet)?),
        Origin::GenerateUser { prefix, length } => Some(random(prefix, *length, Alphabet::Lower)?),
        Origin::Fixed { value } => Some(Secret::new(value.clone())),
        Origin::Supplied => None,
    })
}

/// Random characters, each equally likely, after a prefix.
fn random(
    prefix: &str,
    length: usize,
    alphabet: Alphabet,
) -> Result<Secret<String>, getrandom::Error> {
    let characters = alphabet.characters();
    // The largest multiple of the alphabet's size: bytes above it would favour some characters.
    let fair = 256 - 256 % characters.len();
    let mut text = Secret::new(String::with_capacity(prefix.len() + length));
    text.expose_mut().push_str(prefix);
    let mut bytes = Secret::new(vec![0_u8; 64]);
    while text.expose().len() < prefix.len() + length {
        getrandom::fill(bytes.expose_mut())?;
        for byte in bytes.expose() {
            let byte = usize::from(*byte);
            if byte < fair && text.expose().len() < prefix.len() + length {
                text.expose_mut().push(char::from(characters[byte % characters.len()]));
            }
        }
    }
    Ok(text)
}

/// The state of one declared name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has a value.
    Present,
    /// It has none; `init` makes one.
    Missing,
    /// It has none; only the operator can give it.
    ToSupply,
}

impl State {
    /// The word that is printed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Missing => "missing",
            Self::ToSupply => "to supply",
        }
    }
}

/// Every declared name with its state; needs no identity.
pub fn states<'a>(
    declared: &'a Declared,
    present: &super::directory::Present,
) -> Vec<(&'a Declaration, State)> {
    declared
        .iter()
        .map(|declaration| {
            let state = match (&declaration.origin, present.contains(&declaration.name)) {
                (_, true) => State::Present,
                (Origin::Supplied, false) => State::ToSupply,
                (_, false) => State::Missing,
            };
            (declaration, state)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_values_have_their_length_and_use_the_whole_alphabet_evenly() {
        let value = random("p_", 62_000, Alphabet::Alnum).unwrap();
        let text = value.expose();
        assert_eq!(text.len(), 62_002);
        for character in Alphabet::Alnum.characters() {
            let count = text.bytes().skip(2).filter(|byte| byte == character).count();
            // Expected 1000, deviation 31.5: eight deviations on either side.
            assert!((750..1250).contains(&count), "{character} {count}");
        }
    }
}
