//! Permission bits.

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Permission bits of a file or directory. Roles write an octal string, `"0644"`: a bare number
/// would be read as decimal and is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileMode(u16);

impl FileMode {
    /// The low twelve bits of `bits`.
    pub const fn new(bits: u16) -> Self {
        Self(bits & 0o7777)
    }

    /// The bits, `0o7777` at most.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:04o}", self.0)
    }
}

impl fmt::Debug for FileMode {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// Why a text is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a file mode: write three or four octal digits in quotes, such as \"0644\"")]
pub struct FileModeError(String);

impl FromStr for FileMode {
    type Err = FileModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        match u16::from_str_radix(text, 8) {
            Ok(bits) if octal => Ok(Self(bits)),
            _ => Err(FileModeError(text.to_owned())),
        }
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u16(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            let bits = u16::deserialize(deserializer)?;
            if bits > 0o7777 {
                return Err(D::Error::custom("a file mode has at most twelve bits"));
            }
            Ok(Self(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prints_what_it_parses(bits in 0_u16..=0o7777) {
            let mode = FileMode::new(bits);
            prop_assert_eq!(mode.to_string().parse::<FileMode>().unwrap(), mode);
            let wire = postcard::to_allocvec(&mode).unwrap();
            prop_assert_eq!(postcard::from_bytes::<FileMode>(&wire).unwrap(), mode);
        }

        #[test]
        fn refuses_the_rest(text in "\\PC{0,6}") {
            let good = matches!(text.len(), 3 | 4) && text.chars().all(|c| ('0'..='7').contains(&c));
            prop_assert_eq!(text.parse::<FileMode>().is_ok(), good);
        }
    }

    #[test]
    fn three_digits_are_four() {
        assert_eq!("755".parse::<FileMode>().unwrap(), FileMode::new(0o755));
        assert!(
            postcard::from_bytes::<FileMode>(&postcard::to_allocvec(&0o10000_u16).unwrap())
                .is_err()
        );
    }
}
