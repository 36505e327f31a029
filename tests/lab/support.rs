//! What the tests on real hosts share: a lab with strata inside its operator host, site copies
//! that a test may edit, and looks at hosts.
//!
//! A bench takes its lab down however its test ends. Two test programs that use the same lab wait
//! for each other, so that they can run from several checkouts of one machine. With STRATA_LAB_KEEP
//! set, hosts that are up are used as they are and stay up, for work on one test.

#![allow(dead_code, reason = "each test program uses a part")]

#[path = "cluster.rs"]
pub mod cluster;
#[path = "../site/copy.rs"]
mod copy;

use copy::{PARTS, copy_site};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strata::lab::Lab;

/// The operator host.
pub const OPERATOR: &str = "install-01";
/// Where the site stands on it.
pub const SITE: &str = "/opt/keybuzz-installer";
/// Where the process id of the strata under test is written.
const PID_FILE: &str = "/run/strata-under-test.pid";

/// The packages of the layer base.
const FURNITURE: [&str; 12] = [
    "auditd",
    "ca-certificates",
    "chrony",
    "curl",
    "docker.io",
    "fail2ban",
    "gnupg",
    "jq",
    "nftables",
    "python3-systemd",
    "socat",
    "unattended-upgrades",
];

/// Tests of one program run one after another: a lab uses the whole machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A lab of a test.
pub struct Bench {
    pub lab: Lab,
    pub hosts: Vec<String>,
    _turn: MutexGuard<'static, ()>,
    _machine_wide: File,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if kept() {
            return;
        }
        if let Err(error) = self.lab.down() {
            eprintln!("the lab could not be taken down: {error}");
        }
    }
}

/// What a program printed and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub seconds: f64,
}

impl Said {
    /// Fails the test with everything that was printed unless the exit code is as wanted.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\nstdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// All text.
    pub fn text(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl From<(Output, Instant)> for Said {
    fn from((output, start): (Output, Instant)) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            seconds: start.elapsed().as_secs_f64(),
        }
    }
}

