//! What everything that works on hosts shares: their sessions, the way of events to their
//! consumers, and the operator's wish to stop.

mod events;
mod reboot;
mod renew;
mod sessions;
mod stop;
mod target;

pub use events::Events;
pub use reboot::RebootError;
pub use renew::Lost;
pub use sessions::{Connection, Fleet};
pub use stop::Stop;
pub use target::{direct_target, target_of};
