//! What a server says before its identification: the only trace of a server that turns connections
//! away because it has too many, or because it punishes the address that they come from.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are kept at most; an identification stands in the first lines.
const KEPT: usize = 1024;

/// The first bytes of a connection, shared with the stream that reads them.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstWords(Arc<Mutex<Vec<u8>>>);

impl FirstWords {
    /// What the server said, when it never came to its identification; `None` when it did.
    pub(super) fn without_identification(&self) -> Option<String> {
        without_identification(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps bytes; true once no more are of interest.
    fn keep(&self, bytes: &[u8]) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        kept.len() >= KEPT || without_identification(&kept).is_none()
    }
}

fn without_identification(bytes: &[u8]) -> Option<String> {
    let mut said = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.starts_with(b"SSH-") {
            return None;
        }
        let line = String::from_utf8_lossy(line);
        let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
        if !line.trim().is_empty() {
            said.push(line.trim().to_owned());
        }
    }
    Some(said.join("; "))
}

/// A stream that keeps its first bytes.
pub(super) struct Listened<S> {
    stream: S,
    words: FirstWords,
    done: bool,
}

impl<S> Listened<S> {
    pub(super) const fn new(stream: S, words: FirstWords) -> Self {
        Self { stream, words, done: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if !self.done && polled.is_ready() {
            self.done = self.words.keep(&buffer.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_instead_of_an_identification_is_told() {
        let words = FirstWords::default();
        assert_eq!(words.without_identification(), Some(String::new()), "closed without a word");
        assert!(!words.keep(b"Exceeded MaxSta"));
        assert!(!words.keep(b"rtups\r\n"));
        assert_eq!(words.without_identification().as_deref(), Some("Exceeded MaxStartups"));
    }

    #[test]
    fn an_identification_behind_other_lines_counts() {
        let words = FirstWords::default();
        assert!(!words.keep(b"a notice\r\n"));
        assert!(words.keep(b"SSH-2.0-OpenSSH_9.2\r\n"));
        assert_eq!(words.without_identification(), None);
    }

    #[test]
    fn bytes_without_end_are_not_kept() {
        let words = FirstWords::default();
        assert!(words.keep(&[b'x'; 4096]));
        assert_eq!(words.without_identification().unwrap().len(), 200);
    }
}
