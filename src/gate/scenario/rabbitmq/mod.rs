//! RabbitMQ and the HAProxies that lead to its nodes: the tests of layer L3.
//!
//! Nodes are asked by their own hosts, past all proxies and packet filters; clients' way is the
//! balancer, else each HAProxy. What is wrong is decided by pure functions from what was seen. A
//! message counts as promised once the broker confirmed it; each such message must be consumed.

mod amqp;
mod crash;
mod diag;
mod drill;
mod isolation;
mod judge;
mod load;
mod messages;
mod names;
mod path;
mod seen;

pub use crate::gate::drill::ProxyDown;
pub use crash::{Crash, MajorityDown, cold_start, kill_leader, majority_down};
pub use diag::{Login, Nodes, Queues, nodes, passwords, quorum};
pub use isolation::{Drain, Partition, drain, partition};
pub use load::{Load, load};
pub use path::{Ways, backends, haproxy_down, ways};
