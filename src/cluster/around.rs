//! What a host that goes away for a while owes to its clusters, whichever layer they are of: it
//! hands leadership over first, and the next host waits until all is whole again (E5).

use super::fleet_hosts::FleetHosts;
use super::marker::Records;
use super::member::Members;
use super::registry::{look, step_down};
use super::until::{Look, until};
use crate::fleet::{Connection, Events, Fleet, Stop};
use crate::plan::Resolver;
use crate::site::{ClusterRole, Role, Site};
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The clusters of a site, as seen from one host at a time.
pub struct Around<'a> {
    /// The site.
    pub site: &'a Site,
    /// Renders members.
    pub resolver: &'a Resolver<'a>,
    /// Sessions.
    pub fleet: &'a Fleet,
    /// How to reach members that are not connected.
    pub connection: &'a Connection,
}

impl Around<'_> {
    /// The clusters that this host is a member of. Whether they were formed is asked of their
    /// members: that nothing remembers one proves nothing.
    fn of(&self, host: &str) -> Vec<(&Role, &ClusterRole)> {
        let member = |cluster: &ClusterRole| {
            let group = self.site.groups.get(&cluster.members.0);
            group.is_some_and(|group| group.hosts.iter().any(|name| name == host))
        };
        self.site
            .roles
            .values()
            .filter_map(|role| Some((role, role.cluster.as_ref()?)))
            .filter(|(_, cluster)| member(cluster))
            .collect()
    }

    /// True when the host is a member of any cluster.
    pub fn has_clusters(&self, host: &str) -> bool {
        !self.of(host).is_empty()
    }

    /// True when the host leads a cluster now.
    pub async fn leads(&self, host: &str) -> bool {
        for (role, cluster) in self.of(host) {
            let members = self.members(role, cluster).await;
            let hosts = FleetHosts::quiet(self.fleet);
            let records = Records::new(&self.site.root);
            // What cannot be looked at is said where the host is about to go.
            if let Ok(report) = look(&members, cluster, &hosts, &records).await
                && report.leader.as_deref() == Some(host)
            {
                return true;
            }
        }
        false
    }

    /// Makes sure that the host leads nothing; refuses while a cluster of it is not whole. Gives
    /// the clusters that it handed over.
    ///
    /// # Errors
    /// Which cluster forbids it, and why.
    pub async fn step_down(&self, host: &str) -> Result<Vec<String>, String> {
        let mut handed = Vec::new();
        for (role, cluster) in self.of(host) {
            let members = self.members(role, cluster).await;
            let hosts = FleetHosts::quiet(self.fleet);
            let records = Records::new(&self.site.root);
            let led = step_down(&members, cluster, &hosts, &records, host)
                .await
                .map_err(|reason| format!("cluster `{}`: {reason}", role.name))?;
            if led {
                handed.push(role.name.clone());
            }
        }
        Ok(handed)
    }

    /// Waits until every cluster of the host is whole again.
    ///
    /// # Errors
    /// What is still missing when the time is over.
    pub async fn settle(&self, host: &str, within: Duration) -> Result<(), String> {
        let start = Instant::now();
        for (role, cluster) in self.of(host) {
            let left = within.saturating_sub(start.elapsed());
            let whole = until(left, LOOK_EVERY, async || {
                let members = self.members(role, cluster).await;
                let hosts = FleetHosts::quiet(self.fleet);
                let records = Records::new(&self.site.root);
                match look(&members, cluster, &hosts, &records).await.map(|report| report.missing) {
                    Ok(None) => Look::Break(Ok(())),
                    Ok(Some(missing)) => Look::Continue(missing),
                    Err(reason) => Look::Break(Err(reason)),
                }
            });
            whole.await.unwrap_or_else(|reason| {
                let (name, seconds) = (&role.name, within.as_secs());
                Err(format!("cluster `{name}` is not whole after {seconds} s: {reason}"))
            })?;
        }
        Ok(())
    }

    async fn members<'b>(&'b self, role: &'b Role, cluster: &'b ClusterRole) -> Members<'b> {
        let group = self.site.groups.get(&cluster.members.0);
        let hosts = group.map(|group| group.hosts.clone()).unwrap_or_default();
        // Members that cannot be reached are said by whoever judges the cluster.
        let quiet = Events::quiet();
        self.fleet.connect(self.site, &hosts, self.connection, &quiet, &Stop::new()).await;
        Members::connected(self.site, self.resolver, self.fleet, role, cluster)
    }
}
