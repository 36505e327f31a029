//! From a site and a selection to what every host must have, fully rendered.
//!
//! No template is ever rendered on a target. Rendering every step for every host *is* the
//! validation: `strata check` resolves the whole site with sample facts and typed placeholders for
//! secrets, and an install resolves again with the facts that hosts sent in their greeting. Steps that
//! asked for neither facts nor secrets are taken as the check has made them.

mod aggregate;
mod artifact_check;
mod asked;
mod certificate;
mod check;
mod constants;
mod context;
mod digest;
mod item;
mod lasting;
mod member;
mod owners;
mod pins;
mod render;
mod resolve;
mod samples;
mod scope;
mod secret_place;
mod selection;
mod shared_items;
mod steps;
mod variables;

pub use aggregate::{OpenPort, firewall as open_ports};
pub use asked::Asked;
pub use check::{check, packages_of, uses_secrets};
pub use context::SecretLookup;
pub use digest::layer_digest;
pub use lasting::Found;
pub use member::{ClusterFacts, MemberPlan};
pub use pins::{check_image_locks, image_pins, pins_of};
pub use resolve::{HostPlan, PlannedBatch, Resolver, SITE_ROLE, Skipped};
pub use samples::sample_facts;
pub use selection::{
    HostSelector, LayerSelection, check_tags, select_hosts, select_layers, with_required,
};
pub use shared_items::SITE_STEPS;
pub use steps::{StepFilter, StepSelection};
pub use variables::{Provenance, ResolvedVariable, variables_of};
