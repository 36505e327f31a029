//! A container of the host's engine.

use super::container_change::{ASIDE, Look, absent, bring};
use super::container_spec::{Differing, Fields, SPEC_LABELS};
use super::content::Content;
use super::converge::{Converge, Progress};
use super::engine::{image_id, is_installed, is_pinned};
use super::outcome::{Change, Failure};
use super::system::System;
use super::validity::{Problem, Rules};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container, made of an image that is on the host already. It is described whole: what differs
/// from the description is replaced by a new container, after a graceful stop; when the new one does
/// not run, the old one is put back and started again. A container as described is never touched.
/// Only `state` and `restart` change in place.
///
/// What the description was is kept in the container's labels `strata.spec` (a digest) and
/// `strata.fields`, values of `env` left out: those are compared with the container's own.
///
/// ```toml
/// container = { name = "cache", image = "redis:7.2.5", network = "host", volumes = ["/srv/cache/conf:/conf:ro", "/srv/cache/data:/data"], command = ["redis-server", "/conf/redis.conf"] }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Name, unique on the host.
    pub name: String,
    /// Image with its tag or digest, never `latest`. Not needed with `state = "absent"`. What counts
    /// is the id that the name has on the host.
    #[serde(default)]
    pub image: Option<String>,
    /// `"started"` (default): it runs. `"stopped"`: it is there and does not run. `"absent"`: it is not
    /// there.
    #[serde(default)]
    pub state: ContainerState,
    /// `"host"`, `"none"`, `"bridge"` or the name of a network that exists. Default: `"bridge"`.
    #[serde(default = "bridge")]
    pub network: String,
    /// Directories of the host: `"/host/dir:/inside"`, or `"/host/dir:/inside:ro"`. They must exist; a
    /// single file is refused, since a file that is replaced would stay the old one inside.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Environment; values may hold secrets. Whoever may speak to the engine can read them.
    #[serde(default)]
    pub env: BTreeMap<String, Content>,
    /// Arguments for the image's entrypoint. Default: the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// Program in place of the image's entrypoint. Default: the image's own.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// User inside, `name`, `uid` or `uid:gid`. Default: the image's own.
    #[serde(default)]
    pub user: Option<String>,
    /// Host name inside. Default: with `network = "host"` the host's, else the engine's choice.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Lines for `/etc/hosts` inside, `"name:ip"`.
    #[serde(default)]
    pub add_hosts: Vec<String>,
    /// Published ports: `"9000:9000"`, `"10.0.0.5:9000:9000"`, `"53:53/udp"`. Not with `network = "host"`.
    #[serde(default)]
    pub ports: Vec<String>,
    /// When the engine starts it again. Changed in place. Default: `"always"`.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Seconds from the wish to stop until it is killed. Default: 30.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout: u32,
    /// Size of `/dev/shm`, such as `"256m"`. Default: the engine's own.
    #[serde(default)]
    pub shm_size: Option<String>,
    /// Limits: `"nofile=65536"`, or `"nofile=1024:65536"` for soft and hard.
    #[serde(default)]
    pub ulimits: Vec<String>,
    /// File systems in memory: `"/tmp"`, or `"/tmp:size=64m,mode=1777"`.
    #[serde(default)]
    pub tmpfs: Vec<String>,
    /// Labels beside strata's own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Options of the engine's log driver, such as `max-size`. Default: the engine's own.
    #[serde(default)]
    pub log_options: BTreeMap<String, String>,
    /// Replace (or remove) a container of this name that strata did not make. Default: false, which
    /// fails.
    #[serde(default)]
    pub adopt: bool,
}

/// Whether a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// It runs.
    #[default]
    Started,
    /// It is there and does not run.
    Stopped,
    /// It is not there.
    Absent,
}

/// When the engine starts a container again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Whenever it ends, and with the engine.
    #[default]
    Always,
    /// Never.
    No,
    /// As `always`, unless it was stopped on purpose.
    UnlessStopped,
    /// When it ends with another code than 0.
    OnFailure,
}

impl RestartPolicy {
    /// The engine's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::No => "no",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure => "on-failure",
        }
    }
}

fn bridge() -> String {
    "bridge".to_owned()
}

fn default_stop_timeout() -> u32 {
    30
}

impl Container {
    /// The image's name; empty only where none is needed.
    pub(super) fn image_name(&self) -> &str {
        self.image.as_deref().unwrap_or_default()
    }
}

/// What was found of a container.
#[derive(Debug)]
pub struct ContainerFound {
    /// False where no engine is installed yet.
    pub(super) engine: bool,
    /// The container of the name.
    pub(super) current: Option<Look>,
    /// What an interrupted replacement left.
    pub(super) aside: Option<Look>,
    /// The id of the wanted image on this host.
    pub(super) image: Option<String>,
}

