//! A small typed client of Redis and of Sentinel, over any byte stream.
//!
//! Every call has a deadline. What a server refuses is a typed [`Error`], since what a refusal
//! means decides: a wrong password is no outage, and a replica's `READONLY` is no lost write. It
//! knows nothing else of strata and keeps no secret.

mod acl;
mod client;
mod error;
mod info;
mod reply;
mod sentinel;

pub use acl::password_hash;
pub use client::{Auth, Client, Endpoint, Role};
pub use error::Error;
pub use info::{Info, Replica, Replication};
pub use sentinel::{Instance, Quorum};

#[cfg(test)]
mod reply_tests;
