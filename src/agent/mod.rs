//! The host side: a small static program that the controller uploads once and starts over SSH.
//! Blocking std only; it needs nothing on the target but a kernel.
//!
//! One thread reads frames and hands them on, one writes; batches, the relay and every program have
//! a thread of their own, so that nothing waits for anything it does not need.

mod batch;
mod blobs;
mod command_line;
mod exec;
mod facts;
mod hashed;
mod lock;
mod netlink;
mod once;
mod paths;
mod pending;
mod probe;
mod probe_transfer;
mod processes;
mod prove;
mod relay;
mod row;
mod seal;
mod serve;
pub mod system;
mod users;
mod worker;
mod writer;

pub use command_line::{main, serve_simulated};
