//! A connection that the agent opened from its host, as a byte stream.

use super::error::{OpenError, SessionError};
use super::router::Router;
use crate::wire::{CHUNK, RelayTarget, STREAM_WINDOW, ToAgent};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// What the router and the stream's user share.
#[derive(Default)]
pub(super) struct StreamState {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    opening: Option<oneshot::Sender<Result<(), Refusal>>>,
    incoming: VecDeque<u8>,
    /// Read by the user and not yet given back as credit.
    consumed: u32,
    /// Bytes that may still be sent.
    credit: u64,
    end: Option<Result<(), String>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Refusal {
    reason: String,
    refused: bool,
    lost: Option<SessionError>,
}

impl StreamState {
    pub(super) fn opened(&self) {
        if let Some(opening) = self.lock().opening.take() {
            opening.send(Ok(())).ok();
        }
    }

    pub(super) fn open_failed(&self, reason: String, refused: bool) {
        if let Some(opening) = self.lock().opening.take() {
            opening.send(Err(Refusal { reason, refused, lost: None })).ok();
        }
    }

    pub(super) fn data(&self, bytes: Vec<u8>) {
        let mut inner = self.lock();
        inner.incoming.extend(bytes);
        wake(&mut inner.reader);
    }

    pub(super) fn credit(&self, bytes: u32) {
        let mut inner = self.lock();
        inner.credit += u64::from(bytes);
        wake(&mut inner.writer);
    }

    pub(super) fn closed(&self, error: Option<String>) {
        let mut inner = self.lock();
        let end = error.map_or(Ok(()), Err);
        inner.end.get_or_insert(end);
        wake(&mut inner.reader);
        wake(&mut inner.writer);
    }

    /// The session is gone.
    pub(super) fn fail(&self, error: &SessionError) {
        if let Some(opening) = self.lock().opening.take() {
            let refusal =
                Refusal { reason: String::new(), refused: false, lost: Some(error.clone()) };
            opening.send(Err(refusal)).ok();
        }
        let mut inner = self.lock();
        inner.end = Some(Err(error.to_string()));
        wake(&mut inner.reader);
        wake(&mut inner.writer);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// A connection from a host. Shutting it down closes the sending side; dropping it closes it.
pub struct RelayStream {
    router: Arc<Router>,
    state: Arc<StreamState>,
    id: u32,
    shut: bool,
}

impl std::fmt::Debug for RelayStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayStream")
            .field("host", &self.router.host())
            .field("id", &self.id)
            .finish()
    }
}

impl RelayStream {
    /// Asks the agent to connect and waits for its answer.
    pub(super) async fn open(
        router: Arc<Router>,
        to: RelayTarget,
        timeout: Duration,
    ) -> Result<Self, OpenError> {
        let (sender, answer) = oneshot::channel();
        let inner =
            Inner { opening: Some(sender), credit: u64::from(STREAM_WINDOW), ..Inner::default() };
        let state = Arc::new(StreamState { inner: Mutex::new(inner) });
        let id = router.add_stream(Arc::clone(&state))?;
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        router.send(ToAgent::Open { stream: id, to: to.clone(), timeout_ms });
        // From here on a drop closes the stream at the agent too.
        let stream = Self { router, state, id, shut: false };
        let host = stream.router.host().to_owned();
        match answer.await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(Refusal { lost: Some(error), .. })) => Err(error.into()),
            Ok(Err(Refusal { refused: true, .. })) => Err(OpenError::Refused { host, to }),
            Ok(Err(Refusal { reason, .. })) if reason.contains("deadline") => {
                Err(OpenError::Timeout { host, to, after: timeout })
            }
            Ok(Err(Refusal { reason, .. })) => Err(OpenError::Other { host, to, reason }),
            Err(_) => Err(stream.router.lost().into()),
        }
    }
}

impl AsyncRead for RelayStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.state.lock();
        if inner.incoming.is_empty() {
            return match &inner.end {
                Some(Ok(())) => Poll::Ready(Ok(())),
                Some(Err(reason)) => {
                    let error = io::Error::new(io::ErrorKind::ConnectionReset, reason.clone());
                    Poll::Ready(Err(error))
                }
                None => {
                    inner.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            };
        }
        let (front, _) = inner.incoming.as_slices();
        let count = front.len().min(buffer.remaining());
        buffer.put_slice(&front[..count]);
        inner.incoming.drain(..count);
        inner.consumed += u32::try_from(count).unwrap_or(u32::MAX);
        if inner.consumed >= STREAM_WINDOW / 4 && inner.end.is_none() {
            let bytes = std::mem::take(&mut inner.consumed);
            drop(inner);
            self.router.send_urgent(ToAgent::Credit { stream: self.id, bytes });
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RelayStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut inner = self.state.lock();
        if let Some(Err(reason)) = &inner.end {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, reason.clone())));
        }
        if inner.credit == 0 {
            inner.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(CHUNK).min(usize::try_from(inner.credit).unwrap_or(CHUNK));
        inner.credit -= count as u64;
        drop(inner);
        self.router.send(ToAgent::Data { stream: self.id, bytes: bytes[..count].to_vec() });
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            self.shut = true;
            self.router.send(ToAgent::Close { stream: self.id });
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for RelayStream {
    fn drop(&mut self) {
        self.router.remove_stream(self.id);
        let read_to_end = self.state.lock().end.is_some();
        if !self.shut {
            self.router.send(ToAgent::Close { stream: self.id });
        }
        if !read_to_end {
            // Half a close leaves the agent reading for nobody.
            self.router.send(ToAgent::Close { stream: self.id });
        }
    }
}
