//! `strata secrets`: the arguments and what is printed. Names are printed, values never.

use super::secrets_keep::{self, RekeyArguments, recovery_text};
use super::secrets_rotate::{self, RotateArguments};
use crate::diag::{Diagnostic, Diagnostics, Renderer};
use crate::secrets::{
    self, Change, Declared, Editing, Form, InitReport, LONGEST_INPUT, Present, Secret, codes,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Make, set, edit and list the secrets of the site.
#[derive(Debug, Clone, Args)]
pub struct SecretsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SecretsCommand,
}

/// The subcommands of `strata secrets`.
#[derive(Debug, Clone, Subcommand)]
pub enum SecretsCommand {
    /// Make the identity and every secret that has no value; overwrites nothing
    Init,
    /// Give one secret a value, read from standard input or a hidden prompt
    Set {
        /// The brick, for example `mail`
        brick: String,
        /// The name, for example `MAIL_SMTP_PASSWORD`
        name: String,
    },
    /// Edit the secrets of one brick in $EDITOR, in memory only
    Edit {
        /// The brick, for example `mail`
        brick: String,
    },
    /// List every secret: present, missing or to supply, and what it is for
    Names {
        /// Only this brick
        brick: Option<String>,
    },
    /// Look for everything that can be wrong: readers, manifest, recovery key, values, names
    #[command(after_help = "Exit code 2 when something is wrong.")]
    Check {
        /// Treat warnings as errors
        #[arg(long)]
        strict: bool,
    },
    /// Say which names were added, removed and changed since a revision; never a value
    #[command(
        after_help = "Examples:\n  strata secrets diff\n  strata secrets diff main~3\n  strata secrets diff /mnt/backup/site\n\nExit code 8 when something differs."
    )]
    Diff {
        /// A revision of the site's git repository, or a directory that holds credentials/
        #[arg(default_value = "HEAD", value_name = "REV|DIR")]
        with: String,
    },
    /// Encrypt every file to the readers that recipients.txt names: all at once, or none
    #[command(
        after_help = "Examples:\n  strata secrets rekey\n  strata secrets rekey --add alice=age1… --remove bob\n  strata secrets rekey --new-recovery-key\n\nIt changes who can read. New values for what somebody knew are made by `rotate`."
    )]
    Rekey(RekeyArguments),
    /// Give secrets new values, keep those before until --finish, and install the layers that use them
    #[command(
        after_help = "Examples:\n  strata secrets rotate POSTGRES_SUPERPASS\n  strata secrets rotate postgres           all generated values of the brick\n  strata secrets rotate --finish postgres  the value before counts no longer\n\nUntil it is finished both values count: change the clients outside the site meanwhile."
    )]
    Rotate(RotateArguments),
}

/// The settings that the subcommands need; made from flags, environment and files elsewhere.
#[derive(Debug, Clone)]
pub struct SecretsSettings {
    /// The root of the site.
    pub site_root: PathBuf,
    /// The identity file; by default `~/.config/strata/identity.txt`.
    pub identity_path: PathBuf,
    /// The editor and its arguments; empty when none is set.
    pub editor: Vec<String>,
    /// Directories that may be in memory, best first, for example `/dev/shm`.
    pub memory_directories: Vec<PathBuf>,
    /// Print JSON on standard output.
    pub json: bool,
    /// Colour diagnostics.
    pub color: bool,
    /// The names that the site's roles and settings use, where that is known.
    pub used: Option<BTreeSet<String>>,
}

/// The streams of a command.
pub struct Streams<'a> {
    /// Where a value is read from when there is no terminal.
    pub input: &'a mut dyn Read,
    /// Results.
    pub output: &'a mut dyn Write,
    /// Diagnostics and prompts.
    pub errors: &'a mut dyn Write,
    /// Standard input and standard error are a terminal.
    pub terminal: bool,
}

