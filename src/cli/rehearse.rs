//! `strata rehearse`: the same inventory on local hosts, strata inside the operator host, before
//! production is touched.

use super::lab::{self, DEFAULT_LAB};
use super::output::tell;
use super::{Exit, Settings, check};
use crate::diag::Diagnostics;
use crate::lab::{Lab, LabError};
use crate::plan::{HostSelector, LayerSelection, select_hosts, select_layers, with_required};
use crate::run::hosts_of;
use crate::site::Site;
use clap::Args;
use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

/// Where the site stands on the operator host (KB-F2, KB-H1).
pub const SITE_ON_OPERATOR: &str = "/opt/keybuzz-installer";

/// What makes up a site; everything else of its directory stays where it is.
const SITE_PARTS: [&str; 7] = [
    "strata.toml",
    "versions.yaml",
    "inventory",
    "roles",
    "templates",
    "artifacts",
    "credentials.example",
];

/// Arguments of `strata rehearse`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  strata rehearse --layer base\n  strata rehearse --layer base --host db --host install-01\n  strata rehearse --down                       remove the hosts afterwards"
)]
pub struct RehearseArguments {
    /// This layer and those that it requires (repeatable) [default: all, in the site's order]
    #[arg(long, value_name = "LAYER", add = super::complete::layers())]
    pub layer: Vec<String>,
    /// Only these hosts: a name, a glob, a group (repeatable); the operator host is always there
    #[arg(long, value_name = "HOST", add = super::complete::hosts())]
    pub host: Vec<String>,
    /// The lab's name
    #[arg(long, default_value = DEFAULT_LAB, value_name = "NAME")]
    pub lab: String,
    /// Which tests run after a layer
    #[arg(long, value_enum, default_value = "formed", value_name = "TESTS")]
    pub gate: super::install::GateArgument,
    /// Remove the lab at the end, whatever the result
    #[arg(long)]
    pub down: bool,
}

/// Runs the command.
pub fn run(arguments: &RehearseArguments, settings: &Settings) -> Exit {
    let start = Instant::now();
    let mut problems = Diagnostics::new();
    let site = check::load_rehearsal(settings, &mut problems);
    let mut hosts = Vec::new();
    if let Some(site) = &site {
        let named = LayerSelection { names: &arguments.layer, ..LayerSelection::default() };
        let layers = select_layers(site, named, &mut problems);
        let mut selectors: Vec<HostSelector> =
            arguments.host.iter().cloned().map(HostSelector).collect();
        if !selectors.is_empty() {
            selectors.push(HostSelector(site.config.operator.0.clone()));
        }
        hosts = select_hosts(site, &selectors, &mut problems);
        // Whoever names layers and no hosts means the hosts of those layers, and the operator's.
        if arguments.host.is_empty() && !arguments.layer.is_empty() {
            let operator = &site.config.operator.0;
            let stands_on = |host: &String| {
                let here = [host.clone()];
                host == operator || layers.iter().any(|l| !hosts_of(site, l, &here).is_empty())
            };
            hosts.retain(stands_on);
        }
    }
    let Some(site) = site.filter(|_| !problems.has_errors()) else {
        check::show(&problems, settings);
        tell!("error: the site has errors; nothing was started");
        return Exit::InvalidInput;
    };
    let lab = match Lab::open(&arguments.lab) {
        Ok(lab) => lab,
        Err(error) => return lab::failed(&error),
    };
    let exit = match rehearse(&lab, &site, hosts, arguments, settings) {
        Ok(exit) => exit,
        Err(error) => lab::failed(&error),
    };
    if arguments.down {
        if let Err(error) = lab.down() {
            return exit.worse(lab::failed(&error));
        }
    } else {
        tell!("the hosts stay up: `strata lab status`, `strata lab ssh HOST`, `strata lab down`");
    }
    tell!("rehearsal ended after {:.0} s", start.elapsed().as_secs_f64());
    exit
}

