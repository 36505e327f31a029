//! Resources: what a host must have. One file per kind, each with its schema (what a role may
//! write), a pure comparison of wanted and found, and the change itself.
//!
//! Every kind implements [`Converge`]: `find` reads the host, `compare` is pure, `apply` changes
//! the host. [`converge`] joins them and is the only caller: after a change it looks again, so
//! that a resource which does not reach its wanted state is a failure and never a green line.
//!
//! Resources reach the host only through [`System`], so that this module depends on nothing but
//! itself; the agent implements [`System`] for a real host.

mod outcome;
mod system;

pub use outcome::{Batch, Change, Failure, Item, ItemEvent, ItemReport, ItemSlot, Mode, Outcome};
pub use system::System;

use serde::{Deserialize, Serialize};

/// One resource of any kind, fully rendered. In a role each kind is a table of the variant's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Placeholder until the kinds land.
    Nothing,
}

/// A resource kind, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindInfo {
    /// The name in a role.
    pub name: &'static str,
    /// What it is for.
    pub summary: &'static str,
}

/// Every kind that a role may use.
pub const KINDS: &[KindInfo] = &[];

/// A setting that is well typed and still wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The setting.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Resource {
    /// Rules that types cannot express.
    pub fn validate(&self) -> Vec<Invalid> {
        Vec::new()
    }

    /// Paths that this resource alone writes.
    pub fn owns(&self) -> Vec<String> {
        Vec::new()
    }
}
