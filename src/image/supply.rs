//! Which host needs which image, and bringing it there.

use super::bundle::{Bundle, BundleError, file_names, find};
use super::engine::{Engine, EngineError, Sent};
use crate::ssh::AgentSession;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The images that a host needs.
#[derive(Debug, Clone)]
pub struct HostImages {
    /// The host's session.
    pub session: Arc<AgentSession>,
    /// Names with tags.
    pub images: Vec<String>,
}

/// How an image stands on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is there, with this id.
    Present(String),
    /// It is not there, and this archive has it.
    ToLoad(Arc<Bundle>),
    /// It is not there, and cannot be brought: why.
    Missing(String),
}

/// What was found on all hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    /// By host and image.
    pub hosts: BTreeMap<String, BTreeMap<String, Standing>>,
    /// The archives, by image.
    bundles: BTreeMap<String, Arc<Bundle>>,
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
    /// The engine could not be asked, or refused the archive.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine took the archive, and the image is still not there, or is another one.
    #[error("{host}: the archive was loaded, and the image {image} is {found}, wanted {wanted}")]
    NotLoaded {
        /// The host.
        host: String,
        /// The image.
        image: String,
        /// What is there now.
        found: String,
        /// The id in the archive.
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
            Self::NotTheArchives { image, .. } | Self::HostsDiffer { image, .. } => format!(
                "a tag means one image: give the new one a tag of its own, or remove the wrong one on the host (`docker rmi {image}`, after what uses it)"
            ),
            Self::Bundle(error) => error.hint(),
            Self::Engine(_) => "see `journalctl -u docker` and `df` on the host".to_owned(),
            Self::NotLoaded { .. } => {
                "the host's engine may name images by their manifests: compare `docker image inspect` with the archive's".to_owned()
            }
        }
    }
}

/// Looks at all hosts at once, and at the archives in a directory. Changes nothing.
pub async fn preflight(wanted: &[HostImages], directory: &Path) -> Preflight {
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
    let looks = wanted.iter().flat_map(|host| {
        host.images.iter().map(|image| async {
            let id = Engine::new(&host.session).image_id(image).await;
            (host.session.host().to_owned(), image.clone(), id)
        })
    });
    let (archives, looks) = futures::future::join(join_all(archives), join_all(looks)).await;
    let mut preflight = Preflight::default();
    for (name, found) in archives {
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
    for (host, image, found) in looks {
        let standing = standing(&image, found, preflight.bundles.get(&image), directory);
        preflight.hosts.entry(host).or_default().insert(image, standing);
    }
    preflight
}

fn standing(
    image: &str,
    found: Result<Option<String>, EngineError>,
    bundle: Option<&Arc<Bundle>>,
    directory: &Path,
) -> Standing {
    match (found, bundle) {
        (Ok(Some(id)), _) => Standing::Present(id),
        (Ok(None), Some(bundle)) => Standing::ToLoad(Arc::clone(bundle)),
        (Ok(None), None) => Standing::Missing(format!(
            "no archive {} (nor .tar), and a registry was not asked",
            directory.join(&file_names(image)[0]).display()
        )),
        (Err(error), _) => Standing::Missing(error.to_string()),
    }
}

impl Preflight {
    /// Everything that stands against going on; empty when all hosts have, or can be given, the
    /// same images.
    pub fn problems(&self) -> Vec<SupplyProblem> {
        let mut problems: Vec<SupplyProblem> =
            self.refused.iter().cloned().map(SupplyProblem::Bundle).collect();
        let mut first: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for (host, images) in &self.hosts {
            for (image, standing) in images {
                match standing {
                    Standing::Missing(reason) => problems.push(SupplyProblem::Missing {
                        host: host.clone(),
                        image: image.clone(),
                        reason: reason.clone(),
                    }),
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
                    Standing::ToLoad(_) => {}
                }
            }
        }
        problems
    }

    /// What is to be brought where.
    pub fn to_load(&self) -> impl Iterator<Item = (&str, &Arc<Bundle>)> {
        self.hosts.iter().flat_map(|(host, images)| {
            images.values().filter_map(move |standing| match standing {
                Standing::ToLoad(bundle) => Some((host.as_str(), bundle)),
                _ => None,
            })
        })
    }

    /// The id that every host has, or will have, under a name.
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

/// An image that was brought to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The host.
    pub host: String,
    /// The image.
    pub image: String,
    /// Its id, looked up on the host afterwards.
    pub id: String,
    /// Bytes sent.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Brings an archive to a host and looks whether the image is there.
///
/// # Errors
/// When the archive cannot be sent, the engine refuses it, or the image is another one afterwards.
pub async fn load(
    session: &AgentSession,
    bundle: &Bundle,
    sent: Sent,
) -> Result<Loaded, SupplyProblem> {
    let (begin, engine) = (Instant::now(), Engine::new(session));
    engine.load(bundle, sent).await?;
    let found = engine.image_id(&bundle.image).await?;
    let (host, image) = (session.host().to_owned(), bundle.image.clone());
    match found {
        Some(id) if id == bundle.id => {
            Ok(Loaded { host, image, id, bytes: bundle.size, took: begin.elapsed() })
        }
        found => Err(SupplyProblem::NotLoaded {
            host,
            image,
            found: found.unwrap_or_else(|| "not there".to_owned()),
            wanted: bundle.id.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(id: &str) -> Arc<Bundle> {
        let path = "/site/images/a_1.tar.gz".into();
        Arc::new(Bundle { image: "a:1".into(), id: id.into(), path, size: 1 })
    }

    fn preflight(bundles: Option<&str>, hosts: &[(&str, Standing)]) -> Preflight {
        let by_image = |standing: &Standing| [("a:1".to_owned(), standing.clone())].into();
        Preflight {
            hosts: hosts.iter().map(|(host, s)| ((*host).to_owned(), by_image(s))).collect(),
            bundles: bundles.map(|id| ("a:1".to_owned(), bundle(id))).into_iter().collect(),
            refused: Vec::new(),
        }
    }

    #[test]
    fn all_hosts_hold_the_same_image_and_it_is_the_archives() {
        let present = |id: &str| Standing::Present(id.to_owned());
        let load = Standing::ToLoad(bundle("x"));
        for (archive, hosts, problems) in [
            (None, vec![("h1", present("x")), ("h2", present("x"))], 0),
            (None, vec![("h1", present("x")), ("h2", present("y")), ("h3", present("y"))], 2),
            (Some("x"), vec![("h1", present("x")), ("h2", load.clone())], 0),
            (Some("x"), vec![("h1", present("y")), ("h2", load)], 1),
            (None, vec![("h1", present("x")), ("h2", Standing::Missing("why".into()))], 1),
        ] {
            let found = preflight(archive, &hosts).problems();
            assert_eq!(found.len(), problems, "{hosts:?}: {found:?}");
            for problem in found {
                assert!(problem.to_string().contains("a:1") && !problem.hint().is_empty());
            }
        }
        let differing = preflight(None, &[("h1", present("x")), ("h2", present("y"))]).problems();
        let text = differing[0].to_string();
        for word in ["h1", "h2", "x", "y"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn what_is_missing_says_where_it_was_looked_for() {
        let standing = standing("a:1", Ok(None), None, Path::new("/site/images"));
        let Standing::Missing(reason) = standing else { panic!("it is missing") };
        assert!(reason.contains("/site/images/a_1.tar.gz"), "{reason}");
        assert!(reason.contains("registry was not asked"), "{reason}");
    }
}