/// Runs a subcommand and returns the exit code: 0 done, 1 a file could not be read or written,
/// 2 invalid input, 6 locked by another command, 8 differences found.
pub fn run(args: &SecretsArgs, settings: &SecretsSettings, streams: &mut Streams<'_>) -> u8 {
    let outcome = match &args.command {
        SecretsCommand::Init => init(settings, streams).map(|()| 0),
        SecretsCommand::Set { brick, name } => set(settings, streams, brick, name).map(|()| 0),
        SecretsCommand::Edit { brick } => edit(settings, streams, brick).map(|()| 0),
        SecretsCommand::Names { brick } => names(settings, streams, brick.as_deref()).map(|()| 0),
        SecretsCommand::Check { strict } => secrets_keep::check(settings, streams, *strict),
        SecretsCommand::Diff { with } => secrets_keep::diff(settings, streams, with),
        SecretsCommand::Rekey(arguments) => secrets_keep::rekey(settings, streams, arguments),
        SecretsCommand::Rotate(arguments) => secrets_rotate::rotate(settings, streams, arguments),
    };
    code_of(outcome, settings, streams)
}

fn code_of(
    outcome: Result<u8, Diagnostics>,
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(problems) => {
            show(settings, streams.errors, &problems);
            exit_code(&problems)
        }
    }
}

/// Runs `strata secrets` with the process's own streams.
pub fn command(arguments: &SecretsArgs, settings: &super::Settings) -> crate::run::Exit {
    #[cfg(debug_assertions)]
    secrets::dies_after(settings.dies_after_files);
    let vault = match super::secrets_source::vault(settings) {
        Ok(vault) => vault,
        Err(problems) => {
            super::check::show(&problems, settings);
            return crate::run::Exit::InvalidInput;
        }
    };
    let used = match &arguments.command {
        SecretsCommand::Check { .. } | SecretsCommand::Rotate(_) => {
            let mut problems = Diagnostics::new();
            let used = super::check::used_secrets(settings, &mut problems);
            if used.is_none() {
                eprint!("{}", Renderer::new(settings.palette.color).all(&problems));
                super::output::tell!(
                    "the site's files have mistakes: which secrets its roles use is not known"
                );
            }
            used
        }
        _ => None,
    };
    let settings_of = SecretsSettings {
        used,
        site_root: settings.root.clone(),
        identity_path: settings.identity(),
        editor: settings
            .editor
            .iter()
            .flat_map(|editor| editor.split_whitespace().map(ToOwned::to_owned))
            .collect(),
        memory_directories: vec![PathBuf::from("/dev/shm"), PathBuf::from("/run")],
        json: settings.json,
        color: settings.palette.color,
    };
    let mut streams = Streams {
        input: &mut std::io::stdin(),
        output: &mut std::io::stdout(),
        errors: &mut std::io::stderr(),
        terminal: settings.interactive,
    };
    if let Some(vault) = &vault {
        let command = &arguments.command;
        let outcome = super::secrets_vault::run(command, vault, &settings_of, &mut streams);
        return crate::run::Exit::Program(code_of(outcome, &settings_of, &mut streams));
    }
    match &arguments.command {
        SecretsCommand::Rotate(rotation) if !rotation.no_install => {
            secrets_rotate::everywhere(rotation, settings, || {
                run(arguments, &settings_of, &mut streams)
            })
        }
        _ => crate::run::Exit::Program(run(arguments, &settings_of, &mut streams)),
    }
}

/// The exit code for a command that stopped with these problems.
fn exit_code(problems: &Diagnostics) -> u8 {
    let has = |code| problems.iter().any(|problem| problem.code == code);
    if has(codes::LOCKED) {
        6
    } else if has(codes::FILE_ACCESS) || has(codes::CHANGED_MEANWHILE) {
        1
    } else {
        2
    }
}

pub(super) fn show(settings: &SecretsSettings, errors: &mut dyn Write, problems: &Diagnostics) {
    let text = Renderer::new(settings.color).all(problems);
    // A closed standard error leaves nobody to tell; the exit code still speaks.
    let _ = errors.write_all(text.as_bytes());
}

