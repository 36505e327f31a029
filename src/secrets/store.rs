//! The files of a site's secrets: `credentials/<brick>.env.age`, or plain `credentials/<brick>.env`
//! of mode 0600 and owned by root (KB-H1, KB-H3).
//!
//! Every change is made under the lock of the directory, encrypted and decrypted again before it
//! gets its name, and never leaves an empty file.

use super::codes;
use super::declaration::Declared;
use super::directory::{
    DIRECTORY, Directory, Form, MANIFEST, MANIFEST_KEY, PLAIN_OWNER, RECIPIENTS, loaded_twice,
    replaced,
};
use super::document::EnvDocument;
use super::files::{self, Guard, Lock, Replacement};
use super::identity::{Identity, recovery_path};
use super::lookup::{Loaded, Secrets};
use super::manifest::{HashKey, Manifest, Record};
use super::readers::{self, Recipients};
use super::secret::Secret;
use super::stale::Difference;
use crate::diag::{Diagnostic, Diagnostics, Severity};
use std::path::{Path, PathBuf};

/// One brick's content as it was read.
#[derive(Debug)]
pub(super) struct Brick {
    pub(super) form: Form,
    pub(super) document: EnvDocument,
    /// The file's bytes, to see whether it is still the same; clear in the plain form.
    pub(super) bytes: Secret<Vec<u8>>,
}

/// The secrets of a site, opened for reading and changing.
#[derive(Debug)]
pub struct SecretStore {
    pub(super) declared: Declared,
    pub(super) directory: Directory,
    identity: Option<Identity>,
    identity_path: PathBuf,
}

/// What was added to the recipients file.
#[derive(Debug, Clone, Default)]
pub(super) struct NewReaders {
    /// The identity itself.
    pub(super) own: bool,
    /// A recovery key, whose identity lies here.
    pub(super) recovery: Option<PathBuf>,
}

impl SecretStore {
    /// Opens the secrets of a site. The identity is needed only where a brick is encrypted; where
    /// one is and the identity cannot be used, this fails.
    pub fn open(site_root: &Path, identity_path: &Path) -> Result<Self, Diagnostics> {
        let (declared, mut problems) = Declared::load(site_root);
        let directory = Directory::new(site_root);
        let bricks = directory.bricks(&mut problems);
        let needed = bricks.values().any(|form| *form == Form::Encrypted);
        let identity = match Identity::load(identity_path) {
            Ok(identity) => Some(identity),
            Err(problem) => {
                if needed || problem.code != codes::IDENTITY_MISSING {
                    problems.push(problem);
                }
                None
            }
        };
        match problems.has_errors() {
            true => Err(problems),
            false => {
                let identity_path = identity_path.to_owned();
                Ok(Self { declared, directory, identity, identity_path })
            }
        }
    }

    /// The declarations of the site.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Reads every secret. Warnings come with the values; any error gives none.
    pub fn load(&self) -> Result<(Secrets, Diagnostics), Diagnostics> {
        self.directory.settled(|| self.load_once(), Result::is_ok)
    }

    fn load_once(&self) -> Result<(Secrets, Diagnostics), Diagnostics> {
        let mut problems = Diagnostics::new();
        let mut secrets = Secrets::new();
        for (brick, form) in self.directory.bricks(&mut problems) {
            let content = match self.read(&brick, form, true, &mut problems) {
                Some(content) => content,
                None => continue,
            };
            for entry in content.document.entries() {
                let fixed = self.declared.get(&entry.name).is_some_and(|declaration| {
                    matches!(&declaration.origin, super::Origin::Fixed { value } if value == entry.value.expose())
                });
                let loaded =
                    Loaded { brick: brick.clone(), value: entry.value.clone(), public: fixed };
                if let Err(first) = secrets.insert(&entry.name, loaded) {
                    problems.push(loaded_twice(&entry.name, &first, &brick));
                }
            }
            secrets.keep_file(&brick, form, content.bytes);
        }
        match problems.has_errors() {
            true => Err(problems),
            false => Ok((secrets, problems)),
        }
    }

    /// The form of a brick's file, if it has one.
    pub(super) fn form(&self, brick: &str, problems: &mut Diagnostics) -> Option<Form> {
        self.directory.bricks(problems).remove(brick)
    }

