//! A hidden prompt: the terminal shows nothing of what is typed.

use super::codes;
use super::secret::Secret;
use crate::diag::Diagnostic;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// Puts the terminal back as it was.
struct Quiet<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Quiet<'a> {
    /// No echo, no line editing, and no signals: a signal would leave the terminal silent.
    fn new(terminal: BorrowedFd<'a>) -> rustix::io::Result<Self> {
        let before = rustix::termios::tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes -=
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        rustix::termios::tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Asks for a line on a terminal without showing it.
pub fn read_hidden(
    terminal: impl AsFd,
    output: &mut dyn Write,
    question: &str,
) -> Result<Secret<String>, Diagnostic> {
    let failed = |error: std::io::Error| {
        Diagnostic::error(codes::INPUT, format!("cannot ask on the terminal: {error}"))
    };
    let quiet = Quiet::new(terminal.as_fd()).map_err(|error| failed(error.into()))?;
    write!(output, "{question}: ").and_then(|()| output.flush()).map_err(failed)?;
    let mut typed = Secret::new(Vec::with_capacity(super::change::LONGEST_INPUT));
    let outcome = loop {
        let mut byte = [0_u8];
        match rustix::io::read(quiet.terminal, &mut byte) {
            Ok(0) => break Err("the terminal was closed"),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(error.into())),
        }
        match byte[0] {
            b'\r' | b'\n' => break Ok(()),
            3 | 4 => break Err("interrupted"),
            8 | 127 => erase_character(typed.expose_mut()),
            21 => typed.expose_mut().clear(),
            byte if typed.expose().len() < super::change::LONGEST_INPUT => {
                typed.expose_mut().push(byte);
            }
            _ => break Err("the line is longer than any value"),
        }
    };
    drop(quiet);
    writeln!(output).map_err(failed)?;
    outcome.map_err(|what| Diagnostic::error(codes::INPUT, what).hint("nothing was changed"))?;
    match std::str::from_utf8(typed.expose()) {
        Ok(text) => Ok(Secret::new(text.to_owned())),
        Err(_) => Err(Diagnostic::error(codes::INPUT, "the line is not UTF-8")),
    }
}

/// Takes back the last character, of however many bytes.
fn erase_character(typed: &mut Vec<u8>) {
    while let Some(byte) = typed.pop() {
        if byte & 0b1100_0000 != 0b1000_0000 {
            break;
        }
    }
}
