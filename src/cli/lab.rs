//! `strata lab`: the inventory's hosts on this machine.

use super::lab_images::{self, Images};
use super::output::{out, tell};
use super::rehearse::SITE_ON_OPERATOR;
use super::{Exit, Settings, check};
use crate::diag::Diagnostics;
use crate::lab::{
    Direction, Fault, HealthCheck, KillTarget, Lab, LabBalancer, LabHost, LabSpec, Listener,
    OUTSIDE, Progress, Release, SUPERVISOR_VERB, Signal, UpOptions, UpReport, render_status,
};
use crate::plan::{HostSelector, packages_of, select_hosts};
use crate::secrets::provider::TOKEN_VARIABLE;
use crate::site::Site;
use crate::site::groups::Check;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// The lab's name unless another is given.
pub const DEFAULT_LAB: &str = "rehearsal";

/// Arguments of `strata lab`.
#[derive(Debug, Args)]
pub struct LabArguments {
    /// The lab's name; several may exist side by side
    #[arg(long, global = true, default_value = DEFAULT_LAB, value_name = "NAME")]
    pub lab: String,
    /// What to do.
    #[command(subcommand)]
    pub command: LabCommand,
}

/// Subcommands of `strata lab`.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Start what is missing of the hosts, and wait until they are ready
    #[command(
        after_help = "Examples:\n  strata lab up\n  strata lab up --host db --host install-01"
    )]
    Up {
        /// Only these hosts: a name, a glob, a group (repeatable) [default: all]
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
    },
    /// Remove everything of the lab; the caches of packages stay
    Down,
    /// Show hosts, their memory and active faults
    Status,
    /// Run a program on a host; `outside` is a vantage point beyond the public side
    #[command(
        after_help = "Examples:\n  strata lab exec install-01 -- strata status --site /opt/keybuzz-installer\n  strata lab exec outside -- ping -c1 192.0.2.11"
    )]
    Exec {
        /// The host
        host: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        argv: Vec<OsString>,
    },
    /// Log in to a host over SSH, from the operator host
    Ssh {
        /// The host
        host: String,
        /// A command instead of a shell
        #[arg(last = true)]
        argv: Vec<OsString>,
    },
    /// Inject a fault; it heals by itself after the duration, whatever happens
    Fault {
        /// Seconds until it heals
        #[arg(long = "for", global = true, value_name = "SECONDS", default_value_t = 60)]
        seconds: u64,
        /// The fault
        #[command(subcommand)]
        fault: FaultArguments,
    },
    /// Heal all faults now
    Heal,
}

/// The faults.
#[derive(Debug, Clone, Subcommand)]
pub enum FaultArguments {
    /// Send a signal to processes; only STOP is undone
    #[command(
        after_help = "Examples:\n  strata lab fault kill db-01 unit:ssh.service\n  strata lab fault kill db-01 postgres --signal STOP --for 30"
    )]
    Kill {
        /// The host
        host: String,
        /// `unit:NAME`, `pid:NUMBER`, or a text in the command line
        target: KillTarget,
        /// KILL, TERM, STOP, INT or HUP
        #[arg(long, default_value = "KILL")]
        signal: Signal,
    },
    /// Cut a host's power; healing starts it again
    Stop {
        /// The host
        host: String,
    },
    /// Reboot a host in good order
    Reboot {
        /// The host
        host: String,
    },
    /// Freeze a host: its connections stay open and nothing answers
    Freeze {
        /// The host
        host: String,
    },
    /// Drop all frames between two sets of hosts
    #[command(
        after_help = "Examples:\n  strata lab fault cut db-01 --and db-02 --and db-03\n  strata lab fault cut db-01 --keep-ssh-from install-01"
    )]
    Cut {
        /// The one side
        #[arg(required = true)]
        between: Vec<String>,
        /// The other side (repeatable) [default: everybody else]
        #[arg(long)]
        and: Vec<String>,
        /// Let SSH connections of this host pass
        #[arg(long, value_name = "HOST")]
        keep_ssh_from: Option<String>,
    },
    /// Delay every frame from and to a host
    Delay {
        /// The host
        host: String,
        /// Milliseconds in each direction
        milliseconds: u32,
    },
    /// Fill a file system
    Fill {
        /// The host
        host: String,
        /// A directory on the file system
        path: String,
        /// Bytes that stay free
        #[arg(long, default_value_t = 0, value_name = "BYTES")]
        leave: u64,
    },
}

