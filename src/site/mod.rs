//! The site: everything an operator has on disk, read and checked against itself.
//!
//! [`Site::load`] reads every file, collects every problem, and returns what could be read; a
//! command goes on only when there is no error. Nothing here touches the network, an identity or
//! a decrypted secret.

pub mod artifacts;
pub mod cluster;
pub mod config;
pub mod deserialize;
pub mod exceptions;
pub mod gate;
pub mod groups;
pub mod images_lock;
pub mod inventory;
pub mod lab_hosts;
pub mod notify;
pub mod out;
pub mod report;
pub mod role;
pub mod rolling;
pub mod secrets;
pub mod ssh;
pub mod suggest;
pub mod tree;
pub mod vars;
pub mod versions;
pub mod waiver;

mod load;
mod reader;

pub use cluster::ClusterRole;
pub use config::{Config, Layer, Placement};
pub use exceptions::Exceptions;
pub use gate::GateTest;
pub use groups::{Balancer, Group};
pub use images_lock::ImageLock;
pub use inventory::Host;
pub use load::{Profile, Site};
pub use out::{Out, Outs};
pub use reader::{TableReader, wrong_type};
pub use role::{FirewallRule, Role, Step};
pub use rolling::Rolling;
pub use secrets::{SecretsSettings, VaultLogin, VaultSettings};
pub use versions::Version;
