//! The annotation lines of declarations: `#: generate …`, `#: fixed …`, `#: supplied`, `#: accept …`.

use super::codes;
use super::declaration::Origin;
use super::name::nearest;
use super::rules::{Alphabet, Excluded, Rules, Violation};
use crate::diag::{Diagnostic, Diagnostics, Span};

/// The fewest bits of chance that a generated secret may have.
const FEWEST_BITS: f64 = 80.0;

/// What an annotation line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Annotation {
    /// How the value is made.
    Origin(Origin),
    /// What the value must be.
    Accept(Rules),
}

/// A word of the line with its place.
struct Word<'a> {
    text: &'a str,
    span: Span,
}

/// Reads what follows `#:`. `line` is the span of the whole line.
pub(super) fn parse(text: &str, line: &Span, problems: &mut Diagnostics) -> Option<Annotation> {
    let words = split(text, line);
    let Some((verb, mut rest)) = words.split_first() else {
        problems.push(
            Diagnostic::error(codes::ANNOTATION, "the annotation is empty")
                .at(line.clone(), "nothing follows `#:`")
                .hint("one of generate, fixed, supplied, accept"),
        );
        return None;
    };
    let is_user = verb.text == "generate" && rest.first().is_some_and(|word| word.text == "user");
    if is_user {
        rest = rest.get(1..).unwrap_or_default();
    }
    let known: &[&str] = match (verb.text, is_user) {
        ("generate", true) => &["prefix", "length"],
        ("generate", false) => &["length", "alphabet"],
        ("fixed", _) => &["value"],
        ("supplied", _) => &[],
        ("accept", _) => &["min", "max", "alphabet", "without", "not", "not-prefix"],
        (other, _) => {
            let verbs = ["generate", "fixed", "supplied", "accept"];
            problems.push(
                Diagnostic::error(codes::ANNOTATION, format!("unknown annotation `{other}`"))
                    .at(verb.span.clone(), "not one of generate, fixed, supplied, accept")
                    .hint(match nearest(other, verbs) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "a comment starts with `#` and a space".into(),
                    }),
            );
            return None;
        }
    };
    let before = problems.count(crate::diag::Severity::Error);
    let mut settings = Settings { line, pairs: pairs(rest, known, problems), problems };
    let annotation = match (verb.text, is_user) {
        ("generate", true) => Annotation::Origin(Origin::GenerateUser {
            prefix: settings.required("prefix").unwrap_or_default(),
            length: settings.number("length").unwrap_or(6),
        }),
        ("generate", false) => Annotation::Origin(Origin::Generate {
            length: match settings.required("length") {
                Some(_) => settings.number("length").unwrap_or(0),
                None => 0,
            },
            alphabet: match settings.required("alphabet") {
                Some(_) => settings.alphabet().unwrap_or(Alphabet::Alnum),
                None => Alphabet::Alnum,
            },
        }),
        ("fixed", _) => Annotation::Origin(Origin::Fixed {
            value: settings.required("value").unwrap_or_default(),
        }),
        ("supplied", _) => Annotation::Origin(Origin::Supplied),
        _ => {
            let default = Rules::default();
            Annotation::Accept(Rules {
                min: settings.number("min").unwrap_or(default.min),
                max: settings.number("max").unwrap_or(default.max),
                alphabet: settings.alphabet(),
                without: settings.excluded(),
                not: settings
                    .text("not")
                    .map_or_else(Vec::new, |list| list.split(',').map(str::to_owned).collect()),
                not_prefix: settings.text("not-prefix"),
            })
        }
    };
    (problems.count(crate::diag::Severity::Error) == before).then_some(annotation)
}

/// Why an origin cannot give what the rules accept; each reads on after the name.
pub(super) fn contradictions(origin: &Origin, rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    if rules.min > rules.max {
        found.push(format!("accepts min={} above max={}", rules.min, rules.max));
    }
    let sample = match origin {
        Origin::Supplied => return found,
        Origin::Fixed { value } => {
            found.extend(
                rules.check(value).into_iter().map(|v| format!("is fixed to a value that {v}")),
            );
            return found;
        }
        Origin::Generate { length, alphabet } => {
            let characters = alphabet.characters();
            let bits = *length as f64 * (characters.len() as f64).log2();
            if bits < FEWEST_BITS {
                found.push(format!(
                    "is generated with {bits:.0} bits of chance, fewer than {FEWEST_BITS:.0}"
                ));
            }
            characters.iter().copied().cycle().take((*length).max(characters.len())).collect()
        }
        Origin::GenerateUser { prefix, .. } => {
            [prefix.as_bytes(), Alphabet::Lower.characters()].concat()
        }
    };
    let length = match origin {
        Origin::Generate { length, .. } => *length,
        Origin::GenerateUser { prefix, length } => prefix.chars().count() + length,
        Origin::Fixed { .. } | Origin::Supplied => 0,
    };
    if length < rules.min || length > rules.max {
        found.push(format!(
            "is generated with {length} characters, but accepts min={} max={}",
            rules.min, rules.max
        ));
    }
    for violation in rules.check(&String::from_utf8_lossy(&sample)) {
        if matches!(violation, Violation::Alphabet(_) | Violation::Excluded(_)) {
            found.push(format!("can be generated to a value that {violation}"));
        }
    }
    if let (Origin::GenerateUser { prefix, .. }, Some(refused)) = (origin, &rules.not_prefix)
        && prefix.starts_with(refused.as_str())
    {
        found.push(format!("is generated to a value that starts with `{refused}`"));
    }
    found
}

