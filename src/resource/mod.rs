//! Resources: what a host must have. One file per kind, each with its schema (what a role may
//! write), a pure comparison of wanted and found, and the change itself.
//!
//! Every kind implements [`Converge`]: `find` reads the host, `compare` is pure, `apply` changes
//! the host. [`converge`] joins them and is the only caller: after a change it looks again, so
//! that a resource which does not reach its wanted state is a failure and never a green line.
//!
//! Resources reach the host only through [`System`], so that this module depends on nothing but
//! itself; the agent implements [`System`] for a real host. The structs are read from TOML and
//! sent by postcard, so they use nothing that needs a self-describing format.

pub mod accounts;
mod apt;
mod apt_repository;
mod artifact;
mod authorized_key;
mod block;
mod claim;
mod command;
mod container;
mod container_change;
mod container_spec;
mod content;
mod converge;
mod directory;
pub mod dpkg;
mod edited;
mod engine;
mod file;
mod firewall;
mod firewall_rules;
mod group;
mod hostname;
mod hosts;
mod image;
mod keep;
mod kernel_module;
mod kinds;
mod line;
mod link;
mod mode;
mod mount;
mod mount_table;
mod outcome;
mod ownership;
mod package;
mod service;
mod sha256;
mod swap;
mod sysctl;
mod system;
#[cfg(test)]
mod test_host;
mod text;
mod timezone;
mod unit;
mod user;
mod validity;
mod wait_for;

pub use apt::restore_service_policy;
pub use apt_repository::AptRepository;
pub use artifact::Artifact;
pub use authorized_key::AuthorizedKey;
pub use block::{Block, BlockPosition};
pub use claim::{Claim, Share};
pub use command::Command;
pub use container::{Container, ContainerState, RestartPolicy};
pub use content::Content;
pub use converge::{Converge, Progress, converge, expect_units, prepare};
pub use directory::Directory;
pub use engine::{ENGINE_SOCKET, EngineRequest, EngineResponse};
pub use file::{File, FileGuard};
pub use firewall::Firewall;
pub use firewall_rules::{FirewallRule, Protocol, Published};
pub use group::Group;
pub use hostname::Hostname;
pub use hosts::{Hosts, HostsEntry};
pub use image::Image;
pub use kernel_module::KernelModule;
pub use kinds::{KINDS, KindInfo, Resource};
pub use line::Line;
pub use link::Link;
pub use mode::FileMode;
pub use mount::{Mount, MountState};
pub use outcome::{
    Batch, Change, Failure, Item, ItemEvent, ItemReport, ItemSlot, Mode, Once, Outcome, Unknown,
};
pub use package::Package;
pub use service::{Service, ServiceState};
pub use sha256::{is_sha256, sha256};
pub use swap::{Swap, SwapState};
pub use sysctl::Sysctl;
pub use system::{
    BlobPlace, Cache, FileWrite, GuardPlan, GuardedChange, LockOwner, Metadata, Output, PathKind,
    Program, RevertStep, SavedFile, System, UnitStatus,
};
pub use timezone::Timezone;
pub use unit::Unit;
pub use user::User;
pub use validity::{Presence, Problem};
pub use wait_for::WaitFor;
