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

pub use sample::{Node, Sampler};
pub use write::{Route, Writer};

use std::future::Future;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

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
