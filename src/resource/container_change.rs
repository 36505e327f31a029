//! Looks at a container and changes it: made, started, stopped, replaced, put back.

use super::container::{Container, ContainerFound, ContainerState};
use super::container_spec::{creation, is_ours, short, volume};
use super::converge::Progress;
use super::engine::{EngineRequest, ask, log_text, look_up};
use super::image::missing;
use super::outcome::Failure;
use super::system::{PathKind, System};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a container is called while another takes its place.
pub(super) const ASIDE: &str = ".strata-old";

/// How long a container must run before it counts as running: one that ends at once, with a policy
/// that starts it again, looks like one that runs.
const SETTLED: Duration = Duration::from_secs(1);

/// How long the engine may take to make, start or remove a container, a stop aside.
const SLOW: Duration = Duration::from_secs(180);

/// Time between two looks at a container that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Lines of its log that a failure shows.
const LOG_LINES: usize = 20;

/// A container as the engine describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Look {
    id: String,
    /// `running`, `exited`, `restarting`, …
    pub(super) state: String,
    exit_code: i64,
    restarts: u64,
    /// The image's id.
    image: String,
    pub(super) restart: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) env: Vec<String>,
}

impl Look {
    /// The container of this name; `None` where there is none.
    pub(super) fn at(system: &mut dyn System, name: &str) -> Result<Option<Self>, Failure> {
        let what = format!("cannot look at the container {name}");
        let found = look_up(system, format!("/containers/{name}/json"), &what)?;
        found
            .map(|found| {
                Self::parse(&found).ok_or_else(|| {
                    Failure::new(format!("{what}: the engine describes it in an unknown way"))
                })
            })
            .transpose()
    }

    fn parse(found: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let config = found.get("Config")?;
        let state = found.get("State")?;
        let labels = config.get("Labels").and_then(Value::as_object);
        Some(Self {
            id: found.get("Id")?.as_str()?.to_owned(),
            state: state.get("Status")?.as_str()?.to_owned(),
            exit_code: state["ExitCode"].as_i64().unwrap_or_default(),
            restarts: found["RestartCount"].as_u64().unwrap_or_default(),
            image: text(&found["Image"]),
            restart: text(&found["HostConfig"]["RestartPolicy"]["Name"]),
            labels: labels
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
            env: config["Env"].as_array().into_iter().flatten().map(text).collect(),
        })
    }

    /// True when its process runs and is not about to be started again.
    pub(super) fn runs(&self) -> bool {
        self.state == "running"
    }

    /// True when a process of it exists, or will again without anybody's wish.
    pub(super) fn lives(&self) -> bool {
        matches!(self.state.as_str(), "running" | "restarting" | "paused")
    }

    /// Its image, for people.
    pub(super) fn short_image(&self) -> Option<String> {
        Some(short(&self.image))
    }
}

/// Orders to the engine about one container.
struct Engine<'a> {
    system: &'a mut dyn System,
    wanted: &'a Container,
}

