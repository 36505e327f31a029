//! Diagnostics: what is wrong, where (file, line, column), and what to do about it.
//!
//! Everything that an operator can get wrong becomes a [`Diagnostic`] with a stable [`Code`].
//! Commands collect all of them before they stop; nothing is ever lost because something else was
//! found first.

mod code;
mod diagnostic;
mod render;
mod source;

pub use code::Code;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use render::Renderer;
pub use source::{Source, Span};
