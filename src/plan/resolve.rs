//! Resolves one host: its roles' steps, rendered and typed, in order.

use super::aggregate;
use super::constants::Constants;
use super::context::{self, SecretLookup, SecretsObject};
use super::lasting::Found;
use super::render::Templates;
use super::scope::{HostScope, roles_on};
use super::secret_place;
use super::shared_items::{self, Shared};
use super::steps::{Here, StepFilter};
use super::variables::variables_of;
use crate::diag::{Diagnostics, Severity, Span};
use crate::resource::{Batch, Item, Mode, Once, Resource};
use crate::secrets::Secret;
use crate::site::tree::Node;
use crate::site::{Host, Layer, Role, Site, Step};
use crate::wire::Facts;
use minijinja::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The name under which the things that roles share are applied.
pub const SITE_ROLE: &str = "site";

/// Everything one host must have for one layer.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// The host.
    pub host: String,
    /// What the whole site asks of the host, then one batch per role, in order.
    pub batches: Vec<PlannedBatch>,
    /// What the host's clusters consist of here, as it would be with the first member leading. Only
    /// drivers bring these about.
    pub members: Vec<PlannedBatch>,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
}

/// One role on one host.
#[derive(Debug, Clone)]
pub struct PlannedBatch {
    /// What the agent gets.
    pub work: Batch,
    /// Where each step stands in its role.
    pub places: Vec<Option<Span>>,
}

/// A step that does not apply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The role.
    pub role: String,
    /// The step, or a kernel setting.
    pub what: String,
    /// Why: the exception's reason.
    pub reason: String,
}

/// Resolves hosts of one site; what is the same for all hosts is made once.
pub struct Resolver<'site> {
    site: &'site Site,
    pub(super) templates: Templates<'site>,
    shared: BTreeMap<String, Value>,
    pub(super) secrets: Arc<SecretsObject>,
    pub(super) constants: Constants,
    /// The step with the names of all hosts, once somebody asked for it: one for all of them.
    names: OnceLock<Arc<Item>>,
    /// True while a site is checked: a secret in a wrong place is reported.
    pub(super) checking: bool,
    /// What the check of this site has made already.
    found: Option<&'site Found<'site>>,
}

impl<'site> Resolver<'site> {
    /// A resolver; templates that cannot be parsed are reported.
    pub fn new(
        site: &'site Site,
        secrets: Arc<dyn SecretLookup>,
        problems: &mut Diagnostics,
    ) -> Self {
        let templates = Templates::new(site);
        templates.unparsed().for_each(|problem| problems.push(problem.clone()));
        Self {
            site,
            templates,
            shared: context::shared(site),
            secrets: SecretsObject::new(secrets),
            constants: Constants::default(),
            names: OnceLock::new(),
            checking: false,
            found: None,
        }
    }

    /// A resolver for a check: no secret's value is used, and one that would stand where others
    /// can read it is reported.
    pub fn checking(
        site: &'site Site,
        secrets: Arc<dyn SecretLookup>,
        problems: &mut Diagnostics,
    ) -> Self {
        Self { checking: true, ..Self::new(site, secrets, problems) }
    }

    /// The same, with what the check of this site has found. What it found goes to hosts: to check must
    /// never make another item than to resolve.
    pub fn knowing(self, found: &'site Found<'site>) -> Self {
        Self { found: Some(found), ..self }
    }

    /// What `host` must have for `layer`, as far as `steps` asks for it.
    pub fn host(
        &self,
        host: &Host,
        layer: &Layer,
        steps: &StepFilter,
        facts: &Facts,
        mode: Mode,
        problems: &mut Diagnostics,
    ) -> HostPlan {
        self.layer(&mut HostScope::new(host, facts), layer, steps, mode, problems)
    }

