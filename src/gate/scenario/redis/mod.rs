//! Redis with Sentinel and the HAProxies that follow its master: the tests of layer L2 (KB-C).
//!
//! Nodes are asked by their own hosts, past all proxies and packet filters; clients' way is the
//! balancer, else each HAProxy. What is wrong is decided by pure functions from what was seen.

mod balancers;
mod crash;
mod diag;
mod drill;
mod hand_over;
mod haproxy;
mod isolation;
mod judge;
mod load;
mod names;
mod seen;
mod settings;

pub use crate::gate::drill::ProxyDown;
pub use balancers::{Garbage, HaproxyQuiet, garbage, haproxy_down, haproxy_quiet};
pub use crash::{Crash, FirstDown, first_down, frozen_master, kill_master};
pub use diag::{Auth, Roles, Sentinels, auth, roles, sentinels};
pub use hand_over::{HandOver, planned};
pub use haproxy::{Follows, Paths, follows, paths};
pub use isolation::{Isolated, NoQuorum, isolated, no_quorum};
pub use load::{Load, load};
pub use settings::{Rewrite, Settings, rewrite, settings};
