//! What resources may do to a host.

/// The host as resources see it.
pub trait System {}
