//! apt-get and dpkg: locks, interrupted runs, and no service started half-configured.

use super::converge::Progress;
use super::outcome::Failure;
use super::system::{Cache, FileWrite, Output, Program, System, read_text, run_checked};
use std::time::{Duration, Instant};

const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_SAVED: &str = "/usr/sbin/policy-rc.d.strata-saved";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# strata: services start when their configuration is there, not before\nexit 101\n";

const LOCKS: &[&str] =
    &["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock"];

/// How often a lock is looked at while another process holds it.
const LOCK_INTERVAL: Duration = Duration::from_millis(500);

/// Waits until no other process holds a lock of dpkg or apt.
pub(super) fn wait_for_locks(
    system: &mut dyn System,
    limit: Duration,
    progress: &mut Progress<'_>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    let mut shown = String::new();
    loop {
        let mut held = None;
        for path in LOCKS {
            if let Some(owner) = system.lock_owner(path)? {
                held = Some(format!("{path} is held by process {} ({})", owner.pid, owner.name));
                break;
            }
        }
        let Some(reason) = held else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "waited {} s for the package lock: {reason}",
                limit.as_secs()
            ))
            .hint("let that process finish, or stop it, and run again"));
        }
        if shown != reason {
            progress(format!("waiting for the package lock: {reason}"));
            shown = reason;
        }
        system.pause(LOCK_INTERVAL);
    }
}

/// Finishes what an interrupted dpkg left half done.
pub(super) fn finish_interrupted(
    system: &mut dyn System,
    timeout: Duration,
    progress: &mut Progress<'_>,
) -> Result<(), Failure> {
    let journal = system.list("/var/lib/dpkg/updates")?.unwrap_or_default();
    let packages = system.packages()?;
    let broken = packages.broken();
    if journal.is_empty() && broken.is_empty() {
        return Ok(());
    }
    progress(format!("finishing an interrupted dpkg run: {}", broken.join(", ")));
    let program = noninteractive(Program::new([
        "dpkg",
        "--force-confdef",
        "--force-confold",
        "--configure",
        "-a",
    ]))
    .timeout(timeout);
    let output = system.run(&program);
    system.invalidate(Cache::All);
    let output = output?;
    if !output.success() {
        return Err(output
            .failure("cannot finish an interrupted dpkg run")
            .hint("`dpkg --configure -a` on the host must succeed"));
    }
    Ok(())
}

/// Runs apt-get with what a host without an operator needs.
pub(super) fn apt_get(
    system: &mut dyn System,
    arguments: &[String],
    timeout: Duration,
) -> Result<Output, Failure> {
    let fixed = [
        "apt-get",
        "--quiet",
        "--assume-yes",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=60",
        "-o",
        "Dpkg::Options::=--force-confdef",
        "-o",
        "Dpkg::Options::=--force-confold",
        "-o",
        "Acquire::Retries=2",
        "-o",
        "Dpkg::Use-Pty=0",
    ];
    let argv = fixed.iter().map(|part| (*part).to_owned()).chain(arguments.iter().cloned());
    let output = system.run(&noninteractive(Program::new(argv)).timeout(timeout));
    // Packages bring users, units and files with them.
    system.invalidate(Cache::All);
    output
}

/// Reads the package lists again.
pub(super) fn update(
    system: &mut dyn System,
    timeout: Duration,
    progress: &mut Progress<'_>,
) -> Result<(), Failure> {
    progress("reading the package lists".to_owned());
    let arguments = ["update".to_owned(), "--error-on=any".to_owned()];
    let output = apt_get(system, &arguments, timeout)?;
    if output.success() {
        return Ok(());
    }
    Err(explain(&output, "cannot read the package lists"))
}

fn noninteractive(program: Program) -> Program {
    program
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_MODE", "l")
        .env("APT_LISTCHANGES_FRONTEND", "none")
}

