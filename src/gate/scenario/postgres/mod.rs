//! PostgreSQL under Patroni, PgBouncer and the HAProxies that lead to its primary: the tests of
//! layer L1.
//!
//! Members are asked by their own hosts, past all proxies and packet filters; clients' way is the
//! balancer, else each HAProxy. What is wrong is decided by pure functions from what was seen.

mod backup;
mod crash;
mod diag;
mod drill;
mod isolation;
mod judge;
mod load;
mod names;
mod path;
mod restore;
mod seen;
mod store;
mod switchover;

pub use crate::gate::drill::ProxyDown;
pub use backup::{Backup, backup};
pub use crash::{Crash, ReplicasDown, kill_leader, replicas_down};
pub use diag::{Login, Members, members, passwords};
pub use isolation::{WithoutStore, isolated, without_store};
pub use load::{Load, load};
pub use path::{Backends, Ways, backends, ways};
pub use restore::{Restore, restore};
pub use store::{StoreDown, StoreLost, majority_down, one_down};
pub use switchover::{Switchover, planned};

use super::{Finding, Surroundings};
use names::Cluster;

/// One HAProxy is gone.
pub async fn haproxy_down(surroundings: Surroundings<'_>, bounds: ProxyDown) -> Finding {
    match Cluster::of(&surroundings) {
        Ok(cluster) => crate::gate::drill::proxy_down(&cluster, bounds).await,
        Err(finding) => *finding,
    }
}
