//! What a fault does, and how it is undone. Undoing is idempotent: it works after a fault that
//! was only half injected, and twice.

use std::ffi::OsString;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::super::cgroup::{Cgroups, namespace_pids, signal};
use super::super::command::{check, check_with_input, program, wait_until};
use super::super::enter::{command_beside_host, leader};
use super::super::error::{At as _, LabError, Result};
use super::super::network::{OUTSIDE, SWITCH};
use super::super::paths::Paths;
use super::super::spec::LabSpec;
use super::super::state::{self, HostRecord, LabFile};
use super::super::supervise::{cut_power, is_supervised};
use super::super::up::{start_supervisor, wait_ready};
use super::cut::{Side, rules, table_name};
use super::{Fault, KillTarget, Signal, delay};

/// How long a host may take to stop, or to come back when a fault is healed.
const HOST_DEADLINE: Duration = Duration::from_secs(90);

/// Bytes the filling file needs for its own description.
const OWN_BLOCKS: u64 = 64 << 10;

/// What an injected fault left behind for its end.
#[derive(Debug, Default)]
pub(super) struct Effect {
    /// Processes that were stopped.
    pub(super) stopped: Vec<u32>,
    /// The running forwarder's figures.
    pub(super) cost: Option<Arc<delay::Cost>>,
}

/// Breaks what the fault says.
pub(super) fn apply(paths: &Paths, file: &LabFile, id: &str, fault: &Fault) -> Result<Effect> {
    let mut effect = Effect::default();
    match fault {
        Fault::KillProcess { host, target, signal: wanted } => {
            let pids = processes(paths, host, target)?;
            for pid in &pids {
                signal(*pid, wanted.number());
            }
            if *wanted == Signal::Stop {
                effect.stopped = pids;
            }
        }
        Fault::StopHost { host } => {
            cut_power(paths, host)?;
            wait_stopped(paths, host)?;
        }
        Fault::RebootHost { host } => {
            let before = boots(paths, host)?;
            run(paths, host, &["systemctl", "reboot"])?;
            wait_until(
                &format!("the reboot of {host}"),
                HOST_DEADLINE,
                Duration::from_millis(20),
                || match boots(paths, host) {
                    Ok(now) if now > before => Ok(()),
                    Ok(_) => Err("it is still shutting down".to_owned()),
                    Err(error) => Err(error.to_string()),
                },
            )?;
        }
        Fault::FreezeHost { host } => {
            leader(paths, host)?;
            Cgroups::detect()?.freeze(&paths.host_group(host), true)?;
        }
        Fault::CutNetwork { between, and, direction, keep_ssh_from } => {
            let operator: Vec<_> = keep_ssh_from
                .iter()
                .filter_map(|name| file.spec.host(name))
                .flat_map(|host| [Some(host.private), host.public])
                .flatten()
                .collect();
            let (one, other) = (side(&file.spec, between), side(&file.spec, and));
            let text = rules(id, &one, &other, *direction, &operator);
            filter(paths, &text)?;
        }
        Fault::DelayNetwork { host, milliseconds } => {
            let public = file.spec.host(host).is_some_and(|host| host.public.is_some());
            let each = Duration::from_millis(u64::from(*milliseconds));
            effect.cost = Some(delay::install(paths, host, public, each)?);
        }
        Fault::FillDisk { host, path, leave_bytes } => {
            let free = free_bytes(paths, host, path)?;
            let size = free.saturating_sub(*leave_bytes).saturating_sub(OWN_BLOCKS);
            if size > 0 {
                let file = fill_file(path, id);
                run(paths, host, &["fallocate", "-l", &size.to_string(), "--", &file])?;
            }
        }
    }
    Ok(effect)
}

/// Mends what the fault broke.
pub(super) fn undo(
    paths: &Paths,
    file: &LabFile,
    id: &str,
    fault: &Fault,
    stopped: &[u32],
) -> Result<()> {
    match fault {
        Fault::KillProcess { host, .. } => {
            // Only processes that are still the host's: ids are used again.
            let present = Cgroups::detect()?.processes(&paths.host_group(host));
            for pid in stopped.iter().filter(|pid| present.contains(pid)) {
                signal(*pid, rustix::process::Signal::CONT);
            }
            Ok(())
        }
        Fault::StopHost { host } | Fault::RebootHost { host } => {
            let Some(host) = file.spec.host(host) else {
                return Ok(());
            };
            if !is_supervised(&paths.host(&host.name).supervisor_lock()) {
                state::remove_tree(&paths.host(&host.name).state())?;
                start_supervisor(paths, &file.supervisor, &host.name)?;
            }
            wait_ready(paths, host, HOST_DEADLINE).map(drop)
        }
        Fault::FreezeHost { host } => {
            let cgroups = Cgroups::detect()?;
            let group = paths.host_group(host);
            if cgroups.processes(&group).is_empty() {
                return Ok(());
            }
            cgroups.freeze(&group, false)
        }
        Fault::CutNetwork { .. } => {
            // Made first, so that removing it never fails for want of it.
            let table = table_name(id);
            filter(paths, &format!("table bridge {table} {{}}\ndelete table bridge {table}\n"))
        }
        Fault::DelayNetwork { host, .. } => delay::remove(paths, host),
        Fault::FillDisk { host, path, .. } => {
            run(paths, host, &["rm", "-f", "--", &fill_file(path, id)]).map(drop)
        }
    }
}

