//! `strata new`: the files that a role begins with, complete enough to pass `strata check`.

use super::output::tell;
use super::{Settings, check};
use crate::diag::Diagnostics;
use crate::run::Exit;
use clap::{Args, Subcommand};
use std::io::Write as _;
use std::path::Path;

/// Arguments of `strata new`.
#[derive(Debug, Args)]
pub struct NewArguments {
    /// What to begin.
    #[command(subcommand)]
    pub what: NewCommand,
}

/// Subcommands of `strata new`.
#[derive(Debug, Subcommand)]
pub enum NewCommand {
    /// A role: its steps, a template and its gate, in files that `strata check` accepts
    #[command(after_help = "Examples:\n  strata new role grafana")]
    Role {
        /// The role's name: lower-case letters, digits and hyphens
        name: String,
    },
}

/// Runs the command.
pub fn run(arguments: &NewArguments, settings: &Settings) -> Exit {
    let NewCommand::Role { name } = &arguments.what;
    if !is_name(name) {
        tell!(
            "error: `{name}` is no name for a role: lower-case letters, digits and hyphens, a letter first"
        );
        return Exit::InvalidInput;
    }
    let mut problems = Diagnostics::new();
    if check::load(settings, &mut problems).is_none() {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    }
    match write(&settings.root, name) {
        Ok(()) => {}
        Err((path, error)) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            tell!(
                "error: {path} is there already; nothing was changed\nhint: choose another name, or edit it"
            );
            return Exit::InvalidInput;
        }
        Err((path, error)) => {
            tell!("error: {path} cannot be written: {error}");
            return Exit::InvalidInput;
        }
    }
    tell!(
        "made:\n  roles/{name}/role.toml: what a host must have\n  roles/{name}/gate.toml: what proves it\n  templates/{name}/settings.conf.j2: a file's content\n\nnext: edit them, place the role in strata.toml,\n\n    [[layer]]\n    name     = \"{name}\"\n    requires = [\"base\"]\n    place    = [{{ role = \"{name}\", on = \"GROUP\" }}]\n\nthen `strata check`, `strata rehearse --layer {name}`"
    );
    Exit::Done
}

/// A role's name is a folder's name and part of file names on hosts.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Writes the files; nothing that is there is touched.
fn write(root: &Path, name: &str) -> Result<(), (String, std::io::Error)> {
    let variable = name.replace('-', "_");
    let role = format!(
        r#"description = "What {name} is for, in one line"

[vars]
{variable}_port = 8080

# Whoever may reach it. Without an entry here nobody may.
# [[firewall]]
# name  = "{name}"
# ports = ["{variable}_port"]
# from  = ["private"]

[[step]]
name      = "Directory of {name}"
directory = {{ path = "/etc/{name}", mode = "0755" }}

[[step]]
name     = "Settings of {name}"
template = {{ src = "{name}/settings.conf.j2", dest = "/etc/{name}/settings.conf", mode = "0644" }}
"#
    );
    let gate = r#"# Tests in the order in which they run: `strata docs` lists them, `strata docs converged` shows one.

[[test]]
name = "converged"
"#;
    let template = format!(
        "# Written by strata; edit templates/{name}/settings.conf.j2.\nport = {{{{ {variable}_port }}}}\n"
    );
    let (roles, templates) = (format!("roles/{name}"), format!("templates/{name}"));
    if let Some(there) = [&roles, &templates].into_iter().find(|path| root.join(path).exists()) {
        return Err((there.clone(), std::io::ErrorKind::AlreadyExists.into()));
    }
    for folder in [&roles, &templates] {
        std::fs::create_dir(root.join(folder)).map_err(|error| (folder.clone(), error))?;
    }
    for (path, text) in [
        (format!("{roles}/role.toml"), role.as_str()),
        (format!("{roles}/gate.toml"), gate),
        (format!("{templates}/settings.conf.j2"), template.as_str()),
    ] {
        let written = std::fs::File::create_new(root.join(&path))
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| (path, error))?;
    }
    Ok(())
}
