//! A test's bounds, typed.

use crate::site::GateTest;
use crate::site::deserialize::{TypeError, from_node};
use crate::site::tree::{Node, NodeValue};
use serde::de::DeserializeOwned;

/// Types the bounds of a test; without bounds every setting takes its default.
///
/// # Errors
/// What does not fit, with its place.
pub fn typed<T: DeserializeOwned>(test: &GateTest) -> Result<T, TypeError> {
    let empty = Node { value: NodeValue::Table(Vec::new()), range: test.span.range.clone() };
    from_node(test.bounds.as_ref().unwrap_or(&empty))
}
