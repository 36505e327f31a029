use super::*;
use crate::diag::{Diagnostics, Source};
use crate::plan::samples::sample_facts;
use crate::plan::{HostPlan, Resolver, SecretLookup, StepFilter};
use crate::resource::Mode;
use crate::secrets::Secret;
use crate::site::Profile;
use std::path::Path;

struct AnySecret;

impl SecretLookup for AnySecret {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        Some(Secret::new(name.to_owned()))
    }
}

/// The site, with one template of the base role that asks for a fact and one that does not.
fn site() -> Site {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut site = Site::load(root, Profile::Production, &mut Diagnostics::new()).unwrap();
    let text = "{{ facts.cores }} of {{ host.name }}";
    let template = "base/limits.conf.j2";
    site.templates.insert(template.to_owned(), Source::new(template, text));
    site
}

fn items(plans: &[HostPlan]) -> Vec<Item> {
    let batches = plans.iter().flat_map(|plan| plan.batches.iter().chain(&plan.members));
    batches.flat_map(|batch| batch.work.items.iter().chain(&batch.work.handlers)).cloned().collect()
}

fn plans(resolver: &Resolver<'_>, site: &Site, scope: &mut HostScope<'_>) -> Vec<HostPlan> {
    let mut problems = Diagnostics::new();
    let layers = &site.config.layers;
    let plans = layers
        .iter()
        .map(|layer| resolver.layer(scope, layer, &StepFilter::ALL, Mode::Check, &mut problems))
        .collect();
    assert!(!problems.has_errors(), "{problems:?}");
    plans
}

#[test]
fn what_is_kept_from_other_facts_and_hosts_is_what_would_be_made_anew() {
    let site = site();
    let resolver = |problems: &mut Diagnostics| Resolver::new(&site, Arc::new(AnySecret), problems);
    let mut problems = Diagnostics::new();
    let keeping = resolver(&mut problems);
    for host in site.hosts.values() {
        let facts = sample_facts(&site, host);
        let mut lasting = Lasting::default();
        let mut before = Vec::new();
        for facts in &facts {
            let mut scope = HostScope::with(host, facts, lasting);
            let kept = items(&plans(&keeping, &site, &mut scope));
            lasting = scope.lasting();
            // Nothing is known to a resolver that was just made.
            let fresh = resolver(&mut problems);
            let anew = items(&plans(&fresh, &site, &mut HostScope::new(host, facts)));
            assert!(kept == anew, "{}", host.name);
            assert!(kept != before, "some of it depends on the facts");
            before = kept;
        }
        assert!(lasting.0.len() > 5, "and some does not");
    }
}
