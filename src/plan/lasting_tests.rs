use super::*;
use crate::diag::{Diagnostics, Source};
use crate::plan::samples::sample_facts;
use crate::plan::scope::HostScope;
use crate::plan::{HostPlan, Resolver, SecretLookup, StepFilter, check};
use crate::resource::Mode;
use crate::secrets::Secret;
use crate::site::{Profile, Site};
use std::path::Path;
use std::sync::Arc;

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

fn items(plans: &[HostPlan]) -> Vec<Arc<Item>> {
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

/// Values that no check has seen, and one name more.
struct Values;

impl SecretLookup for Values {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        Some(Secret::new(format!("value-of-{name}")))
    }
}

/// What stands for values while a site is checked.
struct Placeholders;

impl SecretLookup for Placeholders {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        (name != "LATER").then(|| Secret::new("placeholder".to_owned()))
    }
}

#[test]
fn a_run_that_knows_what_the_check_found_comes_to_the_same() {
    for (text, when) in [
        ("plain", "true"),
        ("{{ secrets.A }}", "true"),
        ("{% if secrets.LATER is defined %}with it{% endif %}", "true"),
        ("{% if secrets.A == 'placeholder' %}a check's{% endif %}", "true"),
        ("plain", "secrets.A == 'placeholder'"),
        ("plain", "secrets.A != 'placeholder'"),
        ("plain", "secrets.LATER is defined"),
        ("{{ facts.cores }}", "true"),
        ("plain", "facts.cores == 2"),
    ] {
        let mut site = site();
        if (text, when) != ("plain", "true") {
            // The layers above ask for much, and need not every time.
            site.config.layers.truncate(1);
        }
        let template = "base/limits.conf.j2";
        site.templates.insert(template.to_owned(), Source::new(template, text));
        let base = site.roles.get_mut("base").unwrap();
        let src = |step: &Step| {
            step.body.entries()?.iter().find(|e| e.key == "src")?.node.as_str().map(str::to_owned)
        };
        let step =
            base.steps.iter_mut().find(|step| src(step).as_deref() == Some(template)).unwrap();
        step.when = Some((when.to_owned(), step.span.clone()));
        let mut problems = Diagnostics::new();
        let mut found = check(&site, Arc::new(Placeholders), &mut problems);
        assert!(!problems.has_errors(), "{problems:?}");
        let resolver =
            |problems: &mut Diagnostics| Resolver::new(&site, Arc::new(Values), problems);
        for host in site.hosts.values() {
            for facts in sample_facts(&site, host) {
                let knowing = resolver(&mut problems).knowing(&found);
                let fresh = resolver(&mut problems);
                let known = items(&plans(&knowing, &site, &mut HostScope::new(host, &facts)));
                let anew = items(&plans(&fresh, &site, &mut HostScope::new(host, &facts)));
                assert!(known == anew, "{text} when {when} on {}", host.name);
            }
        }
        // And it does take what was found.
        let kept = found.steps.values_mut().flat_map(|lasting| lasting.0.values_mut());
        kept.filter_map(|kept| kept.item.as_mut())
            .for_each(|item| Arc::make_mut(item).name.push('!'));
        let knowing = resolver(&mut problems).knowing(&found);
        for host in site.hosts.values() {
            let facts = &sample_facts(&site, host)[0];
            let items = items(&plans(&knowing, &site, &mut HostScope::new(host, facts)));
            let taken = items.iter().filter(|item| item.name.ends_with('!')).count();
            assert!(taken > 5, "{taken} on {}", host.name);
        }
    }
}

#[test]
fn what_is_the_same_everywhere_is_there_once() {
    let site = site();
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(&site, Arc::new(AnySecret), &mut problems);
    let of = |host| {
        let facts = &sample_facts(&site, host)[0];
        items(&plans(&resolver, &site, &mut HostScope::new(host, facts)))
    };
    let all: Vec<Vec<Arc<Item>>> = site.hosts.values().take(2).map(of).collect();
    let shared = |name: &str| {
        let step = |items: &[Arc<Item>]| items.iter().find(|item| item.name == name).cloned();
        Arc::ptr_eq(&step(&all[0]).unwrap(), &step(&all[1]).unwrap())
    };
    assert!(shared("Names of all hosts"));
    assert!(shared("No second clock service"), "a step without an expression");
    assert!(!shared("Packet filter"));
}

#[test]
fn what_is_kept_of_a_check_has_an_end() {
    let site = site();
    let host = site.hosts.values().next().unwrap();
    let step = &site.roles["base"].steps[0];
    let lasting = |bytes: usize, secret: bool| {
        let mut lasting = Lasting::default();
        let item = Item {
            name: "Large".to_owned(),
            resource: Resource::File(crate::resource::File::new("/etc/a", "x".repeat(bytes))),
            notify: Vec::new(),
            secret,
            timeout_ms: 1,
        };
        lasting.keep(step, Some(&Arc::new(item)), secret);
        lasting
    };
    let known = |bytes, secret| {
        let mut found = Found::default();
        found.add(host, lasting(bytes, secret));
        found.step(&host.name, step).is_some()
    };
    assert!(known(ROOM, false) && !known(ROOM + 1, false) && !known(1, true));
}