    /// As [`Self::host`], for several layers of one host: what they share is resolved once, and a
    /// thing that two of them own is reported.
    pub fn layer(
        &self,
        scope: &mut HostScope<'_>,
        layer: &Layer,
        steps: &StepFilter,
        mode: Mode,
        problems: &mut Diagnostics,
    ) -> HostPlan {
        let host = scope.host;
        let mut plan = HostPlan {
            host: host.name.clone(),
            batches: Vec::new(),
            members: Vec::new(),
            skipped: Vec::new(),
        };
        let roles = roles_on(self.site, layer, &host.name);
        if roles.is_empty() {
            return plan;
        }
        let mut here = steps.on(&host.name, &layer.name);
        if !steps.leaves_out_shared() {
            let (mut batch, skipped) = self.shared_batch(scope, mode, problems);
            let wanted = |item: &Arc<Item>| {
                here.takes(SITE_ROLE, shared_items::index(&item.name), &item.name, &[])
            };
            batch.work.items.retain(wanted);
            batch.places.truncate(batch.work.items.len());
            if !batch.work.items.is_empty() {
                plan.batches.push(batch);
                plan.skipped.extend(skipped);
            }
        }
        for role in roles {
            let batch = self.role_batch(scope, role, &mut here, mode, &mut plan.skipped, problems);
            if !batch.work.items.is_empty() {
                plan.batches.push(batch);
            }
            if !steps.is_part() {
                plan.members.extend(self.sample_member(scope, role, mode, problems));
            }
        }
        scope.owners.add(&plan, problems);
        plan
    }

    /// The clear value of a secret, for tests that speak to servers as their clients do.
    pub fn secret(&self, name: &str) -> Option<Secret<String>> {
        self.secrets.value(name)
    }