impl Bench {
    /// Takes the turn and removes what an earlier test left; no host is up yet.
    pub fn open(lab: &str, hosts: &[&str]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes namespaces and mounts: run it as root"
        );
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let machine_wide = File::create(format!("/run/lock/strata-test-{lab}")).unwrap();
        machine_wide.lock().unwrap();
        let lab = Lab::open(lab).unwrap();
        if !kept() {
            lab.down().unwrap();
        }
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Self { lab, hosts, _turn: turn, _machine_wide: machine_wide }
    }

    /// Fresh hosts with the site and strata on the operator host.
    pub fn fresh(&self) {
        self.fresh_with(|_| {});
    }

    /// As [`Bench::fresh`], with a site changed by `edit`: its images are built and at hand.
    pub fn fresh_with(&self, edit: impl Fn(&Path)) {
        self.down();
        self.up(|_| {}, edit);
    }

    /// As [`Bench::fresh_with`], for tests that begin above the layer base: its packages are on the
    /// hosts from the start, as in many a provider's image. lab_install installs them.
    pub fn furnished_with(&self, edit: impl Fn(&Path)) {
        self.down();
        let names: Vec<String> = FURNITURE.iter().map(|name| format!("{name:?}")).collect();
        let text = format!("preinstalled = [{}]\n", names.join(", "));
        self.up(|site| fs::write(site.join("inventory/lab/hosts.toml"), &text).unwrap(), edit);
    }

    /// As [`Bench::furnished_with`], with the repository's site as it is.
    pub fn furnished(&self) {
        self.furnished_with(|_| {});
    }

    /// Makes what hosts, images and site lack of a site changed by `edit`; hosts that are up stay.
    pub fn change_with(&self, edit: impl Fn(&Path)) {
        self.up(|_| {}, edit);
    }

    fn down(&self) {
        if !kept() {
            self.lab.down().unwrap();
        }
    }

    fn up(&self, furnish: impl Fn(&Path), edit: impl Fn(&Path)) {
        let site = site_copy(&edit);
        furnish(site.path());
        let words = ["lab", "--lab", self.lab.name(), "up"];
        let mut command = self.machine_strata_in(site.path(), &words);
        for host in self.hosts.iter().map(String::as_str).chain([OPERATOR]) {
            command.args(["--host", host]);
        }
        let start = Instant::now();
        Said::from((command.output().unwrap(), start)).ended(0);
        self.put_strata();
        self.put_site(SITE, edit);
    }

    /// strata on the machine itself, in a site that is this repository's.
    pub fn machine_strata(&self, words: &[&str]) -> Command {
        self.machine_strata_in(Path::new(env!("CARGO_MANIFEST_DIR")), words)
    }

    /// strata on the machine itself, in some site.
    fn machine_strata_in(&self, site: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        command.arg("--site").arg(site).args(["--color", "never", "--no-progress"]);
        command.args(words).stdin(Stdio::null());
        command
    }

    fn put_strata(&self) {
        let folder = tempfile::tempdir().unwrap();
        fs::hard_link(env!("CARGO_BIN_EXE_strata"), folder.path().join("strata"))
            .or_else(|_| {
                fs::copy(env!("CARGO_BIN_EXE_strata"), folder.path().join("strata")).map(drop)
            })
            .unwrap();
        self.lab.copy_in(OPERATOR, folder.path(), "/usr/local/bin".as_ref()).unwrap();
    }

    /// A copy of the repository's site on the operator host, changed by `edit`. The first copy at a place
    /// gets an identity, secrets and pinned host keys; later ones keep them.
    pub fn put_site(&self, target: &str, edit: impl FnOnce(&Path)) {
        let folder = site_copy(edit);
        self.on(OPERATOR, &["mkdir", "-p", target]).ended(0);
        for part in PARTS {
            self.on(OPERATOR, &["rm", "-rf", &format!("{target}/{part}")]).ended(0);
        }
        self.lab.copy_in(OPERATOR, folder.path(), target.as_ref()).unwrap();
        if self.on(OPERATOR, &["test", "-e", &format!("{target}/.strata/known_hosts")]).code == 0 {
            return;
        }
        let keys = self.lab.hostkeys().unwrap().join("\n") + "\n";
        self.put_text(OPERATOR, "/root/lab-host-keys", &keys);
        self.on(OPERATOR, &["strata", "--site", target, "secrets", "init"]).ended(0);
        self.on(
            OPERATOR,
            &["strata", "--site", target, "hosts", "trust", "--from", "/root/lab-host-keys"],
        )
        .ended(0);
    }

    /// Writes a file of a host.
    pub fn put_text(&self, host: &str, path: &str, text: &str) {
        self.with_input(host, &["tee", path], text).ended(0);
    }

    /// Runs a program on a host.
    pub fn on(&self, host: &str, words: &[&str]) -> Said {
        self.with_input(host, words, "")
    }

    /// Runs a program on a host with standard input.
    pub fn with_input(&self, host: &str, words: &[&str], input: &str) -> Said {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let start = Instant::now();
        Said::from((self.lab.run(host, &words, input.as_bytes()).unwrap(), start))
    }

    /// The output of a program that must succeed, trimmed.
    #[track_caller]
    pub fn output(&self, host: &str, words: &[&str]) -> String {
        self.on(host, words).ended(0).out.trim().to_owned()
    }

    /// strata on the operator host, in a site there.
    pub fn strata_in(&self, site: &str, words: &[&str]) -> Said {
        self.on(OPERATOR, &strata_words(site, words))
    }

    /// strata on the operator host, in the site.
    pub fn strata(&self, words: &[&str]) -> Said {
        self.strata_in(SITE, words)
    }

    /// `install --layer base` of these hosts.
    pub fn install(&self, site: &str, hosts: &[&str]) -> Said {
        self.strata_in(site, &install_words(hosts))
    }

    /// Starts strata on the operator host without waiting; [`Bench::signal`] reaches it.
    pub fn start(&self, site: &str, words: &[&str]) -> Running {
        let script = format!("echo $$ > {PID_FILE}; exec \"$@\"");
        let mut command = self.machine_strata(&["lab", "--lab", self.lab.name(), "exec", OPERATOR]);
        command.args(["--", "sh", "-c", &script, "sh"]).args(strata_words(site, words));
        let output = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        command.stdout(file("out")).stderr(file("err"));
        self.on(OPERATOR, &["rm", "-f", PID_FILE]).ended(0);
        let start = Instant::now();
        let child = command.spawn().unwrap();
        wait("the start of strata", 10, || {
            let text = self.on(OPERATOR, &["cat", PID_FILE]).out;
            if text.trim().is_empty() { Err("no process id yet".to_owned()) } else { Ok(()) }
        });
        Running { child: Some(child), output, start }
    }

    /// Sends a signal to the strata that [`Bench::start`] started last; false when it has ended.
    pub fn signal(&self, signal: &str) -> bool {
        let script = format!("kill -{signal} \"$(cat {PID_FILE})\"");
        self.on(OPERATOR, &["sh", "-c", &script]).code == 0
    }

    /// Kills the agents on a host, by the file that they run; how many there were.
    pub fn kill_agents(&self, host: &str) -> usize {
        let script = "for p in /proc/[0-9]*; do case \"$(readlink \"$p/exe\")\" in \
                      */strata-agent-*) kill -KILL \"${p#/proc/}\" && echo killed;; esac; done";
        self.on(host, &["sh", "-c", script]).out.lines().count()
    }

    /// Runs `install` until the agents that a killed run left have ended: while they hold the
    /// host's lock the answer is exit code 6. Returns the converging run and the number of tries.
    pub fn install_when_free(&self, site: &str, hosts: &[&str]) -> (Said, u32) {
        let start = Instant::now();
        for tries in 1.. {
            let said = self.install(site, hosts);
            if said.code != 6 || start.elapsed() > Duration::from_secs(180) {
                return (said, tries);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        unreachable!("the loop returns")
    }

    /// Every regular file that a host keeps below /etc, /usr/local and systemd's and strata's own
    /// places, with owner, mode and content as a digest. What differs between any two hosts or
    /// boots is left out.
    pub fn files(&self, host: &str) -> BTreeMap<String, String> {
        let script = "find /etc /usr/local /var/spool/cron /var/lib/strata/firewall.live -xdev \
                      -type f -printf '%m %U:%G %p\\n' 2>/dev/null | while read -r mode owner path; \
                      do printf '%s\\t%s %s %s\\n' \"$path\" \"$mode\" \"$owner\" \
                      \"$(sha256sum < \"$path\")\"; done";
        const PRIVATE: [&str; 12] = [
            "/etc/machine-id",
            "/etc/ssh/ssh_host_",
            "/etc/ld.so.cache",
            "/etc/.pwd.lock",
            "/etc/.updated",
            "/etc/passwd-",
            "/etc/group-",
            "/etc/shadow-",
            "/etc/gshadow-",
            "/etc/docker/key.json",
            "/usr/local/bin/strata",
            "/etc/subuid-",
        ];
        self.output(host, &["sh", "-c", script])
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(path, _)| !PRIVATE.iter().any(|prefix| path.starts_with(prefix)))
            .map(|(path, rest)| (path.to_owned(), rest.to_owned()))
            .collect()
    }

    /// Fails where a host still has something that only a run in progress may have.
    #[track_caller]
    pub fn nothing_half_done(&self, host: &str) {
        let left = self.output(
            host,
            &["find", "/etc", "/usr/local", "/var/lib", "/root", "-name", ".strata-*"],
        );
        assert_eq!(left, "", "temporary files on {host}");
        let policy = self.on(host, &["test", "-e", "/usr/sbin/policy-rc.d"]);
        assert_ne!(policy.code, 0, "a policy-rc.d is left on {host}");
        let pending =
            self.output(host, &["find", "/var/lib/strata", "-path", "*/pending/*", "-type", "f"]);
        assert_eq!(pending, "", "waiting handlers on {host}");
        let guards =
            self.output(host, &["find", "/var/lib/strata", "-path", "*/guard/*", "-type", "f"]);
        assert_eq!(guards, "", "armed guards on {host}");
    }
}

