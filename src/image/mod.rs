//! Images for hosts that reach no registry: archives in a directory of the site (as `docker save`
//! makes them), brought to the hosts' container engines through strata's own sessions.
//!
//! [`preflight`] says for every host and image what is to be done, before anything changes
//! anywhere; [`load`] does it. What counts is an image's id, the digest of its configuration:
//! every host must hold the same one under a name, and it must be that of the archive.

mod bundle;
mod engine;
mod supply;

pub use bundle::{Bundle, BundleError, file_names, find};
pub use engine::{Engine, EngineError, Sent};
pub use supply::{HostImages, Loaded, Preflight, Standing, SupplyProblem, load, preflight};
