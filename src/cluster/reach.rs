//! What every driver asks of its members' hosts.

use super::hosts::{DialError, Hosts};
use super::marker::{Marker, Records, marker_path};
use super::member::Members;
use crate::http_client::{HttpError, Request, Response};
use crate::plan::{ClusterFacts, MemberPlan};
use crate::resource::{Batch, File, Item, Mode, Once, Outcome, Resource};
use crate::wire::ExecSpec;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Milliseconds that a program may take that only looks, or changes little.
const PROGRAM_MS: u32 = 20_000;

/// Milliseconds that one part of a member may take.
const ITEM_MS: u32 = 300_000;

/// How long a connection and each answer may take.
const ANSWER: Duration = Duration::from_secs(3);

/// The members of a cluster, the hosts that they live on, and what is remembered of them.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// The members.
    pub members: &'a Members<'a>,
    /// Their hosts.
    pub hosts: &'a dyn Hosts,
    /// The records on the operator host.
    pub records: &'a Records,
}

/// What of a member lies on its host's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDisk {
    /// The marker beside the data; an error when it is there and cannot be read.
    pub marker: Result<Option<Marker>, String>,
    /// True when the data directory holds anything.
    pub data: bool,
    /// The other paths that were asked for and are there.
    pub paths: BTreeSet<String>,
}

/// Why a server on a member's host gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody listens.
    Down,
    /// Anything else.
    Unready(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("nobody listens"),
            Self::Unready(why) => f.write_str(why),
        }
    }
}

impl From<DialError> for NoAnswer {
    fn from(error: DialError) -> Self {
        if error.refused { Self::Down } else { Self::Unready(error.reason) }
    }
}

impl From<HttpError> for NoAnswer {
    fn from(error: HttpError) -> Self {
        Self::Unready(error.to_string())
    }
}

