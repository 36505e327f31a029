//! Images for hosts: what is looked at before a change, and bringing what is missing, many hosts at
//! once, each further from where its link broke.

use super::Exit;
use crate::event::EventKind;
use crate::fleet::{Connection, Events, Fleet, Lost, Stop};
use crate::image::{
    self, Brought, HostImages, Locked, Locks, Parcel, Preflight, SentBytes, Source, Standing,
    SupplyProblem,
};
use crate::site::Site;
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Archives of images stand here, below the site's directory (X1).
const IMAGES: &str = "images";

/// Layers of packed archives stand here, each packed by itself; whatever is removed is made again.
const CACHE: &str = ".strata/blobs";

/// How often one image is begun anew on one host, whose link breaks each time.
const ATTEMPTS: usize = 5;

/// Hosts that are given images.
pub struct Supply<'a> {
    /// The site.
    pub site: &'a Site,
    /// The hosts' sessions.
    pub fleet: &'a Fleet,
    /// How a lost host is reached again; how many hosts are at work at the same time.
    pub connection: &'a Connection,
    /// Where what happens is told.
    pub events: &'a Events,
    /// The operator's wish to stop.
    pub stop: &'a Stop,
}

/// What was done for one host and image.
#[derive(Debug)]
pub struct Supplied {
    /// The host.
    pub host: String,
    /// The image.
    pub image: String,
    /// Bytes that strata sent, of all attempts.
    pub bytes: u64,
    /// Where the image came from: `archive` or `registry`.
    pub source: &'static str,
    /// What came of it.
    pub result: Result<Brought, SupplyProblem>,
}

impl Supplied {
    /// As a line for the operator.
    pub fn line(&self) -> String {
        match &self.result {
            Ok(brought) => format!(
                "  {}  image {} from {}, {:.1} MiB sent in {:.1} s",
                self.host,
                self.image,
                if self.source == "archive" { "its archive" } else { "its registry" },
                self.bytes as f64 / f64::from(1 << 20),
                brought.took.as_secs_f64()
            ),
            Err(problem) => format!("  {problem}\n      hint: {}", problem.hint()),
        }
    }
}

/// The site's lock, by the names of images.
pub fn locks_of(site: &Site) -> Locks {
    let locks = site.image_locks.iter().flatten().map(|(_, lock)| lock);
    let current = locks.filter(|lock| site.versions.values().any(|pin| pin.value == lock.image));
    current
        .map(|lock| {
            let (from, digest, id) = (lock.from.clone(), lock.digest.clone(), lock.id.clone());
            (lock.image.clone(), Locked { from, digest, id })
        })
        .collect()
}

/// The directory of the site's archives.
pub fn archives_of(site: &Site) -> PathBuf {
    site.root.join(IMAGES)
}

impl Supply<'_> {
    /// Looks where the images are. Changes nothing.
    pub async fn look(&self, wanted: &[HostImages]) -> Preflight {
        image::preflight(wanted, &archives_of(self.site), &locks_of(self.site)).await
    }

    /// Tells what stands against going on; the number of it.
    pub fn tell_problems(&self, found: &Preflight) -> usize {
        let problems = found.problems();
        for problem in &problems {
            let text = format!("  {problem}\n      hint: {}", problem.hint());
            self.events.emit(EventKind::Note { text });
        }
        problems.len()
    }

    /// Brings what is missing to all hosts, one image after the other on each, and tells each.
    pub async fn bring(&self, found: &Preflight) -> Vec<Supplied> {
        let parcels = self.parcels(found).await;
        let hosts = found.hosts.iter().map(|(host, images)| {
            let sources = images.values().filter_map(|standing| match standing {
                Standing::ToLoad(bundle) => parcels.get(&bundle.image).cloned(),
                Standing::ToPull(pull) => Some(Ok(Source::Registry(pull.clone()))),
                _ => None,
            });
            (host, sources.collect::<Vec<_>>())
        });
        let work = stream::iter(hosts.collect::<Vec<_>>()).map(async |(host, sources)| {
            let mut supplied = Vec::new();
            for source in sources {
                if self.stop.wished() {
                    break;
                }
                let one = self.one(host, source).await;
                self.events.emit(EventKind::Note { text: one.line() });
                supplied.push(one);
            }
            supplied
        });
        let parallel = self.connection.parallel.max(1);
        work.buffer_unordered(parallel).collect::<Vec<_>>().await.into_iter().flatten().collect()
    }

    /// The archives that are needed, opened once for all hosts.
    async fn parcels(
        &self,
        found: &Preflight,
    ) -> BTreeMap<String, Result<Source, (String, SupplyProblem)>> {
        let mut parcels = BTreeMap::new();
        for (_, bundle) in found.to_load() {
            if parcels.contains_key(&bundle.image) {
                continue;
            }
            let cache = self.site.root.join(CACHE);
            let opened = Arc::clone(bundle);
            let opened = tokio::task::spawn_blocking(move || image::open(&opened, &cache)).await;
            let source = match opened {
                Ok(Ok(parcel)) => Ok(Source::Archive(Arc::<Parcel>::new(parcel))),
                Ok(Err(error)) => Err((bundle.image.clone(), error.into())),
                Err(error) => Err((
                    bundle.image.clone(),
                    image::BundleError::Unreadable {
                        path: bundle.path.clone(),
                        reason: error.to_string(),
                    }
                    .into(),
                )),
            };
            parcels.insert(bundle.image.clone(), source);
        }
        parcels
    }

    async fn one(&self, host: &str, source: Result<Source, (String, SupplyProblem)>) -> Supplied {
        let source = match source {
            Ok(source) => source,
            Err((image, problem)) => {
                let (host, source, result) = (host.to_owned(), "archive", Err(problem));
                return Supplied { host, image, bytes: 0, source, result };
            }
        };
        let sent = SentBytes::default();
        let result = self.until_there(host, &source, &sent).await;
        Supplied {
            host: host.to_owned(),
            image: source.image().to_owned(),
            bytes: sent.get(),
            source: if matches!(source, Source::Archive(_)) { "archive" } else { "registry" },
            result,
        }
    }

    /// Goes on over a new connection when the link breaks.
    async fn until_there(
        &self,
        host: &str,
        source: &Source,
        sent: &SentBytes,
    ) -> Result<Brought, SupplyProblem> {
        let mut attempt = 1;
        loop {
            let missing = |reason: String| SupplyProblem::Missing {
                host: host.to_owned(),
                image: source.image().to_owned(),
                reason,
            };
            let Some(session) = self.fleet.session(host) else {
                return Err(missing("the host is not connected".to_owned()));
            };
            let problem = match image::bring(&session, source, sent).await {
                Ok(brought) => return Ok(brought),
                Err(problem) => problem,
            };
            if !session.is_lost() || attempt >= ATTEMPTS || self.stop.wished() {
                return Err(problem);
            }
            attempt += 1;
            let lost = Lost {
                session,
                reason: problem.to_string(),
                step: Some(format!("image {}", source.image())),
                step_may_take: Duration::ZERO,
            };
            let Self { site, connection, events, stop, .. } = self;
            self.fleet
                .renew(site, host, connection, lost, events, stop)
                .await
                .map_err(|why| missing(format!("{problem}; {why}")))?;
        }
    }
}

/// How bringing images ended.
pub fn exit_of(supplied: &[Supplied]) -> Exit {
    let failed = supplied.iter().any(|one| one.result.is_err());
    if failed { Exit::StepFailed } else { Exit::Done }
}