fn side(spec: &LabSpec, members: &[String]) -> Side {
    Side::of(members.iter().map(|name| {
        let public = spec.host(name).and_then(|host| host.public);
        (name.as_str(), public)
    }))
}

/// Refuses a fault about members that the lab has not.
pub(super) fn require_members(paths: &Paths, spec: &LabSpec, fault: &Fault) -> Result<()> {
    let balancer = |name: &str| spec.balancers.iter().any(|one| one.name == name);
    let network = matches!(fault, Fault::CutNetwork { .. });
    for name in fault.members() {
        let known = spec.host(name).is_some() || network && (name == OUTSIDE || balancer(name));
        if !known {
            return Err(LabError::NoSuchHost {
                lab: paths.lab().to_owned(),
                host: name.to_owned(),
            });
        }
    }
    Ok(())
}

fn filter(paths: &Paths, text: &str) -> Result<()> {
    let net = super::super::enter::net_option(&paths.namespace_file(SWITCH));
    let mut command = program("nsenter", [net]);
    command.args(["nft", "-f", "-"]);
    check_with_input("cannot change the switch's packet filter", &mut command, text.as_bytes())
        .map(drop)
}

/// Runs a program of the host that a frozen host does not stop.
fn run(paths: &Paths, host: &str, words: &[&str]) -> Result<std::process::Output> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    check(&format!("on {host}"), &mut command_beside_host(paths, host, &words)?)
}

/// The processes a target means, by their ids on the machine.
fn processes(paths: &Paths, host: &str, target: &KillTarget) -> Result<Vec<u32>> {
    let inside = match target {
        KillTarget::Unit(unit) => {
            let asked = ["systemctl", "show", "--property=MainPID", "--value", "--", unit];
            let output = run(paths, host, &asked)?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Some(text.parse::<u32>().ok().filter(|pid| *pid != 0).ok_or_else(|| {
                LabError::Fault {
                    id: unit.clone(),
                    reason: format!("the unit has no main process on {host}; is it running?"),
                }
            })?)
        }
        KillTarget::Pid(pid) => Some(*pid),
        KillTarget::Pattern(_) => None,
    };
    let depth = namespace_pids(leader(paths, host)?).map_or(2, |pids| pids.len());
    let own = Cgroups::detect()?.processes(&paths.host_group(host));
    let found: Vec<u32> = own
        .into_iter()
        .filter(|pid| match (namespace_pids(*pid), target, inside) {
            // The container's keeper is in the group, but not in the host.
            (Some(pids), _, _) if pids.len() < depth => false,
            (Some(pids), _, Some(wanted)) => pids.get(depth - 1) == Some(&wanted),
            (Some(_), KillTarget::Pattern(pattern), None) => command_line(*pid).contains(pattern),
            _ => false,
        })
        .collect();
    if found.is_empty() {
        return Err(LabError::Fault {
            id: "kill".to_owned(),
            reason: format!("no process of {host} matches {target:?}"),
        });
    }
    Ok(found)
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn boots(paths: &Paths, host: &str) -> Result<u32> {
    let record: Option<HostRecord> = state::read(&paths.host(host).state())?;
    Ok(record.map_or(0, |record| record.boots))
}

fn wait_stopped(paths: &Paths, host: &str) -> Result<()> {
    wait_until(&format!("the end of {host}"), HOST_DEADLINE, Duration::from_millis(20), || {
        if is_supervised(&paths.host(host).supervisor_lock()) {
            Err("its supervisor is still cleaning up".to_owned())
        } else {
            Ok(())
        }
    })
}

fn fill_file(path: &str, id: &str) -> String {
    format!("{}/.lab-{id}", path.trim_end_matches('/'))
}

/// Bytes that may still be written.
fn free_bytes(paths: &Paths, host: &str, path: &str) -> Result<u64> {
    let output = run(paths, host, &["stat", "--file-system", "--format=%a %S", "--", path])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(Ok(blocks)), Some(Ok(size))) => Ok(blocks.saturating_mul(size)),
        _ => Err(std::io::Error::other(format!("stat said {text:?}"))).at("cannot size", path),
    }
}
