//! strata: an SSH provisioning orchestrator that lets no layer start until the one below it has
//! proved that it works.
//!
//! Dependencies point one way; `docs/architecture.md` draws them and a test keeps them:
//! `cli → run → {plan, cluster, gate, ssh} → {site, secrets, resource, wire, event, diag}`.
//! The agent (`agent`, with `resource` and `wire`) is built without the `controller` feature.

pub mod agent;
pub mod resource;
pub mod wire;

#[cfg(feature = "controller")]
pub mod backup;
#[cfg(feature = "controller")]
pub mod cli;
#[cfg(feature = "controller")]
pub mod cluster;
#[cfg(feature = "controller")]
pub mod diag;
#[cfg(feature = "controller")]
pub mod event;
#[cfg(feature = "controller")]
pub mod fleet;
#[cfg(feature = "controller")]
pub mod gate;
#[cfg(feature = "controller")]
pub mod history;
#[cfg(feature = "controller")]
pub mod http_client;
#[cfg(feature = "controller")]
pub mod image;
#[cfg(feature = "controller")]
pub mod lab;
#[cfg(feature = "controller")]
pub mod plan;
#[cfg(feature = "controller")]
pub mod postgres_client;
#[cfg(feature = "controller")]
pub mod redis_client;
#[cfg(feature = "controller")]
pub mod report;
#[cfg(feature = "controller")]
pub mod run;
#[cfg(feature = "controller")]
pub mod secrets;
#[cfg(feature = "controller")]
pub mod site;
#[cfg(feature = "controller")]
pub mod ssh;
