//! What can be wrong with gates before any host is touched.

use super::runner::has_tests;
use super::scenario::SCENARIOS;
use super::waive;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::event::TestKind;
use crate::site::exceptions::Excepted;
use crate::site::tree::{Node, NodeValue};
use crate::site::{GateTest, Site, suggest};

/// The bound that names groups, whatever the test.
const GROUPS: &str = "groups";

/// Reports tests of the site's gates that do not exist or whose bounds do not fit.
pub fn check(site: &Site, problems: &mut Diagnostics) {
    for test in site.gates.values().flatten() {
        let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == test.name) else {
            problems.push(
                Diagnostic::error(Code::GATE, format!("there is no test `{}`", test.name))
                    .at(test.span.clone(), "")
                    .hint(suggest::among(&test.name, SCENARIOS.iter().map(|s| s.name))),
            );
            continue;
        };
        if let Err(error) = (scenario.check)(test) {
            let range = error.range.unwrap_or_else(|| test.span.range.clone());
            let mut problem =
                Diagnostic::error(Code::GATE, error.message).at(test.source.span(range), "");
            problem.hint = error.suggestion;
            problems.push(problem);
        }
        unknown_groups(site, test, problems);
    }
    exceptions(site, problems);
    waive::check(site, problems);
    for layer in &site.config.layers {
        if !layer.place.is_empty() && !has_tests(site, layer, TestKind::Diag) {
            problems.push(
                Diagnostic::error(Code::GATE, format!("layer `{}` has no diag test", layer.name))
                    .at(layer.span.clone(), "it could never be proved")
                    .hint("name tests in roles/<role>/gate.toml of one of its roles"),
            );
        }
    }
}

/// The value of a bound.
fn bound<'a>(test: &'a GateTest, key: &str) -> Option<&'a Node> {
    let entries = test.bounds.as_ref()?.entries()?;
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
}

fn unknown_groups(site: &Site, test: &GateTest, problems: &mut Diagnostics) {
    let Some(NodeValue::Array(groups)) = bound(test, GROUPS).map(|node| &node.value) else {
        return;
    };
    for node in groups {
        if let Some(group) = node.as_str()
            && !site.groups.contains_key(group)
        {
            problems.push(
                Diagnostic::error(Code::GATE, format!("there is no group `{group}`"))
                    .at(node.span(&test.source), "")
                    .hint(suggest::among(group, site.groups.keys().map(String::as_str))),
            );
        }
    }
}

/// An exception that excepts nothing would be believed to do so.
fn exceptions(site: &Site, problems: &mut Diagnostics) {
    for exception in &site.exceptions.0 {
        let (test, key) = match &exception.what {
            Excepted::Test(test) => (test, None),
            Excepted::Bound { test, bound } => (test, Some(bound)),
            Excepted::Step { .. } | Excepted::Sysctl(_) => continue,
        };
        let mut tests =
            site.gates.values().flatten().filter(|other| other.name == *test).peekable();
        let message = if tests.peek().is_none() {
            format!("no role's gate has the test `{test}`")
        } else if let Some(key) = key
            && !tests.any(|test| bound(test, key).is_some())
        {
            format!("the test `{test}` has no bound `{key}` in any role's gate")
        } else {
            continue;
        };
        problems.push(
            Diagnostic::error(Code::LAB_EXCEPTION, message)
                .at(exception.span.clone(), "excepts nothing"),
        );
    }
}
