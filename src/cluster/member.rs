//! The members of one cluster, rendered for what is known of it.

use crate::diag::{Diagnostics, Renderer};
use crate::fleet::Fleet;
use crate::plan::{ClusterFacts, MemberPlan, Resolver};
use crate::site::{ClusterRole, Host, Role, Site};
use crate::wire::Facts;
use std::collections::BTreeMap;

/// The members of one cluster.
pub struct Members<'a> {
    site: &'a Site,
    resolver: &'a Resolver<'a>,
    role: &'a Role,
    cluster: &'a ClusterRole,
    /// Facts of the hosts that could be reached.
    facts: BTreeMap<String, Facts>,
}

impl<'a> Members<'a> {
    /// The members of the cluster of `role`, with the facts of those hosts that could be reached.
    pub const fn new(
        site: &'a Site,
        resolver: &'a Resolver<'a>,
        role: &'a Role,
        cluster: &'a ClusterRole,
        facts: BTreeMap<String, Facts>,
    ) -> Self {
        Self { site, resolver, role, cluster, facts }
    }

    /// The members of the cluster of `role`, with the facts of those that are connected.
    pub fn connected(
        site: &'a Site,
        resolver: &'a Resolver<'a>,
        fleet: &Fleet,
        role: &'a Role,
        cluster: &'a ClusterRole,
    ) -> Self {
        let group = site.groups.get(&cluster.members.0);
        let facts = group
            .iter()
            .flat_map(|group| &group.hosts)
            .filter_map(|host| Some((host.clone(), fleet.session(host)?.hello().facts.clone())))
            .collect();
        Self::new(site, resolver, role, cluster, facts)
    }

    /// The cluster's name: its role's.
    pub fn name(&self) -> &str {
        &self.role.name
    }

    /// The members' hosts, in the order of the group.
    pub fn hosts(&self) -> Vec<&'a Host> {
        let group = self.site.groups.get(&self.cluster.members.0);
        let names = group.map(|group| group.hosts.as_slice()).unwrap_or_default();
        names.iter().filter_map(|name| self.site.hosts.get(name)).collect()
    }

    /// The members that are out of service, in the order of the group.
    pub fn out_of_service(&self) -> Vec<String> {
        let names = self.hosts().into_iter().map(|host| &host.name);
        names.filter(|name| self.site.out.contains_key(*name)).cloned().collect()
    }

    /// The hosts of a group of the site.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn group(&self, name: &str) -> Result<&'a [String], String> {
        let group = self.site.groups.get(name);
        group.map(|group| group.hosts.as_slice()).ok_or_else(|| format!("there is no group {name}"))
    }

    /// One member, for what is known of the live cluster.
    ///
    /// # Errors
    /// What does not fit: the host is not known, or a template does not fit its facts.
    pub fn plan(&self, host: &str, live: ClusterFacts) -> Result<MemberPlan, String> {
        let site_host = self.site.hosts.get(host).ok_or("it is not in the inventory")?;
        let facts = self.facts.get(host).ok_or("it is not connected")?;
        let mut problems = Diagnostics::new();
        self.resolver
            .member(site_host, self.role, self.cluster, facts, live, &mut problems)
            .ok_or_else(|| {
                let text = Renderer::new(false).all(&problems);
                format!("a template does not fit this host\n{text}")
            })
    }
}
