//! What a value must be, so that every consumer takes it (X11, X27).

use std::fmt;

/// Values that ship as somebody's default or stand in every guessing list; refused whatever the
/// declaration says. Compared without regard to case.
const WEAK: &[&str] = &[
    "admin",
    "administrator",
    "changeit",
    "changeme",
    "change-me",
    "change_me",
    "default",
    "example",
    "guest",
    "letmein",
    "minioadmin",
    "monitor",
    "passw0rd",
    "password",
    "qwerty",
    "replace-me",
    "replaceme",
    "secret",
    "test",
    "todo",
    "123456",
    "12345678",
    "123456789",
    "xxxxxx",
    "xxxxxxxx",
];

/// The shortest value that output can be searched for; shorter ones cannot be masked.
pub const SHORTEST_MASKED: usize = 6;

/// The characters that a value may consist of, or is generated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// `A-Z a-z 0-9`.
    Alnum,
    /// `a-z 0-9`.
    Lower,
    /// `0-9 a-f`.
    Hex,
    /// `0-9`.
    Digits,
    /// `A-Z a-z 0-9 - _`.
    Base64Url,
}

impl Alphabet {
    /// Every alphabet.
    pub const ALL: [Self; 5] = [Self::Alnum, Self::Lower, Self::Hex, Self::Digits, Self::Base64Url];

    /// The word used in annotations.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Alnum => "alnum",
            Self::Lower => "lower",
            Self::Hex => "hex",
            Self::Digits => "digits",
            Self::Base64Url => "base64url",
        }
    }

    /// The characters, each once.
    pub const fn characters(self) -> &'static [u8] {
        match self {
            Self::Alnum => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            Self::Lower => b"abcdefghijklmnopqrstuvwxyz0123456789",
            Self::Hex => b"0123456789abcdef",
            Self::Digits => b"0123456789",
            Self::Base64Url => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
        }
    }

    /// Reads the word of an annotation.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alphabet| alphabet.word() == word)
    }
}

/// A character, or class of characters, that a consumer cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excluded {
    /// Space and tab.
    Space,
    /// `'` and `"`.
    Quote,
    /// `\`.
    Backslash,
    /// `:`.
    Colon,
    /// `;`.
    Semicolon,
    /// `@`.
    At,
    /// `/`.
    Slash,
    /// `#`.
    Hash,
    /// Everything outside ASCII.
    NonAscii,
}

impl Excluded {
    /// Every class.
    pub const ALL: [Self; 9] = [
        Self::Space,
        Self::Quote,
        Self::Backslash,
        Self::Colon,
        Self::Semicolon,
        Self::At,
        Self::Slash,
        Self::Hash,
        Self::NonAscii,
    ];

    /// The word used in annotations.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Quote => "quote",
            Self::Backslash => "backslash",
            Self::Colon => "colon",
            Self::Semicolon => "semicolon",
            Self::At => "at",
            Self::Slash => "slash",
            Self::Hash => "hash",
            Self::NonAscii => "non-ascii",
        }
    }

    /// Reads the word of an annotation.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }

    fn holds(self, character: char) -> bool {
        match self {
            Self::Space => matches!(character, ' ' | '\t'),
            Self::Quote => matches!(character, '\'' | '"'),
            Self::Backslash => character == '\\',
            Self::Colon => character == ':',
            Self::Semicolon => character == ';',
            Self::At => character == '@',
            Self::Slash => character == '/',
            Self::Hash => character == '#',
            Self::NonAscii => !character.is_ascii(),
        }
    }
}

/// The rules that a value is checked against, from its `accept` annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Fewest characters.
    pub min: usize,
    /// Most characters.
    pub max: usize,
    /// The only characters allowed, if said.
    pub alphabet: Option<Alphabet>,
    /// Characters that are not allowed.
    pub without: Vec<Excluded>,
    /// Values refused besides the known defaults.
    pub not: Vec<String>,
    /// A beginning that is refused: a token that names another cluster's certificate authority.
    pub not_prefix: Option<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min: SHORTEST_MASKED,
            max: 4096,
            alphabet: None,
            without: Vec::new(),
            not: Vec::new(),
            not_prefix: None,
        }
    }
}

