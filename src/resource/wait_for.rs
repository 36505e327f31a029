//! A condition to wait for.

use super::converge::{Converge, Progress};
use super::outcome::{Change, Failure};
use super::system::{Program, System};
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Waits, from this host, until a port answers, an HTTP address gives a good status, a program
/// exits with 0, or a path exists. Exactly one of `port`, `http`, `command` and `path` is given.
///
/// ```toml
/// wait_for = { http = "http://10.0.0.120:8008/health", deadline = 60 }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    /// A TCP port that accepts connections.
    #[serde(default)]
    pub port: Option<u16>,
    /// Address for `port`. Default: `"127.0.0.1"`.
    #[serde(default = "localhost")]
    pub address: IpAddr,
    /// An address `http://IP[:PORT]/path` (no names: the agent resolves none).
    #[serde(default)]
    pub http: Option<String>,
    /// The status that `http` must give. Default: any from 200 to 399.
    #[serde(default)]
    pub status: Option<u16>,
    /// A program that must exit with 0.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// An absolute path that must exist.
    #[serde(default)]
    pub path: Option<String>,
    /// Seconds to wait at most. Default: 60.
    #[serde(default = "default_deadline")]
    pub deadline: u32,
    /// Milliseconds between two looks. Default: 500.
    #[serde(default = "default_interval")]
    pub interval: u32,
}

fn localhost() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

fn default_deadline() -> u32 {
    60
}

fn default_interval() -> u32 {
    500
}

/// How long one look may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The address and the request target of `http://IP[:PORT]/path`.
fn http_target(url: &str) -> Option<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.parse::<SocketAddr>().ok().or_else(|| {
        let ip = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Some(SocketAddr::new(ip.parse().ok()?, 80))
    })?;
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then(|| (address, format!("/{path}")))
}

impl WaitFor {
    /// Looks once; the error is the reason why the condition does not hold.
    fn look(&self, system: &mut dyn System, left: Duration) -> Result<(), String> {
        let limit = left.clamp(Duration::from_millis(100), ATTEMPT);
        if let Some(port) = self.port {
            let to = SocketAddr::new(self.address, port);
            return system.connect(to, limit).map_err(|reason| format!("{to}: {reason}"));
        }
        if let Some((to, target)) = self.http.as_deref().and_then(http_target) {
            let status = system
                .http_status(to, &target, limit)
                .map_err(|reason| format!("{to}: {reason}"))?;
            let good = match self.status {
                Some(wanted) => status == wanted,
                None => (200..400).contains(&status),
            };
            return if good { Ok(()) } else { Err(format!("{to}{target} answers {status}")) };
        }
        if let Some(argv) = &self.command {
            let name = argv.first().map_or("", String::as_str);
            let program = Program::new(argv.iter().cloned()).timeout(limit);
            let output = system.run(&program).map_err(|failure| failure.message)?;
            if output.success() {
                return Ok(());
            }
            let text = output.text();
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
            return Err(format!("`{name}`: {} {last}", output.ending()).trim_end().to_owned());
        }
        let path = self.path.as_deref().unwrap_or("/");
        match system.metadata(path) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(format!("{path} does not exist")),
            Err(failure) => Err(failure.message),
        }
    }
}

impl Converge for WaitFor {
    /// Why the condition does not hold; `None` when it does.
    type Found = Option<String>;