impl Converge for Container {
    type Found = ContainerFound;

    fn validate(&self) -> Vec<Problem> {
        let all = [&self.command, &self.entrypoint];
        let nul = all.iter().any(|argv| argv.iter().any(|part| part.contains('\0')));
        let rules = Rules::new()
            .name("name", &self.name, "_.-")
            .that(!self.name.ends_with(ASIDE), || {
                Problem::new("name", format!("must not end with `{ASIDE}`"))
                    .hint("strata gives such a name to a container that is being replaced")
            })
            .that(self.image.is_some() || self.state == ContainerState::Absent, || {
                Problem::new("image", "is needed")
            })
            .that(self.image.as_deref().is_none_or(is_pinned), || {
                Problem::new("image", format!("`{}` names no exact image", self.image_name()))
                    .hint("write repository:tag, with another tag than `latest`")
            })
            .name("network", &self.network, "_.-")
            .that(self.network != "host" || self.ports.is_empty(), || {
                Problem::new("ports", "a container in the host's network publishes no ports")
            })
            .that(!nul, || Problem::new("command", "an argument holds a NUL byte"))
            .that((1..=3600).contains(&self.stop_timeout), || {
                Problem::new("stop_timeout", "must be from 1 to 3600 seconds")
            })
            .that(!self.labels.keys().any(|key| SPEC_LABELS.contains(&key.as_str())), || {
                Problem::new("labels", "strata's own labels cannot be given")
            });
        rules.add(super::container_spec::problems(self)).done()
    }

    fn find(&self, system: &mut dyn System) -> Result<ContainerFound, Failure> {
        if !is_installed(system)? {
            let (current, aside, image) = (None, None, None);
            return Ok(ContainerFound { engine: false, current, aside, image });
        }
        let image = match &self.image {
            Some(name) if self.state != ContainerState::Absent => image_id(system, name)?,
            _ => None,
        };
        Ok(ContainerFound {
            engine: true,
            current: Look::at(system, &self.name)?,
            aside: Look::at(system, &format!("{}{ASIDE}", self.name))?,
            image,
        })
    }

    fn compare(&self, found: &ContainerFound) -> Vec<Change> {
        let mut changes = Vec::new();
        if found.aside.is_some() {
            changes.push(Change::new("interrupted replacement", Some("left".into()), None));
        }
        let Some(current) = &found.current else {
            if self.state != ContainerState::Absent {
                let to = Some(self.image_name().to_owned());
                changes.push(Change::new("container", None, to));
            }
            return changes;
        };
        if self.state == ContainerState::Absent {
            changes.push(Change::new("container", Some(current.state.clone()), None));
            return changes;
        }
        changes.extend(self.differing(current, found.image.as_deref()));
        if current.restart != self.restart.name() {
            let (from, to) = (current.restart.clone(), self.restart.name().to_owned());
            changes.push(Change::new("restart", Some(from), Some(to)));
        }
        match self.state {
            ContainerState::Started if !current.runs() => {
                let to = Some("running".to_owned());
                changes.push(Change::new("state", Some(current.state.clone()), to));
            }
            ContainerState::Stopped if current.lives() => {
                let to = Some("stopped".to_owned());
                changes.push(Change::new("state", Some(current.state.clone()), to));
            }
            _ => {}
        }
        changes
    }

    fn apply(
        &self,
        found: &ContainerFound,
        system: &mut dyn System,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        match self.state {
            ContainerState::Absent => absent(self, found, system),
            _ => bring(self, found, system, progress),
        }
    }

    fn shows_public_values(&self) -> bool {
        true
    }
}

impl Container {
    /// What differs between the description and the container, short of `state` and `restart`:
    /// what only another container can mend.
    pub(super) fn differing(&self, current: &Look, image: Option<&str>) -> Vec<Change> {
        let Some(image) = image else {
            let to = format!("{} (not on the host)", self.image_name());
            return vec![Change::new("image", current.short_image(), Some(to))];
        };
        let wanted = Fields::of(self, image);
        let mut changes = match wanted.differing(&current.labels) {
            Differing::Nothing => Vec::new(),
            Differing::Fields(changes) => changes,
            // Nobody knows how it was made.
            Differing::Foreign => {
                let from = Some("made by others".to_owned());
                vec![Change::new("container", from, Some(self.image_name().to_owned()))]
            }
        };
        for (name, value) in &self.env {
            let line = [name.as_bytes(), b"=", value.as_bytes()].concat();
            if !current.env.iter().any(|found| found.as_bytes() == line) {
                changes.push(Change::new(format!("env {name}"), None, None));
            }
        }
        changes
    }
}
