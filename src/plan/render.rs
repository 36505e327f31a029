//! Templates and expressions: strict, bounded, and with errors that name their place.

use super::certificate;
use crate::diag::{Code, Diagnostic, Source, Span};
use crate::site::Site;
use crate::site::tree::{Entry, Node, NodeValue};
use minijinja::value::ValueKind;
use std::collections::BTreeMap;

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

/// Steps of the template engine that one template may take: a loop that never ends is an error.
const FUEL: u64 = 500_000;

/// Renders with the site's templates.
pub struct Templates<'site> {
    environment: Environment<'site>,
    site: &'site Site,
    unparsed: BTreeMap<&'site str, Diagnostic>,
}

impl<'site> Templates<'site> {
    /// An environment with every template of the site.
    pub fn new(site: &'site Site) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Lines that hold only a block vanish, and files keep their last line feed.
        let mut syntax = minijinja::syntax::SyntaxConfig::builder();
        if let Ok(syntax) =
            syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()
        {
            environment.set_syntax(syntax);
        }
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        // Only with debug on does an error name the undefined variable. Its other debug forms show
        // values and are never printed.
        environment.set_debug(true);
        environment.set_formatter(|out, state, value| match value.kind() {
            ValueKind::Bool => {
                out.write_str(if value.is_true() { "true" } else { "false" }).map_err(Error::from)
            }
            ValueKind::None => Err(Error::new(
                ErrorKind::InvalidOperation,
                "`none` would be written into the file",
            )),
            _ => minijinja::escape_formatter(out, state, value),
        });
        environment.add_function("tls_authority", certificate::authority);
        environment.add_function("tls_certificate", certificate::certificate);
        environment.add_function("tls_key", certificate::certificate_key);
        let mut unparsed = BTreeMap::new();
        for (name, source) in &site.templates {
            if let Err(error) = environment.add_template(name, source.text()) {
                unparsed.insert(name.as_str(), problem(&error, source, None));
            }
        }
        Self { environment, site, unparsed }
    }

    /// Templates that cannot be parsed.
    pub fn unparsed(&self) -> impl Iterator<Item = &Diagnostic> {
        self.unparsed.values()
    }

    /// Renders a template file; `place` is where a role names it.
    ///
    /// # Errors
    /// A diagnostic that points into the template, or at `place` when there is no such template.
    pub fn file(
        &self,
        name: &str,
        place: &Span,
        context: &Value,
    ) -> Result<String, Box<Diagnostic>> {
        let Some(source) = self.site.templates.get(name) else {
            let known = self.site.templates.keys().map(String::as_str);
            return Err(Box::new(
                Diagnostic::error(Code::TEMPLATE_MISSING, format!("there is no templates/{name}"))
                    .at(place.clone(), "")
                    .hint(crate::site::suggest::among(name, known)),
            ));
        };
        if let Some(problem) = self.unparsed.get(name) {
            return Err(Box::new(problem.clone()));
        }
        self.environment
            .get_template(name)
            .and_then(|template| template.render(context.clone()))
            .map_err(|error| {
                let source =
                    error.name().and_then(|name| self.site.templates.get(name)).unwrap_or(source);
                Box::new(problem(&error, source, Some(context)))
            })
    }

    /// Evaluates a condition.
    ///
    /// # Errors
    /// A diagnostic at `place`.
    pub fn condition(
        &self,
        text: &str,
        place: &Span,
        context: &Value,
    ) -> Result<bool, Box<Diagnostic>> {
        self.expression(text, place, context).map(|value| value.is_true())
    }

    fn expression(
        &self,
        text: &str,
        place: &Span,
        context: &Value,
    ) -> Result<Value, Box<Diagnostic>> {
        let value = self
            .environment
            .compile_expression(text)
            .and_then(|expression| expression.eval(context.clone()))
            .map_err(|error| Box::new(inline_problem(&error, place, context)))?;
        if value.is_undefined() {
            let error =
                Error::new(ErrorKind::UndefinedError, format!("`{}` is undefined", text.trim()));
            return Err(Box::new(inline_problem(&error, place, context)));
        }
        Ok(value)
    }

