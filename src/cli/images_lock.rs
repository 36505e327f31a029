//! `strata images lock`: pins of images become digests.

use super::images::{first_of, keeps_from_locking, with_events};
use super::output::{out, tell};
use super::work::connection;
use super::{Exit, Settings, check};
use crate::diag::{Code, Diagnostic, Diagnostics, Source};
use crate::fleet::Fleet;
use crate::image::{self, Engine};
use crate::plan::image_pins;
use crate::run::archives_of;
use crate::site::{ImageLock, Profile, Site, images_lock, suggest};
use clap::Args;
use indexmap::IndexMap;
use std::io::Write;
use std::path::Path;

/// Arguments of `strata images lock`.
#[derive(Debug, Args)]
pub struct LockArguments {
    /// Only this pin (repeatable) [default: all that roles use]
    #[arg(long, value_name = "PIN")]
    pub pin: Vec<String>,
    /// Take digests that differ from those in the file
    #[arg(long)]
    pub update: bool,
    /// Pull the image of a pin under another name (repeatable)
    #[arg(long, value_name = "PIN=IMAGE", value_parser = alias)]
    pub alias: Vec<(String, String)>,
    /// Whose container engine asks the registries [default: the first host that uses the images]
    #[arg(long, value_name = "HOST")]
    pub via: Option<String>,
}

fn alias(text: &str) -> Result<(String, String), String> {
    let (pin, image) = text.split_once('=').ok_or("write PIN=IMAGE")?;
    match image::tag(image) {
        "" | "latest" => Err("name the image with a tag, and not `latest`".to_owned()),
        _ => Ok((pin.to_owned(), image.to_owned())),
    }
}

/// What was found out about an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Resolved {
    /// The archive's id.
    id: Option<String>,
    /// What a registry said; `None` where none was asked.
    registry: Option<Result<String, String>>,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Same,
    New(ImageLock),
    /// What the file says, and what is there now: written with `--update` only.
    Moved(String, ImageLock),
    Failed(String),
}

/// Decides for one pin. Pure.
fn decide(
    image: &str,
    alias: Option<&str>,
    old: Option<&ImageLock>,
    resolved: &Resolved,
) -> Decision {
    // An entry of another image says nothing of this one.
    let old = old.filter(|old| old.image == image);
    let from = alias.map(str::to_owned).or_else(|| old.and_then(|old| old.from.clone()));
    let digest = match &resolved.registry {
        Some(Ok(digest)) => Some(digest.clone()),
        Some(Err(reason)) if resolved.id.is_none() => return Decision::Failed(reason.clone()),
        _ => old.and_then(|old| old.digest.clone()),
    };
    let id = resolved.id.clone().or_else(|| match old {
        // The id of a manifest that has moved on is another one.
        Some(old) if old.digest == digest => old.id.clone(),
        _ => None,
    });
    let span = Source::new(images_lock::FILE, "").span(0..0);
    let new = ImageLock { image: image.to_owned(), from, digest, id, span };
    let Some(old) = old else { return Decision::New(new) };
    let moved = |old: &Option<String>, new: &Option<String>| match (old, new) {
        (Some(old), Some(new)) if old != new => Some(format!("{old} → {new}")),
        _ => None,
    };
    let changes =
        [moved(&old.digest, &new.digest), moved(&old.id, &new.id), moved(&old.from, &new.from)];
    let changes: Vec<String> = changes.into_iter().flatten().collect();
    let same = (&old.from, &old.digest, &old.id) == (&new.from, &new.digest, &new.id);
    match (same, changes.is_empty()) {
        (true, _) => Decision::Same,
        (false, true) => Decision::New(new),
        (false, false) => Decision::Moved(changes.join(", "), new),
    }
}

/// Runs the command.
pub fn run(arguments: &LockArguments, settings: &Settings) -> Exit {
    let mut problems = Diagnostics::new();
    let site = check::load(settings, &mut problems);
    let pins = site.as_ref().map(|site| pins(site, arguments, &mut problems));
    let (Some(site), Some(pins), false) = (&site, pins, keeps_from_locking(&problems)) else {
        check::show(&problems, settings);
        tell!("error: nothing was written");
        return Exit::InvalidInput;
    };
    if site.profile == Profile::Rehearsal {
        tell!("error: a rehearsal's images are made anew by every machine; they are not locked");
        return Exit::Refused;
    }
    if let Err(problems) = check::secrets(settings, site) {
        check::show(&problems, settings);
        return Exit::InvalidInput;
    }
    with_events(settings, false, async |events| {
        let fleet = Fleet::default();
        let resolved = resolve(site, &pins, arguments, settings, &fleet, events).await;
        fleet.close().await;
        match resolved {
            Ok(resolved) => write(site, &pins, &resolved, arguments, settings),
            Err(exit) => exit,
        }
    })
}