    /// Reads one brick and checks its values; with `strict`, also against the manifest.
    pub(super) fn read(
        &self,
        brick: &str,
        form: Form,
        strict: bool,
        problems: &mut Diagnostics,
    ) -> Option<Brick> {
        let before = problems.count(Severity::Error);
        let content = match self.read_for_change(brick, form, strict, problems) {
            Ok(content) => content?,
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        };
        problems.extend(content.document.check(&self.declared.of(brick)));
        (problems.count(Severity::Error) == before).then_some(content)
    }

    /// Reads one brick without checking its values.
    pub(super) fn read_for_change(
        &self,
        brick: &str,
        form: Form,
        strict: bool,
        problems: &mut Diagnostics,
    ) -> Result<Option<Brick>, Diagnostic> {
        match form {
            Form::Plain => {
                let Some((document, found)) = self.directory.read_plain(brick)? else {
                    return Ok(None);
                };
                problems.extend(found);
                let bytes = Secret::new(document.text().expose().as_bytes().to_vec());
                Ok(Some(Brick { form, document, bytes }))
            }
            Form::Encrypted => {
                let Some(sealed) = self.directory.read_sealed(brick)? else {
                    return Ok(None);
                };
                let (_, shown) = self.directory.at(&form.file(brick));
                let clear = self.identity()?.decrypt(&sealed, &shown)?;
                let (document, found) = EnvDocument::parse(&shown, clear.expose());
                problems.extend(found);
                if strict && let Err(problem) = self.compare(brick, &sealed, &document) {
                    problems.push(problem);
                }
                Ok(Some(Brick { form, document, bytes: Secret::new(sealed) }))
            }
        }
    }

    /// Compares a decrypted file with its record.
    fn compare(
        &self,
        brick: &str,
        sealed: &[u8],
        document: &EnvDocument,
    ) -> Result<(), Diagnostic> {
        let manifest = self.directory.manifest()?;
        let Some(record) = manifest.of_content(brick, sealed) else {
            let what = match manifest.knows(brick) {
                true => "its content",
                false => "it names none",
            };
            return Err(replaced(brick, what));
        };
        let key = self.key()?.ok_or_else(|| self.no_key())?;
        let found = key.record(brick, sealed, record.recipients.clone(), document);
        match record.is(&found) {
            true => Ok(()),
            false => Err(replaced(brick, "its values or its readers")),
        }
    }

    /// True when file and manifest agree, or there is no file.
    pub(super) fn agrees(&self, brick: &str, content: &Brick) -> Result<bool, Diagnostic> {
        match content.form {
            Form::Plain => Ok(true),
            Form::Encrypted => {
                match self.compare(brick, content.bytes.expose(), &content.document) {
                    Ok(()) => Ok(true),
                    Err(problem) if problem.code == codes::REPLACED => Ok(false),
                    Err(problem) => Err(problem),
                }
            }
        }
    }

    pub(super) fn identity(&self) -> Result<&Identity, Diagnostic> {
        self.identity.as_ref().ok_or_else(|| {
            Diagnostic::error(codes::IDENTITY_MISSING, "there is no identity")
                .hint("`strata secrets init` makes one for a new site")
        })
    }

    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    pub(super) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    pub(super) fn has_encrypted(&self) -> bool {
        let mut ignored = Diagnostics::new();
        let bricks = self.directory.bricks(&mut ignored);
        bricks.values().any(|form| *form == Form::Encrypted)
    }

    fn no_key(&self) -> Diagnostic {
        Diagnostic::error(codes::MANIFEST, format!("{DIRECTORY}/{MANIFEST_KEY} is missing"))
            .hint("the manifest cannot be believed without it: restore it from version control")
    }

    pub(super) fn key(&self) -> Result<Option<HashKey>, Diagnostic> {
        let (path, shown) = self.directory.at(MANIFEST_KEY);
        let Some(sealed) = files::read(&path, &shown, Guard::Public)? else {
            return Ok(None);
        };
        Ok(Some(HashKey(self.identity()?.decrypt(&sealed, &shown)?)))
    }

