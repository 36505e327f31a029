//! What templates and expressions see.

use super::variables::ResolvedVariable;
use crate::secrets::Secret;
use crate::site::tree::{Node, NodeValue};
use crate::site::{Host, Site};
use crate::wire::Facts;
use indexmap::IndexMap;
use minijinja::Value;
use minijinja::value::{Enumerator, Object};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Gives the clear value of a secret by name; `None` when there is none.
pub trait SecretLookup: Send + Sync {
    /// The secret's value.
    fn lookup(&self, name: &str) -> Option<Secret<String>>;
}

/// The `secrets` object of templates. It remembers whether it was asked, so that everything
/// rendered with a secret is treated as one, and prints nothing of itself.
pub struct SecretsObject {
    lookup: Arc<dyn SecretLookup>,
    asked: AtomicBool,
    /// Questions so far, those without an answer too.
    questions: AtomicUsize,
}

impl SecretsObject {
    /// Wraps a lookup.
    pub fn new(lookup: Arc<dyn SecretLookup>) -> Arc<Self> {
        Arc::new(Self { lookup, asked: AtomicBool::new(false), questions: AtomicUsize::new(0) })
    }

    /// A secret's clear value, for others than templates: it does not count as asked for.
    pub fn value(&self, name: &str) -> Option<Secret<String>> {
        self.lookup.lookup(name)
    }

    /// Whether a secret was asked for since the last call.
    pub fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// How often anything was asked of it, be it only whether there is such a secret.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for SecretsObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::secrets::REDACTED)
    }
}

impl Object for SecretsObject {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let value = self.lookup.lookup(key.as_str()?)?;
        self.asked.store(true, Ordering::Relaxed);
        Some(Value::from(value.expose().as_str()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::secrets::REDACTED)
    }
}

/// The parts of the context that are the same for every host: made once a resolve.
pub fn shared(site: &Site) -> BTreeMap<String, Value> {
    let hosts: Vec<Value> = site.hosts.values().map(host_value).collect();
    let groups: BTreeMap<String, Value> = site
        .groups
        .iter()
        .map(|(name, group)| {
            let members: Vec<Value> = group
                .hosts
                .iter()
                .filter_map(|host| site.hosts.get(host))
                .map(host_value)
                .collect();
            (name.clone(), Value::from(members))
        })
        .collect();
    let versions: BTreeMap<String, Value> = site
        .versions
        .iter()
        .map(|(key, version)| (key.clone(), Value::from(version.value.as_str())))
        .collect();
    let balancers: BTreeMap<String, Value> = site
        .balancers
        .iter()
        .map(|balancer| {
            let value = BTreeMap::from([
                ("name".to_owned(), Value::from(balancer.name.as_str())),
                ("address".to_owned(), Value::from(balancer.address.to_string())),
            ]);
            (balancer.name.clone(), Value::from(value))
        })
        .collect();
    let private: Vec<String> = site.config.private.iter().map(ToString::to_string).collect();
    let site_value = BTreeMap::from([
        ("name".to_owned(), Value::from(site.config.name.as_str())),
        ("private".to_owned(), Value::from(private)),
    ]);
    let mut context = BTreeMap::from([
        ("hosts".to_owned(), Value::from(hosts)),
        ("groups".to_owned(), Value::from(groups)),
        ("versions".to_owned(), Value::from(versions)),
        ("balancers".to_owned(), Value::from(balancers)),
        ("site".to_owned(), Value::from(site_value)),
        // `{{ file }}` in a `validate` command: the agent puts the new file's path there.
        ("file".to_owned(), Value::from("{file}")),
    ]);
    if let Some(operator) = site.operator() {
        context.insert("operator".to_owned(), host_value(operator));
    }
    context
}