impl FaultArguments {
    fn fault(&self) -> Fault {
        match self.clone() {
            Self::Kill { host, target, signal } => Fault::KillProcess { host, target, signal },
            Self::Stop { host } => Fault::StopHost { host },
            Self::Reboot { host } => Fault::RebootHost { host },
            Self::Freeze { host } => Fault::FreezeHost { host },
            Self::Cut { between, and, keep_ssh_from } => {
                Fault::CutNetwork { between, and, direction: Direction::Both, keep_ssh_from }
            }
            Self::Delay { host, milliseconds } => Fault::DelayNetwork { host, milliseconds },
            Self::Fill { host, path, leave } => Fault::FillDisk { host, path, leave_bytes: leave },
        }
    }
}

/// Runs the command.
pub fn run(arguments: &LabArguments, settings: &Settings) -> Exit {
    let lab = match Lab::open(&arguments.lab) {
        Ok(lab) => lab,
        Err(error) => return failed(&error),
    };
    let result = match &arguments.command {
        LabCommand::Up { host } => {
            let mut problems = Diagnostics::new();
            let Some(site) =
                check::load_rehearsal(settings, &mut problems).filter(|_| !problems.has_errors())
            else {
                check::show(&problems, settings);
                return Exit::InvalidInput;
            };
            let selectors: Vec<HostSelector> = host.iter().cloned().map(HostSelector).collect();
            let hosts = select_hosts(&site, &selectors, &mut problems);
            if problems.has_errors() {
                check::show(&problems, settings);
                return Exit::InvalidInput;
            }
            up(&lab, &site, hosts, &[], settings, options()).map(|report| {
                out!("{}", described(&report));
                Exit::Done
            })
        }
        LabCommand::Down => lab.down().map(|()| Exit::Done),
        LabCommand::Status => lab.status().map(|status| {
            if settings.json {
                out!("{}", serde_json::json!(status));
            } else {
                print!("{}", render_status(&status));
            }
            Exit::Done
        }),
        LabCommand::Exec { host, argv } => {
            return passed_through(&lab, host, argv, settings);
        }
        LabCommand::Ssh { host, argv } => match lab.ssh_argv(host, argv) {
            Ok(argv) => return on_this_machine(&argv),
            Err(error) => Err(error),
        },
        LabCommand::Fault { fault, seconds } => {
            lab.fault(&fault.fault(), Duration::from_secs(*seconds)).map(|id| {
                out!("{id}");
                Exit::Done
            })
        }
        LabCommand::Heal => lab.heal_all().map(|healed| {
            for id in healed {
                out!("healed {id}");
            }
            Exit::Done
        }),
    };
    result.unwrap_or_else(|error| failed(&error))
}

/// Prints an error of the lab.
pub fn failed(error: &crate::lab::LabError) -> Exit {
    tell!("error: {error}");
    Exit::Internal
}

/// A program's exit status as ours.
fn passed_through(lab: &Lab, host: &str, argv: &[OsString], settings: &Settings) -> Exit {
    let terminal = settings.terminal.as_deref().filter(|_| host != OUTSIDE);
    match lab.exec(host, argv, terminal) {
        Ok(code) => Exit::Program(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => failed(&error),
    }
}

/// Runs a program of this machine on this terminal; its exit status is ours.
fn on_this_machine(argv: &[OsString]) -> Exit {
    let Some((program, arguments)) = argv.split_first() else { return Exit::Internal };
    let mut command = std::process::Command::new(program);
    match command.args(arguments).env_remove(TOKEN_VARIABLE).status() {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Exit::Program(code.unwrap_or(u8::MAX))
        }
        Err(error) => {
            tell!("error: cannot run {}: {error}", program.display());
            Exit::Internal
        }
    }
}

/// Options whose supervisor is this program.
pub fn options() -> UpOptions {
    let this = std::env::current_exe().unwrap_or_else(|_| "strata".into());
    UpOptions::new(vec![this.into_os_string(), SUPERVISOR_VERB.into()])
}

