//! `strata secrets check`, `diff` and `rekey`: what is printed. Names are printed, values never.

use super::secrets::{SecretsSettings, Streams, form_word, one, print, show};
use crate::diag::{Diagnostic, Diagnostics, Severity};
use crate::secrets::{self, NewSet, RekeyReport, codes};
use clap::Args;
use serde_json::json;

/// Arguments of `strata secrets rekey`.
#[derive(Debug, Clone, Default, Args)]
pub struct RekeyArguments {
    /// Add this reader on the way (repeatable), for example alice=age1… or 'bob=ssh-ed25519 AAAA…'
    #[arg(long, value_name = "NAME=KEY")]
    pub add: Vec<String>,
    /// Remove this reader on the way, by name or key (repeatable)
    #[arg(long, value_name = "NAME")]
    pub remove: Vec<String>,
    /// Make a recovery key and add it
    #[arg(long)]
    pub new_recovery_key: bool,
    /// Only say what would be done: exit code 8 when files would be encrypted anew
    #[arg(long)]
    pub check: bool,
}

/// `strata secrets check`.
pub fn check(
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    strict: bool,
) -> Result<u8, Diagnostics> {
    let nothing = std::collections::BTreeSet::new();
    let used = settings.used.as_ref();
    let report =
        secrets::check(&settings.site_root, &settings.identity_path, used.unwrap_or(&nothing));
    show(settings, streams.errors, &report.problems);
    let unused = match used {
        Some(_) => report.unused.clone(),
        None => Vec::new(),
    };
    let text = match settings.json {
        true => format!(
            "{:#}\n",
            json!({
                "bricks": report.bricks.iter().map(|(brick, form, values)| json!({
                    "brick": brick, "form": form_word(Some(*form)), "values": values,
                })).collect::<Vec<_>>(),
                "readers": report.readers,
                "recovery": report.recovery,
                "unused": unused,
                "problems": report.problems.iter().map(|problem| json!({
                    "severity": match problem.severity {
                        Severity::Error => "error",
                        Severity::Warning => "warning",
                    },
                    "code": problem.code.as_str(),
                    "message": problem.message,
                    "hint": problem.hint,
                })).collect::<Vec<_>>(),
            })
        ),
        false => {
            let values: usize = report.bricks.iter().map(|(_, _, values)| values).sum();
            let mut text = format!("{values} values in {} files\n", report.bricks.len());
            if !report.readers.is_empty() {
                text.push_str(&format!("read by {}\n", report.readers.join(", ")));
            }
            if !report.recovery.is_empty() {
                text.push_str(&format!("kept offline: {}\n", report.recovery.join(", ")));
            }
            if !unused.is_empty() {
                text.push_str(&format!("no role uses {}\n", unused.join(", ")));
            }
            text
        }
    };
    print(streams, &text)?;
    Ok(if secrets::fails(&report.problems, strict) { 2 } else { 0 })
}

/// `strata secrets diff`.
pub fn diff(
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    with: &str,
) -> Result<u8, Diagnostics> {
    let found = secrets::diff(&settings.site_root, &settings.identity_path, with)?;
    let text = match settings.json {
        true => format!(
            "{:#}\n",
            json!({
                "names": found.names.iter().map(|(brick, name, became)| json!({
                    "brick": brick, "name": name, "became": became.word(),
                })).collect::<Vec<_>>(),
                "readers": found.readers.iter().map(|(name, became)| json!({
                    "name": name, "became": became.word(),
                })).collect::<Vec<_>>(),
            })
        ),
        false => {
            let names = found
                .names
                .iter()
                .map(|(brick, name, became)| format!("{:<7}  {brick}  {name}\n", became.word()));
            let readers = found
                .readers
                .iter()
                .map(|(name, became)| format!("{:<7}  reader  {name}\n", became.word()));
            names.chain(readers).collect()
        }
    };
    print(streams, &text)?;
    Ok(if found.is_empty() { 0 } else { 8 })
}

/// `strata secrets rekey`.
pub fn rekey(
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    arguments: &RekeyArguments,
) -> Result<u8, Diagnostics> {
    let mut add = Vec::new();
    for given in &arguments.add {
        let parts = given.split_once('=').filter(|(name, key)| !name.is_empty() && !key.is_empty());
        let (name, key) = parts.ok_or_else(|| {
            one(Diagnostic::error(codes::RECIPIENTS, "a reader to add is NAME=KEY")
                .hint("for example --add alice=age1… or --add 'bob=ssh-ed25519 AAAA…'"))
        })?;
        add.push((name.to_owned(), key.to_owned()));
    }
    let wanted = NewSet {
        add,
        remove: arguments.remove.clone(),
        recovery: arguments.new_recovery_key,
        look: arguments.check,
    };
    let report = secrets::rekey(&settings.site_root, &settings.identity_path, &wanted)?;
    show(settings, streams.errors, &report.warnings);
    let text = match settings.json {
        true => format!(
            "{:#}\n",
            json!({
                "changed": report.changed,
                "bricks": report.bricks,
                "readers": report.readers,
                "added": report.added,
                "removed": report.removed,
                "known_to_removed": report.known,
                "recovery_created": report.recovery_created,
            })
        ),
        false => rekey_text(&report, wanted.look),
    };
    print(streams, &text)?;
    Ok(if wanted.look && report.changed { 8 } else { 0 })
}

fn rekey_text(report: &RekeyReport, look: bool) -> String {
    if !report.changed {
        return format!("nothing to do: every file is read by {}\n", report.readers.join(", "));
    }
    let mut text = match (look, report.bricks.is_empty()) {
        (_, true) => "nothing is encrypted yet: only the readers change\n".to_owned(),
        (true, _) => format!("would be encrypted anew: {}\n", report.bricks.join(", ")),
        (false, _) => format!("encrypted anew, all at once: {}\n", report.bricks.join(", ")),
    };
    text.push_str(&format!("read by {}\n", report.readers.join(", ")));
    for (word, names) in [("added", &report.added), ("removed", &report.removed)] {
        if !names.is_empty() {
            text.push_str(&format!("{word}: {}\n", names.join(", ")));
        }
    }
    if let Some(path) = &report.recovery_created {
        text.push_str(&recovery_text(path));
    }
    if !report.known.is_empty() {
        let whose = match report.unknown {
            true => "whoever read before (it is not known who)",
            false => "whoever was removed",
        };
        text.push_str(&format!(
            "{whose} may know these values, and can read them in older versions of the files; \
             give new ones with `strata secrets rotate`:\n  {}\n",
            report.known.join("\n  ")
        ));
    }
    text
}

/// What is said of a new recovery key.
pub fn recovery_text(path: &std::path::Path) -> String {
    format!(
        "made a recovery key: {}\n    it opens the secrets when every other identity is lost. Keep it on paper or on a stick\n    in a safe, then delete the file here: it is for the day when this host is lost\n",
        path.display()
    )
}
