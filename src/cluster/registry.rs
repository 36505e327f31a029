//! The drivers by name, and what commands do with clusters.

use super::drive::{Driven, Step, Technology, drive};
use super::etcd;
use super::hosts::Hosts;
use super::marker::{Marker, Records};
use super::member::Members;
use super::reach::Reach;
use super::state::{Next, State};
use super::{patroni, rabbitmq, redis};
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::fleet::Stop;
use crate::plan::{ClusterFacts, Resolver, SecretLookup, sample_facts};
use crate::site::deserialize::{TypeError, from_node};
use crate::site::tree::Node;
use crate::site::{ClusterRole, Layer, Role, Site, suggest};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// What a look found, and what a run would do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The state.
    pub state: State,
    /// One line on how it stands.
    pub found: String,
    /// The host that leads, if one does.
    pub leader: Option<String>,
    /// Why it is not whole, so that no member may go away; none too where there is no cluster as far
    /// as can be seen.
    pub missing: Option<String>,
    /// What comes next.
    pub next: Intent,
}

/// What a run would do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Nothing.
    Nothing,
    /// These.
    Act(Vec<String>),
    /// Wait for this.
    Wait(String),
    /// Change nothing, for this reason; and what the operator can do.
    Refuse(String, String),
}

/// The roles of a layer that have a cluster.
pub fn clusters_of<'a>(site: &'a Site, layer: &Layer) -> Vec<(&'a Role, &'a ClusterRole)> {
    let mut found: Vec<(&Role, &ClusterRole)> = Vec::new();
    for placement in &layer.place {
        if let Some(role) = site.roles.get(&placement.role)
            && let Some(cluster) = &role.cluster
            && !found.iter().any(|(other, _)| other.name == role.name)
        {
            found.push((role, cluster));
        }
    }
    found
}

/// Reports drivers that do not exist and settings that do not fit them.
pub fn check(site: &Site, secrets: Arc<dyn SecretLookup>, problems: &mut Diagnostics) {
    let mut unheard = Diagnostics::new();
    let resolver = Resolver::checking(site, secrets, &mut unheard);
    for role in site.roles.values() {
        let Some(cluster) = &role.cluster else { continue };
        let (driver, span) = &cluster.driver;
        if !DRIVERS.contains(&driver.as_str()) {
            problems.push(
                Diagnostic::error(Code::CLUSTER, format!("there is no driver `{driver}`"))
                    .at(span.clone(), "")
                    .hint(suggest::among(driver, DRIVERS.iter().copied())),
            );
            continue;
        }
        let group = site.groups.get(&cluster.members.0);
        let first = group.and_then(|group| site.hosts.get(group.hosts.first()?));
        let Some(host) = first else { continue };
        for facts in sample_facts(site, host) {
            let live = ClusterFacts { leader: host.address, forming: false };
            // What is wrong in a template is reported with the rest of the site.
            let plan = resolver.member(host, role, cluster, &facts, live, &mut unheard);
            let Some(Err(error)) = plan.map(|plan| typed(site, driver, &plan.settings)) else {
                continue;
            };
            let range = error.range.unwrap_or_else(|| cluster.settings.range.clone());
            let mut problem =
                Diagnostic::error(Code::CLUSTER, error.message).at(role.source.span(range), "");
            problem.hint = error.suggestion;
            problems.push(problem);
            break;
        }
    }
}

/// Looks at a cluster and says what a run would do; changes nothing.
///
/// # Errors
/// When the driver cannot be set up for these members.
pub async fn look(
    members: &Members<'_>,
    cluster: &ClusterRole,
    hosts: &dyn Hosts,
    records: &Records,
) -> Result<Report, String> {
    Ok(Driver::of(cluster, Reach { members, hosts, records })?.look().await)
}

/// Makes sure that a member does not lead, so that it may go away for a while. True when it led.
///
/// # Errors
/// Why it may not go: the cluster is not whole, or nobody could take over.
pub async fn step_down(
    members: &Members<'_>,
    cluster: &ClusterRole,
    hosts: &dyn Hosts,
    records: &Records,
    host: &str,
) -> Result<bool, String> {
    Driver::of(cluster, Reach { members, hosts, records })?.step_down(host).await
}

