//! Events as JSON lines.

use crate::event::{Consumer, Event};
use std::io::{self, Write};

/// Writes each event as one JSON line.
pub struct Json<W: Write + Send>(W);

impl<W: Write + Send> Json<W> {
    /// Writes to `out`.
    pub const fn new(out: W) -> Self {
        Self(out)
    }
}

impl<W: Write + Send> Consumer for Json<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, event)?;
        self.0.write_all(b"\n")?;
        self.0.flush()
    }
}