    /// Makes the directory where there is none and locks it.
    pub(super) fn lock(&self) -> Result<Lock, Diagnostic> {
        use std::os::unix::fs::DirBuilderExt as _;
        let shown = Path::new(DIRECTORY);
        match std::fs::DirBuilder::new().mode(0o700).create(&self.directory.path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(files::access("create", shown, error));
            }
            _ => {}
        }
        Lock::acquire(&self.directory.path, shown)
    }

    /// The readers of the site, with the warnings of their file.
    pub(super) fn recipients(&self) -> Result<Recipients, Diagnostics> {
        let mut problems = Diagnostics::new();
        match self.directory.read_text(RECIPIENTS) {
            Ok(Some((text, shown))) => {
                let (recipients, found) = Recipients::parse(&text, &shown);
                if found.has_errors() {
                    return Err(found);
                }
                if !recipients.is_empty() {
                    return Ok(recipients);
                }
                problems.push(
                    Diagnostic::error(
                        codes::RECIPIENTS,
                        format!("{DIRECTORY}/{RECIPIENTS} names no recipient"),
                    )
                    .hint("`strata secrets init` adds this identity"),
                );
            }
            Ok(None) => problems.push(
                Diagnostic::error(
                    codes::RECIPIENTS,
                    format!("{DIRECTORY}/{RECIPIENTS} is missing"),
                )
                .hint(match self.has_encrypted() {
                    true => "restore it from version control: it says who reads what is encrypted",
                    false => "`strata secrets init` writes it",
                }),
            ),
            Err(problem) => problems.push(problem),
        }
        Err(problems)
    }

    /// Adds the identity, and a recovery key where there is none, to the recipients file of a site in
    /// which nothing is encrypted yet.
    pub(super) fn ensure_recipients(&self, _lock: &Lock) -> Result<NewReaders, Diagnostics> {
        let (path, shown) = self.directory.at(RECIPIENTS);
        let existing = self.directory.read_text(RECIPIENTS).map_err(one)?;
        let mut new = NewReaders::default();
        let mut has_recovery = false;
        let mut text = match existing {
            Some((text, _)) => {
                let (recipients, problems) = Recipients::parse(&text, &shown);
                if problems.has_errors() {
                    return Err(problems);
                }
                has_recovery = !recipients.recovery().is_empty();
                new.own = !recipients.hold(self.identity().map_err(one)?);
                match (self.has_encrypted(), new.own) {
                    (true, true) => return Err(one(self.not_a_recipient())),
                    (true, false) => return Ok(new),
                    (false, _) => text,
                }
            }
            None if self.has_encrypted() => {
                return Err(self.recipients().err().unwrap_or_default());
            }
            None => {
                new.own = true;
                "# Who can read the secrets of this site, a key a line: age1…, ssh-ed25519 … or ssh-rsa …\n\
                 # `#: reader NAME` above a key says whose it is, `#: recovery NAME` that it is kept offline.\n"
                    .to_owned()
            }
        };
        if new.own || !has_recovery {
            if !text.ends_with('\n') && !text.is_empty() {
                text.push('\n');
            }
            if new.own {
                let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
                let name = readers::usable_name(&host).unwrap_or_else(|| "operator".to_owned());
                for line in self.identity().map_err(one)?.recipients() {
                    text.push_str(&readers::entry(&name, false, &line));
                }
            }
            if !has_recovery {
                text.push_str(&self.recovery_entry().map_err(one)?);
                new.recovery = Some(recovery_path(&self.identity_path));
            }
            Replacement::write(&path, &shown, text.as_bytes(), 0o644)
                .and_then(|file| file.commit(&shown))
                .map_err(one)?;
        }
        Ok(new)
    }

    /// The lines of a recovery key for the recipients file; its identity is made where there is none.
    pub(super) fn recovery_entry(&self) -> Result<String, Diagnostic> {
        let recovery = Identity::recovery(&self.identity_path)?;
        let lines = recovery.recipients();
        Ok(lines.iter().map(|line| readers::entry("recovery key", true, line)).collect())
    }

    pub(super) fn not_a_recipient(&self) -> Diagnostic {
        let own = self.identity.as_ref().map(Identity::recipients).unwrap_or_default();
        Diagnostic::error(
            codes::NOT_A_RECIPIENT,
            format!("this identity is not in {DIRECTORY}/{RECIPIENTS}"),
        )
        .hint(format!(
            "what it writes it could not read again; have a reader add `{}`",
            own.join("` or `")
        ))
    }

    pub(super) fn seal(
        &self,
        clear: &[u8],
        shown: &Path,
        recipients: &Recipients,
    ) -> Result<Vec<u8>, Diagnostic> {
        let identity = self.identity()?;
        if !recipients.hold(identity) {
            return Err(self.not_a_recipient());
        }
        let sealed = recipients
            .encrypt(clear)
            .map_err(|error| files::access("encrypt", shown, std::io::Error::other(error)))?;
        let again = identity.decrypt(&sealed, shown)?;
        if again.expose() != clear {
            let error = std::io::Error::other("it does not decrypt to what was encrypted");
            return Err(files::access("encrypt", shown, error));
        }
        Ok(sealed)
    }

    /// Writes a brick. `before` is what the change was made from; if the file is another one now,
    /// nothing is written.
    pub(super) fn write(
        &self,
        _lock: &Lock,
        brick: &str,
        form: Form,
        before: Option<&Brick>,
        text: &Secret<String>,
    ) -> Result<(), Diagnostics> {
        let (path, shown) = self.directory.at(&form.file(brick));
        let (document, mut problems) = EnvDocument::parse(&shown, text.expose().as_bytes());
        problems.extend(document.check(&self.declared.of(brick)));
        if problems.has_errors() {
            return Err(problems);
        }
        if document.entries().is_empty() {
            return Err(one(Diagnostic::error(
                codes::INPUT,
                format!("{} would hold no secret", shown.display()),
            )
            .hint("nothing was written; to drop a brick delete its file")));
        }
        let guard = match form {
            Form::Plain => Guard::Private { owner: PLAIN_OWNER },
            Form::Encrypted => Guard::Public,
        };
        let now = files::read(&path, &shown, guard).map_err(one)?.map(Secret::new);
        if now.as_ref() != before.map(|before| &before.bytes) {
            return Err(one(Diagnostic::error(
                codes::CHANGED_MEANWHILE,
                format!("{} was changed meanwhile", shown.display()),
            )
            .hint("nothing was written; run the command again")));
        }
        if form == Form::Plain {
            return Replacement::write(&path, &shown, text.expose().as_bytes(), 0o600)
                .and_then(|file| file.commit(&shown))
                .map_err(one);
        }
        let recipients = self.recipients()?;
        let seal_and_commit = || -> Result<(), Diagnostic> {
            let sealed = self.seal(text.expose().as_bytes(), &shown, &recipients)?;
            let key = self.ensure_key(&recipients)?;
            let manifest = self.directory.manifest()?;
            // Readers change for all files at once or for none: that is what `rekey` is for.
            let difference = Difference::of(&manifest, &recipients);
            if let Some(difference) = difference {
                let what = "is not the one that the files are encrypted to";
                return Err(Diagnostic::error(
                    codes::READERS_STALE,
                    format!("the set of readers in {DIRECTORY}/{RECIPIENTS} {what}: {difference}"),
                )
                .hint("nothing was written; `strata secrets rekey` encrypts all files to it at once, or restore the file"));
            }
            let new = key.record(brick, &sealed, recipients.digest(), &document);
            let kept = now.as_ref().and_then(|now| manifest.of_content(brick, now.expose()));
            let file = Replacement::write(&path, &shown, &sealed, 0o644)?;
            let set = recipients.digest();
            self.write_manifest(&manifest.during(kept, &new).naming(&set, recipients.names()))?;
            file.commit(&shown)?;
            self.write_manifest(&manifest.after(&new).naming(&set, recipients.names()))
        };
        seal_and_commit().map_err(one)
    }

    /// Makes the manifest agree with a file that the operator has looked at.
    pub(super) fn accept(
        &self,
        _lock: &Lock,
        brick: &str,
        content: &Brick,
    ) -> Result<(), Diagnostic> {
        let manifest = self.directory.manifest()?;
        let key = self.key()?.ok_or_else(|| self.no_key())?;
        // Whom a file of unknown origin is encrypted to, nobody knows: `rekey` settles it.
        let nobody = String::new();
        let record: Record = key.record(brick, content.bytes.expose(), nobody, &content.document);
        self.write_manifest(&manifest.after(&record))
    }

    fn ensure_key(&self, recipients: &Recipients) -> Result<HashKey, Diagnostic> {
        if let Some(key) = self.key()? {
            return Ok(key);
        }
        if !self.directory.manifest()?.is_empty() {
            return Err(self.no_key());
        }
        let (path, shown) = self.directory.at(MANIFEST_KEY);
        let key = HashKey::random().map_err(|error| files::access("write", &shown, error))?;
        let sealed = self.seal(key.0.expose(), &shown, recipients)?;
        Replacement::write(&path, &shown, &sealed, 0o644)?.commit(&shown)?;
        Ok(key)
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<(), Diagnostic> {
        let (path, shown) = self.directory.at(MANIFEST);
        let text = manifest
            .text()
            .map_err(|error| files::access("write", &shown, std::io::Error::other(error)))?;
        Replacement::write(&path, &shown, text.as_bytes(), 0o644)?.commit(&shown)
    }
}

fn one(problem: Diagnostic) -> Diagnostics {
    let mut problems = Diagnostics::new();
    problems.push(problem);
    problems
}
