//! What is too large for a plan, and is brought to hosts before it is carried out. Images: from
//! archives in a directory of the site (as `docker save` makes them), brought layer by layer through
//! strata's own sessions, or from registries, by digest. Files of the site's `artifacts/`, by digest
//! too.
//!
//! [`preflight`] says for every host and image what is to be done, before anything changes
//! anywhere; [`bring`] does it. The order of the sources is that of X1: what the host has, an
//! archive, the image's own registry, an alias. An image is what its digests say: the id, digest of
//! its configuration, by which archives and engines know it, and the digest of its manifest, by which
//! registries do.

mod artifact;
mod bring;
mod bundle;
mod delivery;
mod engine;
mod layers;
mod registry;
mod supply;

pub use artifact::{Packed, SiteFile, WantedFile, lacking, pack};
pub use bring::{Brought, Source, bring};
pub use bundle::{Bundle, BundleError, file_names, find};
pub use delivery::{DeliveryError, SentBytes};
pub use engine::{Engine, EngineError, Found};
pub use layers::{Parcel, open};
pub use registry::{explain, repository, tag};
pub use supply::{HostImages, Locked, Locks, Preflight, Pull, Standing, SupplyProblem, preflight};
