//! Resolves a whole site with sample facts, before any host is asked.

use super::lasting::{Found, Lasting};
use super::resolve::Resolver;
use super::samples::{sample_facts, samples_by_release};
use super::scope::HostScope;
use super::{HostPlan, SecretLookup, StepFilter};
use crate::diag::{Diagnostics, Source};
use crate::resource::{Batch, Mode, Resource};
use crate::secrets::Secret;
use crate::site::{Host, Site};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Resolves every layer for every host with both sets of sample facts; whatever is wrong is
/// reported.
pub fn check<'site>(
    site: &'site Site,
    secrets: Arc<dyn SecretLookup>,
    problems: &mut Diagnostics,
) -> Found<'site> {
    let resolver = Resolver::checking(site, secrets, problems);
    let mut found = Found::default();
    let look = |_: &HostPlan| ControlFlow::Continue(());
    each_plan(site, &resolver, problems, look, |host, lasting| found.add(host, lasting));
    found
}

/// True when anything of the site, which [`check`] has found sound, is made with a secret.
pub fn uses_secrets(site: &Site) -> bool {
    let named = |source: &Source| source.text().contains("secrets");
    let anywhere =
        site.roles.values().any(|role| named(&role.source)) || site.templates.values().any(named);
    if !anywhere {
        return false;
    }
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(site, Arc::new(AnySecret), &mut problems);
    let mut secret = false;
    let look = |plan: &HostPlan| {
        secret = has_secret(plan);
        if secret { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    each_plan(site, &resolver, &mut problems, look, |_, _| {});
    secret
}

/// Every package that a host of the site installs, by the code name of the release that it would run.
pub fn packages_of(site: &Site) -> BTreeMap<String, BTreeSet<String>> {
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut problems = Diagnostics::new();
    let resolver = Resolver::new(site, Arc::new(AnySecret), &mut problems);
    for host in site.hosts.values() {
        for (release, machines) in samples_by_release(site, host) {
            let here = packages.entry(release).or_default();
            for facts in &machines {
                let mut scope = HostScope::new(host, facts);
                let _all = layers_of(site, &resolver, &mut scope, &mut problems, &mut |plan| {
                    let batches = plan.batches.iter().chain(&plan.members);
                    for item in batches.flat_map(|batch| &batch.work.items) {
                        if let Resource::Package(package) = &item.resource {
                            here.extend(package.names.iter().cloned());
                        }
                    }
                    ControlFlow::Continue(())
                });
            }
        }
    }
    packages
}

/// Walks over every layer of every host until `look` breaks off; `keep` gets what holds for a host
/// whatever its facts are.
fn each_plan<'site>(
    site: &'site Site,
    resolver: &Resolver<'_>,
    problems: &mut Diagnostics,
    mut look: impl FnMut(&HostPlan) -> ControlFlow<()>,
    mut keep: impl FnMut(&'site Host, Lasting),
) {
    for host in site.hosts.values() {
        let mut lasting = Lasting::default();
        for facts in sample_facts(site, host) {
            let mut scope = HostScope::with(host, &facts, lasting);
            if layers_of(site, resolver, &mut scope, problems, &mut look).is_break() {
                return;
            }
            lasting = scope.lasting();
        }
        keep(host, lasting);
    }
}

/// Walks over every layer of one host with these facts.
fn layers_of(
    site: &Site,
    resolver: &Resolver<'_>,
    scope: &mut HostScope<'_>,
    problems: &mut Diagnostics,
    look: &mut impl FnMut(&HostPlan) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for layer in &site.config.layers {
        look(&resolver.layer(scope, layer, &StepFilter::ALL, Mode::Check, problems))?;
    }
    ControlFlow::Continue(())
}

fn has_secret(plan: &HostPlan) -> bool {
    let items = |batch: &Batch| batch.items.iter().chain(&batch.handlers).any(|item| item.secret);
    plan.batches.iter().chain(&plan.members).any(|batch| items(&batch.work))
}

/// Any name has a value: which packages a site needs does not depend on secrets.
struct AnySecret;

impl SecretLookup for AnySecret {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        Some(Secret::new(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Profile;
    use std::path::Path;

    fn own_site() -> Site {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        Site::load(root, Profile::Production, &mut Diagnostics::new()).unwrap()
    }

    #[test]
    fn a_site_uses_secrets_where_a_value_is_asked_for() {
        let template = "base/limits.conf.j2";
        for (text, expected) in [
            ("a line", false),
            ("# the secrets are elsewhere", false),
            ("{% if false %}{{ secrets.X }}{% endif %}", false),
            ("{{ secrets.X }}", true),
        ] {
            let mut site = own_site();
            // The layers above ask for secrets of their own.
            site.config.layers.retain(|layer| layer.name == "base");
            site.templates.insert(template.to_owned(), Source::new(template, text));
            let mut problems = Diagnostics::new();
            check(&site, Arc::new(AnySecret), &mut problems);
            assert!(!problems.has_errors(), "{problems:?}");
            assert_eq!(uses_secrets(&site), expected, "{text}");
        }
    }

    #[test]
    fn a_package_of_one_release_is_asked_of_no_other() {
        let packages = packages_of(&own_site());
        let of = |release: &str| &packages[release];
        assert!(of("bookworm").contains("docker.io") && of("trixie").contains("docker.io"));
        let only: Vec<&String> = of("trixie").difference(of("bookworm")).collect();
        assert_eq!(only, ["docker-cli"]);
        assert!(of("bookworm").is_subset(of("trixie")));
    }

    #[test]
    fn a_role_in_two_layers_is_one_owner() {
        let mut site = own_site();
        let again = site.config.layers[0].clone();
        site.config.layers.push(again);
        let mut problems = Diagnostics::new();
        check(&site, Arc::new(AnySecret), &mut problems);
        assert!(!problems.has_errors(), "{problems:?}");
    }
}
