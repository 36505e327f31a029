//! Which secrets exist: `credentials.example/<brick>.env`, files without any value.
//!
//! Comment lines say what a name is for, annotation lines (`#:`) how its value is made and what its
//! consumers take, and `NAME=` declares it:
//!
//! ```text
//! # The password of clients and replicas.
//! #: generate length=40 alphabet=alnum
//! #: accept min=16 max=128 without=space,quote
//! REDIS_PASSWORD=
//! ```

use super::annotation::{self, Annotation};
use super::codes;
use super::name::{is_brick_name, is_secret_name};
use super::rules::{Alphabet, Rules};
use crate::diag::{Diagnostic, Diagnostics, Source, Span};
use std::path::{Path, PathBuf};

/// The directory of the declarations, below the site's root.
pub const DIRECTORY: &str = "credentials.example";

/// How a value comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Random characters.
    Generate {
        /// How many characters.
        length: usize,
        /// Out of which.
        alphabet: Alphabet,
    },
    /// A user name: a readable prefix and random lower case characters.
    GenerateUser {
        /// The readable part.
        prefix: String,
        /// How many random characters.
        length: usize,
    },
    /// The value itself: a name that is configured beside secrets, not a secret.
    Fixed {
        /// The value.
        value: String,
    },
    /// Given by the operator.
    Supplied,
}

/// One declared secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The file it belongs to, without its ending.
    pub brick: String,
    /// The name; unique in the site.
    pub name: String,
    /// What it is for, one line.
    pub purpose: String,
    /// How its value is made.
    pub origin: Origin,
    /// What its value must be.
    pub rules: Rules,
    /// Where it is declared.
    pub span: Span,
}

impl Declaration {
    /// The command that gives it a value.
    pub fn command(&self) -> String {
        match self.origin {
            Origin::Supplied => format!("strata secrets set {} {}", self.brick, self.name),
            _ => "strata secrets init".to_owned(),
        }
    }

    /// The diagnostic for a place that needs its value when there is none.
    pub fn missing(&self) -> Diagnostic {
        Diagnostic::error(codes::SECRET_MISSING, format!("{} has no value", self.name))
            .at(self.span.clone(), "declared here")
            .hint(format!("run `{}`", self.command()))
    }
}

/// All declared secrets of a site, in the order of bricks and lines.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    list: Vec<Declaration>,
    bricks: Vec<String>,
}

