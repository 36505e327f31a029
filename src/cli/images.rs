//! `strata images`: what pins were resolved to, where the images are, and bringing them to hosts.

use super::hosts_out::set_aside;
use super::install::SelectionArguments;
use super::output::{out, tell};
use super::work::connection;
use super::{Exit, Settings, check, images_lock};
use crate::diag::{Code, Diagnostics, Severity};
use crate::event::{Consumer, now_ms};
use crate::fleet::{Connection, Events, Fleet, Stop};
use crate::history::StateDir;
use crate::image::{HostImages, Preflight, Standing};
use crate::plan::{image_pins, select_hosts, select_layers};
use crate::report::{Json, Plain, plural};
use crate::run::{LackingFiles, Supply, exit_of, hosts_of};
use crate::site::Site;
use crate::wire::LockHolder;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Arguments of `strata images`.
#[derive(Debug, Args)]
pub struct ImagesArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ImagesCommand,
}

/// Subcommands of `strata images`.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Show what each pin is locked to, and which host and archive has it; changes nothing
    #[command(
        after_help = "Examples:\n  strata images status\n  strata images status --host redis --json\n\nExit codes: 0 every host has every locked image or can be given it, 7 one cannot, 5 a host could not be reached."
    )]
    Status(SelectionArguments),
    /// Resolve image pins to digests and write images.lock.yaml
    #[command(
        after_help = "Examples:\n  strata images lock\n  strata images lock --pin redis_image --update\n  strata images lock --alias minio_image=quay.io/minio/minio:RELEASE.2024-10-02T17-50-41Z\n\nA digest that stands in the file changes with --update only: exit code 8 says that one would."
    )]
    Lock(images_lock::LockArguments),
    /// Bring images to hosts ahead of a change; nothing else is touched there
    #[command(
        after_help = "Examples:\n  strata images push\n  strata images push --layer redis --host redis-03\n\nA link that breaks is made anew, and a push that was cut goes on where it was."
    )]
    Push(SelectionArguments),
}

/// Runs the command.
pub fn run(arguments: &ImagesArguments, settings: &Settings) -> Exit {
    match &arguments.command {
        ImagesCommand::Status(selection) => on_hosts(selection, false, settings),
        ImagesCommand::Push(selection) => on_hosts(selection, true, settings),
        ImagesCommand::Lock(arguments) => images_lock::run(arguments, settings),
    }
}

/// Selected hosts with the images that they use.
type Wanted = Vec<(String, Vec<String>)>;

fn on_hosts(selection: &SelectionArguments, push: bool, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let site = check::load(settings, &mut problems);
    let wanted = site.as_ref().map(|site| wanted(site, selection, &mut problems));
    let (Some(site), Some(wanted), false) = (&site, wanted, problems.has_errors()) else {
        check::show(&problems, settings);
        tell!("error: no host was touched");
        return Exit::InvalidInput;
    };
    if wanted.is_empty() {
        tell!("the selected hosts use no images");
        return Exit::Done;
    }
    if let Err(problems) = check::secrets(settings, site) {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    }
    let holder = push.then(|| LockHolder {
        owner: settings.who.clone(),
        purpose: "images push".to_owned(),
        run: StateDir::new_run_id(),
        since_unix_ms: now_ms(),
    });
    let connection = connection(site, settings, holder);
    with_events(settings, push, async |events| {
        let fleet = Fleet::default();
        let stop = Stop::new();
        let watching = tokio::spawn(super::runtime::watch_interrupts(stop.clone()));
        let supply = Supply { site, fleet: &fleet, connection: &connection, events, stop: &stop };
        let exit = supplied(&supply, &wanted, push, settings).await;
        watching.abort();
        fleet.close().await;
        if stop.wished() { Exit::Interrupted } else { exit }
    })
}

/// Runs with events on standard error; those of a push are its output with `--json`.
pub(super) fn with_events(
    settings: &Settings,
    shown: bool,
    work: impl AsyncFnOnce(&Events) -> Exit,
) -> Exit {
    let consumer: Box<dyn Consumer> = if settings.json && shown {
        Box::new(Json::new(std::io::stdout()))
    } else {
        Box::new(Plain::new(std::io::stderr(), settings.palette, settings.verbose))
    };
    let (events, thread) = Events::start(consumer, Stop::new());
    let done = super::runtime::block_on(work(&events));
    drop(events);
    // The consumers' thread ends with the last sender; a panic there is reported by the hook.
    let _ = thread.join();
    done.unwrap_or_else(|error| {
        tell!("error: {error}");
        Exit::Internal
    })
}

/// The selected hosts that use images, with these.
fn wanted(site: &Site, selection: &SelectionArguments, problems: &mut Diagnostics) -> Wanted {
    let layers = select_layers(site, selection.layers(), problems);
    let mut hosts = select_hosts(site, &selection.hosts(), problems);
    set_aside(site, &mut hosts, problems);
    let mut wanted = Wanted::new();
    for host in hosts {
        let host = std::slice::from_ref(&host);
        let here = layers.iter().filter(|layer| !hosts_of(site, layer, host).is_empty());
        let names: Vec<String> = here.map(|layer| layer.name.clone()).collect();
        if names.is_empty() {
            continue;
        }
        let images: Vec<String> =
            image_pins(site, &names, host).into_iter().map(|(_, image)| image).collect();
        if !images.is_empty() {
            wanted.push((host[0].clone(), images));
        }
    }
    wanted
}

