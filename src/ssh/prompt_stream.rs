//! A TCP stream that acknowledges at once what it received.
//!
//! sshd leaves Nagle's algorithm on for sessions without a terminal: its second small packet waits
//! for our acknowledgement of the first, and the kernel delays that by 40 ms as long as we have
//! nothing to send. The option is one-shot by nature and therefore set again after every read.

use rustix::net::sockopt::set_tcp_quickack;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The stream.
pub(super) struct PromptStream(TcpStream);

impl PromptStream {
    /// Wraps a connected socket.
    pub(super) fn new(socket: TcpStream) -> Self {
        Self(socket)
    }
}

impl AsyncRead for PromptStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(context, buffer);
        if polled.is_ready() {
            // Only a matter of speed: a kernel that refuses changes nothing else.
            set_tcp_quickack(&self.0, true).ok();
        }
        polled
    }
}

impl AsyncWrite for PromptStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
