//! Real hosts on this machine: they boot, reach each other, break, heal, and leave nothing behind.
//!
//! Needs root, Debian 12 and (the first time) a package mirror. There is one lab and one test: the
//! steps build on each other, and a lab is too dear to boot for each.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use strata::lab::{
    Direction, Fault, HealthCheck, HostState, KillTarget, Lab, LabBalancer, LabError, LabHost,
    LabSpec, Listener, Release, Signal, UpOptions,
};

const LAB: &str = "test-hosts";

/// Takes the lab down however the test ends.
struct DownAtTheEnd(Lab);

impl Drop for DownAtTheEnd {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("the lab could not be taken down: {error}");
        }
    }
}

fn spec() -> LabSpec {
    let host = |name: &str, last: u8, public: bool| LabHost {
        name: name.to_owned(),
        fqdn: format!("{name}.example.test"),
        private: Ipv4Addr::new(10, 0, 0, last),
        public: public.then(|| Ipv4Addr::new(192, 0, 2, last)),
        release: Release::Bookworm,
    };
    LabSpec {
        operator: "install-01".to_owned(),
        hosts: vec![
            host("install-01", 250, true),
            host("redis-01", 123, true),
            host("redis-02", 124, false),
        ],
        balancers: vec![LabBalancer {
            name: "lb-ssh".to_owned(),
            address: Ipv4Addr::new(10, 0, 0, 10),
            listeners: vec![Listener {
                port: 2222,
                targets: vec![(Ipv4Addr::new(10, 0, 0, 123), 22)],
                check: HealthCheck::Tcp,
            }],
        }],
        private_net: "10.0.0.0/16".parse().unwrap(),
        packages: ["jq", "socat"].map(str::to_owned).to_vec(),
        release_packages: Default::default(),
        preinstalled: Vec::new(),
    }
}

fn options() -> UpOptions {
    let mut options = UpOptions::new(vec![
        env!("CARGO_BIN_EXE_strata").into(),
        strata::lab::SUPERVISOR_VERB.into(),
    ]);
    options.disk_bytes = 2 << 30;
    options
}

fn run(lab: &Lab, host: &str, words: &[&str]) -> Output {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    lab.run(host, &words, b"").unwrap()
}

fn output(lab: &Lab, host: &str, words: &[&str]) -> String {
    let output = run(lab, host, words);
    assert!(output.status.success(), "{words:?} on {host}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn reaches(lab: &Lab, from: &str, address: &str) -> bool {
    run(lab, from, &["ping", "-c", "1", "-W", "1", address]).status.success()
}

fn wait(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(seconds),
            "{what} did not happen in {seconds} s"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn state(lab: &Lab, host: &str) -> HostState {
    let status = lab.status().unwrap();
    status.hosts.iter().find(|one| one.name == host).unwrap().state
}

#[test]
fn hosts_boot_break_heal_and_leave_nothing() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes namespaces and mounts: run it as root"
    );
    let lab = Lab::open(LAB).unwrap();
    lab.down().unwrap();
    let _guard = DownAtTheEnd(lab.clone());

    let report = lab.up(&spec(), &options(), &|_| {}).unwrap();
    assert_eq!(report.hosts.len(), 3);
    for host in &report.hosts {
        assert!(host.seconds.is_some() && !host.degraded, "{host:?}");
    }

    a_second_up_starts_nothing(&lab);
    hosts_are_hosts_of_their_own(&lab);
    nothing_is_visible_on_the_machine();
    packages_install_without_a_network(&lab);
    files_come_in(&lab);
    the_balancer_passes_connections(&lab);
    a_reboot_is_supervised(&lab);
    a_cut_heals_although_its_author_was_killed(&lab);
    a_full_disk_heals(&lab);
    a_delay_delays(&lab);
    a_hung_host_thaws(&lab);
    a_killed_process_is_the_right_one(&lab);
    a_host_without_power_comes_back(&lab);
    a_killed_supervisor_is_replaced(&lab);

    lab.down().unwrap();
    nothing_is_left();
}

fn a_second_up_starts_nothing(lab: &Lab) {
    let again = lab.up(&spec(), &options(), &|_| {}).unwrap();
    assert!(again.hosts.iter().all(|host| host.seconds.is_none()), "{again:?}");
    assert!(again.seconds < 3.0, "{again:?}");
}