/// Records a cluster that strata did not make: looked at, compared, marked; nothing of it is
/// changed. Gives what differs from the role.
///
/// # Errors
/// Why it is not adopted: it is known already, or is not whole and healthy.
pub async fn adopt(
    members: &Members<'_>,
    cluster: &ClusterRole,
    hosts: &dyn Hosts,
    records: &Records,
) -> Result<Vec<String>, String> {
    Driver::of(cluster, Reach { members, hosts, records })?.adopt().await
}

/// Brings a cluster to what its role says.
///
/// # Errors
/// When the driver cannot be set up for these members.
pub async fn run(
    members: &Members<'_>,
    cluster: &ClusterRole,
    hosts: &dyn Hosts,
    records: &Records,
    stop: &Stop,
    tell: impl FnMut(Step),
) -> Result<Driven, String> {
    Ok(Driver::of(cluster, Reach { members, hosts, records })?.run(stop, tell).await)
}

/// Every driver is one entry: its module and its type.
macro_rules! drivers {
    ($($module:ident :: $technology:ident),* $(,)?) => {
        /// The names of all drivers.
        const DRIVERS: &[&str] =
            &[$(<$module::$technology<'static> as Technology<'static>>::NAME),*];

        /// A cluster's driver, set up for its members.
        enum Driver<'a> {
            $($technology($module::$technology<'a>)),*
        }

        impl<'a> Driver<'a> {
            fn of(cluster: &ClusterRole, reach: Reach<'a>) -> Result<Self, String> {
                match cluster.driver.0.as_str() {
                    $(<$module::$technology<'a> as Technology<'a>>::NAME => {
                        set_up(reach).map(Self::$technology)
                    })*
                    other => Err(format!("there is no driver {other}")),
                }
            }

            async fn look(&self) -> Report {
                match self { $(Self::$technology(world) => report(world).await),* }
            }

            async fn step_down(&self, host: &str) -> Result<bool, String> {
                match self { $(Self::$technology(world) => world.step_down(host).await),* }
            }

            async fn adopt(&self) -> Result<Vec<String>, String> {
                match self { $(Self::$technology(world) => world.adopt().await),* }
            }

            async fn run(&self, stop: &Stop, tell: impl FnMut(Step)) -> Driven {
                match self { $(Self::$technology(world) => drive(world, stop, tell).await),* }
            }
        }

        /// Types the settings of a role for its driver.
        fn typed(site: &Site, driver: &str, settings: &Node) -> Result<(), TypeError> {
            match driver {
                $(<$module::$technology<'static> as Technology<'static>>::NAME => {
                    fits::<$module::$technology<'static>>(site, settings)
                })*
                _ => Ok(()),
            }
        }
    };
}

drivers! {
    etcd::Etcd,
    patroni::PatroniCluster,
    rabbitmq::RabbitMq,
    redis::RedisSentinel,
}

fn set_up<'a, T: Technology<'a>>(reach: Reach<'a>) -> Result<T, String> {
    let marker = Marker::new(reach.members.name(), T::NAME, crate::event::now_ms())?;
    Ok(T::new(reach, settings(reach.members)?, marker))
}

fn fits<'a, T: Technology<'a>>(site: &Site, settings: &Node) -> Result<(), TypeError> {
    T::fits(&from_node(settings)?, site)
}

async fn report<'a, T: Technology<'a>>(world: &T) -> Report {
    let observation = world.observe().await;
    let decision = world.decide(&observation);
    Report {
        state: decision.state,
        found: decision.found.clone(),
        leader: world.leader(&observation),
        missing: world.missing(&observation, &decision),
        next: decision.next.into(),
    }
}

/// The driver's settings, as the first member that can be asked has them.
///
/// # Errors
/// Why no member's settings can be used.
pub fn settings<T: DeserializeOwned>(members: &Members<'_>) -> Result<T, String> {
    let mut reason = "the cluster has no members".to_owned();
    for host in members.hosts() {
        let live = ClusterFacts { leader: host.address, forming: false };
        match members.plan(&host.name, live) {
            Ok(plan) => return from_node(&plan.settings).map_err(|error| error.message),
            Err(error) => reason = format!("{}: {error}", host.name),
        }
    }
    Err(reason)
}

impl<A: std::fmt::Display> From<Next<A>> for Intent {
    fn from(next: Next<A>) -> Self {
        match next {
            Next::Done => Self::Nothing,
            Next::Act(actions) => Self::Act(actions.iter().map(ToString::to_string).collect()),
            Next::Wait { reason, .. } => Self::Wait(reason),
            Next::Refuse(refusal) => Self::Refuse(refusal.reason, refusal.hint),
        }
    }
}
