//! `images.lock.yaml`: what each image pin of `versions.yaml` was resolved to (X1).
//!
//! The same strict subset of YAML as the versions, one level deeper: an entry a pin, its values
//! quoted, no types to guess. `strata images lock` writes it; an operator adds aliases.

use super::suggest;
use super::versions::{Version, unpinned};
use crate::diag::{Code, Diagnostic, Diagnostics, Source, Span};
use indexmap::IndexMap;
use std::fmt::Write as _;

/// The file, below the site (for a rehearsal below `inventory/lab`).
pub const FILE: &str = "images.lock.yaml";

/// The keys of an entry.
const KEYS: [&str; 4] = ["ref", "from", "digest", "id"];

/// What an image pin was resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLock {
    /// The image that was resolved: the pin's value at that time.
    pub image: String,
    /// An alias: where the image is pulled from, when not under its own name.
    pub from: Option<String>,
    /// Digest of its manifest, as registries name it.
    pub digest: Option<String>,
    /// Digest of its configuration, as engines and archives name it.
    pub id: Option<String>,
    /// Where the entry begins.
    pub span: Span,
}

/// An entry as it stands in the file, with the places of its values.
struct Raw {
    pin: String,
    span: Span,
    values: IndexMap<String, (String, Span)>,
}

/// Reads the file and holds it against the pins.
pub fn read(
    source: &Source,
    versions: &IndexMap<String, Version>,
    problems: &mut Diagnostics,
) -> IndexMap<String, ImageLock> {
    let mut locks: IndexMap<String, ImageLock> = IndexMap::new();
    for raw in entries(source, problems) {
        let Some(lock) = lock(&raw, problems) else { continue };
        stale(&raw, &lock, versions, problems);
        if let Some(first) = locks.get(&raw.pin) {
            problems.push(
                Diagnostic::error(Code::IMAGE_LOCK, format!("`{}` appears twice", raw.pin))
                    .at(raw.span, "second time here")
                    .also(first.span.clone(), "first here"),
            );
            continue;
        }
        locks.insert(raw.pin, lock);
    }
    locks
}

/// Cuts the text into entries; what is no line of one is reported and passed over.
fn entries(source: &Source, problems: &mut Diagnostics) -> Vec<Raw> {
    let mut entries: Vec<Raw> = Vec::new();
    let mut start = 0;
    for whole in source.text().split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        let span = source.span(start..start + line.len());
        let place = |part: &str| {
            let at = part.as_ptr() as usize - source.text().as_ptr() as usize;
            source.span(at..at + part.len())
        };
        start += whole.len();
        if line.trim().is_empty() || line.trim_start().starts_with('#') || line == "---" {
            continue;
        }
        if let Some(pin) = heading(line) {
            entries.push(Raw { pin: pin.to_owned(), span: place(pin), values: IndexMap::new() });
            continue;
        }
        let (Some((key, value)), Some(entry)) = (pair(line), entries.last_mut()) else {
            problems.push(
                Diagnostic::error(Code::IMAGE_LOCK, "this line belongs to no entry")
                    .at(span, "")
                    .hint("an entry is `pin:` and below it, each two spaces in, `ref: \"…\"`, `from: \"…\"`, `digest: \"sha256:…\"`, `id: \"sha256:…\"`"),
            );
            continue;
        };
        if !KEYS.contains(&key) {
            problems.push(
                Diagnostic::error(Code::IMAGE_LOCK, format!("an entry has no key `{key}`"))
                    .at(place(key), "")
                    .hint(suggest::among(key, KEYS)),
            );
        } else if entry.values.contains_key(key) {
            problems.push(
                Diagnostic::error(Code::IMAGE_LOCK, format!("`{key}` appears twice"))
                    .at(place(key), "second time here"),
            );
        } else {
            entry.values.insert(key.to_owned(), (value.to_owned(), place(value)));
        }
    }
    entries
}

/// `pin:`, at the beginning of the line.
fn heading(line: &str) -> Option<&str> {
    let (pin, rest) = line.split_once(':')?;
    let rest = rest.trim();
    let fine = pin.starts_with(|c: char| c.is_ascii_lowercase())
        && pin.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    (fine && (rest.is_empty() || rest.starts_with('#'))).then_some(pin)
}

