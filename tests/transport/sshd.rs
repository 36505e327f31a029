//! A real OpenSSH server on a loopback port, in a mount namespace of its own: there root's login
//! shell, home and the directories for the agent are this test's.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
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
    /// What `/etc/sudoers` says; the login is then `ops`, whose password is [`PASSWORD`].
    pub sudoers: Option<&'a str>,
    /// The server has a certificate of an authority, which also vouches for logins.
    pub certified: bool,
}

/// The password of `ops`.
pub const PASSWORD: &str = "correct horse 7";

/// The same as `/etc/shadow` has it.
const HASHED: &str = "$6$strata$YKNT2QSx87MvY05rwug4iAS6ldenFz6d4klCJyXNu8o7rlq1Fyqefbr7U7gmnzbElZggv/fDIdA2cuuuNBDH6.";

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            shell: "/bin/bash",
            config: "",
            bashrc: "",
            wrapper: "",
            noexec: false,
            sudoers: None,
            certified: false,
        }
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

/// One RSA key for all servers of a test program: making one takes long.
static RSA: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let file = text_of(&directory.path().join("host_rsa"));
    run("ssh-keygen", &["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", &file]);
    directory
});

impl Sshd {
    pub fn start(setup: Setup<'_>) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        for program in [
            "/usr/sbin/sshd",
            "/usr/bin/ssh-keygen",
            "/usr/bin/ssh-agent",
            "/usr/bin/fish",
            "/usr/bin/tcsh",
            "/usr/bin/sudo",
        ] {
            assert!(Path::new(program).exists(), "{program} is missing: sh tests/prepare");
        }
        std::fs::create_dir_all("/run/sshd").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        for name in ["home", "home/.ssh", "one", "two"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &text("host_ed25519")]);
        for name in ["host_rsa", "host_rsa.pub"] {
            std::fs::copy(RSA.path().join(name), at(name)).unwrap();
        }
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &text("home/.ssh/id_ed25519")]);
        std::fs::copy(at("home/.ssh/id_ed25519.pub"), at("authorized_keys")).unwrap();
        let mut certificates = String::new();
        if setup.certified {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &text("ca")]);
            let key = text("host_ed25519.pub");
            run("ssh-keygen", &["-q", "-s", &text("ca"), "-I", "h", "-h", "-n", "nobody", &key]);
            certificates = format!(
                "HostCertificate {}\nTrustedUserCAKeys {}\n",
                text("host_ed25519-cert.pub"),
                text("ca.pub")
            );
        }
        std::fs::write(at("home/.bashrc"), setup.bashrc).unwrap();
        std::fs::write(at("passwd"), format!("root:x:0:0:root:{}:{}\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\nops:x:1500:1500:ops:{}:{}\n", text("home"), setup.shell, text("home"), setup.shell)).unwrap();
        std::fs::write(
            at("shadow"),
            format!(
                "root:*:19000:0:99999:7:::\nsshd:*:19000::::::\nops:{HASHED}:19000:0:99999:7:::\n"
            ),
        )
        .unwrap();
        if let Some(sudoers) = setup.sudoers {
            // Nothing is remembered, so that nothing of this test stays on the machine.
            let text =
                format!("Defaults timestamp_timeout=0, lecture=always, !syslog\n{sudoers}\n");
            std::fs::write(at("sudoers"), text).unwrap();
            run("chmod", &["440", &text_of(&at("sudoers"))]);
            run("chmod", &["755", &text_of(directory.path())]);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        // sshd takes the last one of this setting, and the first one of all others.
        let startups = if setup.config.contains("MaxStartups") { "" } else { "MaxStartups 100\n" };
        let config = format!(
            "{certificates}{}\nPort {}\nListenAddress 127.0.0.1\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n{startups}LogLevel VERBOSE\n",
            setup.config,
            address.port(),
            text("host_ed25519"),
            text("host_rsa"),
            text("authorized_keys"),
        );
        std::fs::write(at("sshd_config"), config).unwrap();
        let noexec = if setup.noexec {
            format!("mount -t tmpfs -o noexec tmpfs {};", text("one"))
        } else {
            String::new()
        };
        let sudoers = match setup.sudoers {
            Some(_) => format!("mount --bind {} /etc/sudoers;", text("sudoers")),
            None => String::new(),
        };
        let script = format!(
            "mount --bind {} /etc/passwd; mount --bind {} /etc/shadow; {sudoers} {noexec} exec {} /usr/sbin/sshd -D -e -f {}",
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
            jump: Vec::new(),
            keys: None,
        }
    }

    /// The same host, as a login that is not root.
    pub fn target_of_ops(&self) -> Target {
        Target { user: "ops".into(), ..self.target() }
    }

    /// Has the server read its files again, and waits until it listens again.
    pub fn reload(&self) {
        run("kill", &["-HUP", &self.child.id().to_string()]);
        let until = Instant::now() + Duration::from_secs(10);
        while self.log().matches("Server listening").count() < 2 {
            assert!(Instant::now() < until, "sshd did not come back: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
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

fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