fn hosts_are_hosts_of_their_own(lab: &Lab) {
    let mut ids = Vec::new();
    for host in ["install-01", "redis-01", "redis-02"] {
        assert_eq!(output(lab, host, &["hostname"]), host);
        ids.push(output(lab, host, &["cat", "/etc/machine-id"]));
        ids.push(output(lab, host, &["cat", "/proc/sys/kernel/random/boot_id"]));
        ids.push(lab.host_public_key(host).unwrap());
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);

    // By key, between hosts, through the pinned host key.
    fs::write("/tmp/strata-lab-test-known-hosts", lab.hostkeys().unwrap().join("\n") + "\n")
        .unwrap();
    let known = fs::read("/tmp/strata-lab-test-known-hosts").unwrap();
    let to: Vec<OsString> = ["tee", "/root/.ssh/known_hosts"].iter().map(OsString::from).collect();
    assert!(lab.run("install-01", &to, &known).unwrap().status.success());
    fs::remove_file("/tmp/strata-lab-test-known-hosts").unwrap();
    let ssh = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"];
    for target in ["10.0.0.123", "192.0.2.123", "10.0.0.124"] {
        let words = [&ssh[..], &[target, "cat", "/etc/hostname"]].concat();
        assert!(output(lab, "install-01", &words).starts_with("redis-0"), "{target}");
    }
    let refused = [&ssh[..], &["10.0.0.250", "true"]].concat();
    assert!(!run(lab, "redis-01", &refused).status.success(), "only the operator has the key");

    let argv = lab.ssh_argv("redis-02", &["hostname".into()]).unwrap();
    let ssh = Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ssh.stdout).trim(), "redis-02", "{ssh:?}");

    let words: Vec<OsString> = ["sh", "-c", "exit 7"].iter().map(OsString::from).collect();
    assert_eq!(lab.exec("redis-01", &words, None).unwrap(), 7);
    assert!(matches!(lab.exec("no-such-host", &words, None), Err(LabError::NoSuchHost { .. })));
}

fn nothing_is_visible_on_the_machine() {
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    assert!(!links.contains("redis") && !links.contains("private"), "{links}");
    let routes = Command::new("ip").args(["route", "get", "10.0.0.123"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&routes.stdout).contains("eth1"));
}

fn packages_install_without_a_network(lab: &Lab) {
    let greets = |address| {
        let words = ["ssh-keyscan", "-T", "1", "-t", "ed25519", address];
        !run(lab, "outside", &words).stdout.is_empty()
    };
    assert!(greets("192.0.2.123"), "the internet's end reaches public addresses");
    assert!(!greets("10.0.0.123"), "but no private one");
    assert!(!reaches(lab, "redis-01", "1.1.1.1"), "nothing routes out");
    output(lab, "redis-02", &["apt-get", "-q", "update"]);
    output(lab, "redis-02", &["apt-get", "-qy", "--no-install-recommends", "install", "jq"]);
    assert!(output(lab, "redis-02", &["jq", "--version"]).starts_with("jq"));
}

fn files_come_in(lab: &Lab) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("inner")).unwrap();
    fs::write(directory.path().join("inner/file"), "content").unwrap();
    lab.copy_in("install-01", directory.path(), "/opt/site".as_ref()).unwrap();
    assert_eq!(output(lab, "install-01", &["cat", "/opt/site/inner/file"]), "content");
}

fn the_balancer_passes_connections(lab: &Lab) {
    let words = ["ssh-keyscan", "-T", "2", "-p", "2222", "-t", "ed25519", "10.0.0.10"];
    let key = lab.host_public_key("redis-01").unwrap();
    wait("a connection through the balancer", 10, || {
        String::from_utf8_lossy(&run(lab, "install-01", &words).stdout).contains(&key)
    });
}

fn a_reboot_is_supervised(lab: &Lab) {
    let boot = output(lab, "redis-02", &["cat", "/proc/sys/kernel/random/boot_id"]);
    let machine = output(lab, "redis-02", &["cat", "/etc/machine-id"]);
    output(lab, "redis-02", &["touch", "/root/kept"]);
    output(lab, "redis-02", &["ip", "addr", "add", "10.9.9.9/32", "dev", "lo"]);
    let fault = Fault::RebootHost { host: "redis-02".into() };
    let id = lab.fault(&fault, Duration::from_secs(60)).unwrap();
    lab.heal(&id).unwrap();
    assert_ne!(output(lab, "redis-02", &["cat", "/proc/sys/kernel/random/boot_id"]), boot);
    assert_eq!(output(lab, "redis-02", &["cat", "/etc/machine-id"]), machine);
    output(lab, "redis-02", &["test", "-e", "/root/kept"]);
    let addresses = output(lab, "redis-02", &["ip", "-4", "addr"]);
    assert!(!addresses.contains("10.9.9.9"), "a reboot forgets what was only in the kernel");
    assert!(reaches(lab, "install-01", "10.0.0.124"));
}

