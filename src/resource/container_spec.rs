//! A container's description: its canonical fields, their digest, and the engine's form of it.

use super::container::Container;
use super::outcome::Change;
use super::validity::{Problem, Rules};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Digest of the fields, with the version of their form.
const SPEC: &str = "strata.spec";
/// The fields themselves, so that a difference can be named.
const FIELDS: &str = "strata.fields";
/// The labels that are strata's.
pub(super) const SPEC_LABELS: [&str; 2] = [SPEC, FIELDS];
/// Version of the canonical form. A field that is at its default is left out, so that fields which
/// are added later change no digest; only another meaning of the same text needs a new version.
const VERSION: &str = "1";

/// What a container was made of, each field as one text. Values of the environment are never here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields(BTreeMap<String, String>);

/// How a container's labels differ from a description.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Differing {
    Nothing,
    Fields(Vec<Change>),
    /// The container has no label of strata's.
    Foreign,
}

impl Fields {
    /// The description of a container that is made of the image with this id.
    pub(super) fn of(wanted: &Container, image: &str) -> Self {
        let mut fields = BTreeMap::new();
        let mut put = |key: &str, text: String| {
            if !text.is_empty() {
                fields.insert(key.to_owned(), text);
            }
        };
        let list = |values: &[String]| match values {
            [] => String::new(),
            values => Value::from(values.to_vec()).to_string(),
        };
        // The order in which these are written has no meaning.
        let set = |values: &[String]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            list(&values)
        };
        let pairs = |values: &BTreeMap<String, String>| {
            let texts: Vec<_> =
                values.iter().map(|(key, value)| format!("{key}={value}")).collect();
            list(&texts)
        };
        put("image", image.to_owned());
        put("network", wanted.network.clone());
        put("volumes", set(&wanted.volumes));
        put("env", list(&wanted.env.keys().cloned().collect::<Vec<_>>()));
        put("command", list(&wanted.command));
        put("entrypoint", list(&wanted.entrypoint));
        put("user", wanted.user.clone().unwrap_or_default());
        put("hostname", wanted.hostname.clone().unwrap_or_default());
        put("add_hosts", set(&wanted.add_hosts));
        put("ports", set(&wanted.ports));
        put("stop_timeout", wanted.stop_timeout.to_string());
        put("shm_size", wanted.shm_size.clone().unwrap_or_default());
        put("ulimits", set(&wanted.ulimits));
        put("tmpfs", set(&wanted.tmpfs));
        put("labels", pairs(&wanted.labels));
        put("log_options", pairs(&wanted.log_options));
        Self(fields)
    }

    /// The canonical text: a JSON object of strings with sorted keys.
    fn text(&self) -> String {
        let object: Vec<String> = self
            .0
            .iter()
            .map(|(key, text)| {
                format!("{}:{}", Value::from(key.as_str()), Value::from(text.as_str()))
            })
            .collect();
        format!("{{{}}}", object.join(","))
    }

    fn digest(&self) -> String {
        let digest = Sha256::digest(self.text().as_bytes());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{VERSION}:{hex}")
    }

    /// The labels that tell a later run what the container was made of.
    pub(super) fn labels(&self) -> [(&'static str, String); 2] {
        [(SPEC, self.digest()), (FIELDS, self.text())]
    }

    /// Compares with what a container's labels tell.
    pub(super) fn differing(&self, labels: &BTreeMap<String, String>) -> Differing {
        let Some(spec) = labels.get(SPEC) else { return Differing::Foreign };
        if *spec == self.digest() {
            return Differing::Nothing;
        }
        let found = labels.get(FIELDS).and_then(|text| serde_json::from_str(text).ok());
        let found: BTreeMap<String, String> = found.unwrap_or_default();
        let keys: BTreeSet<&String> = found.keys().chain(self.0.keys()).collect();
        let changes: Vec<Change> = keys
            .into_iter()
            .filter(|key| found.get(*key) != self.0.get(*key))
            .map(|key| {
                let shown = |fields: &BTreeMap<String, String>| {
                    fields
                        .get(key)
                        .map(|text| if key == "image" { short(text) } else { text.clone() })
                };
                Change::new(key.clone(), shown(&found), shown(&self.0))
            })
            .collect();
        if changes.is_empty() {
            // The fields are the same and their digest is not: its form is another one.
            return Differing::Fields(vec![Change::new("spec", Some(spec.clone()), None)]);
        }
        Differing::Fields(changes)
    }
}

/// True for a container that strata made.
pub(super) fn is_ours(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(SPEC)
}

/// An image's id as people compare it.
pub(super) fn short(id: &str) -> String {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.chars().take(12).collect()
}

/// A directory of the host and its place inside.
pub(super) struct Volume<'a> {
    pub(super) host: &'a str,
    inside: &'a str,
}

/// Reads `"/host:/inside[:ro|:rw]"`.
pub(super) fn volume(text: &str) -> Option<Volume<'_>> {
    let mut parts = text.split(':');
    let (host, inside) = (parts.next()?, parts.next()?);
    let mode = parts.next();
    (matches!(mode, None | Some("ro" | "rw")) && parts.next().is_none())
        .then_some(Volume { host, inside })
}

/// A published port in the engine's words.
struct Port {
    address: String,
    host: u16,
    /// `9000/tcp`.
    inside: String,
}

/// Reads `"[address:]host:inside[/udp]"`.
fn port(text: &str) -> Option<Port> {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, inside) = text.rsplit_once(':')?;
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
    let good = matches!(protocol, "tcp" | "udp")
        && (address.is_empty() || address.parse::<IpAddr>().is_ok());
    let (host, inside) = (number(host)?, number(inside)?);
    good.then(|| Port { address: address.to_owned(), host, inside: format!("{inside}/{protocol}") })
}