/// Connects, looks, and brings what is missing when that is meant.
async fn supplied(supply: &Supply<'_>, wanted: &Wanted, push: bool, settings: &Settings) -> Exit {
    let names: Vec<String> = wanted.iter().map(|(host, _)| host.clone()).collect();
    let Supply { site, fleet, connection, events, stop } = supply;
    fleet.connect(site, &names, connection, events, stop).await;
    let reached = reached(fleet, &names);
    let sessions = wanted.iter().filter_map(|(host, images)| {
        Some(HostImages { session: fleet.session(host)?, images: images.clone() })
    });
    let sessions: Vec<HostImages> = sessions.collect();
    let found = supply.look(&sessions).await;
    drop(sessions);
    if !push {
        let rows = rows(site, &found);
        for row in &rows {
            if settings.json {
                out!("{}", row.json());
            } else {
                out!("{}", row.text());
            }
        }
        let refused = supply.tell_problems(&found) > 0;
        return if refused { Exit::Refused.worse(reached) } else { reached };
    }
    if supply.tell_problems(&found) > 0 {
        tell!("error: nothing was sent to any host");
        return Exit::Refused.worse(reached);
    }
    let supplied = supply.bring(&found, &LackingFiles::new()).await;
    let bytes: u64 = supplied.iter().map(|one| one.bytes).sum();
    let done = supplied.iter().filter(|one| one.result.is_ok()).count();
    if !settings.json {
        tell!(
            "{} brought to {}, {bytes} bytes sent",
            plural(done, "image"),
            plural(found.hosts.len(), "host")
        );
    }
    exit_of(&supplied).worse(reached)
}

/// The worst of what hosts come to that cannot be used.
fn reached(fleet: &Fleet, hosts: &[String]) -> Exit {
    let problems = hosts.iter().filter_map(|host| fleet.problem(host));
    problems.map(Exit::from).fold(Exit::Done, Exit::worse)
}

/// A pin's image: what is locked, and where it is.
struct Row {
    pin: String,
    image: String,
    digest: Option<String>,
    id: Option<String>,
    from: Option<String>,
    archive: Option<(String, String)>,
    hosts: Vec<(String, &'static str, Option<String>)>,
}

fn rows(site: &Site, found: &Preflight) -> Vec<Row> {
    let hosts: Vec<String> = found.hosts.keys().cloned().collect();
    let rows = image_pins(site, &[], &hosts).into_iter().map(|(pin, image)| {
        let lock = site.image_lock(&image);
        let standings = found.hosts.iter().filter_map(|(host, images)| {
            let (word, id) = match images.get(&image)? {
                Standing::Present(id) => ("present", Some(id.clone())),
                Standing::Other { found, .. } => ("other", Some(found.clone())),
                Standing::ToLoad(_) => ("from-archive", None),
                Standing::ToPull(_) => ("from-registry", None),
                Standing::Missing(_) => ("missing", None),
            };
            Some((host.clone(), word, id))
        });
        Row {
            hosts: standings.collect(),
            digest: lock.and_then(|lock| lock.digest.clone()),
            id: lock.and_then(|lock| lock.id.clone()),
            from: lock.and_then(|lock| lock.from.clone()),
            archive: found
                .bundles
                .get(&image)
                .map(|bundle| (bundle.path.display().to_string(), bundle.id.clone())),
            pin,
            image,
        }
    });
    rows.filter(|row| !row.hosts.is_empty()).collect()
}

impl Row {
    fn text(&self) -> String {
        let locked = match (&self.digest, &self.id) {
            (None, None) => "not locked".to_owned(),
            (digest, id) => {
                let part = |name: &str, value: &Option<String>| {
                    value.as_ref().map(|value| format!("{name} {value}"))
                };
                let alias = self.from.as_ref().map(|from| format!("from {from}"));
                let parts = [alias, part("digest", digest), part("id", id)];
                parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
            }
        };
        let archive = match &self.archive {
            Some((path, id)) => format!("{path} ({id})"),
            None => "none".to_owned(),
        };
        let mut text =
            format!("{}  {}\n  locked    {locked}\n  archive   {archive}", self.pin, self.image);
        for word in ["present", "from-archive", "from-registry", "other", "missing"] {
            let hosts = self.hosts.iter().filter(|(_, other, _)| *other == word);
            let names: Vec<&str> = hosts.map(|(host, ..)| host.as_str()).collect();
            if !names.is_empty() {
                text.push_str(&format!("\n  {word:<14}{}", names.join(", ")));
            }
        }
        text
    }

    fn json(&self) -> Value {
        let hosts = self
            .hosts
            .iter()
            .map(|(host, word, id)| (host.clone(), json!({ "state": word, "id": id })));
        json!({
            "pin": self.pin,
            "image": self.image,
            "lock": { "from": self.from, "digest": self.digest, "id": self.id },
            "archive": self.archive.as_ref().map(|(path, id)| json!({ "path": path, "id": id })),
            "hosts": hosts.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Errors that keep a command from working: entries of the lock that pins have left behind do not,
/// where they are about to be resolved anew.
pub(super) fn keeps_from_locking(problems: &Diagnostics) -> bool {
    problems.iter().any(|one| one.severity == Severity::Error && one.code != Code::IMAGE_LOCK_STALE)
}

/// Connects hosts one after the other until one is there.
pub(super) async fn first_of(
    site: &Site,
    hosts: &[String],
    connection: &Connection,
    fleet: &Fleet,
    events: &Events,
) -> Option<std::sync::Arc<crate::ssh::AgentSession>> {
    for host in hosts {
        if let Some(session) = fleet.obtain(site, host, connection, events, &Stop::new()).await {
            return Some(session);
        }
    }
    None
}