fn split<'a>(text: &'a str, line: &Span) -> Vec<Word<'a>> {
    let base = line.range.end - text.len();
    text.split_whitespace()
        .map(|word| {
            let offset = base + (word.as_ptr() as usize - text.as_ptr() as usize);
            Word { text: word, span: line.source.span(offset..offset + word.len()) }
        })
        .collect()
}

struct Pair<'a> {
    key: &'a str,
    value: &'a str,
    span: Span,
}

fn pairs<'a>(words: &[Word<'a>], known: &[&str], problems: &mut Diagnostics) -> Vec<Pair<'a>> {
    let mut found: Vec<Pair<'a>> = Vec::new();
    for word in words {
        let key = word.text.split('=').next().unwrap_or_default();
        if !known.contains(&key) {
            let list = match known {
                [] => "this annotation takes no settings".to_owned(),
                known => format!("the settings are {}", known.join(", ")),
            };
            problems.push(
                Diagnostic::error(codes::ANNOTATION, format!("unknown setting `{key}`"))
                    .at(word.span.clone(), list)
                    .hint(match nearest(key, known.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "settings are key=value, without spaces".into(),
                    }),
            );
            continue;
        }
        let value = word.text.split_once('=').map_or("", |(_, value)| value);
        if value.is_empty() {
            problems.push(
                Diagnostic::error(codes::ANNOTATION, format!("`{key}` has no value"))
                    .at(word.span.clone(), "write key=value, without spaces"),
            );
            continue;
        }
        if let Some(first) = found.iter().find(|pair| pair.key == key) {
            problems.push(
                Diagnostic::error(codes::ANNOTATION, format!("`{key}` is set twice"))
                    .at(word.span.clone(), "again here")
                    .also(first.span.clone(), "first here"),
            );
            continue;
        }
        found.push(Pair { key, value, span: word.span.clone() });
    }
    found
}

struct Settings<'a> {
    line: &'a Span,
    pairs: Vec<Pair<'a>>,
    problems: &'a mut Diagnostics,
}

impl Settings<'_> {
    fn text(&self, key: &str) -> Option<String> {
        self.pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value.to_owned())
    }

    fn required(&mut self, key: &str) -> Option<String> {
        let found = self.text(key);
        if found.is_none() {
            self.problems.push(
                Diagnostic::error(codes::ANNOTATION, format!("`{key}=` is missing"))
                    .at(self.line.clone(), "this annotation needs it"),
            );
        }
        found
    }

    fn wrong(&mut self, key: &str, note: impl Into<String>) {
        if let Some(pair) = self.pairs.iter().find(|pair| pair.key == key) {
            self.problems.push(
                Diagnostic::error(codes::ANNOTATION, format!("`{key}` cannot be understood"))
                    .at(pair.span.clone(), note),
            );
        }
    }

    fn number(&mut self, key: &str) -> Option<usize> {
        let text = self.text(key)?;
        let number = text.parse().ok().filter(|number| (1..=4096).contains(number));
        if number.is_none() {
            self.wrong(key, "a number from 1 to 4096");
        }
        number
    }

    fn alphabet(&mut self) -> Option<Alphabet> {
        let text = self.text("alphabet")?;
        let alphabet = Alphabet::from_word(&text);
        if alphabet.is_none() {
            let words = Alphabet::ALL.map(Alphabet::word).join(", ");
            self.wrong("alphabet", format!("one of {words}"));
        }
        alphabet
    }

    fn excluded(&mut self) -> Vec<Excluded> {
        let Some(text) = self.text("without") else {
            return Vec::new();
        };
        let found: Option<Vec<Excluded>> = text.split(',').map(Excluded::from_word).collect();
        found.unwrap_or_else(|| {
            let words = Excluded::ALL.map(Excluded::word).join(",");
            self.wrong("without", format!("a list out of {words}"));
            Vec::new()
        })
    }
}
