//! The scheduler: connects to hosts, converges layers, runs gates, and emits events.
//!
//! All hosts of a layer are at work at the same time and no step waits for another host: barriers
//! stand only between layers that share hosts or require one another, and where the site says that
//! hosts take turns. A host that fails, hangs or is lost never stops the others.

mod adopt;
mod audit;
mod changes;
mod clusters;
mod command;
mod continuation;
mod converge;
mod ending;
mod exit;
mod images;
mod install;
mod layer;
mod layers;
mod meet;
mod order;
mod prepare;
mod proof;
mod reboot;
mod reconnect;
mod turns;
mod underway;
mod verify;

pub use adopt::adopt;
pub use audit::{Since, audit};
pub use command::{CommandOutput, CommandRequest, HostEnd, command};
pub use continuation::Continuation;
use converge::Tally;
pub use exit::Exit;
pub use images::{LackingFiles, Supplied, Supply, archives_of, exit_of, locks_of};
pub use install::{GateChoice, Request, hosts_of, install};
pub use order::Order;
pub use proof::proofs_of;
pub use reboot::reboot;
pub use verify::verify;
