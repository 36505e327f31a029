//! The lab: the hosts of an inventory as real systemd hosts on one machine, isolated from every
//! network.
//!
//! A host is a systemd-booted container with its own network namespace, cgroups, loop-mounted
//! disk and identity. Invariants:
//!
//! - nothing of a lab is visible in the machine's own network namespace, and nothing routes out;
//! - whatever a lab makes carries the lab's name (namespaces, cgroups, state directory), so that
//!   [`Lab::down`] and the next [`Lab::up`] can find and remove it without any memory of the run
//!   that made it;
//! - every host, balancer and fault has one detached process that looks after it. It outlives the
//!   process that asked for it, and holds a file lock for as long as it lives;
//! - a fault heals itself at its deadline, whoever has died in the meantime.
//!
//! The code blocks; work on several hosts runs on threads.

pub mod cache;

mod balancer;
mod cgroup;
mod command;
mod control;
mod down;
mod enter;
mod entry;
mod error;
mod fault;
mod grounds;
mod host;
mod image;
mod machine;
mod network;
mod paths;
mod preinstalled;
mod release;
mod repository;
mod rootfs;
mod spec;
mod state;
mod status;
mod storage;
mod supervise;
mod up;

pub use balancer::render_configuration;
pub use control::Lab;
pub use enter::OUTSIDE;
pub use entry::{SUPERVISOR_VERB, supervisor_entry};
pub use error::LabError;
pub use fault::{ActiveFault, Direction, Fault, FaultId, KillTarget, ParseFaultError, Signal};
pub use host::HOST_MARKER;
pub use image::{ContainerSettings, Image, ImageDescription, ImageFile, ImageFolder, ImageUser};
pub use release::Release;
pub use spec::{HealthCheck, LabBalancer, LabHost, LabSpec, Listener};
pub use state::HostState;
pub use status::{HostStatus, LabStatus, render_status};
pub use up::{Bind, HostTiming, Progress, UpOptions, UpReport};
