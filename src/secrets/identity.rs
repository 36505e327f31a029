//! Who can read (the identity file) and who may read (the recipients file).
//!
//! An identity is never asked for a passphrase: a key that has one is refused with a clear text
//! instead of being passed over without a word.

use super::codes;
use super::files::{self, Guard, Replacement};
use super::secret::Secret;
use crate::diag::{Diagnostic, Diagnostics, Source};
use age::secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

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
pub(super) struct Identity(Vec<Key>);

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
            return Err(passphrase(path, "decrypt it with `age -d` into a file of mode 0600"));
        }
        if begin.starts_with("-----BEGIN ") {
            let key = age::ssh::Identity::from_buffer(begin.as_bytes(), None)
                .map_err(|_| format(path, "is not an OpenSSH private key that can be read"))?;
            return match key {
                age::ssh::Identity::Unencrypted(_) => Ok(Self(vec![Key::Ssh(key)])),
                age::ssh::Identity::Encrypted(_) => Err(passphrase(
                    path,
                    "make a copy without one (`ssh-keygen -p`), or let `strata secrets init` make \
                     an identity of its own and have a reader add it",
                )),
                age::ssh::Identity::Unsupported(_) => {
                    Err(format(path, "is an SSH key of a kind that cannot decrypt"))
                }
            };
        }
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
        Ok(Self(keys))
    }

    /// Makes a new identity where there is none.
    pub(super) fn create(path: &Path) -> Result<Self, Diagnostic> {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| files::access("create", directory, error))?;
        let key = age::x25519::Identity::generate();
        let text = Secret::new(format!(
            "# The identity that opens this operator's secrets. Keep a copy offline.\n# public key: {}\n{}\n",
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

fn passphrase(path: &Path, hint: &str) -> Diagnostic {
    Diagnostic::error(
        codes::IDENTITY_PASSPHRASE,
        format!("{} is protected by a passphrase, which is never asked for", path.display()),
    )
    .hint(hint)
}

fn format(path: &Path, what: &str) -> Diagnostic {
    Diagnostic::error(codes::IDENTITY_FORMAT, format!("{} {what}", path.display())).hint(
        "an identity is a line AGE-SECRET-KEY-1…, or the OpenSSH private key of an ed25519 or RSA pair",
    )
}

enum Reader {
    Native(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

/// Those who may read the secrets of a site.
pub(super) struct Recipients(Vec<(String, Reader)>);

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(line, _)| line)).finish()
    }
}

impl Recipients {
    /// Reads a recipients file: one `age1…`, `ssh-ed25519 …` or `ssh-rsa …` a line, and comments.
    pub(super) fn parse(text: &str, shown: &Path) -> (Self, Diagnostics) {
        let mut problems = Diagnostics::new();
        let source = Source::new(shown, without_secret_keys(text));
        let mut readers: Vec<(String, Reader)> = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end();
            let span = source.span(start..start + bare.len());
            start += line.len();
            let wanted = bare.trim();
            if wanted.is_empty() || wanted.starts_with('#') {
                continue;
            }
            if is_secret_key(wanted) {
                problems.push(
                    Diagnostic::error(codes::SECRET_KEY_EXPOSED, "a secret key stands here")
                        .at(span, "this file is public")
                        .hint(
                            "remove it here and from the history, make a new identity, and \
                               change every secret that it could read",
                        ),
                );
                continue;
            }
            let reader = if wanted.starts_with("ssh-") {
                wanted.parse().ok().map(Reader::Ssh)
            } else {
                wanted.parse().ok().map(Reader::Native)
            };
            let Some(reader) = reader else {
                problems.push(
                    Diagnostic::error(codes::RECIPIENTS, "this is no recipient")
                        .at(span, "age1…, ssh-ed25519 … or ssh-rsa …")
                        .hint(
                            "a reader's line is printed by `age-keygen -y`, or is the .pub file \
                               of an SSH key",
                        ),
                );
                continue;
            };
            let name = match &reader {
                Reader::Native(key) => key.to_string(),
                Reader::Ssh(key) => key.to_string(),
            };
            if readers.iter().any(|(other, _)| *other == name) {
                problems.push(
                    Diagnostic::warning(codes::RECIPIENTS, "this recipient stands twice")
                        .at(span, "again here"),
                );
                continue;
            }
            readers.push((name, reader));
        }
        (Self(readers), problems)
    }

    /// Adds others; who stands in both counts once.
    pub(super) fn join(&mut self, others: Self) {
        let new = others.0.into_iter().filter(|(name, _)| !self.0.iter().any(|(n, _)| n == name));
        let new: Vec<_> = new.collect();
        self.0.extend(new);
    }

    /// The lines that name them.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Their keys.
    pub(super) fn each(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.0.iter().map(|(_, reader)| match reader {
            Reader::Native(key) => key as &dyn age::Recipient,
            Reader::Ssh(key) => key as &dyn age::Recipient,
        })
    }

    /// True when nobody may read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when one of the identity's keys may read.
    pub(super) fn hold(&self, identity: &Identity) -> bool {
        let own = identity.recipients();
        self.0.iter().any(|(name, _)| own.contains(name))
    }

    /// A digest of the set, independent of order and comments.
    pub(super) fn digest(&self) -> String {
        let names: BTreeSet<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        let mut hash = Sha256::new();
        for name in names {
            hash.update(name.as_bytes());
            hash.update(b"\n");
        }
        hex(&hash.finalize())
    }

    /// Encrypts a text to all of them.
    pub(super) fn encrypt(&self, clear: &[u8]) -> Result<Vec<u8>, String> {
        let encryptor = age::Encryptor::with_recipients(self.each()).map_err(|e| plain(&e))?;
        let mut sealed = Vec::new();
        let armored =
            age::armor::ArmoredWriter::wrap_output(&mut sealed, age::armor::Format::AsciiArmor)
                .map_err(|e| plain(&e))?;
        let mut writer = encryptor.wrap_output(armored).map_err(|e| plain(&e))?;
        writer.write_all(clear).map_err(|e| plain(&e))?;
        writer.finish().and_then(|armored| armored.finish()).map_err(|e| plain(&e))?;
        Ok(sealed)
    }
}

/// An error's text without the invisible direction marks of localised messages.
pub(super) fn plain(error: &dyn std::fmt::Display) -> String {
    error.to_string().replace(['\u{2068}', '\u{2069}'], "")
}

/// Bytes as lower case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_secret_key(line: &str) -> bool {
    let upper = line.to_ascii_uppercase();
    upper.contains("AGE-SECRET-KEY-")
        || upper.contains("PRIVATE KEY")
        || upper.contains("AGE-PLUGIN-")
}

/// The text with asterisks in place of every line that is no recipient and no comment: it may be a
/// secret key or a part of one.
fn without_secret_keys(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| {
            let bare = line.trim_end();
            let shown = bare.trim_start();
            let public = shown.starts_with("ssh-")
                || shown.starts_with("age1")
                || (shown.starts_with('#') && !is_secret_key(shown));
            match public {
                true => line.to_owned(),
                false => "*".repeat(bare.len()) + &line[bare.len()..],
            }
        })
        .collect()
}
