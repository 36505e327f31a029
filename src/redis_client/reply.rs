//! Answers of the protocol as Rust values. Nothing that a server sends panics.

use super::client::{Endpoint, Role};
use super::error::Error;
use redis::Value;
use std::collections::BTreeMap;

/// A text; numbers count as their digits.
pub(super) fn text(what: &str, value: &Value) -> Result<String, Error> {
    match value {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.clone()),
        Value::Okay => Ok("OK".to_owned()),
        Value::Int(number) => Ok(number.to_string()),
        other => Err(Error::answer(what, format!("a text was expected, not {}", kind(other)))),
    }
}

/// A text, or nothing.
pub(super) fn optional_text(what: &str, value: &Value) -> Result<Option<String>, Error> {
    if *value == Value::Nil { Ok(None) } else { text(what, value).map(Some) }
}

/// A whole number, also one that is sent as a text.
pub(super) fn number<T: TryFrom<i64>>(what: &str, value: &Value) -> Result<T, Error> {
    let wide = match value {
        Value::Int(number) => *number,
        other => parsed(what, &text(what, other)?)?,
    };
    T::try_from(wide).map_err(|_| Error::answer(what, format!("the number {wide} does not fit")))
}

/// A text as a number.
pub(super) fn parsed<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::answer(what, format!("`{text}` is not a number")))
}

/// A list.
pub(super) fn list<'a>(what: &str, value: &'a Value) -> Result<&'a [Value], Error> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        other => Err(Error::answer(what, format!("a list was expected, not {}", kind(other)))),
    }
}

/// Names and values that come one after the other.
pub(super) fn pairs(what: &str, value: &Value) -> Result<BTreeMap<String, String>, Error> {
    if let Value::Map(entries) = value {
        return entries.iter().map(|(k, v)| Ok((text(what, k)?, text(what, v)?))).collect();
    }
    let values = list(what, value)?;
    if !values.len().is_multiple_of(2) {
        return Err(Error::answer(what, "a name without a value"));
    }
    values.chunks_exact(2).map(|pair| Ok((text(what, &pair[0])?, text(what, &pair[1])?))).collect()
}

/// An address and a port.
pub(super) fn endpoint(what: &str, host: &Value, port: &Value) -> Result<Endpoint, Error> {
    Ok(Endpoint { host: text(what, host)?, port: number(what, port)? })
}

/// The answer to ROLE.
pub(super) fn role(value: &Value) -> Result<Role, Error> {
    const WHAT: &str = "ROLE";
    let values = list(WHAT, value)?;
    let first = values.first().map(|value| text(WHAT, value)).transpose()?;
    match (first.as_deref(), values) {
        (Some("master"), [_, offset, replicas]) => {
            let replicas = list(WHAT, replicas)?
                .iter()
                .map(|replica| match list(WHAT, replica)? {
                    [host, port, offset] => {
                        Ok((endpoint(WHAT, host, port)?, number(WHAT, offset)?))
                    }
                    _ => Err(Error::answer(WHAT, "a replica is not three values")),
                })
                .collect::<Result<_, Error>>()?;
            Ok(Role::Master { offset: number(WHAT, offset)?, replicas })
        }
        (Some("slave"), [_, host, port, state, offset]) => Ok(Role::Replica {
            master: endpoint(WHAT, host, port)?,
            state: text(WHAT, state)?,
            offset: number(WHAT, offset)?,
        }),
        (Some("sentinel"), [_, names]) => Ok(Role::Sentinel {
            masters: list(WHAT, names)?
                .iter()
                .map(|name| text(WHAT, name))
                .collect::<Result<_, _>>()?,
        }),
        _ => Err(Error::answer(WHAT, "no role that is known")),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::Array(_) | Value::Set(_) => "a list",
        Value::Map(_) => "a map",
        Value::ServerError(_) => "an error",
        _ => "something else",
    }
}
