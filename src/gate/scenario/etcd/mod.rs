//! etcd: the tests of its part of layer L1.

mod health;
mod kill;
mod members;
mod writes;

pub use health::{Health, health};
pub use kill::{KillLeader, kill_leader};