pub(super) fn print(streams: &mut Streams<'_>, text: &str) -> Result<(), Diagnostics> {
    match streams.output.write_all(text.as_bytes()).and_then(|()| streams.output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(one(Diagnostic::error(
                codes::FILE_ACCESS,
                format!("cannot write to standard output: {error}"),
            )))
        }
        _ => Ok(()),
    }
}

pub(super) fn one(problem: Diagnostic) -> Diagnostics {
    let mut problems = Diagnostics::new();
    problems.push(problem);
    problems
}

pub(super) const fn form_word(form: Option<Form>) -> &'static str {
    match form {
        Some(Form::Encrypted) => "encrypted",
        Some(Form::Plain) => "plain",
        None => "no file",
    }
}

fn init(settings: &SecretsSettings, streams: &mut Streams<'_>) -> Result<(), Diagnostics> {
    let report = secrets::init(&settings.site_root, &settings.identity_path)?;
    show(settings, streams.errors, &report.warnings);
    let text = match settings.json {
        true => init_json(&report),
        false => init_text(&report, &settings.identity_path),
    };
    print(streams, &text)
}

fn init_json(report: &InitReport) -> String {
    let value = json!({
        "identity_created": report.identity_created,
        "recipient_added": report.recipient_added,
        "recovery_created": report.recovery_created,
        "bricks": report.bricks.iter().map(|brick| json!({
            "brick": brick.brick,
            "form": form_word(brick.form),
            "made": brick.made,
            "kept": brick.kept,
        })).collect::<Vec<_>>(),
        "missing": report.missing.iter().map(|declaration| json!({
            "brick": declaration.brick,
            "name": declaration.name,
            "purpose": declaration.purpose,
            "command": declaration.command(),
        })).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn init_text(report: &InitReport, identity_path: &Path) -> String {
    let mut text = String::new();
    if report.identity_created {
        text.push_str(&format!("made an identity: {}\n", identity_path.display()));
    }
    if report.recipient_added {
        text.push_str("added it to credentials/recipients.txt\n");
    }
    if let Some(path) = &report.recovery_created {
        text.push_str(&recovery_text(path));
    }
    let width = report.bricks.iter().map(|brick| brick.brick.len()).max().unwrap_or(0);
    for brick in &report.bricks {
        text.push_str(&format!(
            "{:<width$}  {:<9}  {} made, {} kept{}{}\n",
            brick.brick,
            form_word(brick.form),
            brick.made.len(),
            brick.kept,
            if brick.made.is_empty() { "" } else { ": " },
            brick.made.join(", "),
        ));
    }
    if !report.missing.is_empty() {
        text.push_str("still missing, only you have them:\n");
        for declaration in &report.missing {
            text.push_str(&format!("  {}\n      {}\n", declaration.command(), declaration.purpose));
        }
    }
    text
}

fn set(
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    brick: &str,
    name: &str,
) -> Result<(), Diagnostics> {
    secrets::check_name(&settings.site_root, brick, name)?;
    let value = given_value(streams, name)?;
    let change = secrets::set(&settings.site_root, &settings.identity_path, brick, name, &value)?;
    let word = match change {
        Change::Added => "set",
        Change::Replaced => "replaced: what runs with the old value keeps it until it is rotated",
        Change::Same | Change::Accepted => "unchanged: it has this value already",
    };
    match settings.json {
        true => {
            let changed = change != Change::Same;
            print(streams, &format!("{:#}\n", json!({ "name": name, "changed": changed })))
        }
        false => print(streams, &format!("{name} {word}\n")),
    }
}

/// A value that the operator gives: asked for on the terminal, or the line of standard input.
pub(super) fn given_value(
    streams: &mut Streams<'_>,
    name: &str,
) -> Result<Secret<String>, Diagnostics> {
    match streams.terminal {
        true => ask(streams, name),
        false => {
            let mut bytes = Secret::new(Vec::with_capacity(LONGEST_INPUT + 1));
            let limit = LONGEST_INPUT as u64 + 1;
            Read::take(&mut *streams.input, limit).read_to_end(bytes.expose_mut()).map_err(
                |error| {
                    one(Diagnostic::error(
                        codes::INPUT,
                        format!("cannot read standard input: {error}"),
                    ))
                },
            )?;
            secrets::value_of_input(bytes)
        }
    }
}

/// Asks twice on the terminal.
fn ask(streams: &mut Streams<'_>, name: &str) -> Result<Secret<String>, Diagnostics> {
    let terminal = std::io::stdin();
    let question = format!("value of {name} (not shown)");
    let first = secrets::read_hidden(&terminal, streams.errors, &question).map_err(one)?;
    let second = secrets::read_hidden(&terminal, streams.errors, "once more").map_err(one)?;
    if first != second {
        return Err(one(
            Diagnostic::error(codes::INPUT, "the two values differ").hint("nothing was changed")
        ));
    }
    secrets::value_of_input(Secret::new(first.expose().as_bytes().to_vec()))
}

fn edit(
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    brick: &str,
) -> Result<(), Diagnostics> {
    let errors = &mut *streams.errors;
    let mut again = |problems: &Diagnostics| {
        show(settings, errors, problems);
        // Where nobody can be asked, the answer is no and the text is dropped.
        let asked = write!(errors, "edit again? [Y/n] ").and_then(|()| errors.flush());
        let mut answer = String::new();
        asked.is_ok()
            && std::io::stdin().read_line(&mut answer).is_ok_and(|read| read > 0)
            && !answer.trim().eq_ignore_ascii_case("n")
    };
    let editing = Editing {
        editor: &settings.editor,
        terminal: streams.terminal,
        memory_directories: &settings.memory_directories,
        again: &mut again,
    };
    let change = secrets::edit(&settings.site_root, &settings.identity_path, brick, editing)?;
    let word = match change {
        Change::Added | Change::Replaced => "written",
        Change::Same => "unchanged, not written",
        Change::Accepted => "unchanged; the manifest agrees with it now",
    };
    match settings.json {
        true => {
            let changed = matches!(change, Change::Added | Change::Replaced);
            print(streams, &format!("{:#}\n", json!({ "brick": brick, "changed": changed })))
        }
        false => print(streams, &format!("{brick} {word}\n")),
    }
}

fn names(
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    only: Option<&str>,
) -> Result<(), Diagnostics> {
    let (declared, mut problems) = Declared::load(&settings.site_root);
    let (present, found) = Present::find(&settings.site_root, &declared);
    problems.extend(found);
    if let Some(brick) = only
        && !declared.bricks().iter().any(|known| known == brick)
    {
        problems.push(
            Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no brick `{brick}`"))
                .hint(format!("the bricks are {}", declared.bricks().join(", "))),
        );
    }
    if problems.has_errors() {
        return Err(problems);
    }
    show(settings, streams.errors, &problems);
    let states = secrets::states(&declared, &present);
    let chosen = declared.bricks().iter().filter(|brick| only.is_none_or(|only| only == *brick));
    let mut text = String::new();
    let mut bricks = Vec::new();
    for brick in chosen {
        let form = form_word(present.bricks.get(brick).map(|(form, _)| *form));
        let rows: Vec<_> = states.iter().filter(|(d, _)| d.brick == *brick).collect();
        let width = rows.iter().map(|(d, _)| d.name.len()).max().unwrap_or(0);
        text.push_str(&format!("{brick} ({form})\n"));
        for (declaration, state) in &rows {
            text.push_str(&format!(
                "  {:<9}  {:<width$}  {}\n",
                state.word(),
                declaration.name,
                declaration.purpose
            ));
        }
        bricks.push(json!({
            "brick": brick,
            "form": form,
            "names": rows.iter().map(|(declaration, state)| json!({
                "name": declaration.name,
                "state": state.word(),
                "purpose": declaration.purpose,
            })).collect::<Vec<_>>(),
        }));
    }
    match settings.json {
        true => print(streams, &format!("{:#}\n", json!({ "bricks": bricks }))),
        false => print(streams, &text),
    }
}
