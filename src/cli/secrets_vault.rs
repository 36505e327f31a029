//! `strata secrets` where the values are kept in Vault: what is printed. Names are printed, values
//! never.

use super::secrets::{SecretsCommand, SecretsSettings, Streams, given_value, one, print, show};
use crate::diag::{Diagnostic, Diagnostics, Severity};
use crate::report::plural;
use crate::secrets::provider::{Provider as _, Vault};
use crate::secrets::{self, Change, Declared, Origin, codes};
use serde_json::json;
use std::collections::BTreeSet;

/// Runs a subcommand; the exit codes are those of [`super::secrets::run`].
///
/// # Errors
/// Whatever stops it.
pub fn run(
    command: &SecretsCommand,
    vault: &Vault,
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
) -> Result<u8, Diagnostics> {
    let (declared, problems) = Declared::load(&settings.site_root);
    if problems.has_errors() {
        return Err(problems);
    }
    match command {
        SecretsCommand::Init => init(vault, &declared, settings, streams).map(|()| 0),
        SecretsCommand::Set { brick, name } => {
            set(vault, &declared, settings, streams, (brick, name)).map(|()| 0)
        }
        SecretsCommand::Names { brick } => {
            names(vault, &declared, settings, streams, brick.as_deref()).map(|()| 0)
        }
        SecretsCommand::Check { strict } => check(vault, &declared, settings, streams, *strict),
        SecretsCommand::Edit { brick } => {
            let path = vault.place_of(brick);
            Err(only_age(
                "edit",
                &format!(
                    "`strata secrets set {brick} NAME` gives one value; `vault kv patch {path} NAME=-` reads it from standard input"
                ),
            ))
        }
        SecretsCommand::Diff { .. } => {
            Err(only_age("diff", "Vault keeps the versions: `vault kv metadata get PATH`"))
        }
        SecretsCommand::Rekey(_) => Err(only_age(
            "rekey",
            "who reads is decided by Vault's policies: `vault policy read NAME`",
        )),
        SecretsCommand::Rotate(_) => Err(only_age(
            "rotate",
            "give the value before as NAME_PREVIOUS beside the new one (one `vault kv patch` for both), install the layers that use it, then remove NAME_PREVIOUS and install again",
        )),
    }
}

fn only_age(command: &str, hint: &str) -> Diagnostics {
    let message =
        format!("`secrets {command}` is for secrets in age files; this site keeps its in Vault");
    one(Diagnostic::error(codes::ONLY_AGE, message).hint(hint))
}

fn init(
    vault: &Vault,
    declared: &Declared,
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
) -> Result<(), Diagnostics> {
    let filled = vault.init(declared)?;
    let states = vault.states(declared)?;
    let present = |name: &str| states.iter().any(|state| state.present.contains(name));
    let missing: Vec<_> =
        declared.iter().filter(|d| d.origin == Origin::Supplied && !present(&d.name)).collect();
    let text = match settings.json {
        true => format!(
            "{:#}\n",
            json!({
                "bricks": filled.iter().map(|brick| json!({
                    "brick": brick.brick, "form": "vault", "place": brick.place,
                    "made": brick.made, "kept": brick.kept,
                })).collect::<Vec<_>>(),
                "missing": missing.iter().map(|declaration| json!({
                    "brick": declaration.brick, "name": declaration.name,
                    "purpose": declaration.purpose, "command": declaration.command(),
                })).collect::<Vec<_>>(),
            })
        ),
        false => {
            let width = filled.iter().map(|brick| brick.place.len()).max().unwrap_or(0);
            let mut text = String::new();
            for brick in &filled {
                text.push_str(&format!(
                    "{:<width$}  {} made, {} kept{}{}\n",
                    brick.place,
                    brick.made.len(),
                    brick.kept,
                    if brick.made.is_empty() { "" } else { ": " },
                    brick.made.join(", "),
                ));
            }
            if !missing.is_empty() {
                text.push_str("still missing, only you have them:\n");
                for declaration in missing {
                    text.push_str(&format!(
                        "  {}\n      {}\n",
                        declaration.command(),
                        declaration.purpose
                    ));
                }
            }
            text
        }
    };
    print(streams, &text)
}

fn set(
    vault: &Vault,
    declared: &Declared,
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    (brick, name): (&str, &str),
) -> Result<(), Diagnostics> {
    secrets::check_name(&settings.site_root, brick, name)?;
    let value = given_value(streams, name)?;
    let change = vault.set(declared, brick, name, &value)?;
    let word = match change {
        Change::Added => "set",
        Change::Replaced => "replaced: what runs with the old value keeps it",
        Change::Same | Change::Accepted => "unchanged: it has this value already",
    };
    let text = match settings.json {
        true => format!("{:#}\n", json!({ "name": name, "changed": change != Change::Same })),
        false => format!("{name} {word}\n"),
    };
    print(streams, &text)
}

fn names(
    vault: &Vault,
    declared: &Declared,
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    only: Option<&str>,
) -> Result<(), Diagnostics> {
    let states = vault.states(declared)?;
    let mut text = String::new();
    let mut bricks = Vec::new();
    for state in states.iter().filter(|state| only.is_none_or(|only| only == state.brick)) {
        let of = declared.of(&state.brick);
        let word = |name: &str, origin: &Origin| match (state.present.contains(name), origin) {
            (true, _) => "present",
            (false, Origin::Supplied) => "to supply",
            (false, _) => "missing",
        };
        let width = of.iter().map(|declaration| declaration.name.len()).max().unwrap_or(0);
        text.push_str(&format!("{} ({} in Vault)\n", state.brick, state.place));
        for declaration in &of {
            text.push_str(&format!(
                "  {:<9}  {:<width$}  {}\n",
                word(&declaration.name, &declaration.origin),
                declaration.name,
                declaration.purpose
            ));
        }
        bricks.push(json!({
            "brick": state.brick,
            "form": "vault",
            "place": state.place,
            "names": of.iter().map(|declaration| json!({
                "name": declaration.name,
                "state": word(&declaration.name, &declaration.origin),
                "purpose": declaration.purpose,
            })).collect::<Vec<_>>(),
        }));
    }
    match settings.json {
        true => print(streams, &format!("{:#}\n", json!({ "bricks": bricks }))),
        false => print(streams, &text),
    }
}

fn check(
    vault: &Vault,
    declared: &Declared,
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    strict: bool,
) -> Result<u8, Diagnostics> {
    let all: BTreeSet<String> = declared.iter().map(|d| d.name.clone()).collect();
    // Where the site's mistakes keep that unknown, every declared name counts.
    let asked = settings.used.as_ref().unwrap_or(&all);
    let (values, problems) = match (&vault).load(declared, asked) {
        Ok((secrets, problems)) => (secrets.len(), problems),
        Err(problems) => (0, problems),
    };
    show(settings, streams.errors, &problems);
    let text = match settings.json {
        true => format!(
            "{:#}\n",
            json!({
                "server": vault.server.to_string(),
                "values": values,
                "problems": problems.iter().map(|problem| json!({
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
        false => format!("{} that the site uses, at {}\n", plural(values, "value"), vault.server),
    };
    print(streams, &text)?;
    Ok(if secrets::fails(&problems, strict) { 2 } else { 0 })
}