/// A failure of apt-get with the cause that its output names.
pub(super) fn explain(output: &Output, what: &str) -> Failure {
    let text = output.text();
    let failure = output.failure(what);
    if text.contains("remove is disabled") {
        let message = format!("{what}: apt would have to remove {}", removals(&text));
        return Failure { message, ..failure }.hint(
            "take them away in a step of their own (state = \"absent\") before this one, or choose versions that go together",
        );
    }
    let line = |needle: &str| text.lines().find(|line| line.contains(needle)).map(str::trim);
    let causes: &[(&str, &str)] = &[
        ("No space left on device", "free space on the host: `df -h / /boot /var`"),
        ("You don't have enough free space", "free space on the host: `df -h / /var`"),
        ("Could not get lock", "another process installs packages; run again when it is done"),
        ("404  Not Found", "the mirror no longer has this version: check the sources and the pin"),
        ("Could not resolve", "the mirror's name does not resolve on the host: check its DNS"),
        ("NO_PUBKEY", "the repository's key is missing: add it to the `apt_repository` step"),
        ("is not signed", "the repository has no valid signature: check its key and address"),
        ("Read-only file system", "the file system is mounted read-only: see `dmesg`"),
        ("unmet dependencies", "a pin or hold keeps a dependency away: see the output"),
        (
            "without --allow-change-held-packages",
            "a held package is in the way: name it in the step, or `apt-mark unhold` it",
        ),
        (
            "without --allow-downgrades",
            "a package would step back to an older version: pin the versions that are wanted",
        ),
        ("Version '", "no such version in the sources: `apt-cache policy` on the host lists them"),
    ];
    for (needle, hint) in causes {
        if let Some(line) = line(needle) {
            let message = format!("{what}: {}", line.trim_start_matches("E: "));
            return Failure { message, ..failure }.hint(*hint);
        }
    }
    failure
}

/// The packages that apt's plan would remove, in words.
fn removals(text: &str) -> String {
    let names: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("The following packages will be REMOVED"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .flat_map(str::split_whitespace)
        .collect();
    if names.is_empty() { "other packages".to_owned() } else { names.join(", ") }
}

/// Keeps package scripts from starting services until [`restore_service_policy`].
pub(super) fn hold_services(system: &mut dyn System) -> Result<(), Failure> {
    restore_service_policy(system)?;
    if let Some(own) = read_text(system, POLICY)? {
        let saved =
            FileWrite { mode: 0o755, keep: false, ..FileWrite::of_root(POLICY_SAVED, &own) };
        system.write(&saved)?;
    }
    let ours = FileWrite::of_root(POLICY, POLICY_TEXT.as_bytes());
    system.write(&FileWrite { mode: 0o755, keep: false, ..ours })
}

/// Lets package scripts start services again, also after a run that died in between. True when
/// there was something to restore.
///
/// # Errors
/// When the file cannot be restored.
pub fn restore_service_policy(system: &mut dyn System) -> Result<bool, Failure> {
    if read_text(system, POLICY)?.as_deref() != Some(POLICY_TEXT.as_bytes()) {
        return Ok(false);
    }
    match read_text(system, POLICY_SAVED)? {
        Some(own) => {
            let file = FileWrite::of_root(POLICY, &own);
            system.write(&FileWrite { mode: 0o755, keep: false, ..file })?;
            system.remove_file(POLICY_SAVED, false)?;
        }
        None => system.remove_file(POLICY, false)?,
    }
    Ok(true)
}

/// A package name in apt's lists that is nearly `name`.
pub(super) fn suggestion(system: &mut dyn System, name: &str) -> Option<String> {
    let program = Program::new(["apt-cache", "pkgnames"]).output_limit(16 * 1024 * 1024);
    let output = run_checked(system, &program, "apt-cache").ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 5)
        .min()
        .map(|(_, known)| known.to_owned())
}

/// Edit distance (Levenshtein) of two short names.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::test_host::Host;

    #[test]
    fn service_policy_is_restored_with_what_was_there() {
        let mut host = Host::new();
        for own in [None, Some("#!/bin/sh\nexit 0\n")] {
            host.make_directory("/usr/sbin");
            if let Some(own) = own {
                host.put(POLICY, own);
            }
            let mut system = host.system();
            hold_services(&mut system).unwrap();
            // A run that died: the next one holds again, and the original is not lost.
            hold_services(&mut system).unwrap();
            assert_eq!(host.get(POLICY).as_deref(), Some(POLICY_TEXT));
            assert_eq!(host.mode(POLICY), 0o755);
            assert!(restore_service_policy(&mut system).unwrap());
            assert_eq!(host.get(POLICY).as_deref(), own);
            assert!(!restore_service_policy(&mut system).unwrap());
        }
    }

    #[test]
    fn causes_are_named() {
        let output = |text: &str| Output {
            code: Some(100),
            signal: None,
            timed_out: false,
            stdout: Vec::new(),
            stderr: text.as_bytes().to_vec(),
        };
        let failure =
            explain(&output("Err:1 http://x\n  404  Not Found [IP: 1]\n"), "cannot install a");
        assert!(failure.message.contains("404"), "{failure:?}");
        assert!(failure.hint.unwrap().contains("mirror"));
        assert_eq!(distance("chrony", "chorny"), 2);
        assert_eq!(distance("nginx", "nginx"), 0);
    }
}