/// The author is a second process: this test's own program, told to inject and then killed.
fn a_cut_heals_although_its_author_was_killed(lab: &Lab) {
    assert!(reaches(lab, "redis-01", "10.0.0.124"));
    let mut author = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inject_a_cut_and_wait_to_be_killed", "--ignored", "--nocapture"])
        .spawn()
        .unwrap();
    wait("the cut", 20, || !lab.status().unwrap().faults.is_empty());
    wait("the cut's effect", 5, || !reaches(lab, "redis-01", "10.0.0.124"));
    author.kill().unwrap();
    author.wait().unwrap();
    assert!(!reaches(lab, "redis-01", "10.0.0.124"), "the cut outlives its author");
    assert!(reaches(lab, "redis-01", "10.0.0.250"), "and cuts nothing else");
    let ssh = lab.ssh_argv("redis-01", &["true".into()]).unwrap();
    assert!(Command::new(&ssh[0]).args(&ssh[1..]).status().unwrap().success());
    wait("the healing", 15, || reaches(lab, "redis-01", "10.0.0.124"));
    wait("the end of the fault", 5, || lab.status().unwrap().faults.is_empty());
}

#[test]
#[ignore = "run by the test above, as a process of its own"]
fn inject_a_cut_and_wait_to_be_killed() {
    let cut = Fault::CutNetwork {
        between: vec!["redis-01".into()],
        and: vec!["redis-02".into()],
        direction: Direction::Both,
        keep_ssh_from: Some("install-01".into()),
    };
    Lab::open(LAB).unwrap().fault(&cut, Duration::from_secs(6)).unwrap();
    loop {
        std::thread::park();
    }
}

fn a_full_disk_heals(lab: &Lab) {
    let full =
        Fault::FillDisk { host: "redis-01".into(), path: "/var/lib".into(), leave_bytes: 1 << 20 };
    let id = lab.fault(&full, Duration::from_secs(120)).unwrap();
    let write = ["dd", "if=/dev/zero", "of=/root/big", "bs=1M", "count=16", "status=none"];
    let refused = run(lab, "redis-01", &write);
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(reason.contains("No space left on device"), "{refused:?}");
    output(lab, "redis-01", &["rm", "/root/big"]);
    lab.heal(&id).unwrap();
    output(lab, "redis-01", &write);
    assert!(matches!(lab.heal(&id), Err(LabError::NoSuchFault(_))));
}

