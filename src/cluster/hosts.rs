//! The one way of drivers to hosts.

use crate::resource::{Batch, Outcome};
use crate::wire::ExecSpec;
use futures::future::LocalBoxFuture;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection made from a host.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What one resource came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The item's name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a program came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// True when it exited with status 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Why a connection could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialError {
    /// True when the target said that nobody listens there.
    pub refused: bool,
    /// Why.
    pub reason: String,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Hosts as drivers see them. An error of `apply` or `run` means that the host gave no answer that
/// counts: it could not be asked any more, or a program did not come to its own end.
pub trait Hosts {
    /// Brings resources about, or only looks ([`Batch::mode`]); ends at the first that fails.
    fn apply<'a>(
        &'a self,
        host: &'a str,
        work: Batch,
    ) -> LocalBoxFuture<'a, Result<Vec<Applied>, String>>;

    /// Runs a program to its own end; one that is killed or runs out of time is an error.
    fn run<'a>(&'a self, host: &'a str, spec: ExecSpec) -> LocalBoxFuture<'a, Result<Ran, String>>;

    /// Connects *from the host* to an address.
    fn dial<'a>(
        &'a self,
        host: &'a str,
        to: SocketAddr,
        limit: Duration,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Stream>, DialError>>;
}
