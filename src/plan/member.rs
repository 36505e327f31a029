//! Resolves one member of a cluster: its parts, and what the driver needs to know.

use super::resolve::{PlannedBatch, Resolver};
use super::scope::HostScope;
use crate::diag::{Diagnostics, Span};
use crate::resource::{Batch, Item, Mode, Once, Resource};
use crate::site::tree::{Node, NodeValue};
use crate::site::{ClusterRole, Host, Role};
use crate::wire::Facts;
use minijinja::{Value, context};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What templates of members may know of the live cluster, as `cluster`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterFacts {
    /// `cluster.leader`: the address of the live leader, or of the member that forms the cluster.
    pub leader: Ipv4Addr,
    /// `cluster.forming`: true only during the first formation.
    pub forming: bool,
}

/// One member, rendered.
#[derive(Debug, Clone)]
pub struct MemberPlan {
    /// The host.
    pub host: String,
    /// Its private address.
    pub address: Ipv4Addr,
    /// Its parts, in order. Names say what they are: `file /etc/x`, `container redis`.
    pub items: Vec<Item>,
    /// Where each of them stands in the role.
    pub places: Vec<Span>,
    /// The directory with what must never be lost.
    pub data: String,
    /// The driver's settings; may hold secrets.
    pub settings: Node,
}

impl Resolver<'_> {
    /// The member that `host` is of the cluster of `role`, with what templates may know of the
    /// live cluster. `None` when something is wrong, which is reported.
    pub fn member(
        &self,
        host: &Host,
        role: &Role,
        cluster: &ClusterRole,
        facts: &Facts,
        live: ClusterFacts,
        problems: &mut Diagnostics,
    ) -> Option<MemberPlan> {
        let before = problems.count(crate::diag::Severity::Error);
        let plan = self.member_in(&mut HostScope::new(host, facts), role, cluster, live, problems);
        plan.filter(|_| problems.count(crate::diag::Severity::Error) == before)
    }

    pub(super) fn member_in(
        &self,
        scope: &mut HostScope<'_>,
        role: &Role,
        cluster: &ClusterRole,
        live: ClusterFacts,
        problems: &mut Diagnostics,
    ) -> Option<MemberPlan> {
        let own = self.context(scope, role, problems);
        let facts = context! { leader => live.leader.to_string(), forming => live.forming };
        let context = context! { cluster => facts, ..own };
        let (items, places) = cluster
            .parts
            .iter()
            .filter_map(|part| {
                let item = self.item(role, part, &context, problems)?;
                Some((named(item), part.span.clone()))
            })
            .unzip();
        let data = self.text(role, &cluster.data, &context, problems)?;
        let settings = match self.templates().node(&role.source, &cluster.settings, &context) {
            Ok(node) => node,
            Err(problem) => {
                problems.push(*problem);
                return None;
            }
        };
        let host = scope.host();
        let (host, address) = (host.name.clone(), host.address);
        Some(MemberPlan { host, address, items, places, data, settings })
    }

    /// The member of this host as it would be with the first member leading.
    pub(super) fn sample_member(
        &self,
        scope: &mut HostScope<'_>,
        role: &Role,
        mode: Mode,
        problems: &mut Diagnostics,
    ) -> Option<PlannedBatch> {
        let cluster = role.cluster.as_ref()?;
        let group = self.site().groups.get(&cluster.members.0)?;
        let first = group.hosts.first().and_then(|name| self.site().hosts.get(name))?;
        let live = ClusterFacts { leader: first.address, forming: false };
        let member = self.member_in(scope, role, cluster, live, problems)?;
        Some(PlannedBatch {
            places: member.places.into_iter().map(Some).collect(),
            work: Batch {
                role: role.name.clone(),
                mode,
                items: member.items.into_iter().map(Arc::new).collect(),
                handlers: Vec::new(),
                once: Once::default(),
            },
        })
    }

    fn text(
        &self,
        role: &Role,
        node: &Node,
        context: &Value,
        problems: &mut Diagnostics,
    ) -> Option<String> {
        match self.templates().node(&role.source, node, context) {
            Ok(Node { value: NodeValue::String(text), .. }) => Some(text),
            Ok(other) => {
                problems.push(crate::site::wrong_type(&role.source, &other, "a string"));
                None
            }
            Err(problem) => {
                problems.push(*problem);
                None
            }
        }
    }
}

/// A part's name is what it is.
fn named(item: Item) -> Item {
    let name = match &item.resource {
        Resource::File(file) => format!("file {}", file.path),
        Resource::Directory(directory) => {
            let paths = directory.path.iter().chain(&directory.paths);
            format!("directory {}", paths.map(String::as_str).collect::<Vec<_>>().join(", "))
        }
        Resource::Link(link) => format!("link {}", link.path),
        Resource::Unit(unit) => format!("unit {}", unit.name),
        other => other.kind().to_owned(),
    };
    Item { name, ..item }
}