/// `  key: "value"`.
fn pair(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = line.strip_prefix("  ")?.split_once(':')?;
    let (value, after) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
    let after = after.trim();
    let fine = !key.is_empty()
        && key.chars().all(|c| c.is_ascii_lowercase())
        && !value.is_empty()
        && value.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    (fine && (after.is_empty() || after.starts_with('#'))).then_some((key, value))
}

/// An entry whose values are as they must be.
fn lock(raw: &Raw, problems: &mut Diagnostics) -> Option<ImageLock> {
    let mut sound = true;
    let mut wrong = |message: String, span: &Span, hint: &str| {
        sound = false;
        problems.push(Diagnostic::error(Code::IMAGE_LOCK, message).at(span.clone(), "").hint(hint));
    };
    for key in ["ref", "from"] {
        let Some((value, span)) = raw.values.get(key) else { continue };
        if unpinned(value).is_some() || !is_tagged(value) {
            wrong(
                format!("`{value}` names no exact image"),
                span,
                "write repository:tag, with another tag than `latest`",
            );
        }
    }
    for key in ["digest", "id"] {
        let Some((value, span)) = raw.values.get(key) else { continue };
        if !is_digest(value) {
            wrong(
                format!("`{value}` is no digest"),
                span,
                "a digest is `sha256:` and 64 digits of 0-9 and a-f",
            );
        }
    }
    let value = |key: &str| raw.values.get(key).map(|(value, _)| value.clone());
    let (from, digest, id) = (value("from"), value("digest"), value("id"));
    let Some(image) = value("ref") else {
        let hint = "`ref` is the image that the digest was resolved for: the pin's value";
        wrong(format!("the entry `{}` has no `ref`", raw.pin), &raw.span, hint);
        return None;
    };
    if digest.is_none() && (from.is_some() || id.is_none()) {
        wrong(
            format!("the entry `{}` has no `digest`", raw.pin),
            &raw.span,
            "`strata images lock` resolves images, `--alias PIN=IMAGE` those of another name; an entry without a registry has an `id`",
        );
    }
    sound.then(|| ImageLock { image, from, digest, id, span: raw.span.clone() })
}

/// An entry of a pin that is gone or says something else now.
fn stale(
    raw: &Raw,
    lock: &ImageLock,
    versions: &IndexMap<String, Version>,
    problems: &mut Diagnostics,
) {
    let Some(version) = versions.get(&raw.pin) else {
        problems.push(
            Diagnostic::error(
                Code::IMAGE_LOCK_STALE,
                format!("there is no pin `{}`, and its image is locked", raw.pin),
            )
            .at(raw.span.clone(), "")
            .hint("remove the entry, or run `strata images lock`"),
        );
        return;
    };
    if version.value != lock.image {
        problems.push(
            Diagnostic::error(
                Code::IMAGE_LOCK_STALE,
                format!("`{}` is `{}` and locked as `{}`", raw.pin, version.value, lock.image),
            )
            .at(raw.values.get("ref").map_or(&raw.span, |(_, span)| span).clone(), "locked")
            .also(version.span.clone(), "the pin")
            .hint(format!("`strata images lock --pin {}` resolves the new one", raw.pin)),
        );
    }
}

fn is_tagged(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    let plain = image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c));
    plain && last.split_once(':').is_some_and(|(_, tag)| !tag.is_empty())
}

fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The file's text. Pure; [`read`] reads back what this writes.
pub fn text<'a>(locks: impl IntoIterator<Item = (&'a str, &'a ImageLock)>) -> String {
    let mut text = String::from(
        "# What the image pins of versions.yaml were resolved to. `strata images lock` writes this file and\n# keeps no comments in it; a digest changes with --update only.\n",
    );
    for (pin, lock) in locks {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{pin}:\n  ref: \"{}\"\n", lock.image);
        for (key, value) in [("from", &lock.from), ("digest", &lock.digest), ("id", &lock.id)] {
            if let Some(value) = value {
                let _ = writeln!(text, "  {key}: \"{value}\"");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn versions(problems: &mut Diagnostics) -> IndexMap<String, Version> {
        let text = "a_image: \"a:1\"\nminio_image: \"minio/minio:R1\"\nb_version: \"3\"\n";
        super::super::versions::read(&Source::new("versions.yaml", text), problems)
    }

    fn tried(text: &str) -> (IndexMap<String, ImageLock>, Vec<(String, String)>) {
        let mut problems = Diagnostics::new();
        let versions = versions(&mut problems);
        let locks = read(&Source::new(FILE, text), &versions, &mut problems);
        let said = problems.iter().map(|problem| {
            let place = problem.primary.as_ref().map(|(span, _)| span.to_string());
            assert!(problem.hint.is_some() || problem.message.contains("twice"));
            (problem.code.as_str().to_owned(), place.unwrap_or_default())
        });
        (locks, said.collect())
    }

    fn digest(c: char) -> String {
        format!("sha256:{}", c.to_string().repeat(64))
    }

    #[test]
    fn an_entry_says_what_a_pin_was_resolved_to() {
        let text = format!(
            "# locked\n---\na_image: # cache\n  ref: \"a:1\"\n  id: \"{}\"\n\nminio_image:\n  ref: \"minio/minio:R1\"\n  from: \"quay.io/minio/minio:R2\"\n  digest: \"{}\" # of R2\n",
            digest('a'),
            digest('b')
        );
        let (locks, problems) = tried(&text);
        assert_eq!(problems, []);
        assert_eq!(locks["a_image"].id, Some(digest('a')));
        assert_eq!(locks["minio_image"].from.as_deref(), Some("quay.io/minio/minio:R2"));
        assert_eq!(locks["minio_image"].digest, Some(digest('b')));
    }

    #[test]
    fn mistakes_have_places() {
        let good = digest('a');
        for (text, code, place) in [
            ("  ref: \"a:1\"\n".to_owned(), "E0604", "1:1"),
            (
                format!("a_image:\n  ref: \"a:1\"\n  id: {good}\n  digest: \"{good}\"\n"),
                "E0604",
                "3:1",
            ),
            (
                format!("a_image:\n  ref: \"a:1\"\n  digets: \"{good}\"\n  id: \"{good}\"\n"),
                "E0604",
                "3:3",
            ),
            (
                format!("a_image:\n  ref: \"a:1\"\n  id: \"{good}\"\n  id: \"{good}\"\n"),
                "E0604",
                "4:3",
            ),
            (format!("a_image:\n  id: \"{good}\"\n"), "E0604", "1:1"),
            ("a_image:\n  ref: \"a:1\"\n".to_owned(), "E0604", "1:1"),
            (
                format!("a_image:\n  ref: \"a:1\"\n  from: \"q/a:1\"\n  id: \"{good}\"\n"),
                "E0604",
                "1:1",
            ),
            ("a_image:\n  ref: \"a:1\"\n  digest: \"sha256:12\"\n".to_owned(), "E0604", "3:12"),
            (
                format!("a_image:\n  ref: \"a:1\"\n  from: \"q/a:latest\"\n  digest: \"{good}\"\n"),
                "E0604",
                "3:10",
            ),
            (format!("a_image:\n  ref: \"a:0\"\n  id: \"{good}\"\n"), "E0605", "2:9"),
            (format!("c_image:\n  ref: \"c:1\"\n  id: \"{good}\"\n"), "E0605", "1:1"),
        ] {
            let (_, problems) = tried(&text);
            let wanted = (code.to_owned(), format!("{FILE}:{place}"));
            assert_eq!(problems, [wanted], "{text}");
        }
        let twice = format!("a_image:\n  ref: \"a:1\"\n  id: \"{good}\"\n").repeat(2);
        assert_eq!(tried(&twice).1, [("E0604".to_owned(), format!("{FILE}:4:1"))]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(from in proptest::option::of("[a-z]{1,8}/[a-z]{1,8}:[0-9]{1,3}"), d in "[0-9a-f]{64}", i in proptest::option::of("[0-9a-f]{64}")) {
            let span = Source::new(FILE, "").span(0..0);
            let lock = ImageLock { image: "a:1".to_owned(), from, digest: Some(format!("sha256:{d}")), id: i.map(|i| format!("sha256:{i}")), span };
            let (read, problems) = tried(&text([("a_image", &lock)]));
            prop_assert_eq!(problems, []);
            let span = read["a_image"].span.clone();
            prop_assert_eq!(&read["a_image"], &ImageLock { span, ..lock });
        }

        #[test]
        fn nothing_is_too_strange(text in "[ -~\n\ré]{0,200}") {
            tried_quietly(&text);
        }
    }

    fn tried_quietly(text: &str) {
        let mut problems = Diagnostics::new();
        let versions = versions(&mut problems);
        read(&Source::new(FILE, text), &versions, &mut problems);
        problems.iter().for_each(|problem| {
            problem.primary.iter().for_each(|(span, _)| drop(span.to_string()));
        });
    }
}
