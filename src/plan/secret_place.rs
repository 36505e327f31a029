//! Where secret material may stand in a step: only in what is sent as content. Arguments and
//! environments are readable for every process of a host; paths, names and settings end up in
//! logs and reports.

use super::SecretLookup;
use crate::resource::Resource;
use crate::secrets::Secret;
use serde_json::Value;
use std::sync::Arc;

/// Stands in every value of a secret while a site is checked; no site writes it by accident.
const MARK: &str = "placeholder-for-the-secret-";

/// Kind and key of everything that may carry a secret.
const ALLOWED: [(&str, &str); 5] = [
    ("file", "content"),
    ("unit", "content"),
    ("block", "content"),
    ("command", "stdin"),
    ("container", "env"),
];

/// Gives every secret that there is a value that can be recognised.
pub struct Marked(pub Arc<dyn SecretLookup>);

impl SecretLookup for Marked {
    fn lookup(&self, name: &str) -> Option<Secret<String>> {
        self.0.lookup(name).map(|_| Secret::new(format!("{MARK}{name}")))
    }
}

/// True when a text carries a secret of [`Marked`]; filters for upper and lower case do not hide it.
pub fn is_marked(text: &str) -> bool {
    text.to_ascii_lowercase().contains(MARK)
}

/// The settings of a resource that carry a secret of [`Marked`] where none may stand.
pub fn misplaced(resource: &Resource) -> Vec<String> {
    let Ok(Value::Object(kinds)) = serde_json::to_value(resource) else { return Vec::new() };
    let mut found = Vec::new();
    for (kind, settings) in &kinds {
        let Value::Object(settings) = settings else { continue };
        for (key, value) in settings {
            let allowed = ALLOWED.contains(&(kind.as_str(), key.as_str()));
            if !allowed && carries_mark(value) {
                found.push(key.clone());
            }
        }
    }
    found
}

fn carries_mark(value: &Value) -> bool {
    match value {
        Value::String(text) => is_marked(text),
        Value::Array(values) => values.iter().any(carries_mark),
        Value::Object(entries) => {
            entries.iter().any(|(key, value)| is_marked(key) || carries_mark(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stand_only_in_content() {
        let secret = format!("{MARK}X");
        for (text, keys) in [
            (format!("[file]\npath='/a'\ncontent='{secret}'\n"), &[][..]),
            (format!("[unit]\nname='a.service'\ncontent='{secret}'\n"), &[]),
            (format!("[block]\npath='/a'\nname='b'\ncontent='{secret}'\n"), &[]),
            (format!("[command]\nargv=['a']\nstdin='{secret}'\n"), &[]),
            (format!("[container]\nname='a'\n[container.env]\nA='{secret}'\n"), &[]),
            (
                format!(
                    "[container]\nname='a'\ncommand=['{secret}']\n[container.labels]\na='{secret}'\n"
                ),
                &["command", "labels"],
            ),
            (format!("[command]\nargv=['a', '--password={secret}']\n"), &["argv"]),
            (format!("[command]\nargv=['a']\nunless=['b', '{secret}']\n"), &["unless"]),
            (format!("[command]\nargv=['a']\n[command.env]\nA='{secret}'\n"), &["env"]),
            (format!("[file]\npath='/a/{secret}'\nowner='{secret}'\n"), &["owner", "path"]),
            (format!("[file]\npath='/a'\n[file.guard]\nactivate=['{secret}']\n"), &["guard"]),
            (format!("[line]\npath='/a'\nline='{}'\n", secret.to_uppercase()), &["line"]),
            (format!("[sysctl]\nname='a'\n[sysctl.settings]\n'{secret}'='1'\n"), &["settings"]),
        ] {
            let resource: Resource = toml::from_str(&text).unwrap();
            assert_eq!(misplaced(&resource), keys, "{text}");
        }
    }
}
