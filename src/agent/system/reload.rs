//! A daemon in the middle of a reload may ignore the next one: OpenSSH's server ignores SIGHUP from
//! the moment it executes itself anew until it listens. A way back that follows the change at once
//! would then be lost, and the daemon would keep what was just taken back.

use super::LocalSystem;
use crate::resource::{Program, System};
use std::time::{Duration, Instant};

/// How long a daemon may take to listen to signals again.
const LIMIT: Duration = Duration::from_secs(10);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Bit of SIGHUP in the masks of `/proc/PID/status`.
const HANGUP: u64 = 1;

impl LocalSystem {
    /// When `argv` asks systemd to reload a unit: waits until the unit's main process does not
    /// ignore SIGHUP. A process that goes on ignoring it is reloaded in another way, and asked all
    /// the same.
    pub(super) fn wait_until_reloadable(&mut self, argv: &[String]) {
        let Some(unit) = reloaded_unit(argv).filter(|_| self.is_host()) else {
            return;
        };
        let ask = ["systemctl", "show", "--property=MainPID", "--value", "--", unit];
        let Ok(output) = self.run(&Program::new(ask)) else {
            return;
        };
        if let Ok(pid) = String::from_utf8_lossy(&output.stdout).trim().parse() {
            self.wait_until_heard(pid, Instant::now() + LIMIT);
        }
    }

    fn wait_until_heard(&mut self, pid: u32, deadline: Instant) {
        let status = format!("/proc/{pid}/status");
        while std::fs::read_to_string(&status).is_ok_and(|text| ignores_hangup(&text))
            && Instant::now() < deadline
        {
            self.pause(PAUSE);
        }
    }
}

fn reloaded_unit(argv: &[String]) -> Option<&str> {
    match argv {
        [program, verb, unit] if program == "systemctl" && verb.contains("reload") => Some(unit),
        _ => None,
    }
}

fn ignores_hangup(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & HANGUP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    fn words(argv: &[&str]) -> Vec<String> {
        argv.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn only_reloads_of_one_unit_are_waited_for() {
        assert_eq!(reloaded_unit(&words(&["systemctl", "reload", "ssh"])), Some("ssh"));
        assert_eq!(reloaded_unit(&words(&["systemctl", "reload-or-restart", "ssh"])), Some("ssh"));
        assert_eq!(reloaded_unit(&words(&["systemctl", "daemon-reload"])), None);
        assert_eq!(reloaded_unit(&words(&["systemctl", "restart", "ssh"])), None);
        assert_eq!(reloaded_unit(&words(&["nft", "-f", "-"])), None);
    }

    #[test]
    fn a_process_that_ignores_the_signal_is_waited_for_until_it_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut system = LocalSystem::new(directory.path(), Box::new(|_| false)).unwrap();
        let script =
            "trap '' HUP; echo; read -r _; trap 'exit 7' HUP; echo; while :; do read -r _; done";
        let mut daemon = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(daemon.stdout.take().unwrap());
        said.read_line(&mut String::new()).unwrap();
        let ignoring = || {
            let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
            ignores_hangup(&text)
        };
        assert!(ignoring());
        let start = Instant::now();
        let short = Duration::from_millis(50);
        system.wait_until_heard(daemon.id(), start + short);
        assert!(start.elapsed() >= short, "it still ignores the signal");

        drop(daemon.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, b"\n")));
        system.wait_until_heard(daemon.id(), Instant::now() + LIMIT);
        let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
        assert!(!ignores_hangup(&text));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        system.wait_until_heard(daemon.id(), Instant::now() + LIMIT);
    }
}
