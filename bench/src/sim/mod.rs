//! Simulated hosts: a real SSH server each, and behind it the real agent on a private root.

mod host;
mod server;

pub use host::make_root;
pub use server::serve;