    pub(super) const fn site(&self) -> &'site Site {
        self.site
    }

    pub(super) const fn templates(&self) -> &Templates<'site> {
        &self.templates
    }

    pub(super) fn context(
        &self,
        scope: &mut HostScope<'_>,
        role: &Role,
        problems: &mut Diagnostics,
    ) -> Value {
        if let Some(context) = scope.contexts.get(&role.name) {
            return context.clone();
        }
        let host = scope.host;
        let variables = variables_of(self.site, &host.name, Some(role), problems);
        let (facts, secrets) = (&scope.seen, &self.secrets);
        let context = context::of_host(&self.shared, self.site, host, facts, &variables, secrets);
        scope.contexts.insert(role.name.clone(), context.clone());
        context
    }

    fn shared_batch(
        &self,
        scope: &mut HostScope<'_>,
        mode: Mode,
        problems: &mut Diagnostics,
    ) -> (PlannedBatch, Vec<Skipped>) {
        if let Some(shared) = &scope.shared {
            return shared.clone();
        }
        let (host, facts) = (scope.host, scope.facts);
        for role in aggregate::roles_of(self.site, &host.name) {
            if role.sysctl.is_some() {
                self.context(scope, role, problems);
            }
        }
        self.secrets.take_asked();
        let settings = aggregate::sysctl(
            self.site,
            host,
            &self.templates,
            |role| scope.contexts.get(&role.name).cloned().unwrap_or_default(),
            problems,
        );
        let secret = self.secrets.take_asked();
        if secret && self.checking {
            self.secret_settings(scope, problems);
        }
        let mut skipped = Vec::new();
        let mut file_only = Vec::new();
        for key in settings.keys() {
            if let Some(reason) = self.site.exceptions.sysctl(key) {
                skipped.push(Skipped {
                    role: SITE_ROLE.to_owned(),
                    what: format!("live value of {key}"),
                    reason: reason.to_owned(),
                });
                file_only.push(key.clone());
            }
        }
        let shared = Shared {
            firewall: aggregate::firewall(self.site, host),
            keep_logins: host.name == self.site.config.operator.0,
            sysctl: settings,
            sysctl_file_only: file_only,
        };
        let mut items = shared_items::items(host, facts, shared);
        for item in &mut items {
            item.secret = secret && matches!(item.resource, Resource::Sysctl(_));
        }
        let items: Vec<Arc<Item>> =
            std::iter::once(self.names()).chain(items.into_iter().map(Arc::new)).collect();
        let batch = PlannedBatch {
            places: vec![None; items.len()],
            work: Batch {
                role: SITE_ROLE.to_owned(),
                mode,
                items,
                handlers: Vec::new(),
                once: Once::default(),
            },
        };
        scope.shared.insert((batch, skipped)).clone()
    }

    fn names(&self) -> Arc<Item> {
        let item = || Arc::new(shared_items::names(aggregate::hosts_entries(self.site)));
        Arc::clone(self.names.get_or_init(item))
    }

    /// Reports kernel settings that carry a secret, where the role has them.
    fn secret_settings(&self, scope: &HostScope<'_>, problems: &mut Diagnostics) {
        for role in aggregate::roles_of(self.site, &scope.host.name) {
            if let (Some(table), Some(context)) = (&role.sysctl, scope.contexts.get(&role.name)) {
                self.misplaced("sysctl", table, role, context, problems);
            }
        }
    }

    pub(super) fn misplaced(
        &self,
        kind: &str,
        body: &Node,
        role: &Role,
        context: &Value,
        problems: &mut Diagnostics,
    ) {
        let (templates, secrets) = (&self.templates, &self.secrets);
        secret_place::misplaced(kind, body, &role.source, templates, secrets, context)
            .into_iter()
            .for_each(|problem| problems.push(problem));
    }

    fn role_batch(
        &self,
        scope: &mut HostScope<'_>,
        role: &Role,
        here: &mut Here<'_>,
        mode: Mode,
        skipped: &mut Vec<Skipped>,
        problems: &mut Diagnostics,
    ) -> PlannedBatch {
        let context = self.context(scope, role, problems);
        let mut work = Batch {
            role: role.name.clone(),
            mode,
            items: Vec::new(),
            handlers: Vec::new(),
            once: Once::default(),
        };
        let mut places = Vec::new();
        for (index, step) in role.steps.iter().enumerate() {
            if !here.takes(&role.name, index, &step.name, &step.tags) {
                continue;
            }
            if let Some(reason) = self.site.exceptions.step(&role.name, &step.name) {
                skipped.push(Skipped {
                    role: role.name.clone(),
                    what: step.name.clone(),
                    reason: reason.to_owned(),
                });
                continue;
            }
            if let Some(item) = self.item_once(scope, role, step, &context, problems) {
                work.items.push(item);
                places.push(Some(step.span.clone()));
            }
        }
        for handler in &role.handlers {
            if self.site.exceptions.step(&role.name, &handler.name).is_none()
                && let Some(item) = self.item_once(scope, role, handler, &context, problems)
            {
                work.handlers.push(item);
            }
        }
        let known = |name: &String| work.handlers.iter().any(|handler| handler.name == *name);
        for item in &mut work.items {
            if !item.notify.iter().all(known) {
                Arc::make_mut(item).notify.retain(known);
            }
        }
        PlannedBatch { work, places }
    }

    /// A step as the host needs it, made anew only where it may have become another.
    fn item_once(
        &self,
        scope: &mut HostScope<'_>,
        role: &Role,
        step: &Step,
        context: &Value,
        problems: &mut Diagnostics,
    ) -> Option<Arc<Item>> {
        let found = || self.found?.step(&scope.host().name, step);
        let constant = || self.constants.known(step).map(Some);
        if let Some(known) = scope.known(step).or_else(constant).or_else(found) {
            return known;
        }
        let errors = problems.count(Severity::Error);
        let questions = self.secrets.questions();
        scope.seen.take_asked();
        let item = self.item(role, step, context, problems).map(Arc::new);
        let clean = !scope.seen.take_asked() && problems.count(Severity::Error) == errors;
        if clean && !item.as_ref().is_some_and(|item| self.constants.keep(step, item)) {
            scope.keep(step, item.as_ref(), self.secrets.questions() != questions);
        }
        item
    }
}
