//! Identities that a passphrase protects: asked for on the terminal, once a run.
//!
//! The terminal is the process's own (`/dev/tty`), as ssh and age have it, so that standard input
//! may carry a value. Where there is none (a timer, a pipeline), nothing waits: it is an error that
//! says what to do.

use super::codes;
use super::identity::Identity;
use super::prompt::read_hidden;
use super::secret::Secret;
use crate::diag::Diagnostic;
use age::secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// How often a passphrase is asked for.
const TRIES: u32 = 3;

/// The identities that were unlocked in this run, by the digest of their file.
static UNLOCKED: Mutex<Vec<([u8; 32], Identity)>> = Mutex::new(Vec::new());

/// The identity of a protected file: as it was unlocked before, or with a passphrase that `open`
/// takes. `open` answers `None` to a wrong passphrase.
pub(super) fn once(
    protected: &[u8],
    path: &Path,
    open: impl Fn(&Secret<String>) -> Result<Option<Identity>, Diagnostic>,
) -> Result<Identity, Diagnostic> {
    let digest: [u8; 32] = Sha256::digest(protected).into();
    // Held while asking: whoever else needs it waits instead of asking too.
    let mut unlocked = UNLOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, identity)) = unlocked.iter().find(|(known, _)| *known == digest) {
        return Ok(identity.clone());
    }
    let terminal = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| no_terminal(path))?;
    let question = format!("passphrase of {} (not shown)", path.display());
    for _ in 0..TRIES {
        let mut shown = &terminal;
        let passphrase = read_hidden(&terminal, &mut shown, &question)?;
        if passphrase.expose().is_empty() {
            break;
        }
        if let Some(identity) = open(&passphrase)? {
            unlocked.push((digest, identity.clone()));
            return Ok(identity);
        }
    }
    Err(Diagnostic::error(
        codes::IDENTITY_PASSPHRASE,
        format!("{} was not unlocked: that is not its passphrase", path.display()),
    )
    .hint("run the command again; nothing was changed"))
}

/// What an age file holds that is encrypted to a passphrase; `None` when it is another one.
pub(super) fn open_sealed(
    sealed: &[u8],
    path: &Path,
    passphrase: &Secret<String>,
) -> Result<Option<Secret<Vec<u8>>>, Diagnostic> {
    let damaged = |what: &str| {
        Diagnostic::error(codes::IDENTITY_FORMAT, format!("{} {what}", path.display()))
            .hint("bring it back from its copy")
    };
    let decryptor = age::Decryptor::new(age::armor::ArmoredReader::new(sealed))
        .map_err(|_| damaged("is a damaged age file"))?;
    if !decryptor.is_scrypt() {
        return Err(damaged("is encrypted to another identity, not to a passphrase"));
    }
    let identity = age::scrypt::Identity::new(for_age(passphrase));
    let mut reader = match decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)) {
        Ok(reader) => reader,
        Err(age::DecryptError::ExcessiveWork { .. }) => {
            return Err(damaged("asks for more work than is done to unlock it"));
        }
        Err(age::DecryptError::InvalidMac) => return Err(damaged("is a damaged age file")),
        Err(_) => return Ok(None),
    };
    let mut clear = Secret::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(clear.expose_mut()).map_err(|_| damaged("is a damaged age file"))?;
    Ok(Some(clear))
}

/// A passphrase as age takes it.
pub(super) fn for_age(passphrase: &Secret<String>) -> SecretString {
    SecretString::from(passphrase.expose().clone())
}

fn no_terminal(path: &Path) -> Diagnostic {
    Diagnostic::error(
        codes::IDENTITY_PASSPHRASE,
        format!("{} is protected by a passphrase, and there is no terminal to ask on", path.display()),
    )
    .hint(
        "run the command in a terminal; what runs unattended needs an identity without a passphrase, \
         of mode 0600: let a reader add one of its own with `strata secrets rekey --add NAME=KEY`",
    )
}