fn rehearse(
    lab: &Lab,
    site: &Site,
    hosts: Vec<String>,
    arguments: &RehearseArguments,
    settings: &Settings,
) -> Result<Exit, LabError> {
    let operator = site.config.operator.0.clone();
    let selected = hosts.clone();
    let report = lab::up(lab, site, hosts, &arguments.layer, settings, lab::options())?;
    tell!("lab  {}", lab::described(&report));
    let run = |words: &[&str], stdin: &[u8]| {
        let argv: Vec<OsString> = words.iter().map(OsString::from).collect();
        lab.run(&operator, &argv, stdin)
    };
    let must = |words: &[&str], stdin: &[u8]| {
        let output = run(words, stdin)?;
        if output.status.success() {
            return Ok(());
        }
        Err(LabError::Tool {
            what: format!("cannot prepare {operator}"),
            program: words.join(" "),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    };
    // This very program, also when the hosts have been up since an older one.
    let this = std::env::current_exe().and_then(std::fs::read);
    let Ok(program) = this else {
        tell!("error: strata's own program cannot be read");
        return Ok(Exit::Internal);
    };
    must(&["tee", "/usr/local/bin/strata.new"], &program)?;
    must(&["chmod", "0755", "/usr/local/bin/strata.new"], b"")?;
    must(&["mv", "/usr/local/bin/strata.new", "/usr/local/bin/strata"], b"")?;
    // The site as it is now; journals and throw-away secrets of earlier rehearsals stay.
    let target = Path::new(SITE_ON_OPERATOR);
    must(&["mkdir", "-p", SITE_ON_OPERATOR], b"")?;
    for part in SITE_PARTS {
        let (here, there) = (settings.root.join(part), target.join(part));
        must(&["rm", "-rf", &there.to_string_lossy()], b"")?;
        if here.is_dir() {
            lab.copy_in(&operator, &here, &there)?;
        } else if let Ok(content) = std::fs::read(&here) {
            must(&["tee", &there.to_string_lossy()], &content)?;
        }
    }
    let keys = lab.hostkeys()?.join("\n") + "\n";
    must(&["tee", "/root/lab-host-keys"], keys.as_bytes())?;
    must(&["strata", "--site", SITE_ON_OPERATOR, "--rehearsal", "secrets", "init"], b"")?;
    let trust =
        ["strata", "--site", SITE_ON_OPERATOR, "hosts", "trust", "--from", "/root/lab-host-keys"];
    must(&trust, b"")?;
    let mut argv: Vec<OsString> =
        ["strata", "--site", SITE_ON_OPERATOR, "--rehearsal"].map(OsString::from).to_vec();
    if settings.json {
        argv.push("--json".into());
    }
    if settings.verbose {
        argv.push("--verbose".into());
    }
    argv.extend(
        ["--color", if settings.palette.color { "always" } else { "never" }].map(Into::into),
    );
    argv.extend(["install", "--gate", arguments.gate.word()].map(OsString::from));
    // A fresh lab has nothing below the layer: what it requires comes first.
    for layer in &with_required(site, &arguments.layer) {
        argv.extend(["--layer", layer].map(OsString::from));
    }
    if selected.len() < site.hosts.len() {
        for host in &selected {
            argv.extend(["--host", host].map(OsString::from));
        }
    }
    let code = lab.exec(&operator, &argv, settings.terminal.as_deref())?;
    bring_back(&settings.root, &run);
    Ok(Exit::Program(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Runs a program on the operator host with some standard input.
type RunThere<'a> = dyn Fn(&[&str], &[u8]) -> Result<std::process::Output, LabError> + 'a;

/// Copies the journals of the rehearsal to the site's own `.strata/rehearsal/`.
fn bring_back(root: &Path, run: &RunThere<'_>) {
    let folder = root.join(".strata/rehearsal");
    let archive = run(&["tar", "-C", "/opt/keybuzz-installer/.strata", "-c", "runs"], b"");
    let unpacked = archive.map_err(|error| error.to_string()).and_then(|output| {
        std::fs::create_dir_all(&folder)
            .and_then(|()| tar::Archive::new(output.stdout.as_slice()).unpack(&folder))
            .map_err(|error| error.to_string())
    });
    match unpacked {
        Ok(()) => tell!("journals of the rehearsal: {}", folder.join("runs").display()),
        Err(error) => tell!("warning: the journals were not brought back: {error}"),
    }
}
