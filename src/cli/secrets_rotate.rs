//! `strata secrets rotate`: new values, then the install of the layers that use them.

use super::Settings;
use super::arguments::{Arguments, Command};
use super::output::tell;
use super::secrets::{SecretsSettings, Streams, one, print};
use crate::diag::{Diagnostic, Diagnostics};
use crate::run::Exit;
use crate::secrets::{self, codes};
use crate::site::Site;
use clap::{Args, Parser as _};
use serde_json::json;

/// Arguments of `strata secrets rotate`.
#[derive(Debug, Clone, Default, Args)]
pub struct RotateArguments {
    /// Names, or bricks for all that is generated in them
    #[arg(value_name = "NAME|BRICK", required_unless_present = "finish")]
    pub targets: Vec<String>,
    /// Drop the values before: only the new ones count from now on
    #[arg(long)]
    pub finish: bool,
    /// Change the secrets only; the next install of the layers brings them about
    #[arg(long)]
    pub no_install: bool,
    /// Install on these hosts only, as `install --host` (repeatable)
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
}

/// Changes the secrets alone.
pub fn rotate(
    settings: &SecretsSettings,
    streams: &mut Streams<'_>,
    arguments: &RotateArguments,
) -> Result<u8, Diagnostics> {
    let (root, identity) = (&settings.site_root, &settings.identity_path);
    let names = match (arguments.finish, &settings.used) {
        (true, _) => secrets::finish(root, identity, &arguments.targets)?,
        (false, Some(used)) => secrets::rotate(root, identity, &arguments.targets, used)?,
        (false, None) => {
            let message = "which roles use the secrets is not known";
            return Err(one(Diagnostic::error(codes::ROTATION, message)
                .hint("mend the site's files first: `strata check` shows what is wrong")));
        }
    };
    let list = names.join(", ");
    let text = match (settings.json, arguments.finish) {
        (true, _) => {
            format!("{:#}\n", json!({ "names": names, "finished": arguments.finish }))
        }
        (false, true) => format!("the values before are dropped: {list}\n"),
        (false, false) => format!("new values, and those before beside them: {list}\n"),
    };
    print(streams, &text)?;
    Ok(0)
}

/// Changes the secrets, and installs what uses them.
pub fn everywhere(
    arguments: &RotateArguments,
    settings: &Settings,
    change: impl FnOnce() -> u8,
) -> Exit {
    let Some(layers) = layers_of(&arguments.targets, settings) else {
        return Exit::InvalidInput;
    };
    if arguments.finish && !layers.is_empty() {
        // What is not everywhere yet must not be the only one that counts.
        let looked = install(&layers, &arguments.host, true, settings);
        if looked != Exit::Done {
            tell!(
                "not finished: the new values are not everywhere yet (see above); run `strata install` until it finds nothing to do, then this again"
            );
            return looked;
        }
    }
    let code = change();
    if code != 0 {
        return Exit::Program(code);
    }
    if layers.is_empty() {
        tell!("no layer uses them: nothing to install");
        return Exit::Done;
    }
    let exit = install(&layers, &arguments.host, false, settings);
    if exit == Exit::Done && !arguments.finish {
        tell!(
            "both values count now. Give the new one to clients outside the site, then: strata secrets rotate --finish {}",
            arguments.targets.join(" ")
        );
    }
    exit
}

fn install(layers: &[String], hosts: &[String], look: bool, settings: &Settings) -> Exit {
    let words = layers.iter().flat_map(|layer| ["--layer", layer.as_str()]);
    let hosts = hosts.iter().flat_map(|host| ["--host", host.as_str()]);
    let words = ["strata", "install"].into_iter().chain(words).chain(hosts);
    let words = words.chain(look.then_some("--check"));
    match Arguments::try_parse_from(words).map(|parsed| parsed.command) {
        Ok(Command::Install(install)) => super::install::install(&install, settings),
        _ => Exit::Internal,
    }
}

/// The layers whose roles name one of the secrets, in the site's order; all secrets without targets.
/// `None` when the site cannot be loaded.
fn layers_of(targets: &[String], settings: &Settings) -> Option<Vec<String>> {
    let mut problems = Diagnostics::new();
    let site = Site::load(&settings.root, settings.profile, &mut problems)?;
    let (declared, _) = secrets::Declared::load(&settings.root);
    let is_meant = |declaration: &&secrets::Declaration| {
        targets.is_empty()
            || targets.iter().any(|t| *t == declaration.name || *t == declaration.brick)
    };
    let names: Vec<String> =
        declared.iter().filter(is_meant).map(|d| format!("secrets.{}", d.name)).collect();
    let named = |text: &str| names.iter().any(|name| text.contains(name.as_str()));
    let uses = |role: &str| {
        let Some(role) = site.roles.get(role) else { return false };
        let text = role.source.text();
        let templates = site.templates.iter();
        named(text)
            || templates
                .filter(|(path, _)| text.contains(path.as_str()))
                .any(|(_, template)| named(template.text()))
    };
    let layers = site.config.layers.iter();
    let using = layers.filter(|layer| layer.place.iter().any(|place| uses(&place.role)));
    Some(using.map(|layer| layer.name.clone()).collect())
}