impl Engine<'_> {
    fn name(&self) -> &str {
        &self.wanted.name
    }

    fn post(&mut self, path: String, what: &str) -> Result<(), Failure> {
        ask(self.system, &EngineRequest::post(path).deadline(SLOW), what).map(drop)
    }

    /// Asks it to end, and kills it after its time.
    fn stop(&mut self, id: &str) -> Result<(), Failure> {
        let seconds = self.wanted.stop_timeout;
        let request = EngineRequest::post(format!("/containers/{id}/stop?t={seconds}"))
            .deadline(SLOW + Duration::from_secs(seconds.into()));
        let what = format!("cannot stop the container {}", self.name());
        ask(self.system, &request, &what).map(drop)
    }

    /// Removes it. The volumes that the engine made for it stay: they may hold data.
    fn remove(&mut self, id: &str) -> Result<(), Failure> {
        let request = EngineRequest::delete(format!("/containers/{id}?force=true")).deadline(SLOW);
        let what = format!("cannot remove the container {}", self.name());
        ask(self.system, &request, &what).map(drop)
    }

    /// Removes one that was just made, with everything that the engine made for it.
    fn discard(&mut self, id: &str) -> Result<(), Failure> {
        let path = format!("/containers/{id}?force=true&v=true");
        let what = format!("cannot remove the new container {}", self.name());
        ask(self.system, &EngineRequest::delete(path).deadline(SLOW), &what).map(drop)
    }

    fn rename(&mut self, id: &str, to: &str) -> Result<(), Failure> {
        let what = format!("cannot rename the container {} to {to}", self.name());
        self.post(format!("/containers/{id}/rename?name={to}"), &what)
    }

    fn set_restart(&mut self, id: &str, policy: &str) -> Result<(), Failure> {
        let request = EngineRequest::post(format!("/containers/{id}/update"))
            .json(&json!({ "RestartPolicy": { "Name": policy } }));
        let what = format!("cannot set the restart policy of the container {}", self.name());
        ask(self.system, &request, &what).map(drop)
    }

    /// Makes it; its id.
    fn create(&mut self, image: &str) -> Result<String, Failure> {
        let request = EngineRequest::post(format!("/containers/create?name={}", self.name()))
            .json(&creation(self.wanted, image))
            .deadline(SLOW);
        let what = format!("cannot make the container {}", self.name());
        let answer = ask(self.system, &request, &what)?.json()?;
        answer["Id"].as_str().map(str::to_owned).ok_or_else(|| {
            Failure::new(format!("{what}: the engine does not say which one it made"))
        })
    }

    fn start(&mut self, id: &str) -> Result<(), Failure> {
        let what = format!("cannot start the container {}", self.name());
        self.post(format!("/containers/{id}/start"), &what)
    }

    /// Starts it and waits until it has run for a while.
    fn start_and_settle(&mut self, id: &str, progress: &mut Progress<'_>) -> Result<(), Failure> {
        // The engine counts anew when somebody starts it, so the count may fall, and never rises.
        let mut least = Look::at(self.system, id)?.map_or(0, |look| look.restarts);
        self.start(id)?;
        progress(format!("waiting until {} runs", self.name()));
        let deadline = Instant::now() + SETTLED;
        loop {
            let look = Look::at(self.system, id)?;
            least = look.as_ref().map_or(least, |look| look.restarts.min(least));
            let ended = match &look {
                Some(look) if look.runs() && look.restarts == least => None,
                Some(look) => Some(format!(
                    "the container {} does not keep running: it is {}, exit code {}",
                    self.name(),
                    look.state,
                    look.exit_code
                )),
                None => Some(format!("the container {} is gone", self.name())),
            };
            if let Some(message) = ended {
                let failure = Failure::new(message)
                    .hint("the last lines of its log say why, if anything does");
                let log = self.log(id);
                return Err(if log.is_empty() { failure } else { failure.output(log) });
            }
            if Instant::now() >= deadline {
                return Ok(());
            }
            self.system.pause(LOOK_AGAIN);
        }
    }

    /// The end of its log; empty where it has none or it cannot be had.
    fn log(&mut self, id: &str) -> String {
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail={LOG_LINES}");
        match self.system.engine(&EngineRequest::get(path)) {
            Ok(response) if response.success() => log_text(&response.body),
            _ => String::new(),
        }
    }
}

/// Removes the container, after a graceful stop.
pub(super) fn absent(
    wanted: &Container,
    found: &ContainerFound,
    system: &mut dyn System,
) -> Result<(), Failure> {
    let mut engine = Engine { system, wanted };
    if let Some(current) = &found.current {
        not_foreign(wanted, current, "removed")?;
        if current.lives() {
            engine.stop(&current.id)?;
        }
        engine.remove(&current.id)?;
    }
    match &found.aside {
        Some(aside) => engine.remove(&aside.id),
        None => Ok(()),
    }
}

