//! Streams that only some can open: to the site's recipients and others, or to a passphrase. What
//! is larger than memory goes through here, unlike the secrets themselves.

use super::codes;
use super::directory::{DIRECTORY, RECIPIENTS};
use super::identity::{Identity, recovery_path};
use super::readers::Recipients;
use super::secret::Secret;
use crate::diag::{Diagnostic, Diagnostics};
use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use std::io::{self, Read, Write};
use std::path::Path;

/// Characters that a passphrase has at least: it is all that guards what is sealed.
const SHORTEST_PASSPHRASE: usize = 12;

/// To whom a stream is sealed.
#[derive(Debug)]
pub struct SealTo(To);

#[derive(Debug)]
enum To {
    Readers(Recipients),
    Passphrase(Secret<String>),
}

/// What opens a sealed stream.
#[derive(Debug)]
pub struct Opener(With);

#[derive(Debug)]
enum With {
    Identity(Identity),
    Passphrase(Secret<String>),
}

impl SealTo {
    /// The recipients of the site and those given besides. `own` is the identity of this host: what
    /// nobody else could open would be lost together with the host.
    ///
    /// # Errors
    /// What is wrong with the recipients, or that nobody but this host could open it.
    pub fn readers(site_root: &Path, given: &[String], own: &Path) -> Result<Self, Diagnostics> {
        let shown = Path::new(DIRECTORY).join(RECIPIENTS);
        let text = match std::fs::read_to_string(site_root.join(&shown)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(one(super::files::access("read", &shown, error))),
        };
        let (mut readers, mut problems) = Recipients::parse(&text, &shown);
        let (others, wrong) = Recipients::parse(&given.join("\n"), Path::new("--recipient"));
        problems.extend(wrong);
        if problems.has_errors() {
            return Err(problems);
        }
        readers.join(others);
        // A recovery key that was not moved away yet would be lost with the host just the same.
        let lost = [own.to_owned(), recovery_path(own)];
        let own: Vec<String> = lost
            .iter()
            .filter_map(|path| Identity::load(path).ok())
            .flat_map(|identity| identity.recipients())
            .collect();
        if readers.lines().all(|name| own.iter().any(|mine| mine == name)) {
            return Err(one(Diagnostic::error(
                codes::ONLY_OWN_READER,
                "nobody but this host itself could open it: its identity would be lost together with the host",
            )
            .hint(
                "--recipient KEY of a recovery key that is kept elsewhere (`age-keygen` makes one), or --passphrase",
            )));
        }
        Ok(Self(To::Readers(readers)))
    }

    /// A passphrase.
    ///
    /// # Errors
    /// When it is too short.
    pub fn passphrase(passphrase: Secret<String>) -> Result<Self, Diagnostics> {
        if passphrase.expose().chars().count() < SHORTEST_PASSPHRASE {
            return Err(one(Diagnostic::error(
                codes::INPUT,
                format!("the passphrase has fewer than {SHORTEST_PASSPHRASE} characters"),
            )
            .hint("it is all that guards what it seals: take several words at random")));
        }
        Ok(Self(To::Passphrase(passphrase)))
    }

    /// Who can open it, for people.
    pub fn described(&self) -> Vec<String> {
        match &self.0 {
            To::Readers(readers) => readers.lines().map(ToOwned::to_owned).collect(),
            To::Passphrase(_) => vec!["the passphrase".to_owned()],
        }
    }

    /// A writer whose bytes arrive sealed in `out`; it must be finished.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn seal<W: Write>(&self, out: W) -> io::Result<StreamWriter<W>> {
        let encryptor = match &self.0 {
            To::Readers(readers) => age::Encryptor::with_recipients(readers.each())
                .map_err(|error| io::Error::other(super::identity::plain(&error)))?,
            To::Passphrase(passphrase) => {
                age::Encryptor::with_user_passphrase(secret_string(passphrase))
            }
        };
        encryptor.wrap_output(out)
    }
}

impl Opener {
    /// The identity in a file.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn identity(path: &Path) -> Result<Self, Diagnostic> {
        Identity::load(path).map(|identity| Self(With::Identity(identity)))
    }

    /// A passphrase.
    pub const fn passphrase(passphrase: Secret<String>) -> Self {
        Self(With::Passphrase(passphrase))
    }

    /// A reader of what is sealed in `sealed`. Whatever was changed or cut off is an error while it
    /// is read. `shown` is its path for messages.
    ///
    /// # Errors
    /// When this is not what opens it.
    pub fn open<R: Read>(&self, sealed: R, shown: &Path) -> Result<StreamReader<R>, Diagnostic> {
        let decryptor = decryptor(sealed, shown)?;
        let result = match &self.0 {
            With::Identity(identity) => decryptor.decrypt(identity.each()),
            With::Passphrase(passphrase) => {
                let identity = age::scrypt::Identity::new(secret_string(passphrase));
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
            }
        };
        result.map_err(|error| match (error, &self.0) {
            (age::DecryptError::NoMatchingKeys, With::Identity(_)) => Diagnostic::error(
                codes::NOT_A_READER,
                format!("{} is not sealed to this identity", shown.display()),
            )
            .hint("--identity FILE names the identity of one of its readers"),
            (age::DecryptError::NoMatchingKeys, With::Passphrase(_))
            | (age::DecryptError::DecryptionFailed, With::Passphrase(_)) => Diagnostic::error(
                codes::NOT_A_READER,
                format!("{} is not sealed to this passphrase", shown.display()),
            ),
            (age::DecryptError::ExcessiveWork { .. }, _) => Diagnostic::error(
                codes::NOT_A_READER,
                format!("{}: its passphrase asks for more work than is done", shown.display()),
            ),
            _ => damaged(shown, "its header was changed"),
        })
    }
}

/// Whether a passphrase opens it.
///
/// # Errors
/// When it is not sealed at all.
pub fn wants_passphrase(sealed: impl Read, shown: &Path) -> Result<bool, Diagnostic> {
    Ok(decryptor(sealed, shown)?.is_scrypt())
}

fn decryptor<R: Read>(sealed: R, shown: &Path) -> Result<age::Decryptor<R>, Diagnostic> {
    age::Decryptor::new(sealed).map_err(|_| damaged(shown, "it does not start as an age file does"))
}

fn damaged(shown: &Path, what: &str) -> Diagnostic {
    Diagnostic::error(codes::DAMAGED, format!("{} is damaged: {what}", shown.display()))
        .hint("bring another copy of it")
}

fn secret_string(secret: &Secret<String>) -> SecretString {
    SecretString::from(secret.expose().clone())
}

fn one(problem: Diagnostic) -> Diagnostics {
    let mut problems = Diagnostics::new();
    problems.push(problem);
    problems
}