impl Reach<'_> {
    /// One member, for what is known of the live cluster.
    ///
    /// # Errors
    /// See [`Members::plan`].
    pub fn plan(&self, member: &str, live: ClusterFacts) -> Result<MemberPlan, String> {
        self.members.plan(member, live)
    }

    /// One member where it does not matter who leads: its directories, its settings.
    ///
    /// # Errors
    /// See [`Members::plan`].
    pub fn plan_of_any(&self, member: &str) -> Result<MemberPlan, String> {
        self.plan(member, ClusterFacts { leader: Ipv4Addr::UNSPECIFIED, forming: false })
    }

    /// A member's private address.
    ///
    /// # Errors
    /// When it is no member.
    pub fn address(&self, member: &str) -> Result<Ipv4Addr, String> {
        let hosts = self.members.hosts();
        let host = hosts.iter().find(|host| host.name == member);
        host.map(|host| host.address).ok_or_else(|| format!("{member} is no member"))
    }

    /// Brings parts of a member about, in their order.
    ///
    /// # Errors
    /// Which part failed, and why.
    pub async fn apply(&self, member: &str, items: Vec<Item>) -> Result<(), String> {
        let wanted = items.len();
        let applied = self.hosts.apply(member, self.batch(Mode::Apply, items)).await?;
        for one in &applied {
            if let Outcome::Failed(failure) = &one.outcome {
                let output = failure.output.as_deref().map(|text| format!("\n{text}"));
                return Err(format!(
                    "{}: {}{}",
                    one.name,
                    failure.message,
                    output.unwrap_or_default()
                ));
            }
        }
        if applied.len() < wanted {
            return Err("the run was stopped before the member was complete".to_owned());
        }
        Ok(())
    }

    /// The parts of a member that are not as wanted, each with what differs.
    ///
    /// # Errors
    /// When one cannot be looked at: that is no difference.
    pub async fn differing<'i>(
        &self,
        member: &str,
        items: &'i [Item],
    ) -> Result<Vec<(&'i Item, String)>, String> {
        let applied = self.hosts.apply(member, self.batch(Mode::Check, items.to_vec())).await?;
        let mut differing = Vec::new();
        for (item, one) in items.iter().zip(applied) {
            match one.outcome {
                Outcome::Unchanged => {}
                Outcome::Changed(changes) => {
                    let what: Vec<&str> =
                        changes.iter().map(|change| change.what.as_str()).collect();
                    differing.push((item, format!("{} ({})", item.name, what.join(", "))));
                }
                Outcome::Failed(failure) => {
                    return Err(format!("{}: {}", item.name, failure.message));
                }
            }
        }
        Ok(differing)
    }

    /// Puts the marker beside a member's data.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn mark(&self, member: &str, marker: &Marker) -> Result<(), String> {
        let path = marker_path(&self.plan_of_any(member)?.data);
        let item = Item {
            name: "marker".to_owned(),
            resource: Resource::File(File::new(path, marker.text())),
            notify: Vec::new(),
            secret: false,
            timeout_ms: ITEM_MS,
        };
        self.apply(member, vec![item]).await
    }

    /// What of a member lies on its host's disk: marker, data, and which of these `paths`.
    ///
    /// # Errors
    /// When that cannot be said for certain; it is no proof of absence then.
    pub async fn on_disk(&self, member: &str, paths: &[&str]) -> Result<OnDisk, String> {
        let data = self.plan_of_any(member)?.data;
        let marker_file = marker_path(&data);
        let mut argv = vec!["find", "-H", &data, &marker_file];
        argv.extend(paths);
        argv.extend(["-maxdepth", "1"]);
        // Paths that are not there are told on standard error and by the exit code.
        let listing = self.hosts.run(member, program(&argv)).await?;
        // Whatever else it has to say, for example of a disk that fails, is no proof of absence.
        let absent = |line: &str| line.ends_with("No such file or directory");
        let told = !listing.stderr.is_empty() && listing.stderr.lines().all(absent);
        if !listing.success && !told {
            return Err(format!("{data} cannot be listed: {}", listing.stderr.trim()));
        }
        let found: BTreeSet<&str> = listing.stdout.lines().collect();
        let below = format!("{}/", data.trim_end_matches('/'));
        let marker = if found.contains(marker_file.as_str()) {
            let text = self.hosts.run(member, program(&["cat", &marker_file])).await?;
            if text.success { Marker::read(&text.stdout).map(Some) } else { Err(text.stderr) }
        } else {
            Ok(None)
        };
        let is_data = |path: &&&str| {
            // A file system of its own begins with this directory and nothing in it.
            path.strip_prefix(&below).is_some_and(|name| name != "lost+found")
        };
        Ok(OnDisk {
            marker,
            data: found.iter().any(|path| is_data(&path)),
            paths: paths
                .iter()
                .filter(|path| found.contains(**path))
                .map(|path| (*path).to_owned())
                .collect(),
        })
    }

    /// A program's standard output.
    ///
    /// # Errors
    /// When it did not succeed, with what it said.
    pub async fn checked(&self, member: &str, argv: &[&str]) -> Result<String, String> {
        self.checked_as(member, program(argv)).await
    }

    /// As [`Reach::checked`], for a program with limits or an input of its own.
    ///
    /// # Errors
    /// When it did not succeed, with what it said.
    pub async fn checked_as(&self, member: &str, spec: ExecSpec) -> Result<String, String> {
        let name = spec.argv.first().cloned().unwrap_or_default();
        let ran = self.hosts.run(member, spec).await?;
        if ran.success {
            return Ok(ran.stdout);
        }
        Err(format!("{name} failed: {}", ran.stderr.trim()))
    }

    /// Asks a server on a member's own host over HTTP; any status is an answer.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn http(
        &self,
        member: &str,
        to: SocketAddr,
        request: Request,
    ) -> Result<Response, NoAnswer> {
        let stream = self.hosts.dial(member, to, ANSWER).await?;
        Ok(request.send(stream, ANSWER).await?)
    }

    fn batch(&self, mode: Mode, items: Vec<Item>) -> Batch {
        Batch {
            role: self.members.name().to_owned(),
            mode,
            items: items.into_iter().map(Arc::new).collect(),
            handlers: Vec::new(),
            once: Once::default(),
        }
    }
}

/// The name of the container that a resource is.
pub fn container_of(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::Container(container) => Some(&container.name),
        _ => None,
    }
}

/// A program that only looks, or changes little.
pub fn program(argv: &[&str]) -> ExecSpec {
    ExecSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        stdin: Vec::new(),
        env: Vec::new(),
        user: None,
        timeout_ms: PROGRAM_MS,
    }
}