fn a_delay_delays(lab: &Lab) {
    let fault = Fault::DelayNetwork { host: "redis-02".into(), milliseconds: 40 };
    let id = lab.fault(&fault, Duration::from_secs(60)).unwrap();
    wait("the first delayed answer", 10, || reaches(lab, "redis-01", "10.0.0.124"));
    let times = output(lab, "redis-01", &["ping", "-qc", "5", "-i", "0.2", "10.0.0.124"]);
    let mean: f64 = times.rsplit(" = ").next().unwrap().split('/').nth(1).unwrap().parse().unwrap();
    assert!((80.0..100.0).contains(&mean), "{times}");
    // Large segments and checksums survive the detour.
    let ssh = lab.ssh_argv("redis-02", &["sha256sum".into()]).unwrap();
    let copied = Command::new("sh")
        .args(["-c", r#"head -c 3000000 /dev/zero | "$@""#, "sh"])
        .args(&ssh)
        .output()
        .unwrap();
    let expected =
        Command::new("sh").args(["-c", "head -c 3000000 /dev/zero | sha256sum"]).output().unwrap();
    assert_eq!(copied.stdout, expected.stdout, "{copied:?}");
    wait("the forwarder's figures", 5, || lab.status().unwrap().faults[0].note.contains("frames"));
    println!("{}", lab.status().unwrap().faults[0]);
    lab.heal(&id).unwrap();
    wait("the direct way", 10, || reaches(lab, "redis-01", "10.0.0.124"));
    let times = output(lab, "redis-01", &["ping", "-qc", "3", "-i", "0.2", "10.0.0.124"]);
    let mean: f64 = times.rsplit(" = ").next().unwrap().split('/').nth(1).unwrap().parse().unwrap();
    assert!(mean < 5.0, "{times}");
}

fn a_hung_host_thaws(lab: &Lab) {
    let fault = Fault::FreezeHost { host: "redis-02".into() };
    lab.fault(&fault, Duration::from_secs(3)).unwrap();
    let scan = ["ssh-keyscan", "-T", "1", "10.0.0.124"];
    assert!(run(lab, "install-01", &scan).stdout.is_empty(), "a hung sshd does not greet");
    wait("the thaw", 10, || !run(lab, "install-01", &scan).stdout.is_empty());
}

fn a_killed_process_is_the_right_one(lab: &Lab) {
    let pid = |host| output(lab, host, &["systemctl", "show", "-p", "MainPID", "--value", "ssh"]);
    let (before, other) = (pid("redis-02"), pid("redis-01"));
    let fault = Fault::KillProcess {
        host: "redis-02".into(),
        target: KillTarget::Unit("ssh".into()),
        signal: Signal::Kill,
    };
    lab.fault(&fault, Duration::from_millis(1)).unwrap();
    wait("the restart of sshd", 10, || !["0", &before].contains(&pid("redis-02").as_str()));
    assert_eq!(pid("redis-01"), other);
    let nobody = Fault::KillProcess {
        host: "redis-02".into(),
        target: KillTarget::Pattern("no-such-process".into()),
        signal: Signal::Kill,
    };
    let refusal = lab.fault(&nobody, Duration::from_secs(5)).unwrap_err().to_string();
    assert!(refusal.contains("no process of redis-02"), "{refusal}");
}

fn a_host_without_power_comes_back(lab: &Lab) {
    let fault = Fault::StopHost { host: "redis-02".into() };
    let id = lab.fault(&fault, Duration::from_secs(300)).unwrap();
    assert_eq!(state(lab, "redis-02"), HostState::Stopped);
    assert!(!reaches(lab, "install-01", "10.0.0.124"));
    lab.heal(&id).unwrap();
    assert_eq!(state(lab, "redis-02"), HostState::Running);
    output(lab, "redis-02", &["test", "-e", "/root/kept"]);
}

fn a_killed_supervisor_is_replaced(lab: &Lab) {
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&format!("{} host {LAB} redis-02", strata::lab::SUPERVISOR_VERB)) {
            let pid = process.file_name().into_string().unwrap().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    wait("the supervisor's end", 5, || state(lab, "redis-02") == HostState::Stopped);
    let report = lab.up(&spec(), &options(), &|_| {}).unwrap();
    let restarted: Vec<_> = report.hosts.iter().filter(|host| host.seconds.is_some()).collect();
    assert_eq!(restarted.len(), 1, "{report:?}");
    assert!(reaches(lab, "install-01", "10.0.0.124"));
}

fn nothing_is_left() {
    let listed = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!listed("ip", &["netns"]).contains(LAB));
    assert!(!listed("losetup", &["-a"]).contains(LAB));
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(LAB));
    assert!(!std::path::Path::new("/var/lib/strata-lab").join(LAB).exists());
    let groups = listed("find", &["/sys/fs/cgroup", "-type", "d", "-name", LAB]);
    assert_eq!(groups, "");
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let is_ours = line.contains("lab-supervise") && line.contains(LAB);
        assert!(!is_ours && !line.contains(&format!("{LAB}-redis")), "{line}");
    }
}

/// Figures for fleets of 10 and 28 hosts; run it with `--run-ignored only` and `--no-capture`.
#[test]
#[ignore = "a measurement"]
fn measure_fleets() {
    let lab = Lab::open("test-measure").unwrap();
    lab.down().unwrap();
    let _guard = DownAtTheEnd(lab.clone());
    for count in [10_u8, 28] {
        let mut spec = spec();
        spec.balancers.clear();
        spec.hosts.retain(|host| host.name == "install-01");
        spec.hosts.extend((1..count).map(|n| LabHost {
            name: format!("host-{n:02}"),
            fqdn: format!("host-{n:02}.example.test"),
            private: Ipv4Addr::new(10, 0, 0, n),
            public: Some(Ipv4Addr::new(192, 0, 2, n)),
            release: Release::Bookworm,
        }));
        spec.packages = PACKAGES.map(str::to_owned).to_vec();
        let up = || lab.up(&spec, &options(), &|_| {}).unwrap();
        let report = up();
        println!("{count} hosts: up {:.2} s, phases {:.2?}", report.seconds, report.phases);
        println!("second up {:.2} s", up().seconds);
        let status = lab.status().unwrap();
        let sum = |of: fn(&strata::lab::HostStatus) -> u64| {
            (status.hosts.iter().map(of).sum::<u64>() >> 20) / u64::from(count)
        };
        println!(
            "memory per host: {} MiB, with page cache {} MiB",
            sum(|host| host.memory_bytes),
            sum(|host| host.memory_with_cache_bytes)
        );
        let started = Instant::now();
        lab.down().unwrap();
        println!("down {:.2} s", started.elapsed().as_secs_f64());
    }
}

/// What the base layer installs.
const PACKAGES: [&str; 13] = [
    "chrony",
    "fail2ban",
    "nftables",
    "auditd",
    "unattended-upgrades",
    "docker.io",
    "jq",
    "curl",
    "socat",
    "gnupg",
    "python3-systemd",
    "logrotate",
    "cron",
];
