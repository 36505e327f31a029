//! Which host needs which image, and where it comes from.

use super::bundle::{Bundle, BundleError, file_names, find};
use super::delivery::DeliveryError;
use super::engine::{Engine, EngineError, Found};
use super::registry::{explain, repository};
use crate::ssh::AgentSession;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The images that a host needs.
#[derive(Debug, Clone)]
pub struct HostImages {
    /// The host's session.
    pub session: Arc<AgentSession>,
    /// Names with tags.
    pub images: Vec<String>,
}

/// What the site's lock says of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locked {
    /// Another name under which a registry has it.
    pub from: Option<String>,
    /// Digest of its manifest.
    pub digest: Option<String>,
    /// Digest of its configuration.
    pub id: Option<String>,
}

/// The locked images, by name.
pub type Locks = BTreeMap<String, Locked>;

impl Locked {
    /// True when the lock stands for this image. Engines remember the manifests with which images
    /// came from registries; what came from an archive has its id only.
    pub fn is(&self, found: &Found) -> bool {
        let by_id = self.id.as_ref() == Some(&found.id);
        by_id || self.digest.as_ref().is_some_and(|digest| found.digests.contains(digest))
    }

    /// What is locked, in a word.
    fn wanted(&self) -> &str {
        self.id.as_deref().or(self.digest.as_deref()).unwrap_or("nothing")
    }
}

/// How an image comes from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// The name that it has to have.
    pub image: String,
    /// The repository that has it: its own or an alias's.
    pub repository: String,
    /// The locked digest of its manifest.
    pub digest: String,
    /// The locked id, where one is known.
    pub id: Option<String>,
}

/// How an image stands on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is there, with this id, and nothing says that it should be another.
    Present(String),
    /// Under its name another image is there than the locked one.
    Other {
        /// The id there.
        found: String,
        /// What is locked.
        wanted: String,
    },
    /// It is not there, and this archive has it.
    ToLoad(Arc<Bundle>),
    /// It is not there, and a registry has it.
    ToPull(Pull),
    /// It is not there, and cannot be brought: why.
    Missing(String),
}

/// What was found on all hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    /// By host and image.
    pub hosts: BTreeMap<String, BTreeMap<String, Standing>>,
    /// The archives, by image.
    pub bundles: BTreeMap<String, Arc<Bundle>>,
    /// The lock.
    locks: Locks,
    /// Archives that cannot be used.
    refused: Vec<BundleError>,
}

/// Why hosts cannot have the images that they need.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SupplyProblem {
    /// An image cannot be brought.
    #[error("{host}: the image {image} is not there: {reason}")]
    Missing {
        /// The host.
        host: String,
        /// The image.
        image: String,
        /// Why it cannot be brought.
        reason: String,
    },
    /// A file of the site cannot be brought.
    #[error("{host}: the file {file} was not brought: {reason}")]
    File {
        /// The host.
        host: String,
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A host holds another image than the archive under the same name.
    #[error("{host}: the image {image} is {found} there, and {wanted} in the archive {archive}")]
    NotTheArchives {
        /// The host.
        host: String,
        /// The image.
        image: String,
        /// The id on the host.
        found: String,
        /// The id in the archive.
        wanted: String,
        /// The archive.
        archive: String,
    },
    /// A host, or an archive, holds another image than the locked one under its name.
    #[error("{place}: the image {image} is {found} there, and locked as {wanted}")]
    NotTheLocked {
        /// The host or the archive.
        place: String,
        /// The image.
        image: String,
        /// The id there.
        found: String,
        /// The locked digest.
        wanted: String,
    },
    /// Two hosts hold different images under one name.
    #[error("the image {image} is {id} on {host}, and {other_id} on {other}")]
    HostsDiffer {
        /// The image.
        image: String,
        /// One host.
        host: String,
        /// The id there.
        id: String,
        /// Another host.
        other: String,
        /// The id there.
        other_id: String,
    },
    /// An archive cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The engine could not be asked, or refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An archive did not reach the host's engine.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The engine took the image, and it is still not there, or is another one.
    #[error("{host}: the image {image} was brought, and is {found} there, wanted {wanted}")]
    NotBrought {
        /// The host.
        host: String,
        /// The image.
        image: String,
        /// What is there now.
        found: String,
        /// What was to be there.
        wanted: String,
    },
}

