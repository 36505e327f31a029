//! Source files that diagnostics point into.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file as it was read, with the path shown to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    path: PathBuf,
    text: String,
}

impl Source {
    /// A source with the path to show (relative to the site) and its text.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self(Arc::new(Inner { path: path.into(), text: text.into() }))
    }

    /// The path to show.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// A span of this source; `range` is in bytes and is cut to the text's length.
    pub fn span(&self, range: Range<usize>) -> Span {
        let end = self.boundary(range.end);
        let start = self.boundary(range.start).min(end);
        Span { source: self.clone(), range: start..end }
    }

    /// The span of a whole line (1-based), without its line end.
    pub fn line_span(&self, line: usize) -> Span {
        let mut start = 0;
        for (index, text) in self.text().split_inclusive('\n').enumerate() {
            if index + 1 == line {
                let content = text.trim_end_matches(['\n', '\r']);
                return self.span(start..start + content.len());
            }
            start += text.len();
        }
        self.span(start..start)
    }

    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text().len());
        while !self.text().is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// A place in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub source: Source,
    /// The bytes.
    pub range: Range<usize>,
}

impl Span {
    /// The 1-based line and column (in characters) of the span's start.
    pub fn position(&self) -> (usize, usize) {
        let before = &self.source.text()[..self.range.start];
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (line, before[line_start..].chars().count() + 1)
    }

    /// The spanned text.
    pub fn text(&self) -> &str {
        &self.source.text()[self.range.clone()]
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (line, column) = self.position();
        write!(f, "{}:{line}:{column}", self.source.path().display())
    }
}
