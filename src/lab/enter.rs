//! Entering a running host: its namespaces, its root and its cgroups.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use super::cgroup::{Cgroups, namespace_pids};
use super::command::{capture, check, program};
use super::error::{At as _, LabError, Result};
use super::paths::Paths;
use super::state::{self, HostRecord, HostState};

/// The name by which [`super::Lab::exec`] reaches the internet's end of the public network.
pub const OUTSIDE: &str = super::network::OUTSIDE;

/// Joins the groups named before `--`, then becomes the command after it. The text is constant;
/// all data is in the arguments.
const JOIN: &str =
    r#"while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@""#;
/// What a login shell of root has.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("SHELL", "/bin/bash"),
    ("LANG", "C.UTF-8"),
];

/// A command that starts in the given cgroups.
pub(super) fn command_in_groups<S: AsRef<OsStr>>(entrances: &[PathBuf], words: &[S]) -> Command {
    let mut command = program("/bin/sh", ["-c", JOIN, "join"]);
    command.args(entrances).arg("--").args(words);
    command
}

/// The first process of a running host.
pub(super) fn leader(paths: &Paths, host: &str) -> Result<u32> {
    let record: Option<HostRecord> = state::read(&paths.host(host).state())?;
    let state = record.as_ref().map_or(HostState::Stopped, |record| record.state);
    record
        .and_then(|record| record.leader)
        .filter(|pid| namespace_pids(*pid).is_some_and(|pids| pids.last() == Some(&1)))
        .ok_or_else(|| LabError::NotRunning { host: host.to_owned(), state: state.to_string() })
}

/// A command inside a running host, as one of its processes: in its cgroups, so that it counts as
/// the host's memory and stops with the host.
pub(super) fn command_in_host(paths: &Paths, host: &str, words: &[OsString]) -> Result<Command> {
    let pid = leader(paths, host)?;
    let entrances = Cgroups::detect()?.entrances_like(pid)?;
    let mut inner = nsenter(pid);
    inner.extend_from_slice(words);
    let mut command = command_in_groups(&entrances, &inner);
    set_environment(&mut command);
    Ok(command)
}

/// A command with a host's files and names, but outside its cgroups: it works while the host is
/// frozen.
pub(super) fn command_beside_host(
    paths: &Paths,
    host: &str,
    words: &[OsString],
) -> Result<Command> {
    let inner = nsenter(leader(paths, host)?);
    let (name, arguments) = (inner.first().cloned().unwrap_or_default(), inner.get(1..));
    let mut command = Command::new(name);
    command.args(arguments.unwrap_or_default()).args(words);
    set_environment(&mut command);
    Ok(command)
}

/// A command in a network namespace of the lab, with the machine's files.
pub(super) fn command_in_namespace(paths: &Paths, member: &str, words: &[OsString]) -> Command {
    let mut command = program("nsenter", [net_option(&paths.namespace_file(member))]);
    command.args(words);
    command
}

/// The command for a host or for [`OUTSIDE`].
pub(super) fn command_in(paths: &Paths, member: &str, words: &[OsString]) -> Result<Command> {
    if member == OUTSIDE {
        Ok(command_in_namespace(paths, member, words))
    } else {
        command_in_host(paths, member, words)
    }
}

/// Runs a command with this process's own terminal or pipes; returns its exit code.
pub(super) fn pass_through(command: &mut Command) -> Result<i32> {
    let status = command.status().at("cannot start", "nsenter")?;
    Ok(exit_code(status))
}

/// Runs a command and keeps its output.
pub(super) fn collect(command: &mut Command, input: &[u8]) -> Result<Output> {
    capture(command, input).at("cannot start", "nsenter")
}

/// Copies what a directory contains into a directory of a running host.
pub(super) fn copy_in(paths: &Paths, host: &str, source: &Path, target: &Path) -> Result<()> {
    let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
    let mut make = words(&["mkdir", "-p", "--"]);
    make.push(target.into());
    check("cannot create the directory", &mut command_in_host(paths, host, &make)?)?;
    let mut unpack = words(&["tar", "--extract", "--file=-", "--no-same-owner", "--directory"]);
    unpack.push(target.into());
    let mut pack = program("tar", ["--create", "--file=-", "--directory"]);
    pack.arg(source).arg(".").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut packing = pack.spawn().at("cannot read", source)?;
    let mut receiver = command_in_host(paths, host, &unpack)?;
    if let Some(stream) = packing.stdout.take() {
        receiver.stdin(stream);
    }
    let unpacked = receiver.stdout(Stdio::null()).status().at("cannot write", target)?;
    let packed = packing.wait().at("cannot read", source)?;
    if packed.success() && unpacked.success() {
        return Ok(());
    }
    Err(LabError::Tool {
        what: format!("cannot copy {} to {}:{}", source.display(), host, target.display()),
        program: "tar".to_owned(),
        status: format!("packing: {packed}, unpacking: {unpacked}"),
        stderr: "its reasons are above".to_owned(),
    })
}

/// The exit code as a shell gives it: 128 and the signal for a process that was killed.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    let _flushed = std::io::stdout().flush();
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The option of `nsenter` for a network namespace.
pub(super) fn net_option(file: &Path) -> OsString {
    let mut option = OsString::from("--net=");
    option.push(file);
    option
}

fn nsenter(pid: u32) -> Vec<OsString> {
    let mut words: Vec<OsString> =
        vec!["nsenter".into(), "--target".into(), pid.to_string().into()];
    let options =
        ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"];
    words.extend(options.map(OsString::from));
    words
}

fn set_environment(command: &mut Command) {
    command.env_clear().envs(ENVIRONMENT);
}
