//! The variables of one host for one role, and where each value came from.
//!
//! Precedence, lowest first: the role's defaults, the site, the host's groups. Two groups of one
//! host that give the same variable different values are an error: no hidden order decides.

use crate::diag::{Code, Diagnostic, Diagnostics, Span};
use crate::site::tree::Node;
use crate::site::{Role, Site};
use indexmap::IndexMap;

/// A variable's value and origin.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedVariable {
    /// The value.
    pub node: Node,
    /// Which level set it.
    pub from: Provenance,
    /// Where.
    pub span: Span,
}

/// Which level set a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provenance {
    /// The role's defaults.
    Role(String),
    /// `strata.toml`.
    Site,
    /// A group.
    Group(String),
}

impl std::fmt::Display for Provenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role(name) => write!(f, "role {name}"),
            Self::Site => f.write_str("site"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// The variables of `host`; with `role`, its defaults are below the rest.
pub fn variables_of(
    site: &Site,
    host: &str,
    role: Option<&Role>,
    problems: &mut Diagnostics,
) -> IndexMap<String, ResolvedVariable> {
    let mut resolved: IndexMap<String, ResolvedVariable> = IndexMap::new();
    let role_level = role.map(|role| (Provenance::Role(role.name.clone()), &role.vars));
    let levels = role_level.into_iter().chain([(Provenance::Site, &site.config.vars)]);
    for (from, variables) in levels {
        for (name, variable) in variables {
            resolved.insert(
                name.clone(),
                ResolvedVariable {
                    node: variable.node.clone(),
                    from: from.clone(),
                    span: variable.node.span(&variable.source),
                },
            );
        }
    }
    for group in site.groups_of(host) {
        for (name, variable) in &group.vars {
            let span = variable.node.span(&variable.source);
            if let Some(other) = resolved.get(name)
                && let Provenance::Group(other_group) = &other.from
                && other.node.value != variable.node.value
            {
                problems.push(
                    Diagnostic::error(
                        Code::VARIABLE_CONFLICT,
                        format!("`{name}` has two values for the same host"),
                    )
                    .at(span.clone(), format!("from group `{}`", group.name))
                    .also(other.span.clone(), format!("from group `{other_group}`"))
                    .hint("no order among groups decides; set it in one of them only"),
                );
                continue;
            }
            resolved.insert(
                name.clone(),
                ResolvedVariable {
                    node: variable.node.clone(),
                    from: Provenance::Group(group.name.clone()),
                    span,
                },
            );
        }
    }
    resolved
}