/// The pins to resolve, with their images.
fn pins(
    site: &Site,
    arguments: &LockArguments,
    problems: &mut Diagnostics,
) -> Vec<(String, String)> {
    let named = arguments.pin.iter().chain(arguments.alias.iter().map(|(pin, _)| pin));
    for pin in named.filter(|pin| !site.versions.contains_key(*pin)) {
        problems.push(
            Diagnostic::error(Code::SELECTION, format!("no pin is named `{pin}`"))
                .hint(suggest::among(pin, site.versions.keys().map(String::as_str))),
        );
    }
    if arguments.pin.is_empty() && arguments.alias.is_empty() {
        let hosts: Vec<String> = site.hosts.keys().cloned().collect();
        return image_pins(site, &[], &hosts);
    }
    let named = |pin: &String| {
        arguments.pin.contains(pin) || arguments.alias.iter().any(|(other, _)| other == pin)
    };
    let pins = site.versions.iter().filter(|(pin, _)| named(pin));
    pins.map(|(pin, version)| (pin.clone(), version.value.clone())).collect()
}

/// Looks at the archives, and asks registries for what has none.
async fn resolve(
    site: &Site,
    pins: &[(String, String)],
    arguments: &LockArguments,
    settings: &Settings,
    fleet: &Fleet,
    events: &crate::fleet::Events,
) -> Result<IndexMap<String, Resolved>, Exit> {
    let mut all: IndexMap<String, Resolved> = IndexMap::new();
    for (pin, image) in pins {
        let id = match image::find(&archives_of(site), image) {
            Ok(found) => found.map(|bundle| bundle.id),
            Err(error) => {
                tell!("error: {error}\nhint: {}", error.hint());
                return Err(Exit::InvalidInput);
            }
        };
        all.insert(pin.clone(), Resolved { id, registry: None });
    }
    let alias_of = |pin: &str| arguments.alias.iter().find(|(other, _)| other == pin);
    let ask: Vec<&(String, String)> = pins
        .iter()
        .filter(|(pin, _)| {
            all.get(pin).is_some_and(|resolved| resolved.id.is_none()) || alias_of(pin).is_some()
        })
        .collect();
    if ask.is_empty() {
        return Ok(all);
    }
    let users = site.hosts.keys().filter(|host| {
        !site.out.contains_key(*host)
            && !image_pins(site, &[], std::slice::from_ref(*host)).is_empty()
    });
    let hosts: Vec<String> = match &arguments.via {
        Some(host) => vec![host.clone()],
        None => users.cloned().collect(),
    };
    let connection = connection(site, settings, None);
    let Some(session) = first_of(site, &hosts, &connection, fleet, events).await else {
        tell!("error: no host could be asked to look into the registries");
        return Err(Exit::Unreachable);
    };
    let engine = Engine::new(&session);
    for (pin, image) in ask {
        let old = site.image_locks.as_ref().and_then(|locks| locks.get(pin));
        let old = old.filter(|old| old.image == *image).and_then(|old| old.from.as_deref());
        let name = alias_of(pin).map(|(_, alias)| alias.as_str()).or(old).unwrap_or(image);
        let said = match engine.in_registry(name).await {
            Ok(said) => said.map_err(|words| image::explain(name, &words)),
            Err(error) => Err(error.to_string()),
        };
        if let Some(resolved) = all.get_mut(pin) {
            resolved.registry = Some(said);
        }
    }
    Ok(all)
}

