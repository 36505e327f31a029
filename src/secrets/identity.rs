//! Who can read: the identity file, in any of the forms that the age program takes. One that a
//! passphrase protects is unlocked by [`super::unlock`], once a run.

use super::codes;
use super::files::{self, Guard, Replacement};
use super::secret::Secret;
use super::unlock;
use crate::diag::Diagnostic;
use age::secrecy::ExposeSecret;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first line of a binary age file.
const AGE_HEADER: &str = "age-encryption.org/v1";

/// A key that opens files.
enum Key {
    Native(age::x25519::Identity),
    Ssh(age::ssh::Identity),
}

impl Key {
    fn as_identity(&self) -> &dyn age::Identity {
        match self {
            Self::Native(key) => key,
            Self::Ssh(key) => key,
        }
    }

    /// The line by which a recipients file names it.
    fn recipient(&self) -> Option<String> {
        match self {
            Self::Native(key) => Some(key.to_public().to_string()),
            Self::Ssh(key) => {
                age::ssh::Recipient::try_from(key.clone()).ok().map(|key| key.to_string())
            }
        }
    }
}

/// The keys of the operator's identity file.
#[derive(Clone)]
pub(super) struct Identity(Arc<Vec<Key>>);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({} keys)", self.0.len())
    }
}

impl Identity {
    /// Reads the identity file. Its directory must be this user's alone (0700), it too (0600).
    pub(super) fn load(path: &Path) -> Result<Self, Diagnostic> {
        let owner = rustix::process::geteuid().as_raw();
        let directory = path.parent().unwrap_or(Path::new("."));
        match std::fs::metadata(directory) {
            Ok(metadata) => {
                if let Some(fault) = files::exposure(metadata.mode(), metadata.uid(), owner, 0o700)
                {
                    return Err(mode(directory, &fault, "700"));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing(path));
            }
            Err(error) => return Err(files::access("read", directory, error)),
        }
        let bytes = match files::read(path, path, Guard::Private { owner }) {
            Ok(Some(bytes)) => Secret::new(bytes),
            Ok(None) => return Err(missing(path)),
            Err(mut problem) => {
                if problem.code == codes::FILE_MODE {
                    problem.code = codes::IDENTITY_MODE;
                }
                return Err(problem);
            }
        };
        Self::parse(bytes.expose(), path)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, Diagnostic> {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let begin = text.trim_start();
        if bytes.starts_with(AGE_HEADER.as_bytes())
            || begin.starts_with("-----BEGIN AGE ENCRYPTED FILE-----")
        {
            return unlock::once(bytes, path, |passphrase| {
                let clear = match unlock::open_sealed(bytes, path, passphrase)? {
                    Some(clear) => clear,
                    None => return Ok(None),
                };
                let text = std::str::from_utf8(clear.expose()).unwrap_or_default();
                Self::lines(text, path).map(Some)
            });
        }
        if begin.starts_with("-----BEGIN ") {
            let key = age::ssh::Identity::from_buffer(begin.as_bytes(), None)
                .map_err(|_| format(path, "is not an OpenSSH private key that can be read"))?;
            return match key {
                age::ssh::Identity::Unencrypted(_) => Ok(Self::of(vec![Key::Ssh(key)])),
                age::ssh::Identity::Encrypted(locked) => unlock::once(bytes, path, |passphrase| {
                    let key = locked.decrypt(unlock::for_age(passphrase)).ok();
                    Ok(key.map(|key| Self::of(vec![Key::Ssh(key.into())])))
                }),
                age::ssh::Identity::Unsupported(_) => {
                    Err(format(path, "is an SSH key of a kind that cannot decrypt"))
                }
            };
        }
        Self::lines(text, path)
    }

    /// The identities that stand in clear lines.
    fn lines(text: &str, path: &Path) -> Result<Self, Diagnostic> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.parse::<age::x25519::Identity>() {
                Ok(key) => keys.push(Key::Native(key)),
                Err(_) if line.starts_with("AGE-PLUGIN-") => {
                    let what = format!("needs a plugin (line {}); plugins are not run", index + 1);
                    return Err(format(path, &what));
                }
                Err(_) => {
                    let what =
                        format!("holds something else than an identity in line {}", index + 1);
                    return Err(format(path, &what));
                }
            }
        }
        if keys.is_empty() {
            return Err(format(path, "holds no identity"));
        }
        Ok(Self::of(keys))
    }

    fn of(keys: Vec<Key>) -> Self {
        Self(Arc::new(keys))
    }

    /// Makes a new identity where there is none.
    pub(super) fn create(path: &Path) -> Result<Self, Diagnostic> {
        Self::make(path, "The identity that opens this operator's secrets. Keep a copy offline.")
    }

    /// The recovery identity that lies beside this operator's one: a key of last resort, to be moved
    /// off this host. Made where there is none.
    pub(super) fn recovery(own: &Path) -> Result<Self, Diagnostic> {
        let path = recovery_path(own);
        match Self::load(&path) {
            Err(problem) if problem.code == codes::IDENTITY_MISSING => Self::make(
                &path,
                "A recovery key: it opens the secrets when every other identity is lost.\n\
                 # Keep it offline, and not on this host.",
            ),
            found => found,
        }
    }

    fn make(path: &Path, what: &str) -> Result<Self, Diagnostic> {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| files::access("create", directory, error))?;
        let key = age::x25519::Identity::generate();
        let text = Secret::new(format!(
            "# {what}\n# public key: {}\n{}\n",
            key.to_public(),
            key.to_string().expose_secret(),
        ));
        Replacement::write(path, path, text.expose().as_bytes(), 0o600)?.commit_new(path)?;
        Self::load(path)
    }

    /// Its keys, for what is larger than memory.
    pub(super) fn each(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(Key::as_identity)
    }

    /// The lines by which a recipients file may name this identity.
    pub(super) fn recipients(&self) -> Vec<String> {
        self.0.iter().filter_map(Key::recipient).collect()
    }

    /// Opens a file. `shown` is its path for messages.
    pub(super) fn decrypt(
        &self,
        sealed: &[u8],
        shown: &Path,
    ) -> Result<Secret<Vec<u8>>, Diagnostic> {
        let damaged = |what: &str| {
            Diagnostic::error(codes::DAMAGED, format!("{} is damaged: {what}", shown.display()))
                .hint("restore it from version control or from a backup")
        };
        let decryptor = age::Decryptor::new(age::armor::ArmoredReader::new(sealed))
            .map_err(|_| damaged("it does not start as an age file does"))?;
        if decryptor.is_scrypt() {
            return Err(Diagnostic::error(
                codes::NOT_A_READER,
                format!("{} is encrypted to a passphrase", shown.display()),
            )
            .hint("encrypt it to the recipients of credentials/recipients.txt"));
        }
        let mut reader = decryptor
            .decrypt(self.0.iter().map(Key::as_identity))
            .map_err(|error| match error {
                age::DecryptError::NoMatchingKeys => Diagnostic::error(
                    codes::NOT_A_READER,
                    format!("{} is not encrypted to this identity", shown.display()),
                )
                .hint(format!(
                    "a reader must add `{}` to credentials/recipients.txt and encrypt the file anew",
                    self.recipients().join("` or `")
                )),
                age::DecryptError::InvalidMac => damaged("its header was changed"),
                _ => damaged("its header cannot be opened"),
            })?;
        // Enough for any text of this length: growing would leave copies behind.
        let mut clear = Secret::new(Vec::with_capacity(sealed.len()));
        reader
            .read_to_end(clear.expose_mut())
            .map_err(|_| damaged("its content was changed or cut off"))?;
        Ok(clear)
    }
}

