//! Who may read: `credentials/recipients.txt`.
//!
//! The file is one that `age -R` takes too: a key a line, and comments. What strata knows besides
//! stands in comments of its own before a key: `#: reader NAME` says whose it is, `#: recovery NAME`
//! that its identity is kept offline, for the day when every other one is lost.

use super::codes;
use super::identity::{Identity, hex, plain};
use crate::diag::{Diagnostic, Diagnostics, Source, Span};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// The longest name of a reader, in characters.
const LONGEST_NAME: usize = 64;

enum Key {
    Native(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        match text.starts_with("ssh-") {
            true => text.parse().ok().map(Self::Ssh),
            false => text.parse().ok().map(Self::Native),
        }
    }

    /// The key as every file of strata names it: without its comment.
    fn line(&self) -> String {
        match self {
            Self::Native(key) => key.to_string(),
            Self::Ssh(key) => key.to_string(),
        }
    }
}

/// One who may read.
struct Reader {
    line: String,
    key: Key,
    name: Option<String>,
    recovery: bool,
}

/// Those who may read the secrets of a site.
pub(super) struct Recipients(Vec<Reader>);

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|reader| &reader.line)).finish()
    }
}

/// What a `#:` line says of the key that follows it.
struct Label {
    name: String,
    recovery: bool,
    span: Span,
}

impl Recipients {
    /// Reads a recipients file: one `age1…`, `ssh-ed25519 …` or `ssh-rsa …` a line, and comments.
    pub(super) fn parse(text: &str, shown: &Path) -> (Self, Diagnostics) {
        let mut problems = Diagnostics::new();
        let source = Source::new(shown, without_secret_keys(text));
        let mut readers: Vec<Reader> = Vec::new();
        let mut label: Option<Label> = None;
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end();
            let span = source.span(start..start + bare.len());
            start += line.len();
            let wanted = bare.trim();
            if let Some(said) = wanted.strip_prefix("#:") {
                orphaned(label.take(), &mut problems);
                label = labelled(said, span, &mut problems);
                continue;
            }
            if wanted.is_empty() || wanted.starts_with('#') {
                continue;
            }
            if is_secret_key(wanted) {
                problems.push(exposed(span));
                continue;
            }
            let Some(key) = Key::parse(wanted) else {
                problems.push(no_recipient(span));
                label = None;
                continue;
            };
            let line = key.line();
            let (mut name, recovery) = match label.take() {
                Some(label) => (Some(label.name), label.recovery),
                None => (None, false),
            };
            if name.is_none() && matches!(key, Key::Ssh(_)) {
                // What follows the key itself, as ssh-keygen writes it: mostly user@host.
                name = wanted.splitn(3, ' ').nth(2).and_then(usable_name);
            }
            if readers.iter().any(|other| other.line == line) {
                problems.push(
                    Diagnostic::warning(codes::RECIPIENTS, "this recipient stands twice")
                        .at(span, "again here"),
                );
                continue;
            }
            if let Some(taken) = name
                .as_ref()
                .filter(|name| readers.iter().any(|other| other.name.as_ref() == Some(*name)))
            {
                problems.push(
                    Diagnostic::warning(
                        codes::RECIPIENTS,
                        format!("two recipients are called `{taken}`"),
                    )
                    .at(span, "the second one")
                    .hint("give each a name of its own with `#: reader NAME` above its key"),
                );
            }
            readers.push(Reader { line, key, name, recovery });
        }
        orphaned(label, &mut problems);
        (Self(readers), problems)
    }

    /// Adds others; who stands in both counts once.
    pub(super) fn join(&mut self, others: Self) {
        for reader in others.0 {
            if self.0.iter().all(|known| known.line != reader.line) {
                self.0.push(reader);
            }
        }
    }

    /// The lines that name them.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|reader| reader.line.as_str())
    }

    /// Each key with the name of its holder; without one, the beginning of the key.
    pub(super) fn names(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|reader| (reader.line.clone(), reader.shown())).collect()
    }

    /// The names of the keys that are kept offline.
    pub(super) fn recovery(&self) -> Vec<String> {
        self.0.iter().filter(|reader| reader.recovery).map(Reader::shown).collect()
    }

    /// The keys that nobody gave a name.
    pub(super) fn nameless(&self) -> Vec<String> {
        self.0.iter().filter(|reader| reader.name.is_none()).map(Reader::shown).collect()
    }

    /// Their keys.
    pub(super) fn each(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.0.iter().map(|reader| match &reader.key {
            Key::Native(key) => key as &dyn age::Recipient,
            Key::Ssh(key) => key as &dyn age::Recipient,
        })
    }

    /// True when nobody may read.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when one of the identity's keys may read.
    pub(super) fn hold(&self, identity: &Identity) -> bool {
        let own = identity.recipients();
        self.lines().any(|line| own.iter().any(|mine| mine == line))
    }

    /// A digest of the set, independent of order, names and comments.
    pub(super) fn digest(&self) -> String {
        digest(self.lines())
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

impl Reader {
    fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| shortened(&self.line))
    }
}

/// The digest of a set of keys.
pub(super) fn digest<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let sorted: BTreeSet<&str> = lines.collect();
    let mut hash = Sha256::new();
    for line in sorted {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    hex(&hash.finalize())
}