/// How a value breaks its rules. Never holds any part of the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// No character at all.
    Empty,
    /// NUL, line feed, carriage return or another control character.
    Control,
    /// Fewer characters than this.
    Short(usize),
    /// More characters than this.
    Long(usize),
    /// Characters outside this alphabet.
    Alphabet(Alphabet),
    /// An excluded class occurs.
    Excluded(Excluded),
    /// A known default.
    Weak,
    /// A beginning that is refused.
    Prefix(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "is empty"),
            Self::Control => write!(f, "holds a control character (a line end, a tab or NUL)"),
            Self::Short(min) => write!(f, "has fewer than {min} characters"),
            Self::Long(max) => write!(f, "has more than {max} characters"),
            Self::Alphabet(alphabet) => {
                write!(f, "holds characters other than `{}`", alphabet.word())
            }
            Self::Excluded(class) => write!(f, "holds what `without={}` excludes", class.word()),
            Self::Weak => write!(f, "is a known default or stands in every guessing list"),
            Self::Prefix(prefix) => write!(f, "starts with `{prefix}`"),
        }
    }
}

impl Rules {
    /// Every rule that the value breaks; empty when it may be used.
    pub fn check(&self, value: &str) -> Vec<Violation> {
        if value.is_empty() {
            return vec![Violation::Empty];
        }
        let mut found = Vec::new();
        if value.chars().any(char::is_control) {
            found.push(Violation::Control);
        }
        let length = value.chars().count();
        if length < self.min {
            found.push(Violation::Short(self.min));
        }
        if length > self.max {
            found.push(Violation::Long(self.max));
        }
        if let Some(alphabet) = self.alphabet
            && !value.bytes().all(|byte| alphabet.characters().contains(&byte))
        {
            found.push(Violation::Alphabet(alphabet));
        }
        for class in &self.without {
            if value.chars().any(|character| class.holds(character)) {
                found.push(Violation::Excluded(*class));
            }
        }
        let refused = WEAK.iter().copied().chain(self.not.iter().map(String::as_str));
        if refused.into_iter().any(|weak| value.eq_ignore_ascii_case(weak)) {
            found.push(Violation::Weak);
        }
        if let Some(prefix) = &self.not_prefix
            && value.starts_with(prefix.as_str())
        {
            found.push(Violation::Prefix(prefix.clone()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_seen_and_no_message_holds_the_value() {
        let rules = Rules {
            min: 8,
            max: 12,
            alphabet: Some(Alphabet::Alnum),
            without: vec![Excluded::Colon, Excluded::Backslash],
            not: vec!["Kolibri77".into()],
            not_prefix: Some("K10".into()),
        };
        let cases = [
            ("", vec![Violation::Empty]),
            ("Kx8", vec![Violation::Short(8)]),
            ("Kx8Kx8Kx8Kx8x", vec![Violation::Long(12)]),
            (
                "Kx8Kx8:x",
                vec![Violation::Alphabet(Alphabet::Alnum), Violation::Excluded(Excluded::Colon)],
            ),
            ("Kx8Kx8\nx", vec![Violation::Control, Violation::Alphabet(Alphabet::Alnum)]),
            ("KOLIBRI77", vec![Violation::Weak]),
            ("ChangeMe", vec![Violation::Weak]),
            ("K10abcdefg", vec![Violation::Prefix("K10".into())]),
            ("Kx8Kx8Kx8", vec![]),
        ];
        for (value, expected) in cases {
            let found = rules.check(value);
            assert_eq!(found, expected, "{value:?}");
            for violation in found {
                assert!(value.is_empty() || !violation.to_string().contains(value));
            }
        }
    }
}