/// The whole context of one host and role.
pub fn of_host(
    shared: &BTreeMap<String, Value>,
    site: &Site,
    host: &Host,
    facts: &Arc<FactsObject>,
    variables: &IndexMap<String, ResolvedVariable>,
    secrets: &Arc<SecretsObject>,
) -> Value {
    let mut context = shared.clone();
    for (name, variable) in variables {
        context.insert(name.clone(), node_value(&variable.node));
    }
    let mut own = host_map(host);
    let groups: Vec<String> = site.groups_of(&host.name).map(|group| group.name.clone()).collect();
    own.insert("groups".to_owned(), Value::from(groups));
    context.insert("host".to_owned(), Value::from(own));
    context.insert("facts".to_owned(), Value::from_dyn_object(Arc::clone(facts)));
    context.insert("secrets".to_owned(), Value::from_dyn_object(Arc::clone(secrets)));
    Value::from(context)
}

fn host_map(host: &Host) -> BTreeMap<String, Value> {
    let mut map = BTreeMap::from([
        ("name".to_owned(), Value::from(host.name.as_str())),
        ("fqdn".to_owned(), Value::from(host.fqdn.as_str())),
        ("address".to_owned(), Value::from(host.address.to_string())),
        ("user".to_owned(), Value::from(host.user.as_str())),
        ("columns".to_owned(), Value::from(host.columns.clone())),
    ]);
    map.insert(
        "public".to_owned(),
        host.public.map_or_else(|| Value::from(()), |address| Value::from(address.to_string())),
    );
    map
}

fn host_value(host: &Host) -> Value {
    Value::from(host_map(host))
}

/// The `facts` object of templates. It remembers whether it was asked: what is made without a look
/// at the facts is the same with others.
#[derive(Debug)]
pub struct FactsObject {
    values: BTreeMap<&'static str, Value>,
    asked: AtomicBool,
}

impl FactsObject {
    /// The facts of a host.
    pub fn new(facts: &Facts, host: &Host) -> Arc<Self> {
        let interface_of = |wanted: Option<IpAddr>| {
            facts
                .interfaces
                .iter()
                .find(|interface| interface.addresses.iter().any(|(ip, _)| Some(*ip) == wanted))
                .map_or_else(|| Value::from(()), |interface| Value::from(interface.name.as_str()))
        };
        let values = BTreeMap::from([
            ("hostname", Value::from(facts.hostname.as_str())),
            ("architecture", Value::from(facts.architecture.as_str())),
            ("kernel", Value::from(facts.kernel.as_str())),
            ("os", Value::from(facts.os.as_str())),
            ("os_version", Value::from(facts.os_version.as_str())),
            ("os_codename", Value::from(facts.os_codename.as_str())),
            ("memory_mib", Value::from(facts.memory_bytes >> 20)),
            ("cores", Value::from(facts.cores)),
            ("private_interface", interface_of(Some(IpAddr::V4(host.address)))),
            ("public_interface", interface_of(host.public.map(IpAddr::V4))),
        ]);
        Arc::new(Self { values, asked: AtomicBool::new(false) })
    }

    /// Whether a fact was asked for since the last call.
    pub fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }
}

impl Object for FactsObject {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.asked.store(true, Ordering::Relaxed);
        self.values.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.asked.store(true, Ordering::Relaxed);
        Enumerator::Values(self.values.keys().copied().map(Value::from).collect())
    }
}

/// A node as a template value.
pub fn node_value(node: &Node) -> Value {
    match &node.value {
        NodeValue::String(text) | NodeValue::Datetime(text) => Value::from(text.as_str()),
        NodeValue::Integer(integer) => Value::from(*integer),
        NodeValue::Float(float) => Value::from(*float),
        NodeValue::Boolean(boolean) => Value::from(*boolean),
        NodeValue::Array(nodes) => Value::from(nodes.iter().map(node_value).collect::<Vec<_>>()),
        NodeValue::Table(entries) => Value::from(
            entries
                .iter()
                .map(|entry| (entry.key.clone(), node_value(&entry.node)))
                .collect::<BTreeMap<String, Value>>(),
        ),
    }
}