/// Brings the hosts up with the images of these layers (all, if none is named), with the phases
/// on standard error.
///
/// # Errors
/// What the lab says.
pub fn up(
    lab: &Lab,
    site: &Site,
    hosts: Vec<String>,
    layers: &[String],
    settings: &Settings,
    mut options: UpOptions,
) -> Result<UpReport, crate::lab::LabError> {
    let palette = settings.palette;
    let verbose = settings.verbose;
    let Images { images, missing } = lab_images::of_site(site, layers, &hosts)?;
    for reference in missing {
        tell!(
            "lab  no description of {reference} in inventory/lab/images: steps that need it will fail"
        );
    }
    options.images = images;
    options.images_at = Path::new(SITE_ON_OPERATOR).join("images");
    options.wanted = Some(hosts);
    lab.up(&spec_of(site), &options, &|progress| match progress {
        Progress::Started(phase) => tell!("lab  {phase} …"),
        Progress::Finished(phase, seconds) => {
            tell!("lab  {phase} {}", palette.dim(format!("{seconds:.1} s")));
        }
        Progress::HostReady(host, seconds) if verbose => {
            tell!("lab  {host} ready after {seconds:.1} s");
        }
        Progress::HostReady(..) => {}
        Progress::Note(text) => tell!("lab  {text}"),
    })
}

/// One line about what `up` did.
pub fn described(report: &UpReport) -> String {
    let started = report.hosts.iter().filter(|host| host.seconds.is_some()).count();
    format!("{} of {} hosts started in {:.1} s", started, report.hosts.len(), report.seconds)
}

/// The release of Debian that a host of a rehearsal runs.
fn release_of(site: &Site, host: &str) -> Release {
    site.lab_hosts.releases.get(host).and_then(|name| Release::of_name(name)).unwrap_or_default()
}

/// The packages that hosts of every release install, and those of single releases.
fn packages_by_release(site: &Site) -> (Vec<String>, BTreeMap<Release, Vec<String>>) {
    let asked = packages_of(site);
    let everywhere = asked.values().cloned().reduce(|all, own| &all & &own).unwrap_or_default();
    let own = asked.iter().filter_map(|(name, packages)| {
        let packages: Vec<String> = packages.difference(&everywhere).cloned().collect();
        Some((Release::of_name(name)?, packages))
    });
    let own = own.filter(|(_, packages)| !packages.is_empty()).collect();
    (everywhere.into_iter().collect(), own)
}

/// The site as the lab needs it.
pub fn spec_of(site: &Site) -> LabSpec {
    let hosts = site
        .hosts
        .values()
        .map(|host| LabHost {
            name: host.name.clone(),
            fqdn: host.fqdn.clone(),
            private: host.address,
            public: host.public,
            release: release_of(site, &host.name),
        })
        .collect();
    let balancers = site
        .balancers
        .iter()
        .map(|balancer| LabBalancer {
            name: balancer.name.clone(),
            address: balancer.address,
            listeners: balancer
                .forwards
                .iter()
                .flat_map(|forward| {
                    let targets: Vec<_> = site
                        .groups
                        .get(&forward.targets)
                        .into_iter()
                        .flat_map(|group| &group.hosts)
                        .filter_map(|host| site.hosts.get(host))
                        .map(|host| host.address)
                        .collect();
                    forward.ports.iter().map(move |port| Listener {
                        port: *port,
                        targets: targets.iter().map(|address| (*address, *port)).collect(),
                        check: match &balancer.check {
                            Check::Tcp => HealthCheck::Tcp,
                            Check::Http { port, path } => {
                                HealthCheck::Http { port: *port, path: path.clone() }
                            }
                        },
                    })
                })
                .collect(),
        })
        .collect();
    let (packages, release_packages) = packages_by_release(site);
    LabSpec {
        operator: site.config.operator.0.clone(),
        hosts,
        balancers,
        private_net: site.config.private.first().copied().unwrap_or_default(),
        packages,
        release_packages,
        preinstalled: site.lab_hosts.preinstalled.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::lab_hosts::RELEASES;

    #[test]
    fn a_site_can_name_every_release_that_the_lab_makes() {
        assert_eq!(RELEASES.map(Release::of_name), Release::ALL.map(Some));
        assert_eq!(Release::ALL[0], Release::default());
    }
}