/// A key as it is shown where nobody gave it a name: its beginning and its end.
pub(super) fn shortened(line: &str) -> String {
    let characters: Vec<char> = line.chars().collect();
    match characters.len() {
        0..=30 => line.to_owned(),
        length => {
            let end: String = characters.iter().skip(length - 8).collect();
            let start: String = characters.iter().take(18).collect();
            format!("{start}…{end}")
        }
    }
}

/// The lines that add a key to a recipients file.
pub(super) fn entry(name: &str, recovery: bool, key: &str) -> String {
    let verb = if recovery { "recovery" } else { "reader" };
    format!("#: {verb} {name}\n{key}\n")
}

/// A text as the name of a reader, when it can be one.
pub(super) fn usable_name(text: &str) -> Option<String> {
    let name = text.trim();
    let fits = !name.is_empty()
        && name.chars().count() <= LONGEST_NAME
        && name.chars().all(|c| !c.is_control() && c != '=');
    fits.then(|| name.to_owned())
}

/// The text without the key that bears this name or is this key, its label included; `None` when
/// none does.
pub(super) fn without(text: &str, name_or_key: &str) -> Option<String> {
    let (recipients, _) = Recipients::parse(text, Path::new("recipients.txt"));
    let is_meant = |r: &&Reader| r.line == name_or_key || r.name.as_deref() == Some(name_or_key);
    let unwanted = recipients.0.iter().find(is_meant)?;
    let mut kept: Vec<&str> = Vec::new();
    for line in text.split_inclusive('\n') {
        let is_key = Key::parse(line.trim()).is_some_and(|key| key.line() == unwanted.line);
        if !is_key {
            kept.push(line);
            continue;
        }
        if kept.last().is_some_and(|before| before.trim_start().starts_with("#:")) {
            kept.pop();
        }
    }
    Some(kept.concat())
}

fn labelled(said: &str, span: Span, problems: &mut Diagnostics) -> Option<Label> {
    let said = said.trim();
    let (verb, rest) = said.split_once(char::is_whitespace).unwrap_or((said, ""));
    let name = usable_name(rest);
    match (verb, name) {
        ("reader" | "recovery", Some(name)) => {
            Some(Label { name, recovery: verb == "recovery", span })
        }
        _ => {
            problems.push(
                Diagnostic::error(codes::RECIPIENTS, "this says nothing of the key that follows")
                    .at(span, "`#: reader NAME` or `#: recovery NAME`")
                    .hint("a name has at most 64 characters and no `=`; a comment starts with `#` and a space"),
            );
            None
        }
    }
}

fn orphaned(label: Option<Label>, problems: &mut Diagnostics) {
    if let Some(label) = label {
        problems.push(
            Diagnostic::error(codes::RECIPIENTS, format!("`{}` has no key", label.name))
                .at(label.span, "the key belongs on the next line"),
        );
    }
}

fn exposed(span: Span) -> Diagnostic {
    Diagnostic::error(codes::SECRET_KEY_EXPOSED, "a secret key stands here")
        .at(span, "this file is public")
        .hint(
            "remove it here and from the history, make a new identity, and \
               change every secret that it could read",
        )
}

fn no_recipient(span: Span) -> Diagnostic {
    Diagnostic::error(codes::RECIPIENTS, "this is no recipient")
        .at(span, "age1…, ssh-ed25519 … or ssh-rsa …")
        .hint(
            "a reader's line is printed by `age-keygen -y`, or is the .pub file \
               of an SSH key",
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> String {
        age::x25519::Identity::generate().to_public().to_string()
    }

    #[test]
    fn names_stand_before_keys_and_ssh_keys_bring_their_own() {
        let (alice, offline, nobody) = (key(), key(), key());
        let ssh =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
        let text = format!(
            "# ours\n#: reader alice\n{alice}\n\n#: recovery the safe in Berlin\n# kept offline\n\
             {offline}\n{ssh} bob@laptop\n{nobody}\n"
        );
        let (readers, problems) = Recipients::parse(&text, Path::new("r"));
        assert!(problems.is_empty(), "{problems:?}");
        let names = readers.names();
        assert_eq!(names[&alice], "alice");
        assert_eq!(names[ssh], "bob@laptop");
        assert_eq!(readers.recovery(), ["the safe in Berlin"]);
        assert_eq!(readers.nameless(), [shortened(&nobody)]);
        // One less, by name and by key; the rest stays as it is, comments included.
        let less = without(&text, "alice").unwrap();
        assert!(!less.contains(&alice) && !less.contains("#: reader") && less.contains("# ours\n"));
        let less = without(&less, &nobody).unwrap();
        assert!(less.ends_with("bob@laptop\n"), "{less}");
        assert!(without(&less, "alice").is_none());
        // The order and the names make no other set.
        let (other, _) =
            Recipients::parse(&format!("{offline}\n{alice}\n{ssh}\n{nobody}"), Path::new("r"));
        assert_eq!(readers.digest(), other.digest());
    }

    #[test]
    fn a_label_without_a_key_and_one_that_is_none_are_errors() {
        for text in [
            "#: reader alice\n",
            "#: reader\nage1x\n",
            "#: owner bob\n",
            "#: reader a\n#: reader b\n",
        ] {
            let (_, problems) = Recipients::parse(text, Path::new("r"));
            assert!(problems.has_errors(), "{text}");
        }
        let one = key();
        let two = format!("#: reader a\n{one}\n#: reader a\n{}\n", key());
        let (_, problems) = Recipients::parse(&two, Path::new("r"));
        assert!(!problems.has_errors() && !problems.is_empty());
    }
}