    /// Renders every string below a node. A string that is nothing but one `{{ expression }}`
    /// keeps the expression's type, so that `port = "{{ ssh_port }}"` is a number.
    ///
    /// # Errors
    /// The first problem, at the string it is in.
    pub fn node(
        &self,
        source: &Source,
        node: &Node,
        context: &Value,
    ) -> Result<Node, Box<Diagnostic>> {
        let value = match &node.value {
            NodeValue::String(text) if text.contains("{{") || text.contains("{%") => {
                let place = node.span(source);
                match sole_expression(text) {
                    Some(expression) => {
                        let value = self.expression(expression, &place, context)?;
                        return value_node(&value, node)
                            .ok_or_else(|| Box::new(nothing(expression.trim(), &place)));
                    }
                    None => NodeValue::String(
                        self.environment
                            .render_str(text, context.clone())
                            .map_err(|error| Box::new(inline_problem(&error, &place, context)))?,
                    ),
                }
            }
            NodeValue::Array(nodes) => NodeValue::Array(
                nodes
                    .iter()
                    .map(|node| self.node(source, node, context))
                    .collect::<Result<_, _>>()?,
            ),
            NodeValue::Table(entries) => NodeValue::Table(
                entries
                    .iter()
                    .map(|entry| {
                        Ok(Entry {
                            node: self.node(source, &entry.node, context)?,
                            ..entry.clone()
                        })
                    })
                    .collect::<Result<_, Box<Diagnostic>>>()?,
            ),
            other => other.clone(),
        };
        Ok(Node { value, range: node.range.clone() })
    }
}

fn sole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.contains("{{") && !inner.contains("}}")).then_some(inner)
}

/// The error of a value that is not there: as a text it would be the word `none`.
fn nothing(expression: &str, place: &Span) -> Diagnostic {
    Diagnostic::error(Code::TEMPLATE, format!("`{expression}` is or holds `none`"))
        .at(place.clone(), "")
        .hint("give the value, say what stands for it with `or` or `| default(\"…\", true)`, or leave the step out with `when`")
}

/// A template value as a node at the place of the string it came from; `None` where there is no
/// value, in it or in what it holds.
fn value_node(value: &Value, place: &Node) -> Option<Node> {
    let node = |value: NodeValue| Node { value, range: place.range.clone() };
    Some(match value.kind() {
        ValueKind::None | ValueKind::Undefined => return None,
        ValueKind::Bool => node(NodeValue::Boolean(value.is_true())),
        ValueKind::Number => match (value.as_i64(), f64::try_from(value.clone())) {
            (Some(integer), _) => node(NodeValue::Integer(integer)),
            (None, Ok(float)) => node(NodeValue::Float(float)),
            (None, Err(_)) => node(NodeValue::String(value.to_string())),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().into_iter().flatten().map(|item| value_node(&item, place));
            node(NodeValue::Array(items.collect::<Option<_>>()?))
        }
        ValueKind::Map => {
            let entries = value.try_iter().into_iter().flatten().map(|key| {
                Some(Entry {
                    node: value_node(&value.get_item(&key).unwrap_or_default(), place)?,
                    key: key.to_string(),
                    key_range: place.range.clone(),
                })
            });
            node(NodeValue::Table(entries.collect::<Option<_>>()?))
        }
        _ => node(NodeValue::String(value.to_string())),
    })
}

/// An error inside a template file. Only its kind, its detail and its place are used: the engine's
/// debug output shows values.
fn problem(error: &Error, source: &Source, context: Option<&Value>) -> Diagnostic {
    let diagnostic = described(error, context);
    match (error.range(), error.line()) {
        (Some(range), _) => diagnostic.at(source.span(range), ""),
        (None, Some(line)) => diagnostic.at(source.line_span(line), ""),
        (None, None) => diagnostic.at(source.span(0..0), ""),
    }
}

fn inline_problem(error: &Error, place: &Span, context: &Value) -> Diagnostic {
    described(error, Some(context)).at(place.clone(), "")
}

fn described(error: &Error, context: Option<&Value>) -> Diagnostic {
    let detail = error.detail().map(ToOwned::to_owned);
    if error.kind() != ErrorKind::UndefinedError {
        let kind = error.kind().to_string();
        let message = detail.map_or(kind.clone(), |detail| format!("{kind}: {detail}"));
        return Diagnostic::error(Code::TEMPLATE, message);
    }
    let message = detail.unwrap_or_else(|| "a value is undefined".to_owned());
    let diagnostic = Diagnostic::error(Code::UNDEFINED, message.clone());
    let Some(name) = message.split('`').nth(1) else { return diagnostic };
    let (parent, wanted) = name.rsplit_once('.').unwrap_or(("", name));
    if parent == "secrets" {
        return diagnostic.hint(format!(
            "declare {wanted} in credentials.example/, then run `strata secrets init`"
        ));
    }
    let mut scope = context.cloned().unwrap_or_default();
    for part in parent.split('.').filter(|part| !part.is_empty()) {
        scope = scope.get_attr(part).unwrap_or_default();
    }
    let keys: Vec<String> =
        scope.try_iter().into_iter().flatten().map(|key| key.to_string()).collect();
    diagnostic.hint(crate::site::suggest::among(wanted, keys.iter().map(String::as_str)))
}
