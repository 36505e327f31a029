//! Stable codes of diagnostics.

/// A diagnostic's code. Codes are never reused for another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(&'static str);

impl Code {
    /// A code; only the tables of codes make them, so that each exists once.
    pub const fn new(code: &'static str) -> Self {
        Self(code)
    }

    /// The code as printed, for example `E0203`.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}
