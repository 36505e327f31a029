//! One step of a role on one host, rendered and typed.

use super::artifact_check;
use super::resolve::Resolver;
use crate::diag::{Code, Diagnostic, Diagnostics, Severity};
use crate::resource::{Item, Resource};
use crate::site::deserialize::from_node;
use crate::site::tree::{Entry, Node, NodeValue};
use crate::site::{Role, Step};
use minijinja::Value;

/// Kinds whose content may come from a template named by `src`.
const WITH_SOURCE: [&str; 3] = ["file", "unit", "block"];

impl Resolver<'_> {
    /// The step as this host needs it; `None` where it does not apply, or is wrong.
    pub(super) fn item(
        &self,
        role: &Role,
        step: &Step,
        context: &Value,
        problems: &mut Diagnostics,
    ) -> Option<Item> {
        if let Some((condition, span)) = &step.when {
            match self.templates.condition(condition, span, context) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(problem) => {
                    problems.push(*problem);
                    return None;
                }
            }
        }
        self.secrets.take_asked();
        let resource = match self.constants.form(step) {
            Some(form) => {
                let content = self.templates.file(&form.template, &form.place, context);
                form.with(content.map_err(|problem| problems.push(*problem)).ok()?)
            }
            None => {
                let errors = problems.count(Severity::Error);
                let resource = self.resource(role, step, context, problems)?;
                if problems.count(Severity::Error) == errors {
                    self.constants.keep_form(role, step, &resource);
                }
                resource
            }
        };
        let secret = self.secrets.take_asked();
        if secret && self.checking {
            self.misplaced(&step.kind, &step.body, role, context, problems);
        }
        let timeout = step.timeout.unwrap_or(self.site().config.run.step_timeout);
        Some(Item {
            name: step.name.clone(),
            resource,
            notify: step.notify.iter().map(|(name, _)| name.clone()).collect(),
            secret,
            timeout_ms: timeout.saturating_mul(1_000),
        })
    }

    fn resource(
        &self,
        role: &Role,
        step: &Step,
        context: &Value,
        problems: &mut Diagnostics,
    ) -> Option<Resource> {
        let rendered = match self.templates.node(&role.source, &step.body, context) {
            Ok(node) => node,
            Err(problem) => {
                problems.push(*problem);
                return None;
            }
        };
        let has_source = rendered
            .entries()
            .is_some_and(|entries| entries.iter().any(|entry| entry.key == "src"));
        let (kind, body) = match step.kind.as_str() {
            "template" => ("file", self.template(role, step, rendered, context, problems)?),
            kind if has_source && WITH_SOURCE.contains(&kind) => {
                (kind, self.template(role, step, rendered, context, problems)?)
            }
            kind => (kind, rendered),
        };
        let table = Node {
            range: body.range.clone(),
            value: NodeValue::Table(vec![Entry {
                key: kind.to_owned(),
                key_range: step.kind_span.range.clone(),
                node: body.clone(),
            }]),
        };
        let resource: Resource = match from_node(&table) {
            Ok(resource) => resource,
            Err(error) => {
                let range = error.range.unwrap_or(body.range);
                let mut problem = Diagnostic::error(Code::RESOURCE, error.message)
                    .at(role.source.span(range), "");
                problem.hint = error.suggestion;
                problems.push(problem);
                return None;
            }
        };
        let invalid = resource.validate();
        let sound = invalid.is_empty();
        for invalid in invalid {
            let range = body
                .entries()
                .and_then(|entries| entries.iter().find(|entry| entry.key == invalid.field))
                .map_or_else(|| body.range.clone(), |entry| entry.node.range.clone());
            let mut problem =
                Diagnostic::error(Code::RESOURCE, invalid.message).at(role.source.span(range), "");
            problem.hint = invalid.hint;
            problems.push(problem);
        }
        if self.checking
            && sound
            && let Resource::Artifact(artifact) = &resource
        {
            let problem = artifact_check::problem(&self.site().artifacts, artifact, &body, role);
            problem.into_iter().for_each(|problem| problems.push(problem));
        }
        Some(resource)
    }

    /// Turns `template = { src, dest, … }` into the settings of a `file`, and the `src` of another
    /// kind into its `content`.
    fn template(
        &self,
        role: &Role,
        step: &Step,
        rendered: Node,
        context: &Value,
        problems: &mut Diagnostics,
    ) -> Option<Node> {
        let NodeValue::Table(mut entries) = rendered.value else { return None };
        let mut take = |key: &str| {
            let index = entries.iter().position(|entry| entry.key == key);
            if index.is_none() && (key == "src" || step.kind == "template") {
                problems.push(
                    Diagnostic::error(Code::TOML_MISSING_KEY, format!("missing key `{key}`"))
                        .at(step.kind_span.clone(), "a template needs `src` and `dest`"),
                );
            }
            index.map(|index| entries.remove(index))
        };
        let (src, dest) = (take("src"), take("dest"));
        let src = src?;
        if step.kind == "template" {
            entries.push(Entry { key: "path".to_owned(), ..dest? });
        }
        let place = src.node.span(&role.source);
        let Some(name) = src.node.as_str() else {
            problems.push(
                Diagnostic::error(Code::TOML_TYPE, "expected a string")
                    .at(place, "a template's path"),
            );
            return None;
        };
        let content = match self.templates.file(name, &place, context) {
            Ok(content) => content,
            Err(problem) => {
                problems.push(*problem);
                return None;
            }
        };
        entries.push(Entry {
            key: "content".to_owned(),
            key_range: src.key_range,
            node: Node { value: NodeValue::String(content), range: src.node.range },
        });
        Some(Node { value: NodeValue::Table(entries), range: rendered.range })
    }
}
