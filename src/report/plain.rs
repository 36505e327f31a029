//! Plain lines: for logs, pipes and terminals that want no display.

use super::line::line_of;
use super::style::Palette;
use crate::event::{Consumer, Event};
use std::io::{self, Write};

/// Writes a line for each event that deserves one.
pub struct Plain<W: Write + Send> {
    out: W,
    palette: Palette,
    verbose: bool,
}

impl<W: Write + Send> Plain<W> {
    /// Writes to `out`.
    pub const fn new(out: W, palette: Palette, verbose: bool) -> Self {
        Self { out, palette, verbose }
    }
}

impl<W: Write + Send> Consumer for Plain<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Some(line) = line_of(event, &self.palette, self.verbose) {
            writeln!(self.out, "{line}")?;
            self.out.flush()?;
        }
        Ok(())
    }
}
