//! Writes through the path that clients use while a fault is there, and what became of them.
//!
//! Every write has an id of its own and is written down with its outcome and its times. What was
//! acknowledged must be readable afterwards; what was not is unknown either way; what nobody wrote
//! must not be there. Bookkeeping is pure ([`journal`], [`authority`]); the background tasks only
//! fill it.

pub mod authority;
pub mod journal;
mod sample;
mod write;

pub use sample::Sampler;
pub use write::Writer;

use authority::Answer;
use journal::Outcome;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// How long one write, or one look, may take.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An attempt to connect.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, String>> + Send + 'a>>;

/// Connects to one address, from wherever clients are.
pub trait Dial: Send + Sync {
    /// One attempt, with a deadline of its own.
    fn dial(&self) -> Dialing<'_>;
}

/// How clients connect and write.
pub trait Connect: Send + Sync + 'static {
    /// A connection.
    type Client: Put;

    /// What the keys of the writes begin with.
    fn prefix(&self) -> &str;

    /// Connects; `attempt` counts, so that several ways are tried in turn.
    ///
    /// # Errors
    /// Why not.
    fn connect(&self, attempt: usize) -> impl Future<Output = Result<Self::Client, String>> + Send;
}

/// A connection that writes.
pub trait Put: Send + Sync {
    /// One write of [`journal::value`] under [`journal::key`]: what became of it, and the problem
    /// that makes the connection of no use any more. A refusal is one too: behind a proxy the next
    /// connection may lead to another server.
    fn put(&self, id: u64) -> impl Future<Output = (Outcome, Option<String>)> + Send;
}

/// A node that is looked at, past all proxies.
pub trait Watch: Send + Sync + 'static {
    /// A connection to it.
    type Client: Send + Sync;

    /// Its host.
    fn name(&self) -> &str;

    /// Connects to this very node.
    ///
    /// # Errors
    /// Why not.
    fn connect(&self) -> impl Future<Output = Result<Self::Client, String>> + Send;

    /// What the node is; one that leads is given a write. With the moment at which that was sent.
    fn look(&self, client: &Self::Client) -> impl Future<Output = (Instant, Answer)> + Send;
}
