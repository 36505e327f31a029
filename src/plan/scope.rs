//! What is resolved once for a host.

use super::context::FactsObject;
use super::lasting::Lasting;
use super::owners::Owners;
use super::resolve::{PlannedBatch, Skipped};
use crate::resource::Item;
use crate::site::{Host, Layer, Role, Site, Step};
use crate::wire::Facts;
use minijinja::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One host with its facts, and what is resolved once for it, however many layers are asked for.
pub struct HostScope<'a> {
    pub(super) host: &'a Host,
    pub(super) facts: &'a Facts,
    /// What templates see of the facts.
    pub(super) seen: Arc<FactsObject>,
    /// The context of each role.
    pub(super) contexts: BTreeMap<String, Value>,
    pub(super) shared: Option<(PlannedBatch, Vec<Skipped>)>,
    pub(super) owners: Owners,
    lasting: Option<Lasting>,
}

impl<'a> HostScope<'a> {
    /// Nothing is resolved yet.
    pub fn new(host: &'a Host, facts: &'a Facts) -> Self {
        Self {
            host,
            facts,
            seen: FactsObject::new(facts, host),
            contexts: BTreeMap::new(),
            shared: None,
            owners: Owners::default(),
            lasting: None,
        }
    }

    /// The same, with what was found to hold for this host whatever its facts are; what is found
    /// now is added.
    pub fn with(host: &'a Host, facts: &'a Facts, lasting: Lasting) -> Self {
        Self { lasting: Some(lasting), ..Self::new(host, facts) }
    }

    /// What holds whatever the host's facts are.
    pub fn lasting(self) -> Lasting {
        self.lasting.unwrap_or_default()
    }

    pub(super) const fn host(&self) -> &'a Host {
        self.host
    }

    /// The step, where it is known to be the same; `Some(None)` where it does not apply.
    pub(super) fn known(&self, step: &Step) -> Option<Option<Arc<Item>>> {
        self.lasting.as_ref()?.step(step)
    }

    /// Keeps a step that was made without a look at the facts, where that is wanted.
    pub(super) fn keep(&mut self, step: &Step, item: Option<&Arc<Item>>, secret: bool) {
        if let Some(lasting) = &mut self.lasting {
            lasting.keep(step, item, secret);
        }
    }
}

/// The roles that a layer places on a host, in order, each once.
pub fn roles_on<'site>(site: &'site Site, layer: &Layer, host: &str) -> Vec<&'site Role> {
    let mut roles: Vec<&Role> = Vec::new();
    for placement in &layer.place {
        let group = site.groups.get(&placement.group);
        if let Some(role) = site.roles.get(&placement.role)
            && group.is_some_and(|group| group.hosts.iter().any(|name| name == host))
            && !roles.iter().any(|other| other.name == role.name)
        {
            roles.push(role);
        }
    }
    roles
}
