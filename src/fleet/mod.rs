//! What everything that works on hosts shares: their sessions, the way of events to their
//! consumers, and the operator's wish to stop.

mod events;
mod reboot;
mod sessions;
mod stop;

pub use events::Events;
pub use reboot::RebootError;
pub use sessions::{Connection, Fleet};
pub use stop::Stop;