impl Declared {
    /// Reads `credentials.example` of a site.
    pub fn load(site_root: &Path) -> (Self, Diagnostics) {
        let mut problems = Diagnostics::new();
        let directory = site_root.join(DIRECTORY);
        let listed = std::fs::read_dir(&directory)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut paths: Vec<PathBuf> = match listed {
            Ok(paths) => paths,
            Err(error) => {
                problems.push(
                    Diagnostic::error(
                        codes::DECLARATIONS_MISSING,
                        format!("cannot list {DIRECTORY}: {error}"),
                    )
                    .hint("each site declares its secrets there, one file a brick"),
                );
                return (Self::default(), problems);
            }
        };
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "env"));
        paths.sort();
        let mut declared = Self::default();
        for path in paths {
            let shown = Path::new(DIRECTORY).join(path.file_name().unwrap_or_default());
            match std::fs::read_to_string(&path) {
                Ok(text) => declared.read(&shown, &text, &mut problems),
                Err(error) => problems.push(Diagnostic::error(
                    codes::FILE_ACCESS,
                    format!("cannot read {}: {error}", shown.display()),
                )),
            }
        }
        (declared, problems)
    }

    /// Reads one file into the collection.
    pub fn read(&mut self, path: &Path, text: &str, problems: &mut Diagnostics) {
        let source = Source::new(path, masked(text));
        let brick = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !is_brick_name(&brick) {
            problems.push(
                Diagnostic::error(
                    codes::ENV_NAME,
                    format!("`{brick}` is not a name of a brick: {}", path.display()),
                )
                .hint("bricks are a-z, then a-z, 0-9 and `-`"),
            );
            return;
        }
        self.bricks.push(brick.clone());
        let mut purpose: Vec<&str> = Vec::new();
        let mut annotations: Vec<(&str, Span)> = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end();
            let span = source.span(start..start + bare.len());
            start += line.len();
            if let Some(annotation) = bare.strip_prefix("#:") {
                annotations.push((annotation, span));
            } else if let Some(comment) = bare.strip_prefix('#') {
                purpose.push(comment.trim());
            } else if bare.is_empty() {
                purpose.clear();
                orphaned(&mut annotations, problems);
            } else {
                let taken = std::mem::take(&mut annotations);
                if let Some(name) = declared_name(bare, &span, problems) {
                    self.declare(&brick, name, purpose.join(" "), &taken, span, problems);
                }
                purpose.clear();
            }
        }
        orphaned(&mut annotations, problems);
    }

    fn declare(
        &mut self,
        brick: &str,
        name: &str,
        purpose: String,
        annotations: &[(&str, Span)],
        span: Span,
        problems: &mut Diagnostics,
    ) {
        let span = Span { range: span.range.start..span.range.start + name.len(), ..span };
        if let Some(first) = self.get(name) {
            problems.push(
                Diagnostic::error(codes::DECLARED_TWICE, format!("{name} is declared twice"))
                    .at(span, "again here")
                    .also(first.span.clone(), "first here")
                    .hint("names are unique in a site: templates use them without the brick"),
            );
            return;
        }
        let before = problems.count(crate::diag::Severity::Error);
        let mut origin: Option<(Origin, Span)> = None;
        let mut rules: Option<(Rules, Span)> = None;
        for (text, place) in annotations {
            match annotation::parse(text, place, problems) {
                Some(Annotation::Origin(found)) => match &origin {
                    None => origin = Some((found, place.clone())),
                    Some((_, first)) => problems.push(
                        Diagnostic::error(
                            codes::ANNOTATION_CONTRADICTS,
                            format!("two annotations say how {name} is made"),
                        )
                        .at(place.clone(), "again here")
                        .also(first.clone(), "first here"),
                    ),
                },
                Some(Annotation::Accept(found)) => match &rules {
                    None => rules = Some((found, place.clone())),
                    Some((_, first)) => problems.push(
                        Diagnostic::error(
                            codes::ANNOTATION_CONTRADICTS,
                            format!("two annotations say what {name} accepts"),
                        )
                        .at(place.clone(), "again here")
                        .also(first.clone(), "first here"),
                    ),
                },
                None => {}
            }
        }
        match &origin {
            Some((origin, place)) => {
                let rules = rules.as_ref().map(|(rules, _)| rules.clone()).unwrap_or_default();
                for contradiction in annotation::contradictions(origin, &rules) {
                    problems.push(
                        Diagnostic::error(
                            codes::ANNOTATION_CONTRADICTS,
                            format!("{name} {contradiction}"),
                        )
                        .at(place.clone(), "made here")
                        .hint("make both lines agree"),
                    );
                }
            }
            // A line that was meant to say it has been reported already.
            None if problems.count(crate::diag::Severity::Error) > before => {}
            None => problems.push(
                Diagnostic::error(
                    codes::ANNOTATION_MISSING,
                    format!("{name} says not how it is made"),
                )
                .at(span.clone(), "no annotation stands before it")
                .hint("add `#: generate length=32 alphabet=alnum` or `#: supplied` before it"),
            ),
        }
        if problems.count(crate::diag::Severity::Error) == before
            && let Some((origin, _)) = origin
        {
            self.list.push(Declaration {
                brick: brick.to_owned(),
                name: name.to_owned(),
                purpose,
                origin,
                rules: rules.map(|(rules, _)| rules).unwrap_or_default(),
                span,
            });
        }
    }

    /// Every declaration, bricks in alphabetical order, names in the order of their file.
    pub fn iter(&self) -> std::slice::Iter<'_, Declaration> {
        self.list.iter()
    }

    /// The bricks, in alphabetical order.
    pub fn bricks(&self) -> &[String] {
        &self.bricks
    }

    /// The declarations of one brick, in the order of its file.
    pub fn of(&self, brick: &str) -> Vec<&Declaration> {
        self.list.iter().filter(|declaration| declaration.brick == brick).collect()
    }

    /// One declaration by its name.
    pub fn get(&self, name: &str) -> Option<&Declaration> {
        self.list.iter().find(|declaration| declaration.name == name)
    }
}

fn orphaned(annotations: &mut Vec<(&str, Span)>, problems: &mut Diagnostics) {
    for (_, span) in annotations.drain(..) {
        problems.push(
            Diagnostic::error(codes::ANNOTATION, "the annotation belongs to no name")
                .at(span, "a NAME= line must follow it directly"),
        );
    }
}

fn declared_name<'a>(line: &'a str, span: &Span, problems: &mut Diagnostics) -> Option<&'a str> {
    let Some((name, value)) = line.split_once('=') else {
        problems.push(
            Diagnostic::error(codes::ENV_LINE, "the line is not NAME=")
                .at(span.clone(), "neither a declaration nor a comment")
                .hint("comments start with `#`, annotations with `#:`"),
        );
        return None;
    };
    if !is_secret_name(name) {
        problems.push(
            Diagnostic::error(codes::ENV_NAME, "what stands before `=` is not a name")
                .at(span.clone(), "names are A-Z, then A-Z, 0-9 and `_`"),
        );
        return None;
    }
    if !value.is_empty() {
        let start = span.range.start + name.len() + 1;
        problems.push(
            Diagnostic::error(codes::DECLARED_VALUE, format!("{name} has a value here"))
                .at(
                    Span { range: start..span.range.end, ..span.clone() },
                    "this file may be read by anyone",
                )
                .hint("delete it, and change it wherever it is in use; a name that is no secret is `#: fixed value=…`"),
        );
        return None;
    }
    Some(name)
}

/// The text with what follows the first `=` of a line that is no comment, or a whole line without
/// one, replaced by asterisks: somebody may have put a value there.
fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        let kept = match bare.split_once('=') {
            _ if bare.starts_with('#') => bare.len(),
            Some((name, _)) if is_secret_name(name) => name.len() + 1,
            _ => 0,
        };
        shown.push_str(&line[..kept]);
        shown.extend(std::iter::repeat_n('*', bare.len() - kept));
        shown.push_str(&line[bare.len()..]);
    }
    shown
}
