//! The scheduler: connects to hosts, converges layers, runs gates, and emits events.
//!
//! All hosts of a layer are at work at the same time and no step waits for another host: barriers
//! stand only between layers. A host that fails, hangs or is lost never stops the others.

mod adopt;
mod changes;
mod clusters;
mod command;
mod converge;
mod ending;
mod exit;
mod install;
mod meet;
mod prepare;
mod reboot;
mod verify;

pub use adopt::adopt;
pub use command::{CommandOutput, CommandRequest, HostEnd, command};
use converge::Tally;
pub use exit::Exit;
pub use install::{GateChoice, Request, hosts_of, install};
pub use reboot::reboot;
pub use verify::verify;
