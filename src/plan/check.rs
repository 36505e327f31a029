//! Resolves a whole site with sample facts, before any host is asked.

use super::resolve::Resolver;
use super::samples::sample_facts;
use super::{HostPlan, SecretLookup};
use crate::diag::Diagnostics;
use crate::resource::{Mode, Resource};
use crate::secrets::Secret;
use crate::site::Site;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Resolves every layer for every host with both sets of sample facts; whatever is wrong is
/// reported. True when a secret was asked for.
pub fn check(site: &Site, secrets: Arc<dyn SecretLookup>, problems: &mut Diagnostics) -> bool {
    let mut secret = false;
    each_plan(site, secrets, problems, |plan| {
        secret |= plan
            .batches
            .iter()
            .any(|batch| batch.work.items.iter().chain(&batch.work.handlers).any(|i| i.secret));
    });
    secret
}

/// Every package that a host of the site installs, sorted.
pub fn packages_of(site: &Site) -> Vec<String> {
    let mut packages = BTreeSet::new();
    each_plan(site, Arc::new(AnySecret), &mut Diagnostics::new(), |plan| {
        for item in plan.batches.iter().flat_map(|batch| &batch.work.items) {
            if let Resource::Package(package) = &item.resource {
                packages.extend(package.names.iter().cloned());
            }
        }
    });
    packages.into_iter().collect()
}

fn each_plan(
    site: &Site,
    secrets: Arc<dyn SecretLookup>,
    problems: &mut Diagnostics,
    mut look: impl FnMut(&HostPlan),
) {
    let resolver = Resolver::new(site, secrets, problems);
    for layer in &site.config.layers {
        for host in site.hosts.values() {
            for facts in sample_facts(site, host) {
                look(&resolver.host(host, layer, &[], &facts, Mode::Check, problems));
            }
        }
    }
}

/// Any name has a value: which packages a site needs does not depend on secrets.
struct AnySecret;

impl SecretLookup for AnySecret {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        Some(Secret::new(name.to_owned()))
    }
}
