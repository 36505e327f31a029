//! Diagnostics as text, laid out like a compiler's.

use super::{Diagnostic, Diagnostics, Severity, Span};
use annotate_snippets::{AnnotationKind, Level, Renderer as SnippetRenderer, Snippet};

/// Renders diagnostics with or without colour.
#[derive(Debug, Clone, Copy)]
pub struct Renderer {
    color: bool,
}

impl Renderer {
    /// A renderer; `color` decides on ANSI styles.
    pub const fn new(color: bool) -> Self {
        Self { color }
    }

    /// One diagnostic, ending in a line feed.
    pub fn one(&self, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level
            .primary_title(diagnostic.message.as_str())
            .id(diagnostic.code.as_str())
            .elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new());
        let mut places: Vec<(&Span, &str, bool)> = Vec::new();
        if let Some((span, note)) = &diagnostic.primary {
            places.push((span, note, true));
        }
        places.extend(diagnostic.secondary.iter().map(|(span, note)| (span, note.as_str(), false)));
        let mut shown: Vec<&std::path::Path> = Vec::new();
        for (span, _, _) in &places {
            if shown.contains(&span.source.path()) {
                continue;
            }
            shown.push(span.source.path());
            let path = span.source.path().to_string_lossy().into_owned();
            let annotations = places
                .iter()
                .filter(|(other, _, _)| other.source == span.source)
                .map(|(other, note, primary)| {
                    let kind =
                        if *primary { AnnotationKind::Primary } else { AnnotationKind::Context };
                    kind.span(other.range.clone()).label(*note)
                });
            group = group.element(
                Snippet::source(span.source.text()).path(path).fold(true).annotations(annotations),
            );
        }
        if let Some(hint) = &diagnostic.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        let renderer =
            if self.color { SnippetRenderer::styled() } else { SnippetRenderer::plain() };
        format!("{}\n", renderer.render(&[group]))
    }

    /// All diagnostics in file order, with a closing count.
    pub fn all(&self, diagnostics: &Diagnostics) -> String {
        let mut text = String::new();
        for diagnostic in diagnostics.sorted() {
            text.push_str(&self.one(diagnostic));
            text.push('\n');
        }
        text
    }
}