/// Makes the container what is wanted.
pub(super) fn bring(
    wanted: &Container,
    found: &ContainerFound,
    system: &mut dyn System,
    progress: &mut Progress<'_>,
) -> Result<(), Failure> {
    if let Some(current) = &found.current {
        not_foreign(wanted, current, "replaced")?;
    }
    // Everything that can be known beforehand is: after this the old container is stopped.
    directories_exist(wanted, system)?;
    let Some(image) = &found.image else {
        // Without an engine, asking it says best what is missing.
        if !found.engine {
            ask(system, &EngineRequest::get("/_ping"), "the container engine does not answer")?;
        }
        return Err(missing(wanted.image_name()));
    };
    let mut engine = Engine { system, wanted };
    let current = after_interruption(&mut engine, found, image)?;
    match current {
        None => {
            let id = engine.create(image)?;
            let begun = begin(&mut engine, &id, progress);
            if let Err(failure) = begun {
                return Err(match engine.discard(&id) {
                    Ok(()) => failure,
                    Err(also) => Failure {
                        message: format!("{}; {}", failure.message, also.message),
                        ..failure
                    },
                });
            }
            Ok(())
        }
        Some(current) if !wanted.differing(&current, Some(image)).is_empty() => {
            replace(&mut engine, &current, image, progress)
        }
        Some(current) => {
            if current.restart != wanted.restart.name() {
                engine.set_restart(&current.id, wanted.restart.name())?;
            }
            match wanted.state {
                ContainerState::Started if current.state == "paused" => {
                    let what = format!("cannot go on with the container {}", wanted.name);
                    engine.post(format!("/containers/{}/unpause", current.id), &what)
                }
                ContainerState::Started if !current.runs() => {
                    engine.start_and_settle(&current.id, progress)
                }
                ContainerState::Stopped if current.lives() => engine.stop(&current.id),
                _ => Ok(()),
            }
        }
    }
}

/// Starts a new container where one is to run.
fn begin(engine: &mut Engine<'_>, id: &str, progress: &mut Progress<'_>) -> Result<(), Failure> {
    match engine.wanted.state {
        ContainerState::Started => engine.start_and_settle(id, progress),
        _ => Ok(()),
    }
}

/// Puts a new container in the place of one that differs. The old one is put back when the new one
/// does not run.
fn replace(
    engine: &mut Engine<'_>,
    old: &Look,
    image: &str,
    progress: &mut Progress<'_>,
) -> Result<(), Failure> {
    let (name, aside) = (engine.wanted.name.clone(), format!("{}{ASIDE}", engine.wanted.name));
    if old.lives() {
        progress(format!("stopping {name}"));
        engine.stop(&old.id)?;
    }
    // Two of them must never run at once, not even when the engine starts again just now.
    let begun = engine
        .set_restart(&old.id, "no")
        .and_then(|()| engine.rename(&old.id, &aside))
        .and_then(|()| {
            let id = engine.create(image)?;
            begin(engine, &id, progress)
        });
    let Err(failure) = begun else { return engine.remove(&old.id) };
    let back = put_back(engine, old, &name);
    let (message, hint) = match back {
        Ok(true) => {
            (format!("{}; the old container is back and runs", failure.message), failure.hint)
        }
        Ok(false) => {
            (format!("{}; the old container is back, as it was", failure.message), failure.hint)
        }
        Err(also) => (
            format!(
                "{}; and the old container could not be put back: {}",
                failure.message, also.message
            ),
            Some(format!("it is kept as {aside}; the next run puts it back")),
        ),
    };
    Err(Failure { message, hint, output: failure.output })
}

/// Gives the old container its name and state back; true when it runs again.
fn put_back(engine: &mut Engine<'_>, old: &Look, name: &str) -> Result<bool, Failure> {
    if let Some(new) = Look::at(engine.system, name)?
        && new.id != old.id
    {
        engine.discard(&new.id)?;
    }
    if Look::at(engine.system, name)?.is_none() {
        engine.rename(&old.id, name)?;
    }
    engine.set_restart(&old.id, &old.restart)?;
    // One that an interrupted run had stopped is to run all the same.
    let run = old.lives() || engine.wanted.state == ContainerState::Started;
    if run {
        engine.start(&old.id)?;
    }
    Ok(run)
}

