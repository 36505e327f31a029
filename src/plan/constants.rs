//! What of a site's steps is the same on every host.

use crate::diag::Span;
use crate::resource::{Content, File, Item, Presence, Resource};
use crate::site::tree::{Node, NodeValue};
use crate::site::{Role, Step};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A step of the site, which outlives whatever is resolved of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StepId(usize);

impl StepId {
    pub(super) fn of(step: &Step) -> Self {
        Self(std::ptr::from_ref(step).addr())
    }
}

/// What is the same on every host.
#[derive(Default)]
pub struct Constants {
    /// Steps without a condition, a template or an expression.
    items: Mutex<BTreeMap<StepId, Arc<Item>>>,
    forms: Mutex<BTreeMap<StepId, Form>>,
}

/// A file of which only the content, made of a template, is different from host to host.
#[derive(Clone)]
pub struct Form {
    /// The template's name.
    pub template: String,
    /// Where the role names it.
    pub place: Span,
    /// The file without its content.
    file: File,
}

impl Form {
    /// The file with a content.
    pub fn with(self, content: String) -> Resource {
        Resource::File(File { content: content.into(), ..self.file })
    }
}

impl Constants {
    /// The step, where it was made before.
    pub fn known(&self, step: &Step) -> Option<Arc<Item>> {
        lock(&self.items).get(&StepId::of(step)).cloned()
    }

    /// Keeps a step that is the same on every host. False for any other.
    pub fn keep(&self, step: &Step, item: &Arc<Item>) -> bool {
        let constant = is_constant(step);
        if constant {
            lock(&self.items).insert(StepId::of(step), Arc::clone(item));
        }
        constant
    }

    /// What the step's file is but for its content, where it was found sound before.
    pub fn form(&self, step: &Step) -> Option<Form> {
        lock(&self.forms).get(&StepId::of(step)).cloned()
    }

    /// Keeps what a sound file is but for its content, where that is the same on every host and no
    /// content could make it unsound.
    pub fn keep_form(&self, role: &Role, step: &Step, resource: &Resource) {
        let Resource::File(file) = resource else { return };
        let entries = step.body.entries().unwrap_or_default();
        let Some(src) = entries.iter().find(|entry| entry.key == "src") else { return };
        let Some(template) = src.node.as_str() else { return };
        let free = file.state == Presence::Present && file.keep.is_none();
        if !free || !is_text(&step.body) || !matches!(step.kind.as_str(), "template" | "file") {
            return;
        }
        let form = Form {
            template: template.to_owned(),
            place: src.node.span(&role.source),
            file: File { content: Content::default(), ..file.clone() },
        };
        lock(&self.forms).insert(StepId::of(step), form);
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_constant(step: &Step) -> bool {
    let source =
        step.body.entries().is_some_and(|entries| entries.iter().any(|entry| entry.key == "src"));
    step.when.is_none() && step.kind != "template" && !source && is_text(&step.body)
}

/// True when nothing below the node is rendered.
fn is_text(node: &Node) -> bool {
    match &node.value {
        NodeValue::String(text) => !text.contains("{{") && !text.contains("{%"),
        NodeValue::Array(nodes) => nodes.iter().all(is_text),
        NodeValue::Table(entries) => entries.iter().all(|entry| is_text(&entry.node)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Diagnostics;
    use crate::site::{Profile, Site};
    use std::path::Path;

    fn site() -> Site {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        Site::load(root, Profile::Production, &mut Diagnostics::new()).unwrap()
    }

    #[test]
    fn only_a_file_whose_content_alone_differs_has_a_form() {
        let site = site();
        let role = &site.roles["base"];
        let template = |step: &&Step| step.kind == "template" && is_text(&step.body);
        let step = role.steps.iter().find(template).unwrap();
        let file = File::new("/etc/a", "content");
        let form_of = |step: &Step, file: &File| {
            let constants = Constants::default();
            constants.keep_form(role, step, &Resource::File(file.clone()));
            constants.form(step)
        };
        let form = form_of(step, &file).unwrap();
        assert!(site.templates.contains_key(&form.template));
        assert_eq!(form.file.content, Content::default());
        let other = Resource::File(File::new("/etc/a", "other"));
        assert_eq!(form.with("other".to_owned()), other);
        // A live region must be in the content.
        assert!(form_of(step, &File { keep: Some("a".into()), ..file.clone() }).is_none());
        let mut rendered = step.clone();
        let NodeValue::Table(entries) = &mut rendered.body.value else { panic!("a table") };
        entries.iter_mut().for_each(|entry| {
            if entry.key == "dest" {
                entry.node.value = NodeValue::String("/etc/{{ host.name }}".to_owned());
            }
        });
        assert!(form_of(&rendered, &file).is_none());
    }

    #[test]
    fn a_step_is_the_same_everywhere_only_without_conditions_templates_and_expressions() {
        let site = site();
        let step = site.roles["base"]
            .steps
            .iter()
            .find(|step| step.kind == "package" && step.when.is_none() && is_constant(step))
            .unwrap();
        let with = |change: &dyn Fn(&mut Step)| {
            let mut other = step.clone();
            change(&mut other);
            is_constant(&other)
        };
        assert!(with(&|_| {}));
        assert!(!with(&|step| step.when = Some(("true".to_owned(), step.span.clone()))));
        assert!(!with(&|step| step.kind = "template".to_owned()));
        let text = |step: &mut Step, text: &str| {
            let NodeValue::Table(entries) = &mut step.body.value else { panic!("a table") };
            entries[0].node.value = NodeValue::String(text.to_owned());
        };
        assert!(with(&|step| text(step, "a { brace }")));
        assert!(!with(&|step| text(step, "{{ host.name }}")));
        assert!(!with(&|step| text(step, "{% if x %}y{% endif %}")));
    }
}