/// Where the recovery key lies until it is moved away.
pub(super) fn recovery_path(own: &Path) -> PathBuf {
    own.with_file_name("recovery.txt")
}

fn missing(path: &Path) -> Diagnostic {
    Diagnostic::error(
        codes::IDENTITY_MISSING,
        format!("there is no identity at {}", path.display()),
    )
    .hint(
        "`strata secrets init` makes one for a new site; for an existing site put there the \
               identity of one of its readers",
    )
}

fn mode(path: &Path, fault: &str, wanted: &str) -> Diagnostic {
    Diagnostic::error(codes::IDENTITY_MODE, format!("{} {fault}", path.display()))
        .hint(format!("`chmod {wanted} {}`, and make it this user's own", path.display()))
}

fn format(path: &Path, what: &str) -> Diagnostic {
    Diagnostic::error(codes::IDENTITY_FORMAT, format!("{} {what}", path.display())).hint(
        "an identity is a line AGE-SECRET-KEY-1…, or the OpenSSH private key of an ed25519 or RSA pair",
    )
}

/// An error's text without the invisible direction marks of localised messages.
pub(super) fn plain(error: &dyn std::fmt::Display) -> String {
    error.to_string().replace(['\u{2068}', '\u{2069}'], "")
}

/// Bytes as lower case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
