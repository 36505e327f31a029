//! Types a [`Node`] by serde, keeping the place of whatever is wrong.

use super::tree::{Entry, Node, NodeValue};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use std::fmt;
use std::ops::Range;

/// Why a node is not of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError {
    /// What is wrong, lower case.
    pub message: String,
    /// What could have been meant.
    pub suggestion: Option<String>,
    /// Where.
    pub range: Option<Range<usize>>,
}

/// Types a node.
///
/// # Errors
/// The first thing that does not fit, with its place.
pub fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, TypeError> {
    T::deserialize(NodeDeserializer(node)).map_err(|error| error.or_at(&node.range))
}

impl TypeError {
    fn or_at(mut self, range: &Range<usize>) -> Self {
        self.range.get_or_insert_with(|| range.clone());
        self
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), suggestion: None, range: None }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self {
            message: format!("unknown key `{field}`"),
            suggestion: Some(super::suggest::among(field, expected.iter().copied())),
            range: None,
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self {
            message: format!("unknown value `{variant}`"),
            suggestion: Some(super::suggest::among(variant, expected.iter().copied())),
            range: None,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { message: format!("missing key `{field}`"), suggestion: None, range: None }
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {expected}, found {unexpected}"))
    }
}

struct NodeDeserializer<'a>(&'a Node);

impl<'de> de::Deserializer<'de> for NodeDeserializer<'_> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let result = match &self.0.value {
            NodeValue::String(text) | NodeValue::Datetime(text) => visitor.visit_str(text),
            NodeValue::Integer(integer) => visitor.visit_i64(*integer),
            NodeValue::Float(float) => visitor.visit_f64(*float),
            NodeValue::Boolean(boolean) => visitor.visit_bool(*boolean),
            NodeValue::Array(nodes) => visitor.visit_seq(Items(nodes.iter())),
            NodeValue::Table(entries) => {
                visitor.visit_map(Entries { rest: entries.iter(), current: None })
            }
        };
        result.map_err(|error| error.or_at(&self.0.range))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        let result = match &self.0.value {
            NodeValue::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            NodeValue::Table(entries) if entries.len() == 1 => {
                visitor.visit_enum(Variant(&entries[0]))
            }
            _ => Err(de::Error::custom(format!(
                "expected a string or a table with one key, found {}",
                self.0.kind()
            ))),
        };
        result.map_err(|error| error.or_at(&self.0.range))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        self.0.next().map(|node| seed.deserialize(NodeDeserializer(node))).transpose()
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        self.current = self.rest.next();
        let Some(entry) = self.current else { return Ok(None) };
        seed.deserialize(entry.key.as_str().into_deserializer())
            .map(Some)
            .map_err(|error: TypeError| error.or_at(&entry.key_range))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        let entry = self.current.ok_or_else(|| {
            <TypeError as de::Error>::custom("a value was asked for before its key")
        })?;
        seed.deserialize(NodeDeserializer(&entry.node))
            .map_err(|error| error.or_at(&entry.node.range))
    }
}

struct Variant<'a>(&'a Entry);

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = TypeError;
    type Variant = VariantValue<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, VariantValue<'a>), TypeError> {
        let name = seed
            .deserialize(self.0.key.as_str().into_deserializer())
            .map_err(|error: TypeError| error.or_at(&self.0.key_range))?;
        Ok((name, VariantValue(&self.0.node)))
    }
}

struct VariantValue<'a>(&'a Node);

impl<'de> VariantAccess<'de> for VariantValue<'_> {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        Err(de::Error::custom("this value takes no settings"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, TypeError> {
        seed.deserialize(NodeDeserializer(self.0)).map_err(|error| error.or_at(&self.0.range))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        de::Deserializer::deserialize_any(NodeDeserializer(self.0), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        de::Deserializer::deserialize_any(NodeDeserializer(self.0), visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;
    use crate::diag::{Diagnostics, Source};
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Package {
        names: Vec<String>,
        #[serde(default)]
        hold: bool,
        state: Option<State>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum State {
        Present,
        Absent,
    }

    fn typed(text: &str) -> (Source, Result<Package, TypeError>) {
        let source = Source::new("x.toml", text);
        let mut problems = Diagnostics::new();
        let entries = tree::parse(&source, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let result = from_node(&entries[0].node);
        (source, result)
    }

    #[test]
    fn reads_a_table() {
        let (_, package) = typed("p = { names = [\"a\"], state = \"absent\" }");
        assert_eq!(
            package.unwrap(),
            Package { names: vec!["a".into()], hold: false, state: Some(State::Absent) }
        );
    }

    #[test]
    fn names_the_place_of_each_kind_of_error() {
        for (text, message, place) in [
            ("p = { name = [] }", "unknown key `name`", "name"),
            ("p = { names = 5 }", "expected a sequence, found integer `5`", "5"),
            ("p = { names = [], state = \"gone\" }", "unknown value `gone`", "\"gone\""),
            ("p = { hold = true }", "missing key `names`", "{ hold = true }"),
            ("p = { names = [\"a\", 7] }", "expected a string, found integer `7`", "7"),
        ] {
            let (source, result) = typed(text);
            let error = result.unwrap_err();
            assert_eq!(error.message, message);
            assert_eq!(source.span(error.range.unwrap()).text(), place, "{text}");
        }
    }
}
