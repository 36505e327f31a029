//! One HAProxy is gone.

use super::{Limits, Technology, drill};
use crate::gate::fault::Kind;
use crate::gate::probe;
use crate::gate::scenario::Finding;
use serde::Deserialize;
use std::time::Duration;

/// Bounds of an HAProxy that is gone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyDown {
    /// Seconds without an acknowledged write through the balancer. Default: 10.
    #[serde(default = "default_outage")]
    max_outage: u64,
    /// Seconds until all is as before. Default: 90.
    #[serde(default = "default_restored")]
    restored_within: u64,
}

fn default_outage() -> u64 {
    10
}

fn default_restored() -> u64 {
    90
}

const HAPROXY: &str = "haproxy.service";

/// Stops HAProxy on the first of its hosts; the others and the balancer go on.
pub async fn proxy_down<T: Technology>(cluster: &T, bounds: ProxyDown) -> Finding {
    let expected = format!(
        "the other HAProxies and the balancer lead to the {}, no write missed for more than {} s",
        T::LEADER,
        bounds.max_outage
    );
    let limits = Limits {
        outage: Duration::from_secs(bounds.max_outage),
        one_writer_after: Duration::ZERO,
        restored: Duration::from_secs(bounds.restored_within),
        heals_after: Duration::from_secs(120),
    };
    drill(cluster, expected, limits, async |drill| {
        let cluster = drill.cluster;
        let [first, _, ..] = &cluster.place().proxies[..] else {
            return Err("there is only one HAProxy: nobody could stand in".to_owned());
        };
        drill.inject(&first.name, Kind::StopUnit(HAPROXY.to_owned())).await?;
        drill.writes_again(limits.outage).await?;
        let leader = drill.leader.clone();
        drill.followed(&leader, limits.outage, Some(&first.name)).await?;
        drill.heal().await?;
        probe::wait_until(limits.restored, || cluster.lead_to(&leader, None)).await
    })
    .await
}
