//! Images and large files for hosts: what is looked at before a change, and bringing what is missing,
//! many hosts at once, each further from where its link broke.

use super::Exit;
use crate::event::EventKind;
use crate::fleet::{Connection, Events, Fleet, Lost, Stop};
use crate::image::{
    self, Brought, HostImages, Locked, Locks, Packed, Parcel, Preflight, SentBytes, SiteFile,
    Source, Standing, SupplyProblem, WantedFile,
};
use crate::site::Site;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
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

/// What was done for one host and one thing that it lacked.
#[derive(Debug)]
pub struct Supplied {
    /// The host.
    pub host: String,
    /// The image, or the file.
    pub name: String,
    /// Bytes that strata sent, of all attempts.
    pub bytes: u64,
    /// Where it came from: see [`Source::origin`].
    pub origin: &'static str,
    /// What came of it.
    pub result: Result<Brought, SupplyProblem>,
}

impl Supplied {
    /// As a line for the operator.
    pub fn line(&self) -> String {
        match &self.result {
            Ok(brought) => {
                let what = match self.origin {
                    "file" => format!("file {}", self.name),
                    origin => format!("image {} from its {origin}", self.name),
                };
                let (host, sent) = (&self.host, self.bytes as f64 / f64::from(1 << 20));
                let seconds = brought.took.as_secs_f64();
                format!("  {host}  {what}, {sent:.1} MiB sent in {seconds:.1} s")
            }
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

/// What cannot be brought to any host, and why.
type Unsupplied = Box<(String, SupplyProblem)>;

/// Files that hosts lack, by host.
pub type LackingFiles = BTreeMap<String, Vec<SiteFile>>;

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

    /// Looks which files hosts lack at their places. Changes nothing there.
    pub async fn lacking(
        &self,
        wanted: &BTreeMap<String, Vec<WantedFile>>,
    ) -> Result<LackingFiles, SupplyProblem> {
        let looks = wanted.iter().filter_map(|(host, files)| {
            let session = self.fleet.session(host)?;
            Some(async move {
                let lacking = image::lacking(&session, files).await?;
                Ok((host.clone(), lacking))
            })
        });
        try_join_all(looks).await.map(BTreeMap::from_iter)
    }

    /// Brings what is missing to all hosts, one thing after the other on each, and tells each.
    pub async fn bring(&self, found: &Preflight, files: &LackingFiles) -> Vec<Supplied> {
        let parcels = self.parcels(found).await;
        let packed = self.packed(files).await;
        let mut sources: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (host, images) in &found.hosts {
            sources.entry(host).or_default().extend(images.values().filter_map(|standing| {
                match standing {
                    Standing::ToLoad(bundle) => parcels.get(&bundle.image).cloned(),
                    Standing::ToPull(pull) => Some(Ok(Source::Registry(pull.clone()))),
                    _ => None,
                }
            }));
        }
        for (host, files) in files {
            let files = files.iter().filter_map(|file| packed.get(file));
            sources.entry(host).or_default().extend(files.map(|packed| match packed {
                Ok(packed) => Ok(Source::File(Arc::clone(packed))),
                Err((file, reason)) => {
                    let (host, reason) = (host.clone(), reason.clone());
                    let problem = SupplyProblem::File { host, file: file.clone(), reason };
                    Err(Box::new((file.clone(), problem)))
                }
            }));
        }
        let work = stream::iter(sources).map(async |(host, sources)| {
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
    async fn parcels(&self, found: &Preflight) -> BTreeMap<String, Result<Source, Unsupplied>> {
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
                Ok(Err(error)) => Err(Box::new((bundle.image.clone(), error.into()))),
                Err(error) => Err(Box::new((
                    bundle.image.clone(),
                    image::BundleError::Unreadable {
                        path: bundle.path.clone(),
                        reason: error.to_string(),
                    }
                    .into(),
                ))),
            };
            parcels.insert(bundle.image.clone(), source);
        }
        parcels
    }

    /// The files that are needed, packed once for all hosts, or which one cannot be and why.
    async fn packed(
        &self,
        files: &LackingFiles,
    ) -> BTreeMap<SiteFile, Result<Arc<Packed>, (String, String)>> {
        let wanted: BTreeSet<&SiteFile> = files.values().flatten().collect();
        let mut packed = BTreeMap::new();
        for file in wanted {
            let (what, cache) = (file.clone(), self.site.root.join(CACHE));
            let one = tokio::task::spawn_blocking(move || image::pack(&what, &cache)).await;
            let one = one.unwrap_or_else(|error| Err(error.to_string()));
            let name = || file.place.display().to_string();
            packed.insert(file.clone(), one.map(Arc::new).map_err(|reason| (name(), reason)));
        }
        packed
    }

    async fn one(&self, host: &str, source: Result<Source, Unsupplied>) -> Supplied {
        let source = match source {
            Ok(source) => source,
            Err(unsupplied) => {
                let (name, problem) = *unsupplied;
                let (host, origin, result) = (host.to_owned(), "archive", Err(problem));
                return Supplied { host, name, bytes: 0, origin, result };
            }
        };
        let sent = SentBytes::default();
        let result = self.until_there(host, &source, &sent).await;
        Supplied {
            host: host.to_owned(),
            name: source.name(),
            bytes: sent.get(),
            origin: source.origin(),
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
            let missing = |reason: String| source.missing(host, reason);
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
                step: Some(format!("{} {}", source.origin(), source.name())),
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