/// Reads `"nofile=1024:65536"`.
fn ulimit(text: &str) -> Option<Value> {
    let (name, limits) = text.split_once('=')?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (soft.parse::<i64>().ok()?, hard.parse::<i64>().ok()?);
    let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    (good && soft >= -1 && hard >= -1 && (hard == -1 || soft <= hard))
        .then(|| json!({ "Name": name, "Soft": soft, "Hard": hard }))
}

/// Reads `"256m"`: bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

/// Rules about fields that have a form of their own.
pub(super) fn problems(wanted: &Container) -> Vec<Problem> {
    let mut rules = Rules::new();
    let mut inside = BTreeSet::new();
    for text in &wanted.volumes {
        rules = match volume(text) {
            Some(volume) => rules
                .path_below_root("volumes", volume.host)
                .path_below_root("volumes", volume.inside)
                .that(inside.insert(volume.inside.to_owned()), || {
                    Problem::new("volumes", format!("two volumes stand at {}", volume.inside))
                }),
            None => rules.add([Problem::new("volumes", format!("`{text}` cannot be read"))
                .hint("write /host/dir:/inside or /host/dir:/inside:ro")]),
        };
    }
    for (name, value) in &wanted.env {
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        rules = rules
            .that(plain, || Problem::new("env", format!("`{name}` is not a variable's name")))
            .that(
                !value.as_bytes().contains(&0) && std::str::from_utf8(value.as_bytes()).is_ok(),
                || Problem::new("env", format!("the value of {name} holds a NUL byte")),
            );
    }
    let form = |field, texts: &[String], good: &dyn Fn(&str) -> bool, hint: &str| {
        let bad = texts.iter().filter(|text| !good(text));
        bad.map(|text| Problem::new(field, format!("`{text}` cannot be read")).hint(hint))
            .collect::<Vec<_>>()
    };
    let host = |text: &str| {
        text.split_once(':').is_some_and(|(name, address)| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
                && address.parse::<IpAddr>().is_ok()
        })
    };
    let sizes: Vec<String> = wanted.shm_size.iter().cloned().collect();
    for path in &wanted.tmpfs {
        rules = rules.path_below_root("tmpfs", path.split(':').next().unwrap_or_default());
    }
    if let Some(hostname) = &wanted.hostname {
        rules = rules.name("hostname", hostname, ".-");
    }
    if let Some(user) = &wanted.user {
        rules = rules.name("user", user, "_.-:");
    }
    rules
        .add(form("add_hosts", &wanted.add_hosts, &host, "write name:ip"))
        .add(form(
            "ports",
            &wanted.ports,
            &|text| port(text).is_some(),
            "write [address:]host:inside[/udp]",
        ))
        .add(form(
            "ulimits",
            &wanted.ulimits,
            &|text| ulimit(text).is_some(),
            "write name=limit or name=soft:hard",
        ))
        .add(form(
            "shm_size",
            &sizes,
            &|text| size(text).is_some(),
            "write a number with k, m or g",
        ))
        .done()
}

/// What the engine is told to make; `image` is the id that the image's name has on the host.
pub(super) fn creation(wanted: &Container, image: &str) -> Value {
    let mut labels: Map<String, Value> =
        wanted.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    for (key, value) in Fields::of(wanted, image).labels() {
        labels.insert(key.to_owned(), value.into());
    }
    let env: Vec<String> = wanted
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let mut exposed = Map::new();
    let mut bindings: Map<String, Value> = Map::new();
    for port in wanted.ports.iter().filter_map(|text| port(text)) {
        exposed.insert(port.inside.clone(), json!({}));
        let binding = json!({ "HostIp": port.address, "HostPort": port.host.to_string() });
        let all = bindings.entry(port.inside).or_insert_with(|| json!([]));
        if let Value::Array(all) = all {
            all.push(binding);
        }
    }
    let tmpfs: Map<String, Value> = wanted
        .tmpfs
        .iter()
        .map(|text| text.split_once(':').unwrap_or((text, "")))
        .map(|(path, options)| (path.to_owned(), options.into()))
        .collect();
    let ulimits: Vec<Value> = wanted.ulimits.iter().filter_map(|text| ulimit(text)).collect();
    let mut host = json!({
        "NetworkMode": wanted.network,
        "Binds": wanted.volumes,
        "ExtraHosts": wanted.add_hosts,
        "PortBindings": bindings,
        "RestartPolicy": { "Name": wanted.restart.name() },
        "Ulimits": ulimits,
        "Tmpfs": tmpfs,
    });
    if let Some(bytes) = wanted.shm_size.as_deref().and_then(size) {
        host["ShmSize"] = bytes.into();
    }
    if !wanted.log_options.is_empty() {
        host["LogConfig"] = json!({ "Type": "", "Config": wanted.log_options });
    }
    let mut body = json!({
        "Image": wanted.image_name(),
        "Env": env,
        "Labels": labels,
        "ExposedPorts": exposed,
        "StopTimeout": wanted.stop_timeout,
        "HostConfig": host,
    });
    let mut own = |key: &str, value: Value| body[key] = value;
    if !wanted.command.is_empty() {
        own("Cmd", wanted.command.clone().into());
    }
    if !wanted.entrypoint.is_empty() {
        own("Entrypoint", wanted.entrypoint.clone().into());
    }
    if let Some(user) = &wanted.user {
        own("User", user.as_str().into());
    }
    if let Some(hostname) = &wanted.hostname {
        own("Hostname", hostname.as_str().into());
    }
    body
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