impl SupplyProblem {
    /// What the operator can do.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { image, .. } => format!(
                "where the image is: `docker save {image} | gzip > {}`, and put the file there",
                file_names(image)[0]
            ),
            Self::File { .. } => {
                "the same command again goes on where it was; see also `df` on the host, and `sha256sum` of the file".to_owned()
            }
            Self::NotTheArchives { image, .. } | Self::HostsDiffer { image, .. } => format!(
                "a tag means one image: give the new one a tag of its own, or remove the wrong one on the host (`docker rmi {image}`, after what uses it)"
            ),
            Self::NotTheLocked { .. } => {
                "`strata images status` shows where which one is; what is right decides `strata images lock --update`, or `docker rmi` on the host, or another archive".to_owned()
            }
            Self::Bundle(error) => error.hint(),
            Self::Engine(_) => "see `journalctl -u docker` and `df` on the host".to_owned(),
            Self::Delivery(_) => {
                "the same command again goes on where it was; see also `df` and `journalctl -u docker` on the host".to_owned()
            }
            Self::NotBrought { .. } => {
                "the host's engine may name images by their manifests: compare `docker image inspect` with the archive's".to_owned()
            }
        }
    }
}

/// Looks at all hosts at once, at the archives in a directory, and at registries where a host has
/// nothing else. Changes nothing.
pub async fn preflight(wanted: &[HostImages], directory: &Path, locks: &Locks) -> Preflight {
    let names: BTreeSet<String> =
        wanted.iter().flat_map(|host| host.images.iter().cloned()).collect();
    let archives = names.into_iter().map(|name| {
        let directory = directory.to_owned();
        async move {
            let place = name.clone();
            let found = tokio::task::spawn_blocking(move || find(&directory, &place)).await;
            (name, found)
        }
    });
    let mut preflight = Preflight { locks: locks.clone(), ..Preflight::default() };
    for (name, found) in join_all(archives).await {
        match found {
            Ok(Ok(Some(bundle))) => {
                preflight.bundles.insert(name, Arc::new(bundle));
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => preflight.refused.push(error),
            Err(error) => preflight.refused.push(BundleError::Unreadable {
                path: directory.join(&file_names(&name)[0]),
                reason: error.to_string(),
            }),
        }
    }
    let looks = wanted.iter().flat_map(|host| {
        let bundles = &preflight.bundles;
        host.images.iter().map(async |image| {
            let engine = Engine::new(&host.session);
            let locked = locks.get(image);
            let standing = match (engine.find(image).await, bundles.get(image)) {
                (Err(error), _) => Standing::Missing(error.to_string()),
                (Ok(Some(found)), _) => present(found, locked),
                (Ok(None), Some(bundle)) => Standing::ToLoad(Arc::clone(bundle)),
                (Ok(None), None) => in_registry(&engine, image, locked, directory).await,
            };
            (host.session.host().to_owned(), image.clone(), standing)
        })
    });
    let looks = join_all(looks).await;
    for (host, image, standing) in looks {
        preflight.hosts.entry(host).or_default().insert(image, standing);
    }
    preflight
}

fn present(found: Found, locked: Option<&Locked>) -> Standing {
    match locked {
        Some(locked) if !locked.is(&found) => {
            Standing::Other { found: found.id, wanted: locked.wanted().to_owned() }
        }
        _ => Standing::Present(found.id),
    }
}

/// Asks the registries that may have an image: its own, then the alias's. Only what is locked by a
/// digest is taken from there: a tag may be another image on the next host.
async fn in_registry(
    engine: &Engine<'_>,
    image: &str,
    locked: Option<&Locked>,
    directory: &Path,
) -> Standing {
    let archive = directory.join(&file_names(image)[0]);
    let nowhere = format!("no archive {} (nor .tar)", archive.display());
    let Some(locked) = locked else {
        return Standing::Missing(format!(
            "{nowhere}, and a registry was not asked: the image is not locked (`strata images lock`)"
        ));
    };
    let Some(digest) = &locked.digest else {
        return Standing::Missing(format!(
            "{nowhere}, and a registry was not asked: the lock has no `digest` of it, only the id of an archive"
        ));
    };
    let mut reasons = vec![nowhere];
    for name in std::iter::once(image).chain(locked.from.as_deref()) {
        let exact = format!("{}@{digest}", repository(name));
        match engine.in_registry(&exact).await {
            Ok(Ok(_)) => {
                return Standing::ToPull(Pull {
                    image: image.to_owned(),
                    repository: repository(name).to_owned(),
                    digest: digest.clone(),
                    id: locked.id.clone(),
                });
            }
            Ok(Err(words)) => reasons.push(explain(&exact, &words)),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Standing::Missing(reasons.join("; "))
}

impl Preflight {
    /// Everything that stands against going on; empty when all hosts have, or can be given, the
    /// same images.
    pub fn problems(&self) -> Vec<SupplyProblem> {
        let mut problems: Vec<SupplyProblem> =
            self.refused.iter().cloned().map(SupplyProblem::Bundle).collect();
        for (image, bundle) in &self.bundles {
            let locked = self.locks.get(image).and_then(|locked| locked.id.as_ref());
            if let Some(wanted) = locked.filter(|id| **id != bundle.id) {
                problems.push(SupplyProblem::NotTheLocked {
                    place: bundle.path.display().to_string(),
                    image: image.clone(),
                    found: bundle.id.clone(),
                    wanted: wanted.clone(),
                });
            }
        }
        let mut first: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for (host, images) in &self.hosts {
            for (image, standing) in images {
                match standing {
                    Standing::Missing(reason) => problems.push(SupplyProblem::Missing {
                        host: host.clone(),
                        image: image.clone(),
                        reason: reason.clone(),
                    }),
                    Standing::Other { found, wanted } => {
                        problems.push(SupplyProblem::NotTheLocked {
                            place: host.clone(),
                            image: image.clone(),
                            found: found.clone(),
                            wanted: wanted.clone(),
                        });
                    }
                    // What is locked was looked at where it is.
                    Standing::Present(_) if self.locks.contains_key(image) => {}
                    Standing::Present(id) => {
                        let (other, other_id) = *first.entry(image).or_insert((host, id));
                        match self.bundles.get(image) {
                            Some(bundle) if bundle.id != *id => {
                                problems.push(SupplyProblem::NotTheArchives {
                                    host: host.clone(),
                                    image: image.clone(),
                                    found: id.clone(),
                                    wanted: bundle.id.clone(),
                                    archive: bundle.path.display().to_string(),
                                });
                            }
                            None if other_id != id => problems.push(SupplyProblem::HostsDiffer {
                                image: image.clone(),
                                host: host.clone(),
                                id: id.clone(),
                                other: other.to_owned(),
                                other_id: other_id.to_owned(),
                            }),
                            _ => {}
                        }
                    }
                    Standing::ToLoad(_) | Standing::ToPull(_) => {}
                }
            }
        }
        problems
    }

    /// What is to be loaded where.
    pub fn to_load(&self) -> impl Iterator<Item = (&str, &Arc<Bundle>)> {
        self.hosts.iter().flat_map(|(host, images)| {
            images.values().filter_map(move |standing| match standing {
                Standing::ToLoad(bundle) => Some((host.as_str(), bundle)),
                _ => None,
            })
        })
    }

    /// The id that every host has, or will have, under a name, where one is known.
    pub fn id(&self, image: &str) -> Option<&str> {
        let held = || {
            self.hosts.values().find_map(|images| match images.get(image)? {
                Standing::Present(id) => Some(id.as_str()),
                _ => None,
            })
        };
        self.bundles.get(image).map(|bundle| bundle.id.as_str()).or_else(held)
    }
}

#[cfg(test)]
#[path = "supply_tests.rs"]
mod tests;
