//! Load balancers: Debian's HAProxy in a namespace of its own on the private network.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cgroup::signal;
use super::command::{check, program};
use super::enter::net_option;
use super::error::{At as _, LabError, Result};
use super::network;
use super::paths::Paths;
use super::repository::ensure_unpacked;
use super::rootfs::RootFilesystem;
use super::spec::{HealthCheck, LabBalancer};
use super::state::{self, Lock};
use super::storage::mounts_below;

/// All that is needed to run one balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BalancerPlan {
    pub(super) balancer: LabBalancer,
    pub(super) prefix: u8,
    /// Layers of its root filesystem, the uppermost first.
    pub(super) layers: Vec<PathBuf>,
}

/// The layers from which balancers run; made if needed.
pub(super) fn layers(base: &RootFilesystem) -> Result<Vec<PathBuf>> {
    let unpacked = ensure_unpacked(base, &["haproxy".to_owned()])?;
    Ok(vec![unpacked, base.directory.clone()])
}

/// The file whose lock a balancer's keeper holds.
pub(super) fn lock_file(paths: &Paths, name: &str) -> PathBuf {
    paths.balancer(name).join("keeper.lock")
}

/// The HAProxy configuration of a balancer.
#[must_use]
pub fn render_configuration(balancer: &LabBalancer) -> String {
    let mut text = String::from(
        "global\n    maxconn 4096\n    log stdout format raw local0 notice\n\n\
         defaults\n    mode tcp\n    log global\n    timeout connect 5s\n    \
         timeout client 1h\n    timeout server 1h\n    timeout check 2s\n    \
         option redispatch\n",
    );
    for listener in &balancer.listeners {
        let port = listener.port;
        let _infallible = write!(
            text,
            "\nlisten port-{port}\n    bind {}:{port}\n    balance roundrobin\n",
            balancer.address
        );
        let check = match &listener.check {
            HealthCheck::Tcp => "check inter 1s fall 2 rise 1".to_owned(),
            HealthCheck::Http { port, path } => {
                let _infallible = writeln!(
                    text,
                    "    option httpchk\n    http-check send meth GET uri {}",
                    quote(path)
                );
                format!("check port {port} inter 1s fall 2 rise 1")
            }
        };
        for (address, target) in &listener.targets {
            let label = address.to_string().replace('.', "-");
            let _infallible =
                writeln!(text, "    server {label}-{target} {address}:{target} {check}");
        }
    }
    text
}

/// Quotes a word for HAProxy's configuration: nothing is special between single quotes.
fn quote(word: &str) -> String {
    let plain: String = word.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", plain.replace('\'', r"'\''"))
}

/// Runs a balancer and starts it again when it ends, until this process is killed.
pub(super) fn keep(lab: &str, name: &str) -> Result<()> {
    let paths = Paths::new(lab);
    let directory = paths.balancer(name);
    let Some(_lock) = Lock::try_take(&lock_file(&paths, name))? else {
        return Ok(());
    };
    let plan: BalancerPlan = state::read(&directory.join("plan.json"))?
        .ok_or_else(|| LabError::NoSuchHost { lab: lab.to_owned(), host: name.to_owned() })?;
    end_earlier(&directory)?;
    network::make_balancer(&paths, name, plan.balancer.address, plan.prefix)?;
    let root = mount(&directory, &plan)?;
    let configuration = root.join("etc/haproxy.cfg");
    fs::write(&configuration, render_configuration(&plan.balancer))
        .at("cannot write", configuration)?;
    loop {
        let started = Instant::now();
        let log = File::options().create(true).append(true).open(directory.join("haproxy.log"));
        let log = log.at("cannot open", directory.join("haproxy.log"))?;
        let errors = log.try_clone().at("cannot open", "haproxy.log")?;
        let mut command = program("nsenter", [net_option(&paths.namespace_file(name))]);
        command.arg("chroot").arg(&root);
        command.args(["/usr/sbin/haproxy", "-db", "-f", "/etc/haproxy.cfg"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .at("cannot start", "haproxy")?;
        let pid = directory.join("pid");
        fs::write(&pid, child.id().to_string()).at("cannot write", pid)?;
        let status = child.wait().at("cannot wait for", "haproxy")?;
        if started.elapsed() < Duration::from_secs(1) {
            return Err(LabError::Tool {
                what: format!("the balancer {name} does not stay up"),
                program: "haproxy".to_owned(),
                status: status.to_string(),
                stderr: format!("see {}", directory.join("haproxy.log").display()),
            });
        }
    }
}

/// Ends the process that a killed keeper left.
fn end_earlier(directory: &std::path::Path) -> Result<()> {
    let Ok(text) = fs::read_to_string(directory.join("pid")) else {
        return Ok(());
    };
    let Ok(pid) = text.trim().parse::<u32>() else {
        return Ok(());
    };
    let is_ours = fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.starts_with(b"/usr/sbin/haproxy"));
    if is_ours {
        signal(pid, rustix::process::Signal::KILL);
    }
    Ok(())
}

fn mount(directory: &std::path::Path, plan: &BalancerPlan) -> Result<PathBuf> {
    let (root, upper, work) =
        (directory.join("root"), directory.join("upper"), directory.join("work"));
    for path in [&root, &upper, &work] {
        fs::create_dir_all(path).at("cannot create", path)?;
    }
    if !mounts_below(directory)?.contains(&root) {
        let layers: Vec<String> =
            plan.layers.iter().map(|path| path.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            layers.join(":"),
            upper.display(),
            work.display()
        );
        let mut command = program("mount", ["-t", "overlay", "overlay", "-o"]);
        check("cannot mount the balancer's root", command.arg(options).arg(&root))?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::super::spec::Listener;
    use super::*;

    #[test]
    fn a_configuration_has_one_section_per_port() {
        let balancer = LabBalancer {
            name: "lb-haproxy".into(),
            address: [10, 0, 0, 10].into(),
            listeners: vec![
                Listener {
                    port: 5432,
                    targets: vec![([10, 0, 0, 11].into(), 5432), ([10, 0, 0, 12].into(), 5432)],
                    check: HealthCheck::Tcp,
                },
                Listener {
                    port: 80,
                    targets: vec![([10, 0, 0, 11].into(), 8080)],
                    check: HealthCheck::Http { port: 8404, path: "/it's # ok".into() },
                },
            ],
        };
        insta::assert_snapshot!(render_configuration(&balancer), @r"
        global
            maxconn 4096
            log stdout format raw local0 notice

        defaults
            mode tcp
            log global
            timeout connect 5s
            timeout client 1h
            timeout server 1h
            timeout check 2s
            option redispatch

        listen port-5432
            bind 10.0.0.10:5432
            balance roundrobin
            server 10-0-0-11-5432 10.0.0.11:5432 check inter 1s fall 2 rise 1
            server 10-0-0-12-5432 10.0.0.12:5432 check inter 1s fall 2 rise 1

        listen port-80
            bind 10.0.0.10:80
            balance roundrobin
            option httpchk
            http-check send meth GET uri '/it'\''s # ok'
            server 10-0-0-11-8080 10.0.0.11:8080 check port 8404 inter 1s fall 2 rise 1
        ");
    }
}
