//! A real OpenSSH server on a loopback port, in a mount namespace of its own: there root's login
//! shell, home and the directories for the agent are this test's.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use strata::ssh::{ConnectOptions, Target, Transport, append_known_host, scan_host_keys};

pub struct Sshd {
    pub directory: tempfile::TempDir,
    pub address: SocketAddr,
    pub child: Child,
}

#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub shell: &'a str,
    pub config: &'a str,
    /// Text of root's `.bashrc`.
    pub bashrc: &'a str,
    /// Before the server's own words, for example `setarch i686`.
    pub wrapper: &'a str,
    /// Mounts the first agent directory with `noexec`.
    pub noexec: bool,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { shell: "/bin/bash", config: "", bashrc: "", wrapper: "", noexec: false }
    }
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} (needed by this test): {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Sshd {
    pub fn start(setup: Setup<'_>) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        for program in [
            "/usr/sbin/sshd",
            "/usr/bin/ssh-keygen",
            "/usr/bin/ssh-agent",
            "/usr/bin/fish",
            "/usr/bin/tcsh",
        ] {
            assert!(
                Path::new(program).exists(),
                "{program} is missing: apt-get install openssh-server fish tcsh"
            );
        }
        std::fs::create_dir_all("/run/sshd").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        for name in ["home", "home/.ssh", "one", "two"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &text("host_ed25519")]);
        run("ssh-keygen", &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", &text("host_rsa")]);
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &text("home/.ssh/id_ed25519")]);
        std::fs::copy(at("home/.ssh/id_ed25519.pub"), at("authorized_keys")).unwrap();
        std::fs::write(at("home/.bashrc"), setup.bashrc).unwrap();
        std::fs::write(at("passwd"), format!("root:x:0:0:root:{}:{}\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n", text("home"), setup.shell)).unwrap();
        std::fs::write(at("shadow"), "root:*:19000:0:99999:7:::\nsshd:*:19000::::::\n").unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\nLogLevel VERBOSE\n{}\n",
            address.port(),
            text("host_ed25519"),
            text("host_rsa"),
            text("authorized_keys"),
            setup.config,
        );
        std::fs::write(at("sshd_config"), config).unwrap();
        let noexec = if setup.noexec {
            format!("mount -t tmpfs -o noexec tmpfs {};", text("one"))
        } else {
            String::new()
        };
        let script = format!(
            "mount --bind {} /etc/passwd; mount --bind {} /etc/shadow; {noexec} exec {} /usr/sbin/sshd -D -e -f {}",
            text("passwd"),
            text("shadow"),
            setup.wrapper,
            text("sshd_config"),
        );
        let log = std::fs::File::create(at("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let sshd = Self { directory, address, child };
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let mut greeting = [0; 4];
            if TcpStream::connect(address)
                .is_ok_and(|mut stream| stream.read_exact(&mut greeting).is_ok())
            {
                return sshd;
            }
            assert!(
                Instant::now() < until,
                "sshd did not start: {}",
                std::fs::read_to_string(sshd.path("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn target(&self) -> Target {
        Target {
            name: "redis-01".into(),
            address: self.address,
            user: "root".into(),
            transport: Transport::Ssh,
        }
    }

    pub fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(&self.path("home"), self.path("known_hosts"));
        options.connect_timeout = Duration::from_secs(10);
        options.start_timeout = Duration::from_secs(20);
        options.agent_directories = ["one/strata", "two/strata"]
            .map(|name| self.path(name).to_str().unwrap().to_owned())
            .to_vec();
        options
    }

    /// Pins the host's keys, as `strata hosts trust` does.
    pub async fn trust(&self) {
        for key in scan_host_keys(&self.target(), &self.options()).await.unwrap() {
            append_known_host(&self.path("known_hosts"), &key.line).unwrap();
        }
    }

    /// The agent's file, wherever it was put.
    pub fn agent_file(&self, directory: &str) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path(directory).join("strata/agents")).ok()?;
        entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains("strata-agent-"))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
