//! What programs on many hosts print, as lines with the host's name, masked.

use super::output::{out, tell};
use crate::event::now_ms;
use crate::run::CommandOutput;
use crate::secrets::{SharedRedactor, StreamRedactor};
use crate::wire::OutputStream;
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;

/// A line longer than this is shown in parts, in bytes.
const LONGEST_LINE: usize = 64 * 1024;
/// How many lines of a host the journal keeps.
const KEPT_LINES: usize = 20;
/// How many characters of a kept line.
const KEPT_WIDTH: usize = 400;

/// Shows lines as they come.
pub struct Printer {
    json: bool,
    /// The longest host name, so that lines stand below each other.
    width: usize,
    redactor: SharedRedactor,
    hosts: HashMap<String, Host>,
}

/// The two streams of one host.
struct Host {
    streams: [Lines; 2],
    /// The last lines of both.
    last: VecDeque<String>,
}

impl Printer {
    /// For these hosts.
    pub fn new(hosts: &[String], json: bool, redactor: SharedRedactor) -> Self {
        let width = hosts.iter().map(String::len).max().unwrap_or_default();
        Self { json, width, redactor, hosts: HashMap::new() }
    }

    /// Shows everything until the last sender is gone. Blocks: for a thread of its own.
    pub fn follow(mut self, mut output: mpsc::Receiver<CommandOutput>) {
        while let Some(piece) = output.blocking_recv() {
            match piece {
                CommandOutput::Bytes { host, stream, bytes } => {
                    let lines = self.host(&host).streams[place(stream)].push(&bytes);
                    self.show(&host, stream, lines);
                }
                CommandOutput::End { host, shown } => {
                    for stream in [OutputStream::Stdout, OutputStream::Stderr] {
                        let rest = self.host(&host).streams[place(stream)].finish();
                        self.show(&host, stream, rest);
                    }
                    let last: Vec<String> = self.host(&host).last.drain(..).collect();
                    // Nobody waits for it once the operator has stopped the run twice.
                    let _ = shown.send((!last.is_empty()).then(|| last.join("\n")));
                }
            }
        }
    }

    fn host(&mut self, name: &str) -> &mut Host {
        let redactor = &self.redactor;
        self.hosts.entry(name.to_owned()).or_insert_with(|| Host {
            streams: [Lines::new(redactor.stream()), Lines::new(redactor.stream())],
            last: VecDeque::new(),
        })
    }

    fn show(&mut self, name: &str, stream: OutputStream, lines: Vec<String>) {
        let (json, width) = (self.json, self.width);
        let host = self.host(name);
        for line in lines {
            let visible = visible(&line);
            match (json, stream) {
                (true, _) => {
                    let word = ["stdout", "stderr"][place(stream)];
                    out!(
                        "{}",
                        serde_json::json!({ "at_ms": now_ms(), "event": "program_output", "host": name, "stream": word, "line": line })
                    );
                }
                (false, OutputStream::Stdout) => out!("{name:width$} | {visible}"),
                (false, OutputStream::Stderr) => tell!("{name:width$} | {visible}"),
            }
            if host.last.len() == KEPT_LINES {
                host.last.pop_front();
            }
            host.last.push_back(visible.chars().take(KEPT_WIDTH).collect());
        }
    }
}

const fn place(stream: OutputStream) -> usize {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
    }
}

/// Masks a stream and cuts it into lines.
struct Lines {
    redactor: StreamRedactor,
    begun: Vec<u8>,
}

impl Lines {
    const fn new(redactor: StreamRedactor) -> Self {
        Self { redactor, begun: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let masked = self.redactor.push(bytes);
        self.cut(&masked)
    }

    /// What is left at the end, with the part of a line that never ended.
    fn finish(&mut self) -> Vec<String> {
        let masked = self.redactor.finish();
        let mut lines = self.cut(&masked);
        if !self.begun.is_empty() {
            lines.push(text(&std::mem::take(&mut self.begun)));
        }
        lines
    }

    fn cut(&mut self, masked: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in masked.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.len() >= LONGEST_LINE {
                lines.push(text(&std::mem::take(&mut self.begun)));
            }
        }
        lines
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

/// A line with nothing in it that a terminal would obey: a host must not write over what other
/// hosts said.
fn visible(line: &str) -> String {
    let mut visible = String::with_capacity(line.len());
    for character in line.chars() {
        if character.is_control() && character != '\t' {
            visible.extend(character.escape_default());
        } else {
            visible.push(character);
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Redactor, Secret};
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let redactor = SharedRedactor::new();
        let canary = Secret::new("kanarie%7Zr0".to_owned());
        redactor.learn(Redactor::new([("A_PASSWORD", &canary)]));
        let mut lines = Lines::new(redactor.stream());
        let mut all: Vec<String> = pieces.iter().flat_map(|piece| lines.push(piece)).collect();
        all.extend(lines.finish());
        all
    }

    #[test]
    fn lines_are_whole_and_the_last_needs_no_end() {
        assert_eq!(lines(&[b"on", b"e\r\ntwo\n\nth", b"ree"]), ["one", "two", "", "three"]);
        assert_eq!(lines(&[b"\n"]), [""]);
        assert!(lines(&[b""]).is_empty());
    }

    #[test]
    fn a_line_without_end_is_shown_in_parts() {
        let long = vec![b'x'; LONGEST_LINE];
        assert_eq!(lines(&[&long, b"y"]).len(), 2);
    }

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        assert_eq!(visible("a\tb\u{1b}[2Jc\rd"), "a\tb\\u{1b}[2Jc\\rd");
    }

    proptest! {
        #[test]
        fn a_secret_is_masked_wherever_the_pieces_are_cut(at in 0_usize..26) {
            let all = b"before kanarie%7Zr0 after\n";
            let lines = lines(&[&all[..at], &all[at..]]);
            prop_assert_eq!(lines, ["before [secret:A_PASSWORD] after"]);
        }
    }
}