/// Decides, tells, and writes the file when something in it changes.
fn write(
    site: &Site,
    pins: &[(String, String)],
    resolved: &IndexMap<String, Resolved>,
    arguments: &LockArguments,
    settings: &Settings,
) -> Exit {
    let mut locks = site.image_locks.clone().unwrap_or_default();
    let before = locks.clone();
    // What no pin stands for any more says nothing.
    locks.retain(|pin, _| site.versions.contains_key(pin));
    let mut exit = Exit::Done;
    for (pin, image) in pins {
        let alias = arguments.alias.iter().find(|(other, _)| other == pin);
        let alias = alias.map(|(_, alias)| alias.as_str());
        let found = resolved.get(pin).cloned().unwrap_or_default();
        let (word, text) = match decide(image, alias, before.get(pin), &found) {
            Decision::Same => ("same", String::new()),
            Decision::New(lock) => {
                let text = lock.digest.clone().or_else(|| lock.id.clone()).unwrap_or_default();
                locks.insert(pin.clone(), lock);
                ("locked", text)
            }
            Decision::Moved(text, lock) if arguments.update => {
                locks.insert(pin.clone(), lock);
                ("updated", text)
            }
            Decision::Moved(text, _) => {
                exit = exit.worse(Exit::Differences);
                ("moved", format!("{text}; `--update` takes the new one"))
            }
            Decision::Failed(reason) => {
                exit = exit.worse(Exit::StepFailed);
                ("failed", reason)
            }
        };
        if settings.json {
            out!(
                "{}",
                serde_json::json!({ "pin": pin, "image": image, "result": word, "detail": text })
            );
        } else {
            out!("{word:<8} {pin}  {image}  {text}");
        }
    }
    if locks == before {
        return exit;
    }
    let order = site.versions.keys().filter_map(|pin| Some((pin.as_str(), locks.get(pin)?)));
    let path = site.root.join(images_lock::FILE);
    match put(&path, &images_lock::text(order)) {
        Ok(()) => exit,
        Err(error) => {
            tell!("error: {} cannot be written: {error}", path.display());
            Exit::Internal
        }
    }
}

/// Writes the file whole or not at all.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension(format!("yaml.{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::create_new(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        // The draft is of no use; why it failed is told.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(from: Option<&str>, digest: Option<&str>, id: Option<&str>) -> ImageLock {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let span = Source::new(images_lock::FILE, "").span(0..0);
        ImageLock {
            image: "a:1".to_owned(),
            from: text(from),
            digest: text(digest),
            id: text(id),
            span,
        }
    }

    fn resolved(id: Option<&str>, registry: Option<Result<&str, &str>>) -> Resolved {
        Resolved {
            id: id.map(str::to_owned),
            registry: registry.map(|said| said.map(str::to_owned).map_err(str::to_owned)),
        }
    }

    #[test]
    fn a_digest_never_changes_silently() {
        let new = Decision::New;
        let moved = |text: &str, lock| Decision::Moved(text.to_owned(), lock);
        for (alias, old, found, wanted) in [
            (None, None, resolved(Some("i"), None), new(lock(None, None, Some("i")))),
            (None, None, resolved(None, Some(Ok("d"))), new(lock(None, Some("d"), None))),
            (None, None, resolved(None, Some(Err("gone"))), Decision::Failed("gone".to_owned())),
            (
                Some("q:2"),
                None,
                resolved(None, Some(Ok("d"))),
                new(lock(Some("q:2"), Some("d"), None)),
            ),
            (None, Some(lock(None, None, Some("i"))), resolved(Some("i"), None), Decision::Same),
            // Something that was not known is added.
            (
                None,
                Some(lock(None, Some("d"), None)),
                resolved(Some("i"), None),
                new(lock(None, Some("d"), Some("i"))),
            ),
            (
                None,
                Some(lock(None, Some("d"), None)),
                resolved(None, Some(Ok("e"))),
                moved("d → e", lock(None, Some("e"), None)),
            ),
            (
                None,
                Some(lock(None, Some("d"), Some("i"))),
                resolved(None, Some(Ok("e"))),
                moved("d → e", lock(None, Some("e"), None)),
            ),
            (
                None,
                Some(lock(None, Some("d"), Some("i"))),
                resolved(Some("j"), None),
                moved("i → j", lock(None, Some("d"), Some("j"))),
            ),
            (
                Some("q:3"),
                Some(lock(Some("q:2"), Some("d"), None)),
                resolved(None, Some(Ok("d"))),
                moved("q:2 → q:3", lock(Some("q:3"), Some("d"), None)),
            ),
        ] {
            assert_eq!(decide("a:1", alias, old.as_ref(), &found), wanted, "{old:?} {found:?}");
        }
        // The pin has changed: its old entry is of another image.
        let old = lock(Some("q:2"), Some("d"), Some("i"));
        let wanted = ImageLock { image: "a:2".to_owned(), ..lock(None, Some("e"), None) };
        assert_eq!(decide("a:2", None, Some(&old), &resolved(None, Some(Ok("e")))), new(wanted));
    }
}
