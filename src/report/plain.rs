//! Plain lines: for logs, pipes and terminals that want no display.

use super::beside::Lines;
use super::style::Palette;
use crate::event::{Consumer, Event};
use std::io::{self, Write};

/// Writes a line for each event that deserves one.
pub struct Plain<W: Write + Send> {
    out: W,
    lines: Lines,
}

impl<W: Write + Send> Plain<W> {
    /// Writes to `out`.
    pub fn new(out: W, palette: Palette, verbose: bool) -> Self {
        Self { out, lines: Lines::new(palette, verbose) }
    }
}

impl<W: Write + Send> Consumer for Plain<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Some(line) = self.lines.line(event) {
            writeln!(self.out, "{line}")?;
            self.out.flush()?;
        }
        Ok(())
    }
}