    fn validate(&self) -> Vec<Problem> {
        let given =
            [self.port.is_some(), self.http.is_some(), self.command.is_some(), self.path.is_some()];
        let mut rules = Rules::new()
            .that(given.iter().filter(|given| **given).count() == 1, || {
                Problem::new(
                    "port",
                    "exactly one of `port`, `http`, `command` and `path` is needed",
                )
            })
            .that(self.port != Some(0), || Problem::new("port", "must be above 0"))
            .that(self.http.as_deref().is_none_or(|url| http_target(url).is_some()), || {
                Problem::new("http", "must be of the form http://IP[:PORT]/path")
                    .hint("an address instead of a name, and no https")
            })
            .that(self.status.is_none() || self.http.is_some(), || {
                Problem::new("status", "belongs to `http`")
            })
            .that((1..=3600).contains(&self.deadline), || {
                Problem::new("deadline", "must be from 1 to 3600 seconds")
            })
            .that((50..=60_000).contains(&self.interval), || {
                Problem::new("interval", "must be from 50 to 60000 milliseconds")
            });
        for argv in self.command.iter() {
            rules = rules.argv("command", argv);
        }
        for path in self.path.iter() {
            rules = rules.path("path", path);
        }
        rules.done()
    }

    fn find(&self, system: &mut dyn System) -> Result<Option<String>, Failure> {
        Ok(self.look(system, ATTEMPT).err())
    }

    fn compare(&self, found: &Option<String>) -> Vec<Change> {
        found
            .iter()
            .map(|reason| Change::new("condition", Some(reason.clone()), Some("holds".into())))
            .collect()
    }

    fn apply(
        &self,
        found: &Option<String>,
        system: &mut dyn System,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let limit = Duration::from_secs(self.deadline.into());
        let deadline = Instant::now() + limit;
        let mut reason = found.clone().unwrap_or_default();
        progress(reason.clone());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(format!("waited {} s: {reason}", self.deadline))
                    .hint("see why it is not ready, or raise `deadline`"));
            }
            system.pause(left.min(Duration::from_millis(self.interval.into())));
            match self.look(system, left) {
                Ok(()) => return Ok(()),
                Err(now) if now != reason => {
                    progress(now.clone());
                    reason = now;
                }
                Err(_) => {}
            }
        }
    }

    fn remaining(&self, _: &mut dyn System) -> Result<Vec<Change>, Failure> {
        // It held a moment ago; a second look could only be unlucky.
        Ok(Vec::new())
    }

    fn changes(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::converge::converge;
    use crate::resource::outcome::{Mode, Outcome};
    use crate::resource::test_host::{Host, resource};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn targets() {
        let target = |url: &str| http_target(url).map(|(to, path)| format!("{to} {path}"));
        assert_eq!(target("http://10.0.0.1:8008/health").as_deref(), Some("10.0.0.1:8008 /health"));
        assert_eq!(target("http://10.0.0.1").as_deref(), Some("10.0.0.1:80 /"));
        assert_eq!(target("http://[::1]/x").as_deref(), Some("[::1]:80 /x"));
        for bad in ["https://10.0.0.1/", "http://name/", "http://10.0.0.1/a b", "10.0.0.1"] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_reason_is_kept() {
        // A port that was free a moment ago: nobody listens on it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let host = Host::new();
        let wait = resource(&format!("[wait_for]\nport={port}\ndeadline=1\ninterval=50\n"));
        let mut lines = Vec::new();
        let outcome =
            converge(&wait, false, Mode::Apply, &mut host.system(), &mut |line| lines.push(line));
        let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
        assert!(failure.message.starts_with("waited 1 s: 127.0.0.1:"), "{failure:?}");
        assert!(failure.message.contains("connection refused"), "{failure:?}");
        assert_eq!(lines.len(), 1, "the reason is told once: {lines:?}");
    }

    #[test]
    fn http_becomes_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for status in ["503 Busy", "200 OK"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).unwrap();
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        let host = Host::new();
        let wait = resource(&format!("[wait_for]\nhttp='http://{to}/health'\ninterval=50\n"));
        let mut lines = Vec::new();
        let outcome =
            converge(&wait, false, Mode::Apply, &mut host.system(), &mut |line| lines.push(line));
        assert_eq!(outcome, Outcome::Unchanged);
        assert_eq!(lines, [format!("{to}/health answers 503")]);
        server.join().unwrap();
    }
}
