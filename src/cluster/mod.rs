//! Clusters: formed once, changed member by member, never guessed at.
//!
//! A driver knows one technology. It looks at every member (`observe`), and from that alone decides
//! what comes next (`decide`, pure and property-tested); [`drive`] joins the two until nothing is
//! left to do. Only a cluster that is provably [`State::Absent`] is ever formed: every member was
//! reached, every data directory is empty, nobody answers, and neither a host nor the operator host
//! has a marker of it. Data is never deleted.
//!
//! Drivers reach hosts through [`Hosts`] alone.

mod around;
mod belonging;
mod drive;
mod fleet_hosts;
mod formation;
mod hosts;
mod look;
mod marker;
mod member;
mod reach;
mod registry;
mod state;
mod until;

pub mod etcd;
pub mod patroni;
pub mod rabbitmq;
pub mod redis;

pub use around::Around;
pub use drive::{Driven, Step, Technology, World, drive};
pub use fleet_hosts::FleetHosts;
pub use hosts::{Applied, DialError, Hosts, Ran, Stream};
pub use marker::{Formation, Marker, Record, Records, marker_path};
pub use member::Members;
pub use reach::{NoAnswer, OnDisk, Reach, container_of, program};
pub use registry::{Intent, Report, adopt, check, clusters_of, look, run, settings, step_down};
pub use state::{Decision, Next, Refusal, State};