/// A strata that runs.
pub struct Running {
    child: Option<Child>,
    output: tempfile::TempDir,
    start: Instant,
}

impl Running {
    /// What it has printed so far.
    pub fn so_far(&self) -> String {
        ["out", "err"]
            .map(|name| fs::read_to_string(self.output.path().join(name)).unwrap_or_default())
            .concat()
    }

    /// Waits until it has printed a text.
    #[track_caller]
    pub fn wait_for(&self, text: &str, seconds: u64) {
        wait(&format!("the text {text:?}"), seconds, || {
            let so_far = self.so_far();
            if so_far.contains(text) { Ok(()) } else { Err(so_far) }
        });
    }

    /// True once it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Said {
        let status = self.child.take().unwrap().wait().unwrap();
        let read = |name| fs::read_to_string(self.output.path().join(name)).unwrap_or_default();
        Said {
            code: status.code().unwrap_or(-1),
            out: read("out"),
            err: read("err"),
            seconds: self.start.elapsed().as_secs_f64(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn kept() -> bool {
    std::env::var_os("STRATA_LAB_KEEP").is_some()
}

fn strata_words<'a>(site: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    let mut all =
        vec!["strata", "--site", site, "--rehearsal", "--color", "never", "--no-progress"];
    all.extend_from_slice(words);
    all
}

/// The words of `install --layer base` for some hosts.
pub fn install_words<'a>(hosts: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["install", "--layer", "base", "--gate", "diag"];
    for host in hosts {
        words.extend(["--host", host]);
    }
    words
}

/// Waits for a condition; fails with its last reason.
#[track_caller]
pub fn wait(what: &str, seconds: u64, mut condition: impl FnMut() -> Result<(), String>) {
    let started = Instant::now();
    while let Err(reason) = condition() {
        assert!(
            started.elapsed() < Duration::from_secs(seconds),
            "{what} did not happen in {seconds} s: {reason}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Replaces text that must occur exactly once in a file.
#[track_caller]
pub fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from:?} in {}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Gives a site a role of this text, with a gate that only looks at names, and a layer of its own
/// that places it on all hosts.
pub fn add_layer(site: &Path, name: &str, role_text: &str) {
    let role = site.join("roles").join(name);
    fs::create_dir(&role).unwrap();
    fs::write(role.join("role.toml"), role_text).unwrap();
    fs::write(role.join("gate.toml"), "[[test]]\nname = \"names\"\n").unwrap();
    append(
        &site.join("strata.toml"),
        &format!(
            "\n[[layer]]\nname  = \"{name}\"\nplace = [{{ role = \"{name}\", on = \"all\" }}]\n"
        ),
    );
}

/// Appends text to a file.
pub fn append(path: &Path, text: &str) {
    fs::write(path, fs::read_to_string(path).unwrap() + text).unwrap();
}

/// A copy of the repository's site, changed by `edit`.
fn site_copy(edit: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_site(folder.path());
    edit(folder.path());
    folder
}

/// Numbers that a seed fixes: a failing moment can be tried again.
pub struct Seeded(u64);

impl Seeded {
    /// The seed of `STRATA_LAB_SEED`, or one of the clock's; printed.
    pub fn new() -> Self {
        let seed = std::env::var("STRATA_LAB_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        });
        println!("figure: seed {seed} (set STRATA_LAB_SEED to repeat)");
        Self(seed)
    }

    /// A number from 0 to 1 (splitmix64).
    pub fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let fraction = (z >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }
}
