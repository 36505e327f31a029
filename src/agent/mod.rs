//! The host side: a small static program that the controller uploads once and starts over SSH.
//! Blocking std only; it needs nothing on the target but a kernel.

pub mod system;