/// Ends a replacement that was interrupted: it is complete when the new container runs as wanted,
/// else the old one gets its name back. Returns the container that now has the name.
fn after_interruption(
    engine: &mut Engine<'_>,
    found: &ContainerFound,
    image: &str,
) -> Result<Option<Look>, Failure> {
    let Some(aside) = &found.aside else { return Ok(found.current.clone()) };
    if !engine.wanted.adopt && !is_ours(&aside.labels) {
        return Err(Failure::new(format!(
            "a container {}{ASIDE} is there that strata did not make",
            engine.wanted.name
        ))
        .hint("rename it or remove it by hand"));
    }
    let wanted = engine.wanted;
    if let Some(current) = &found.current {
        let complete = wanted.differing(current, Some(image)).is_empty()
            && (current.runs() || wanted.state == ContainerState::Stopped);
        if complete {
            engine.remove(&aside.id)?;
            return Ok(found.current.clone());
        }
        if current.lives() {
            engine.stop(&current.id)?;
        }
        engine.discard(&current.id)?;
    }
    engine.rename(&aside.id, &wanted.name)?;
    engine.set_restart(&aside.id, wanted.restart.name())?;
    Look::at(engine.system, &wanted.name)
}

/// Refuses what others made.
fn not_foreign(wanted: &Container, current: &Look, done: &str) -> Result<(), Failure> {
    if wanted.adopt || is_ours(&current.labels) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "a container {} is there that strata did not make: it is not {done}",
        wanted.name
    ))
    .hint("see what it is (`docker inspect`), then remove it by hand, or set `adopt = true` in the step"))
}

/// Every directory that is to be mounted must be one.
fn directories_exist(wanted: &Container, system: &mut dyn System) -> Result<(), Failure> {
    for volume in wanted.volumes.iter().filter_map(|text| volume(text)) {
        let host = volume.host;
        match system.metadata(host)?.map(|found| found.kind) {
            Some(PathKind::Directory) => {}
            None => {
                return Err(Failure::new(format!("the directory {host} to be mounted does not exist"))
                    .hint("add a `directory` step before this one, with the owner that the program inside needs"));
            }
            Some(PathKind::File) => {
                return Err(Failure::new(format!("{host} is a single file and cannot be mounted"))
                    .hint("mount its directory: a file that is replaced gets a new inode, and the container would keep the old one"));
            }
            Some(kind) => {
                return Err(Failure::new(format!(
                    "{host} is a {} and cannot be mounted",
                    kind.name()
                ))
                .hint("mount a directory, by its own path"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_description_is_read() {
        let found = json!({
            "Id": "abc", "Image": "sha256:0123456789abcdef", "RestartCount": 2,
            "State": { "Status": "restarting", "ExitCode": 3 },
            "Config": { "Labels": { "a": "b" }, "Env": ["A=1", "B=x=y"] },
            "HostConfig": { "RestartPolicy": { "Name": "always", "MaximumRetryCount": 0 } },
        });
        let look = Look::parse(&found).unwrap();
        assert!(!look.runs() && look.lives());
        assert_eq!((look.exit_code, look.restarts, look.restart.as_str()), (3, 2, "always"));
        assert_eq!(look.env, ["A=1", "B=x=y"]);
        assert_eq!(look.short_image().as_deref(), Some("0123456789ab"));
        assert_eq!(Look::parse(&json!({ "Id": "abc" })), None);
        let bare = json!({
            "Id": "abc", "State": { "Status": "created" }, "Config": { "Labels": null, "Env": null },
        });
        assert!(Look::parse(&bare).is_some_and(|look| !look.runs() && !look.lives()));
    }
}
